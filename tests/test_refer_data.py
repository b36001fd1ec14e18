"""Data sets with sentences: their layouts, windows, flips, batches and faults."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.evaluation.proofs import COMBINED, find_proof, read_expected
from masa_track.formats.davis import write_index_picture
from masa_track.refer.annotated import (
    A2dSentences,
    CocoVidSentences,
    JhmdbSentences,
    ReferYoutubeVos,
    centred,
    chunks,
)
from masa_track.refer.data import MEAN, STD, SentenceClip, SyntheticClips, flipped, make_batch, normalised
from masa_track.refer.detected import open_referrer
from masa_track.refer.model import Mttr, MttrOutput, VideoMaps
from masa_track.refer.select import MttrReferrer
from masa_track.refer.settings import TINY
from masa_track.refer.tokens import clean_sentence, load_tokenizer, synthetic_encode, token_rows
from masa_track.refer.weights import MttrWeights, save_weights

HEIGHT, WIDTH = 24, 32


class BlueSquare(Mttr):
    """Query 0 is where the picture is blue, the other one is empty."""

    def encode_video(self, videos: torch.Tensor, *args: Any) -> VideoMaps:
        self.blue = (videos[:, 2] - videos[:, 0]).transpose(0, 1)
        return super().encode_video(videos, *args)

    def segment(self, video: VideoMaps, words: torch.Tensor, ids: torch.Tensor) -> MttrOutput:
        blue = self.blue[[2]] - 1.5
        masks = torch.stack([blue, torch.full_like(blue, -1.0)], dim=2)[None]
        referred = torch.tensor([[3.0, -3.0], [-3.0, 3.0]]).expand(1, 1, 1, 2, 2)
        return MttrOutput(masks, referred, torch.zeros(1, 1, 2, 4))


def tokenizer_files(folder: Path) -> None:
    """vocab.json and merges.txt of a byte-level BPE with RoBERTa's special tokens."""
    from tokenizers.implementations import ByteLevelBPETokenizer

    trained = ByteLevelBPETokenizer()
    texts = ["a dog to the left of the tree", "the red car", "a square, blue"]
    trained.train_from_iterator(
        texts, vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False
    )
    trained.save_model(str(folder))


def test_the_tokenizer_of_roberta(tmp_path: Path) -> None:
    """As transformers' own, from both forms of its files; rows are padded with 1."""
    from transformers import RobertaTokenizer

    tokenizer_files(tmp_path)
    encode = load_tokenizer(tmp_path)
    theirs = RobertaTokenizer.from_pretrained(tmp_path, local_files_only=True)
    sentences = ["the red car", "a dog's  \u00e9t\u00e9 \u7ea2", "The RED car on the left"]
    for sentence in sentences:
        assert encode(clean_sentence(sentence)) == theirs(clean_sentence(sentence))["input_ids"]
    rows = token_rows(sentences, encode, 514)
    assert rows[0, :1].tolist() == [0]
    assert rows[0][rows[0] != 1][-1].item() == 2
    (tmp_path / "one").mkdir()
    theirs.save_pretrained(tmp_path / "one")
    assert load_tokenizer(tmp_path / "one" / "tokenizer.json")("the red car") == encode("the red car")
    with pytest.raises(InputError, match=r"is missing: give tokenizer\.json"):
        load_tokenizer(tmp_path / "none")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        load_tokenizer(tmp_path)


CPU = torch.device("cpu")


@pytest.mark.parametrize(("trained_on", "sides"), [("a2d", (320, 576)), ("ytvos", (360, 640)), ("own", (360, 640))])
def test_frames_of_a_referrer_have_the_size_of_the_data_set(
    trained_on: str, sides: tuple[int, int], tmp_path: Path
) -> None:
    tokenizer_files(tmp_path)
    path = save_weights(Mttr(TINY), tmp_path / "tiny.safetensors", trained_on, 4)
    referrer = open_referrer(str(path), "cpu")
    assert isinstance(referrer, MttrReferrer)
    assert referrer.sides == sides


def picture(t: int) -> np.ndarray:
    """(H, W, 3) BGR: a blue square whose left edge is at column t."""
    image = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    image[8:16, t : t + 8] = (250, 30, 30)
    return image


def square(t: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[8:16, t : t + 8] = True
    return mask


def check_clip(item: SentenceClip, columns: list[int], frames: tuple[int, ...] | None = None) -> None:
    """The masks lie on the blue square, whose left edges are ``columns`` in the frames of interest."""
    assert item.frames == frames
    scale = item.video.shape[3] / WIDTH
    for v, column in enumerate(columns):
        mask = item.masks[v, item.referred[0]]
        edge = mask.any(0).nonzero()[:1].flatten().tolist()
        assert edge == [pytest.approx(column * scale, abs=1)]
        pixels = item.video[v if frames is None else frames[v]][:, mask]
        assert pixels[2].float().mean() > 200 > 100 > pixels[0].float().mean()  # RGB


def test_windows() -> None:
    assert centred(5, 4, 20) == (3, 4, 5, 6)
    assert centred(1, 4, 20) == (1, 1, 1, 2)
    assert centred(20, 5, 20) == (18, 19, 20, 20, 20)
    assert chunks("abcdefgh", 4) == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert chunks("abcdefghij", 4) == [(0, 1, 2, 3), (4, 5, 6, 7), (6, 7, 8, 9)]
    assert chunks("abc", 4) == [(0, 1, 2, 2)]


@pytest.fixture
def youtube(tmp_path: Path) -> Path:
    """Refer-YouTube-VOS with one video of 6 frames; object 2 is there in the last two frames only."""
    names = [f"{5 * t:05d}" for t in range(6)]
    for part in ("JPEGImages", "Annotations"):
        (tmp_path / "train" / part / "vid").mkdir(parents=True)
    for t, name in enumerate(names):
        cv2.imwrite(str(tmp_path / "train" / "JPEGImages" / "vid" / f"{name}.jpg"), picture(2 * t))
        numbers = square(2 * t).astype(np.uint8)
        if t >= 4:
            numbers[:4, :4] = 2
        write_index_picture(tmp_path / "train" / "Annotations" / "vid" / f"{name}.png", numbers)
    expressions = {"0": {"exp": "A  Blue Square", "obj_id": "1"}, "1": {"exp": "the corner on the left", "obj_id": "2"}}
    meta = tmp_path / "meta_expressions" / "train"
    meta.mkdir(parents=True)
    (meta / "meta_expressions.json").write_text(
        json.dumps({"videos": {"vid": {"expressions": expressions, "frames": names}}})
    )
    return tmp_path


def test_refer_youtube_vos(youtube: Path) -> None:
    data = ReferYoutubeVos(youtube, window=4, sides=(24, 64), flip=0.0)
    assert [(s.numbers, s.instance) for s in data.samples] == [((0, 1, 2, 3), 1), ((2, 3, 4, 5), 1), ((2, 3, 4, 5), 2)]
    check_clip(data[0], [0, 2, 4, 6])
    assert data[0].sentences == ["a blue square"]
    assert data[0].masks.shape[1] == 1
    late = data[2]
    assert late.masks.shape[1] == 2
    assert late.referred == [1]
    assert late.visible is not None
    assert late.visible.tolist() == [[True, False], [True, False], [True, True], [True, True]]


def test_flips_change_words_and_masks(youtube: Path) -> None:
    data, mirrored = (ReferYoutubeVos(youtube, window=4, sides=(24, 64), flip=p) for p in (0.0, 1.0))
    item, other = data[2], mirrored[2]
    assert other.sentences == ["the corner on the right"]
    torch.testing.assert_close(other.video, item.video.flip(-1))
    torch.testing.assert_close(other.masks, item.masks.flip(-1))
    again = flipped(other)
    assert again.sentences == item.sentences


def test_flips_depend_on_the_epoch() -> None:
    data = SyntheticClips([{"clips": 16}], flip=0.5)
    first = [data[i].sentences for i in range(16)]
    data.set_epoch(1)
    second = [data[i].sentences for i in range(16)]
    data.set_epoch(0)
    assert [data[i].sentences for i in range(16)] == first != second


def coco(folder: Path, **changes: Any) -> Path:
    """COCO-VID json beside four pictures."""
    for t in range(4):
        cv2.imwrite(str(folder / f"{t}.png"), picture(3 * t))
    content: dict[str, Any] = {
        "videos": [{"id": 1, "name": "vid"}],
        "images": [{"id": 10 + t, "video_id": 1, "frame_id": t, "file_name": f"{t}.png"} for t in range(4)],
        "annotations": [
            {"id": t, "image_id": 10 + t, "track_id": 7, "bbox": [3 * t, 8, 8, 8], "category_id": 1} for t in range(4)
        ],
        "tracks": [{"id": 7, "video_id": 1, "sentence": "the blue thing"}],
        **changes,
    }
    (folder / "tracks.json").write_text(json.dumps(content))
    return folder / "tracks.json"


def test_coco_vid_with_boxes(tmp_path: Path) -> None:
    data = CocoVidSentences(tmp_path, coco(tmp_path), window=4, sides=(24, 64), flip=0.0)
    assert len(data) == 1
    check_clip(data[0], [0, 3, 6, 9])


def test_coco_vid_with_polygons_and_several_sentences(tmp_path: Path) -> None:
    entries = [
        {
            "id": t,
            "image_id": 10 + t,
            "instance_id": 7,
            "segmentation": [[3 * t, 8, 3 * t + 8, 8, 3 * t + 8, 16, 3 * t, 16]],
        }
        for t in range(4)
    ]
    tracks = [{"id": 7, "video_id": 1, "sentences": ["the blue thing", "it moves right"]}]
    data = CocoVidSentences(
        tmp_path, coco(tmp_path, annotations=entries, tracks=tracks), window=2, sides=(24, 64), flip=0.0
    )
    assert [s.sentence for s in data.samples] == ["the blue thing", "it moves right"] * 2
    check_clip(data[0], [0, 3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tracks": [{"id": 7, "video_id": 1, "sentence": "  "}]}, "must contain a word"),
        ({"tracks": [{"id": "x", "video_id": 1, "sentence": "a"}]}, "id must be a whole number"),
        ({"tracks": [{"id": 7, "video_id": 1}]}, "has no sentence"),
        ({"tracks": 3}, "tracks"),
    ],
)
def test_coco_vid_faults(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CocoVidSentences(tmp_path, coco(tmp_path, **changes))


def test_jhmdb(tmp_path: Path) -> None:
    from scipy.io import savemat

    pictures, masks = tmp_path / "Rename_Images" / "catch" / "v1", tmp_path / "puppet_mask" / "catch" / "v1"
    pictures.mkdir(parents=True)
    masks.mkdir(parents=True)
    for t in range(8):
        cv2.imwrite(str(pictures / f"{t + 1:05d}.png"), picture(2 * t))
    savemat(masks / "puppet_mask.mat", {"part_mask": np.stack([square(2 * t) for t in range(8)], axis=-1)})
    (tmp_path / "jhmdb_annotation.txt").write_text("v1,man in blue catching\nmissing,nobody\n")
    data = JhmdbSentences(tmp_path, window=4, sides=(24, 64))
    assert [s.numbers[2] for s in data.samples] == [3, 4, 6]
    check_clip(data[0], [4], frames=(2,))


def a2d_folder(tmp_path: Path) -> Path:
    """A2D-Sentences with one video for each split."""
    import av
    import h5py

    texts = tmp_path / "text_annotations"
    folder = texts / "a2d_annotation_with_instances" / "v1"
    folder.mkdir(parents=True)
    (tmp_path / "Release" / "CLIPS320").mkdir(parents=True)
    with av.open(str(tmp_path / "Release" / "CLIPS320" / "v1.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=10, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        for t in range(10):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture(2 * t), format="bgr24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    with h5py.File(folder / "00005.h5", "w") as file:
        file["instance"] = np.array([2, 0])
        file["reMask"] = np.stack([square(8).T, np.zeros((WIDTH, HEIGHT), bool)]).astype(np.uint8)
    (tmp_path / "Release" / "videoset.csv").write_text(
        "v1,1,0,1,24,32,10,1,0\nv2,1,0,1,24,32,10,1,1\nv3,1,0,1,24,32,9,1,0\n"
    )
    (texts / "a2d_missed_videos.txt").write_text("v3\n")
    (texts / "a2d_annotation.txt").write_text(
        'video_id,instance_id,query\nv1,2,"a square, blue"\nv1,5,nobody\nv3,2,gone\n'
    )
    return tmp_path


needs_h5py = pytest.mark.skipif(importlib.util.find_spec("h5py") is None, reason="needs h5py, of the extra refer")


@needs_h5py
def test_a2d(tmp_path: Path) -> None:
    data = A2dSentences(a2d_folder(tmp_path), window=4, sides=(24, 64), flip=0.0)
    assert [(s.numbers, s.instance) for s in data.samples] == [((3, 4, 5, 6), 2)]
    check_clip(data[0], [8], frames=(2,))
    assert data[0].sentences == ["a square, blue"]
    np.testing.assert_array_equal(data.truth(data.samples[0]), square(8))


@needs_h5py
def test_the_proof_on_a2d(tmp_path: Path) -> None:
    """The scores of a network whose first query is the square, and whose other query is empty."""
    from masa_track.refer import proof

    root = a2d_folder(tmp_path / "data")
    settings = {"window": 4}
    videos = root / "Release" / "videoset.csv"
    videos.write_text(videos.read_text().replace("10,1,0", "10,1,1"))
    proof.check(root, [], settings)
    tokenizer_files(tmp_path)
    network = BlueSquare(replace(TINY, text=replace(TINY.text, vocabulary=400)))
    loaded = MttrWeights(network.eval(), "a2d", 4, tmp_path / "weights.pth")
    found = proof.run(loaded, root, [], settings)[COMBINED]
    assert found["precision@0.5"] == found["precision@0.8"] == 1.0
    assert found["mean_iou"] == pytest.approx(found["overall_iou"], abs=1e-5)  # there is one sentence
    assert found["mean_iou"] > 0.8  # the video is compressed
    assert found["map"] >= 0.7


@needs_h5py
@pytest.mark.slow
def test_verify_mttr_a2d(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same weights pass, others fail, and what cannot be verified is refused with the reason."""
    root = a2d_folder(tmp_path / "data")
    videos = root / "Release" / "videoset.csv"
    videos.write_text(videos.read_text().replace("10,1,0", "10,1,1"))
    tokenizer_files(tmp_path)
    networks = {}
    for seed, name in enumerate(("good", "other")):
        torch.manual_seed(seed)
        networks[name] = Mttr(replace(TINY, text=replace(TINY.text, vocabulary=400))).eval()
        save_weights(networks[name], tmp_path / f"{name}.safetensors", "a2d", 4)
    save_weights(networks["good"], tmp_path / "ytvos.safetensors", "ytvos", 4)
    save_weights(networks["good"], tmp_path / "window8.safetensors", "a2d", 8)

    data = A2dSentences(root, "test", 4, flip=0.0)  # the expected IoU, without the code under test
    item = data[0]
    with torch.inference_mode():
        ids = token_rows(item.sentences, load_tokenizer(tmp_path), TINY.text.positions)
        output = networks["good"](normalised(item.video)[None], ids, frames=[2])
    logits = output.masks[-1, :, 0, output.scores[0, 0].argmax()]
    large = torch.nn.functional.interpolate(logits[None], size=item.video.shape[-2:], mode="bilinear")[0]
    mask = cv2.resize((large[0] > 0).numpy().astype(np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST) > 0
    truth = square(8)
    iou = float((mask & truth).sum() / (mask | truth).sum())
    tolerance = {"each": {}, "combined": {"mean_iou": 0.003}}
    expected = {"origin": "a test", "settings": {"window": 4}, "tolerance": tolerance}
    expected["results"] = {COMBINED: {"mean_iou": iou}}
    (tmp_path / "expected.json").write_text(json.dumps(expected))

    def verify(*options: str) -> int:
        return main(["verify", "mttr-a2d", "--data", str(root), "--device", "cpu", *options])

    own = ("--expected", str(tmp_path / "expected.json"))
    assert verify(*own, "--checkpoint", str(tmp_path / "good.safetensors")) == 0
    assert verify(*own, "--checkpoint", str(tmp_path / "other.safetensors")) == 1
    capsys.readouterr()
    for options, reason in (
        (own, "github.com/mttr2021/MTTR"),
        ((*own, "--checkpoint", str(tmp_path / "ytvos.safetensors")), "was trained on 'ytvos'"),
        ((*own, "--checkpoint", str(tmp_path / "window8.safetensors")), "windows of 8 frames"),
    ):
        assert verify(*options) == 2
        assert reason in capsys.readouterr().err


def test_the_published_results_of_mttr_are_readable() -> None:
    known = read_expected(find_proof("mttr-a2d").expected)
    assert known.results[COMBINED]["map"] == 0.461
    assert known.items == []
    assert set(known.combined_tolerance) == set(known.results[COMBINED])


def test_roots_that_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        ReferYoutubeVos(tmp_path / "none")
    with pytest.raises(InputError, match="cannot be read"):
        ReferYoutubeVos(tmp_path)
    with pytest.raises(InputError, match="split must be"):
        ReferYoutubeVos(tmp_path, split="valid")
    with pytest.raises(InputError, match="window must be"):
        A2dSentences(tmp_path, window=0)


def clip_of(count: int, height: int, width: int, objects: int = 1, **others: Any) -> SentenceClip:
    draws = np.random.default_rng(count)
    video = torch.from_numpy(draws.integers(0, 256, (count, 3, height, width)).astype(np.uint8))
    masks = torch.from_numpy(draws.uniform(size=(count, objects, height, width)) > 0.5)
    return SentenceClip(video, masks, ["the red thing"], [0], **others)


def test_a_batch_is_padded_at_the_ends() -> None:
    small, large = clip_of(2, 16, 20), clip_of(3, 20, 16, objects=2)
    batch = make_batch([small, large], synthetic_encode, 34, CPU)
    assert batch.videos.shape == (2, 3, 3, 20, 20)
    assert batch.padding.sum().item() == 3 * 2 * 20 * 20 - 2 * 16 * 20 - 3 * 20 * 16
    assert (batch.videos[0][:, batch.padding[:, 0]] == 0).all()
    wanted = (small.video[1, 2, 3, 4] / 255 - MEAN[2]) / STD[2]
    assert batch.videos[0, 2, 1, 3, 4].item() == pytest.approx(wanted.item())
    assert [target.masks.shape for target in batch.targets] == [(3, 1, 20, 20), (3, 2, 20, 20)]
    assert batch.targets[0].is_visible.tolist() == [True, True, False]  # it is not there in the frame that was added
    assert batch.targets[1].is_visible.tolist() == [True] * 3
    assert torch.equal(batch.targets[0].masks[:2, :, :16, :20], small.masks)


def test_clips_that_do_not_go_together() -> None:
    with pytest.raises(InputError, match="same frames of interest"):
        make_batch([clip_of(2, 16, 16), clip_of(2, 16, 16, frames=(1,))], synthetic_encode, 34, CPU)
    with pytest.raises(InputError, match="at least one clip"):
        make_batch([], synthetic_encode, 34, CPU)
    long = replace(clip_of(2, 16, 16), sentences=["red " * 40])
    with pytest.raises(InputError, match="32 tokens"):
        make_batch([long], synthetic_encode, 34, CPU)


def test_normalised_pixels() -> None:
    video = torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
    torch.testing.assert_close(normalised(video)[:, 0, 0, 0], -torch.tensor(MEAN) / torch.tensor(STD))


def test_synthetic_clips_of_several_parts() -> None:
    data = SyntheticClips([{"clips": 2, "kinds": ("motion",)}, {"clips": 1, "kinds": ("colour",)}], flip=0.0)
    assert len(data) == 3
    assert all("moving" in s or "still" in s for s in data[0].sentences)
    assert not any("moving" in s for s in data[2].sentences)
    assert data[0].masks.shape[2:] == (32, 32)
    for parts in ([], [{"clips": 0}], [{}]):
        with pytest.raises(InputError, match="parts must be"):
            SyntheticClips(parts)
    with pytest.raises(InputError, match="colour"):
        SyntheticClips([{"clips": 1, "kinds": ("color",)}])
