"""Detectors of transformers, tiny ones with random weights, saved and loaded as any other: classes, and text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv
import torch

from masa_track import MasaTracker
from masa_track.cli.main import main
from masa_track.contracts import Frame
from masa_track.detectors import open_detector
from masa_track.detectors.huggingface import TransformersDetector
from masa_track.errors import InputError
from masa_track.formats.results import to_detections
from masa_track.refer.detected import LOWEST_SCORE, open_referrer

pytestmark = pytest.mark.slow  # together they take seconds

transformers = pytest.importorskip("transformers")
TEXT = "A red car. a dog"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "a", "red", "car", "dog", "bird"]
NAMES = {0: "person", 1: "car", 2: "dog"}
RNG = np.random.default_rng(0)
FRAME = cv2.resize(RNG.integers(0, 255, (12, 16, 3)).astype(np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
SMALL = {"d_model": 32, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "encoder_layers": 1, "decoder_layers": 2}
SMALL |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_queries": 20}


def rt_detr() -> tuple[Any, Any]:
    sizes = {"embedding_size": 16, "hidden_sizes": [16, 32, 32, 32], "depths": [1] * 4, "layer_type": "basic"}
    resnet = transformers.RTDetrResNetConfig(**sizes, out_features=["stage2", "stage3", "stage4"])
    channels = {"encoder_in_channels": [32] * 3, "encoder_hidden_dim": 32, "decoder_in_channels": [32] * 3}
    config = transformers.RTDetrConfig(backbone_config=resnet, id2label=NAMES, **channels, **SMALL)
    size = {"height": 160, "width": 160}
    return transformers.RTDetrForObjectDetection(config), transformers.RTDetrImageProcessor(size=size)


def detr() -> tuple[Any, Any]:
    sizes = {"embedding_size": 16, "hidden_sizes": [16, 32, 32, 32], "depths": [1] * 4, "layer_type": "basic"}
    resnet = transformers.ResNetConfig(**sizes, out_features=["stage4"])
    config = transformers.DetrConfig(use_timm_backbone=False, backbone_config=resnet, id2label=NAMES, **SMALL)
    size = {"shortest_edge": 120, "longest_edge": 160}
    return transformers.DetrForObjectDetection(config), transformers.DetrImageProcessor(size=size)


def grounding_dino() -> tuple[Any, Any]:
    swin = transformers.SwinConfig(
        embed_dim=16, depths=[1] * 4, num_heads=[2] * 4, window_size=4, image_size=64, out_indices=[2, 3, 4]
    )
    bert = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    config = transformers.GroundingDinoConfig(backbone_config=swin, text_config=bert, **SMALL)
    tokenizer = transformers.BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)})
    size = {"shortest_edge": 120, "longest_edge": 160}
    processor = transformers.GroundingDinoProcessor(transformers.GroundingDinoImageProcessor(size=size), tokenizer)
    return transformers.GroundingDinoForObjectDetection(config), processor


def owlv2() -> tuple[Any, Any]:
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz")]
    vocabulary = {word: i for i, word in enumerate(["!", "<|startoftext|>", "<|endoftext|>", *letters])}
    tokenizer = transformers.CLIPTokenizerFast(vocab=vocabulary, merges=[], model_max_length=16, pad_token="!")
    layers = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    words = {**layers, **ends, "vocab_size": len(vocabulary), "max_position_embeddings": 16}
    pictures = {**layers, "image_size": 64, "patch_size": 16}
    config = transformers.Owlv2Config(text_config=words, vision_config=pictures, projection_dim=32)
    size = {"height": 64, "width": 64}
    processor = transformers.Owlv2Processor(transformers.Owlv2ImageProcessor(size=size), tokenizer)
    return transformers.Owlv2ForObjectDetection(config), processor


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of ``save_pretrained`` for each kind."""
    folders = {}
    for build in (rt_detr, detr, grounding_dino, owlv2):
        torch.manual_seed(0)
        folders[build.__name__] = tmp_path_factory.mktemp(build.__name__)
        for part in build():
            part.save_pretrained(folders[build.__name__])
    return folders


def pictures(folder: Path) -> str:
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), FRAME)
    return str(folder / "*.png")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rt_detr", "detr"])
def test_classes(kind: str, saved: dict[str, Path]) -> None:
    detector = TransformersDetector(str(saved[kind]), device="cpu", threshold=0.01)
    found = detector.detect([FRAME])[0]
    assert detector.class_names == NAMES
    assert 0 < len(found) <= 60
    assert set(found.class_id.tolist()) <= set(NAMES)
    assert (found.xyxy[:, 0::2].mean(axis=1) <= 320).all()  # pixels of the frame, wherever the network put them
    assert found.xyxy.max() > 40
    # transformers' own way, RGB, to the result that a user has in hand
    network = transformers.AutoModelForObjectDetection.from_pretrained(saved[kind]).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(saved[kind])
    with torch.inference_mode():
        output = network(**processor(images=cv2.cvtColor(FRAME, cv2.COLOR_BGR2RGB), return_tensors="pt"))
    results = processor.post_process_object_detection(output, threshold=0.01, target_sizes=[(240, 320)])
    tracked = MasaTracker(device="cpu").update(results, FRAME)
    assert np.allclose(tracked.xyxy, results[0]["boxes"].numpy())
    assert np.allclose(found.xyxy, tracked.xyxy, atol=0.01)
    assert found.class_id.tolist() == tracked.class_id.tolist() == results[0]["labels"].tolist()


def test_threshold(saved: dict[str, Path]) -> None:
    every = TransformersDetector(str(saved["rt_detr"]), device="cpu", threshold=0.0).detect([FRAME])[0]
    middle = float(np.median(every.confidence))
    found = TransformersDetector(str(saved["rt_detr"]), device="cpu", threshold=middle).detect([FRAME])[0]
    assert len(found) == (every.confidence > middle).sum()


def test_grounding_dino(saved: dict[str, Path]) -> None:
    detector = TransformersDetector(str(saved["grounding_dino"]), TEXT, "cpu", threshold=0.0)
    assert detector.class_names == {0: "a red car", 1: "a dog"}
    (group,) = detector.groups
    assert (group.tokens_of, group.first) == ([[1, 2, 3], [5, 6]], 0)
    found = detector.detect([FRAME])[0]
    assert len(found) == 20
    # Its own result names words of the text: it goes into update, with numbers that stay.
    network, processor = detector.network, detector.processor
    inputs = processor(images=FRAME[..., ::-1].copy(), text="a red car. a dog.", return_tensors="pt")
    with torch.inference_mode():
        output = network(**inputs)
    results = processor.post_process_grounded_object_detection(
        output, inputs["input_ids"], threshold=0.0, text_threshold=0.0, target_sizes=[(240, 320)]
    )
    tracker = MasaTracker(device="cpu")
    for _ in range(2):
        tracked = tracker.update(results, FRAME)
        assert [tracker.phrases[name] for name in results[0]["text_labels"]] == tracked.class_id.tolist()
    assert np.allclose(found.xyxy, tracked.xyxy, atol=0.01)
    tokens = output.logits[0].sigmoid()
    means = np.stack([tokens[:, 1:4].mean(dim=1), tokens[:, 5:7].mean(dim=1)], axis=1)
    assert np.allclose(found.confidence, means.max(axis=1), atol=1e-5)
    assert np.array_equal(found.class_id, means.argmax(axis=1))


def test_owlv2(saved: dict[str, Path]) -> None:
    detector = TransformersDetector(str(saved["owlv2"]), TEXT, "cpu", threshold=0.0)
    assert detector.class_names == {0: "a red car", 1: "a dog"}
    found = detector.detect([FRAME])[0]
    assert len(found) == 16  # a patch each
    processor = detector.processor
    inputs = processor(images=FRAME[..., ::-1].copy(), text=[["a red car", "a dog"]], return_tensors="pt")
    with torch.inference_mode():
        output = detector.network(**inputs)
    results = processor.post_process_grounded_object_detection(
        output, threshold=0.0, target_sizes=[(240, 320)], text_labels=[["a red car", "a dog"]]
    )
    own = to_detections(results)
    assert own.data["class_name"].tolist() == [detector.class_names[i] for i in own.class_id]
    assert np.allclose(found.xyxy, own.xyxy, atol=0.01)
    assert found.class_id.tolist() == own.class_id.tolist()


@pytest.mark.parametrize("kind", ["rt_detr", "grounding_dino", "owlv2"])
def test_bfloat16_is_near(kind: str, saved: dict[str, Path]) -> None:
    text = None if kind == "rt_detr" else TEXT
    full, half = (
        TransformersDetector(str(saved[kind]), text, "cpu", threshold=0.0, precision=precision).detect([FRAME])[0]
        for precision in (None, "bf16")
    )
    assert len(full) == len(half)
    assert half.confidence.dtype == np.float32
    assert not np.array_equal(np.sort(full.confidence), np.sort(half.confidence))  # another arithmetic
    # A query of random weights may choose another place; most are the same.
    assert np.median(np.abs(np.sort(full.confidence) - np.sort(half.confidence))) < 0.02


def test_a_long_list_is_looked_for_in_groups(saved: dict[str, Path]) -> None:
    phrases = [f"{a} {b} {c} bird" for a in WORDS[6:] for b in WORDS[6:] for c in WORDS[6:]]
    detector = TransformersDetector(str(saved["grounding_dino"]), ". ".join(phrases), "cpu", threshold=0.0)
    assert [group.first for group in detector.groups] == [0, 50, 100]
    found = detector.detect([FRAME])[0]
    assert max(found.class_id) >= 50


@pytest.mark.slow
def test_command(saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        TransformersDetector.__init__, "__defaults__", (None, None, 0.0, None)
    )  # random weights score low
    source = pictures(tmp_path)
    detector = f"transformers:{saved['grounding_dino']}"
    arguments = ["--detector", detector, "--text", TEXT, "--no-video", "--device", "cpu"]
    assert main(["track", source, *arguments, "--out", str(tmp_path / "out")]) == 0
    content = json.loads((tmp_path / "out" / "tracks.json").read_text())
    assert {row["name"] for row in content["categories"]} <= {"a red car", "a dog"}
    assert len(content["annotations"]) > 0
    assert "score 0.35" in (tmp_path / "out" / "report.html").read_text()  # where Grounding DINO's tracks start


@pytest.mark.parametrize("kind", ["grounding_dino", "owlv2"])
def test_as_referrers_over_tracks(kind: str, saved: dict[str, Path]) -> None:
    """Scores of a tiny network with random weights: a track's is that of the best box on it, by the phrase alone."""
    referrer = open_referrer(f"transformers:{saved[kind]}", "cpu")
    one = TransformersDetector(str(saved[kind]), "a dog", "cpu", LOWEST_SCORE).detect([FRAME])[0]
    best = int(np.argmax(one.confidence))
    tracks = sv.Detections(np.stack((one.xyxy[best], [0, 0, 1, 1])), tracker_id=np.array([5, 6]))
    frame = Frame(1, 0.0, (320, 240), image=FRAME)
    session = referrer.open(["A dog.", "a red car"])
    session.add([frame, frame], [tracks, tracks])
    scores = session.scores()
    assert scores[5][0] == pytest.approx(one.confidence[best], abs=1e-6)
    assert scores[6].tolist() == [0, 0]
    alone = referrer.open(["a red car"])
    alone.add([frame], [tracks])
    assert alone.scores()[5][0] == pytest.approx(scores[5][1], abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detector", "motion", "--text", "a dog"], "--detector and --text exclude each other"),
        (["--detector", "motion", "--detections", "det.txt"], "--detections and --detector exclude each other"),
        (["--detector", "transformers:x", "--text", "a", "--detections", "det.txt"], "exclude each other: give one"),
        (["--preset", "tao", "--prior", "x.json"], "--prior needs --preset default, got tao"),
        (["--preset", "appearance", "--camera-motion"], "--camera-motion needs --preset default, got appearance"),
        (["--preset", "bdd", "--class-groups", "0;1"], "--class-groups needs --preset default, got bdd"),
        (["--preset", "demo", "--gallery", "g.npz"], "--gallery needs --preset default"),
        (["--prior", "nowhere.json"], "prior nowhere.json cannot be read"),
    ],
)
def test_combinations_are_refused_before_any_work(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["track", pictures(tmp_path), *arguments, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "loading model" not in said


def test_mistakes(saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"finds what a text names: add --text"):
        open_detector(f"transformers:{saved['owlv2']}")
    with pytest.raises(InputError, match=r"\(rt_detr\) takes no text: leave --text out"):
        open_detector(f"transformers:{saved['rt_detr']}", text="a dog")
    with pytest.raises(InputError, match=r"text must name something"):
        open_detector(f"transformers:{saved['owlv2']}", text=" . ")
    with pytest.raises(InputError, match=r"'transformers:.*nowhere' cannot be loaded"):
        open_detector(f"transformers:{tmp_path / 'nowhere'}")
    with pytest.raises(InputError, match="--text needs a detector that takes text"):
        open_detector("motion", text="a dog")
    with pytest.raises(InputError, match="unknown detector's library 'transfomers': did you mean 'transformers'"):
        open_detector("transfomers:x")
    for name in ("transformers:", "mmdet:"):
        with pytest.raises(InputError, match="names no model"):
            open_detector(name)
    with pytest.raises(InputError, match="needs both files"):
        open_detector("mmdet:config.py")
    monkeypatch.setitem(__import__("sys").modules, "ultralytics", None)
    with pytest.raises(InputError, match=r"pip install .*ultralytics"):
        open_detector("ultralytics:yolo11n.pt")


def test_torchvision_by_its_long_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from masa_track.detectors import coco

    monkeypatch.setattr(coco.CocoDetector.__init__, "__defaults__", (None, False, None))  # random weights
    detector = open_detector("torchvision:ssdlite320_mobilenet_v3_large", "cpu")
    assert detector.class_names[1] == "person"
    assert detector.detect([FRAME])[0].xyxy.shape[1] == 4
