"""`masa-track track --masa-config`: what is read of each official configuration, what goes before it, what is named."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from masa_track import load
from masa_track.association import any_options_of
from masa_track.cli.main import build_parser, main
from masa_track.cli.masa_config import MasaConfig, apply_masa_config, read_masa_config
from masa_track.cli.track import parse_options
from masa_track.errors import InputError
from masa_track.pipeline.network import set_network

pytest.importorskip("mmengine")
MASA = Path(__file__).resolve().parents[1] / "configs" / "masa"
FILES = sorted(MASA.glob("masa-*/*/*.py"))
PADDING = {"r50": 32, "sam-vitb": 1024, "sam-vith": 1024, "gdino-swinb": 1024, "detic-swinb": 32}
# The authors' configuration for videos of their own: R50, boxes given; facts of their file, in our words.
PLUG_AND_PLAY = """
default_scope = "mmdet"
model = dict(
    type="MASA",
    given_dets=True,
    use_masa_backbone=True,
    data_preprocessor=dict(type="TrackDataPreprocessor",
        mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], pad_size_divisor=64),
    backbone=dict(type="ResNet", depth=50, style="caffe"),
    masa_adapter=[dict(type="FPN", in_channels=[256, 512, 1024, 2048]), dict(type="DeformFusion")],
    test_cfg=dict(
        rpn=dict(nms_pre=77, max_per_img=66, nms=dict(type="nms", iou_threshold=0.6), min_bbox_size=0),
        rcnn=dict(score_thr=0.03, nms=dict(type="nms", iou_threshold=0.4, class_agnostic=True), max_per_img=44),
    ),
    tracker=dict(
        type="MasaTaoTracker", init_score_thr=0.1, obj_score_thr=0.01, memo_momentum=0.7, with_cats=False,
        max_distance=100, fps=30,
    ),
)
inference_pipeline = [
    dict(type="TransformBroadcaster", transforms=[dict(type="Resize", scale=(800, 640), keep_ratio=True)]),
    dict(type="PackTrackInputs"),
]
visualizer = dict(type="MasaTrackLocalVisualizer")
"""


def parsed(config: Path, *options: str) -> tuple[argparse.Namespace, MasaConfig]:
    args = build_parser().parse_args(["track", "v.mp4", "--out", "x", "--masa-config", str(config), *options])
    read = apply_masa_config(args)
    assert read is not None
    return args, read


def written(folder: Path, text: str = PLUG_AND_PLAY, **changes: str) -> Path:
    for old, new in changes.items():
        text = text.replace(old, new)
    file = folder / "masa.py"
    file.write_text(text)
    return file


def options(args: argparse.Namespace) -> Any:
    return any_options_of(args.preset, **parse_options(args.set))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_official_configuration(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args, read = parsed(file)
    assert args.model == next(name for name in PADDING if name.partition("-")[0] in file.stem and (
        "sam" not in name or name.replace("-", "_") in file.stem))  # fmt: skip
    bdd = "bdd" in file.stem
    assert options(args) == any_options_of("bdd" if bdd else "tao")  # the authors' files have the presets' values
    wide = "detic_swinb" in file.stem or "detic_bdd" in file.stem or "gdino_bdd" in file.stem
    size = (1333, 800) if wide else (1024, 1024)
    assert (read.sizes["long_side"], read.sizes["short_side"]) == size
    assert read.sizes["size_divisor"] == PADDING[args.model]
    said = capsys.readouterr().err
    assert "model.public_det_path (use --detections FILE)" in said
    assert ("model.with_segm" in said) == ("mots" in file.stem)
    assert said.count("warning") == 1


def test_a_configuration_for_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args, read = parsed(written(tmp_path))
    assert capsys.readouterr().err == ""  # all that it says has a counterpart
    assert (args.model, args.preset) == ("r50", "tao")
    assert options(args) == any_options_of(
        "tao",
        track_activation_threshold=0.1,
        object_score_threshold=0.01,
        embedding_momentum=0.7,
        max_distance=100,
        fps=30,
    )
    assert read.sizes == {
        "mean": (1.0, 2.0, 3.0), "std": (4.0, 5.0, 6.0), "size_divisor": 64, "long_side": 800, "short_side": 640
    }  # fmt: skip
    assert read.network["roi_head"] == {"score_threshold": 0.03, "iou_threshold": 0.4, "max_detections": 44}


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    file = written(tmp_path)
    args, _ = parsed(file, "--model", "nano", "--set", "max_distance=7", "--set", "views=2")
    assert args.model == "nano"  # also where it is the default's text
    found = options(args)
    assert (found.max_distance, found.views, found.fps) == (7, 2, 30)
    args, _ = parsed(file, "--preset", "default", "--set", "memory_seconds=3")
    assert options(args) == any_options_of("default", memory_seconds=3)


def test_the_default_of_a_key_that_is_not_given(tmp_path: Path) -> None:
    """The authors' trackers start tracks at .8 where a configuration does not say."""
    args, _ = parsed(
        written(
            tmp_path,
            **{"init_score_thr=0.1, ": "", "MasaTaoTracker": "MasaBDDTracker", "max_distance=100, fps=30,": ""},
        )
    )
    assert (args.preset, options(args).track_activation_threshold) == ("bdd", 0.8)


def test_our_own_configurations(tmp_path: Path) -> None:
    args, read = parsed(MASA.parent / "mmdet" / "mot_nano_public.py")
    assert (args.model, args.preset, args.set) == ("nano", "default", [])
    assert read.sizes == {"long_side": 800, "short_side": 800}
    args, read = parsed(MASA.parent / "mmdet" / "grounding_dino_shared.py")
    assert (args.model, args.text) == ("gdino-swinb", "a person")
    args, _ = parsed(MASA.parent / "mmdet" / "grounding_dino_shared.py", "--detector", "motion")
    assert args.text is None


def test_a_detector_of_another_file(tmp_path: Path) -> None:
    """As the authors' files build on a detector's: they take its model, change it, and delete it from the base."""
    swin = 'dict(type="SwinTransformer", embed_dims=128, window_size={})'
    for window, model in ((12, "gdino-swinb"), (7, "detic-swinb")):
        base = f'model = dict(type="Some", data_preprocessor=dict(type="D"), backbone={swin.format(window)})'
        (tmp_path / "detector.py").write_text(base)
        text = '_base_ = ["detector.py"]\ndetector = _base_.model\ndetector.pop("data_preprocessor")\n'
        text += 'detector["type"] = "SomeMasa"\ndel _base_.model\n' + PLUG_AND_PLAY.replace(
            'backbone=dict(type="ResNet", depth=50, style="caffe")', "detector=detector, unified_backbone=True"
        ).replace("[256, 512, 1024, 2048]", "[256, 512, 1024]")
        args, read = parsed(written(tmp_path, text))
        assert args.model == model
        assert read.left_out == []


def test_what_has_no_counterpart_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(
        tmp_path,
        **{
            "max_distance=100": "tracker_colour=3",
            "given_dets=True": 'detector="mmdet::rtmdet/x.py", odd=1',
            'dict(type="Resize"': 'dict(type="RandomFlip"), dict(type="Resize"',
            "min_bbox_size=0": "min_bbox_size=5",
        },
    )
    parsed(file)
    (said,) = capsys.readouterr().err.splitlines()
    assert said.endswith(
        "these keys have no effect here: model.detector (use --detector mmdet:CONFIG:CHECKPOINT), model.odd, "
        "model.tracker.tracker_colour, RandomFlip of the pipeline, model.test_cfg.rpn.min_bbox_size"
    )


def test_bad_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"no such configuration: nowhere\.py"):
        read_masa_config("nowhere.py")
    with pytest.raises(InputError, match=r"cannot be read \(.*files that it builds on"):
        read_masa_config(str(written(tmp_path, '_base_ = ["missing.py"]')))
    with pytest.raises(InputError, match=r"must have model\.type MASA, got 'FasterRCNN'"):
        read_masa_config(str(written(tmp_path, MASA="FasterRCNN")))
    with pytest.raises(InputError, match="did you mean 'MasaTaoTracker'"):
        read_masa_config(str(written(tmp_path, MasaTaoTracker="MasaTao")))
    with pytest.raises(InputError, match="give --model"):
        parsed(written(tmp_path, **{"[256, 512, 1024, 2048]": "[1, 2, 3]"}))
    monkeypatch.setitem(sys.modules, "mmengine", None)
    with pytest.raises(InputError, match=r'mmengine is needed to read --masa-config: run `pip install ".\[train\]"`'):
        read_masa_config(str(written(tmp_path)))


@pytest.mark.slow
def test_sizes_and_thresholds_reach_the_network(tmp_path: Path) -> None:
    from masa_track.encoders.embedder import Embedder
    from masa_track.registry import build_model

    network = build_model("r50")
    model = Embedder(network, "r50", "cpu")
    set_network(model, json.loads(json.dumps(read_masa_config(str(written(tmp_path))).network)))  # as in a recipe
    assert (network.long_side, network.short_side, network.size_divisor) == (800, 640, 64)
    assert (network.mean, network.std) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    head, proposals = network.roi_head, network.rpn_head
    assert (head.score_threshold, head.iou_threshold, head.max_detections) == (0.03, 0.4, 44)
    assert (proposals.per_level, proposals.max_proposals, proposals.iou_threshold) == (77, 66, 0.6)


@pytest.mark.slow
def test_sizes_reach_a_network_of_onnx_runtime(caplog: pytest.LogCaptureFixture) -> None:
    model = load("nano", device="cpu")
    config = MasaConfig("x.py", "nano", sizes={"long_side": 256, "short_side": 256})
    picture, boxes = (
        np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8),
        np.array([[9, 9, 99, 99]]),
    )
    before = model.embed(picture, boxes)
    set_network(model, config.network)
    assert model.facts.preprocessing.long_side == 256
    assert not np.allclose(model.embed(picture, boxes), before)
    set_network(model, MasaConfig("x.py", "r50", sizes={"long_side": 8}).network)
    assert model.facts.preprocessing.long_side == 256
    assert "x.py is of r50: its sizes" in caplog.text


@pytest.mark.slow
def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One command with a configuration; its options are in the report's facts."""
    (tmp_path / "frames").mkdir()
    for number in range(1, 4):
        picture = np.full((60, 80, 3), 90, np.uint8)
        cv2.rectangle(picture, (10 + number, 10), (40 + number, 50), (0, 0, 200), -1)
        cv2.imwrite(str(tmp_path / "frames" / f"{number}.png"), picture)
    (tmp_path / "det.txt").write_text("".join(f"{n},-1,{11 + n},11,30,40,0.9,-1,-1,-1\n" for n in range(1, 4)))
    file = written(tmp_path, **{"given_dets=True,": 'network="nano",'})
    line = ["track", tmp_path / "frames", "--detections", tmp_path / "det.txt", "--out", tmp_path / "out", "--no-video"]
    assert main([str(part) for part in (*line, "--masa-config", file, "--device", "cpu")]) == 0
    assert len(json.loads((tmp_path / "out" / "tracks.json").read_text())["annotations"]) == 3
    page = (tmp_path / "out" / "report.html").read_text()
    for fact in ("MASA configuration", "option max_distance", "option embedding_momentum"):
        assert fact in page
    # The record has all of it: an equal file may go on, a changed one may not.
    again = [str(part) for part in (*line, "--masa-config", file, "--device", "cpu", "--resume")]
    assert main(again) == 0
    file.write_text(file.read_text().replace("scale=(800, 640)", "scale=(640, 640)"))
    capsys.readouterr()
    assert main(again) == 2
    assert "network" in capsys.readouterr().err
