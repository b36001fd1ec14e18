"""Masks of tracked boxes: SAM from a checkpoint file, its masks, and where they end up."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import supervision as sv
import torch
from test_cli_track import made_clip

from masa_track.cli.main import main
from masa_track.drawing.colours import track_color
from masa_track.drawing.tracks import TrackDrawer
from masa_track.errors import InputError
from masa_track.formats.coco_vid import CocoVidWriter
from masa_track.masks import encode_mask

pytest.importorskip("segment_anything")
coco = pytest.importorskip("pycocotools.mask")
from tiny_sam import tiny_sam, write_sam  # noqa: E402 (needs segment_anything)

from masa_track.segmenters.sam import SamSegmenter  # noqa: E402
from masa_track.segmenters.sam_checkpoint import _build, load_sam  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sam(tmp_path_factory.mktemp("sam") / "any_name.pth")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_clip(tmp_path_factory.mktemp("clips") / "walkers", 4)


def picture(height: int = 60, width: int = 90) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


# ---------------------------------------------------------------------------------------------------------------------
# The checkpoint


@pytest.mark.parametrize(("sizes", "suffix"), [({}, ".pth"), ({"depth": 3, "heads": 2, "side": 64}, ".safetensors")])
def test_the_shapes_identify_the_network(sizes: dict[str, int], suffix: str, tmp_path: Path) -> None:
    """The same outputs as the network that wrote the file: heads, windows and all."""
    sam, made = load_sam(write_sam(tmp_path / f"sam{suffix}", **sizes), "cpu"), tiny_sam(**sizes)
    side = made.image_encoder.img_size
    image = torch.rand(3, side, side - 20) * 255
    record = {"image": image, "original_size": (50, 40), "boxes": torch.tensor([[5.0, 5, 40, 44]])}
    with torch.no_grad():
        given, true = (network([record], multimask_output=True)[0] for network in (sam, made))
    torch.testing.assert_close(given["low_res_logits"], true["low_res_logits"])
    torch.testing.assert_close(given["iou_predictions"], true["iou_predictions"])
    torch.testing.assert_close(given["masks"], true["masks"])
    assert not any(value.requires_grad for value in sam.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_published_sizes(name: str) -> None:
    """Built as segment-anything itself builds them, module for module."""
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        published = sam_model_registry[name]()
        ours = _build(published.state_dict())
    assert str(ours) == str(published)
    assert ours.image_encoder.img_size == published.image_encoder.img_size == 1024
    for own, theirs in zip(ours.image_encoder.blocks, published.image_encoder.blocks, strict=True):
        assert (own.window_size, own.attn.num_heads) == (theirs.window_size, theirs.attn.num_heads)
    assert ours.mask_decoder.transformer.num_heads == published.mask_decoder.transformer.num_heads


def test_masa_checkpoints_hold_a_whole_sam(tmp_path: Path) -> None:
    """The names of tests/goldens/keys: the encoder is ``detector.backbone``, the rest keeps its names."""
    state = {}
    for key, value in tiny_sam().state_dict().items():
        state["detector." + key.replace("image_encoder.", "backbone.")] = value
    names = Path(__file__).parent / "goldens" / "keys" / "sam_vitb_masa.json"
    listed = {re.sub(r"blocks\.\d+", "blocks.0", key) for key in re.findall(r'"(detector\.[^"]+)"', names.read_text())}
    assert {re.sub(r"blocks\.\d+", "blocks.0", key) for key in state} == listed
    torch.save({"state_dict": {**state, "masa_adapter.0.weight": torch.zeros(1)}}, tmp_path / "masa.pth")
    sam = load_sam(tmp_path / "masa.pth", "cpu")
    assert torch.equal(sam.image_encoder.pos_embed, tiny_sam().image_encoder.pos_embed)


def changed(**tensors: torch.Tensor | None) -> dict[str, torch.Tensor]:
    state = tiny_sam().state_dict()
    for key, value in tensors.items():
        if value is None:
            del state[key]
        else:
            state[key] = value
    return state


BAD: dict[str, tuple[Callable[[], dict[str, torch.Tensor]], str]] = {
    "classifier": (lambda: {"fc.weight": torch.zeros(2)}, "no SAM checkpoint.*a torchvision classifier"),
    "transformers": (lambda: {"vision_encoder.pos_embed": torch.zeros(2)}, "transformers' SAM"),
    "encoder only": (
        lambda: {key: value for key, value in tiny_sam().state_dict().items() if key.startswith("image_encoder")},
        r"nothing in it is called prompt_encoder\.",
    ),
    "no positions": (lambda: changed(**{"image_encoder.pos_embed": None}), "lacks 'image_encoder.pos_embed'"),
    "missing": (lambda: changed(**{"mask_decoder.iou_token.weight": None}), "1 tensors are missing.*iou_token"),
    "extra": (lambda: changed(**{"image_encoder.more": torch.zeros(1)}), "1 are not known.*image_encoder.more"),
    "shape": (lambda: changed(**{"mask_decoder.iou_token.weight": torch.zeros(1, 5)}), "1 are of another shape"),
}


@pytest.mark.parametrize("case", BAD)
def test_other_networks_are_refused(case: str, tmp_path: Path) -> None:
    make, message = BAD[case]
    torch.save(make(), tmp_path / "sam_vit_b_01ec64.pth")
    with pytest.raises(InputError, match=message):
        load_sam(tmp_path / "sam_vit_b_01ec64.pth", "cpu")


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"image_encoder.pos_embed": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError):
        load_sam(tmp_path / "evil.pth", "cpu")
    assert not (tmp_path / "ran").exists()


# ---------------------------------------------------------------------------------------------------------------------
# Masks


def test_masks_are_those_of_one_box_at_a_time(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segment_anything import SamPredictor

    frame = picture()
    boxes = np.array([[3, 4, 40, 50], [-20, -20, 30, 30], [10, 5, 80, 55], [50, 20, 500, 44]], np.float32)
    expected = []
    predictor = SamPredictor(tiny_sam())
    predictor.set_image(frame, "BGR")
    for box in boxes:
        inside = box.clip(0, [90, 60, 90, 60])
        expected.append(predictor.predict(box=inside, multimask_output=False)[0][0])
    for most in (64, 3):  # in one pass, and in two
        monkeypatch.setattr("masa_track.segmenters.sam._MOST_BOXES", most)
        masks = SamSegmenter(checkpoint, "cpu").segment(frame, boxes)
        assert (masks.shape, masks.dtype) == ((4, 60, 90), np.dtype(bool))
        assert (masks != np.array(expected)).mean() < 1e-3  # a pass of another size rounds otherwise
        assert 0.02 < masks.mean() < 0.98  # else the comparison says nothing


def test_boxes_outside_and_no_boxes(checkpoint: Path) -> None:
    segmenter, frame = SamSegmenter(checkpoint, "cpu"), picture()
    assert segmenter.segment(frame, np.zeros((0, 4))).shape == (0, 60, 90)
    masks = segmenter.segment(frame, np.array([[100, 70, 120, 90], [5, 5, 5, 9]]))
    assert not masks.any()
    with pytest.raises(InputError, match="boxes must be finite"):
        segmenter.segment(frame, np.array([[np.nan, 0, 1, 1]]))
    with pytest.raises(InputError, match="frame must be"):
        segmenter.segment(frame[..., 0], np.zeros((0, 4)))


def test_only_rows_with_an_identity_get_masks(checkpoint: Path) -> None:
    boxes = np.array([[3, 4, 40, 50], [3, 4, 40, 50], [10, 5, 80, 55]], np.float32)
    tracked = sv.Detections(xyxy=boxes, tracker_id=np.array([7, -1, 2]))
    segmenter = SamSegmenter(checkpoint, "cpu")
    masked = segmenter.add_masks(tracked, picture())
    assert tracked.mask is None
    assert not masked.mask[1].any()
    np.testing.assert_array_equal(masked.mask[[0, 2]], segmenter.segment(picture(), boxes[[0, 2]]))
    empty = segmenter.add_masks(sv.Detections.empty(), picture())
    assert empty.mask.shape == (0, 60, 90)


def test_rle_is_cocos() -> None:
    for mask in (picture()[..., 0] > 99, np.zeros((5, 7), bool), np.ones((5, 7), bool)):
        text = json.loads(json.dumps(encode_mask(mask)))
        np.testing.assert_array_equal(coco.decode(text).astype(bool), mask)


# ---------------------------------------------------------------------------------------------------------------------
# Files


@pytest.mark.slow
def test_masks_in_the_files(checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    truth = str(clip / "gt" / "gt.txt")
    options = ["track", str(clip), "--detections", truth, "--device", "cpu"]
    assert main([*options, "--out", str(tmp_path / "plain")]) == 0
    assert main([*options, "--masks", str(checkpoint), "--out", str(tmp_path / "masks")]) == 0
    plain, masked = (json.loads((tmp_path / name / "tracks.json").read_text()) for name in ("plain", "masks"))
    assert len(masked["annotations"]) == len(plain["annotations"]) == 4 * 3
    segmenter = SamSegmenter(checkpoint, "cpu")
    import cv2

    for with_mask, without in zip(masked["annotations"], plain["annotations"], strict=True):
        assert "segmentation" not in without
        mask = coco.decode(with_mask.pop("segmentation")).astype(bool)
        assert with_mask.pop("area") == mask.sum()
        without.pop("area")
        assert with_mask == without
        frame = cv2.imread(str(clip / "img1" / f"{with_mask['image_id']:06d}.png"))
        x, y, w, h = with_mask["bbox"]
        expected = segmenter.segment(frame, np.array([[x, y, x + w, y + h]]))[0]
        assert (mask != expected).mean() < 1e-3
    for name in ("tracks.txt", "tracks.csv"):
        assert (tmp_path / "plain" / name).read_text() == (tmp_path / "masks" / name).read_text()
    pictures = []
    for name in ("plain", "masks"):
        with av.open(str(tmp_path / name / "video.mp4")) as container:
            pictures.append(next(container.decode(video=0)).to_ndarray(format="bgr24").astype(int))
    assert np.abs(pictures[0] - pictures[1]).mean() > 2
    assert "any_name.pth" in (tmp_path / "masks" / "report.html").read_text()


def test_masks_are_drawn_in_their_tracks_colour() -> None:
    mask = np.zeros((2, 80, 100), bool)
    mask[0, 50:70, 60:90] = True  # beyond its box, as masks may be
    mask[1, 5:9, 50:60] = True
    rows = sv.Detections(
        xyxy=np.array([[40.0, 40, 80, 70], [40, 1, 70, 12]]), mask=mask, tracker_id=np.array([5, -1]), class_id=None
    )
    drawn = TrackDrawer(100, 80, 10.0).draw(np.zeros((80, 100, 3), np.uint8), rows)
    color = np.array([int(track_color(5)[i : i + 2], 16) for i in (5, 3, 1)])  # BGR
    np.testing.assert_allclose(drawn[60, 85], color * 0.45, atol=2)
    assert not drawn[60, 95].any()
    assert not drawn[7, 55].any()  # a row without identity


def test_masks_of_a_detector_are_written_too(tmp_path: Path) -> None:
    mask = np.zeros((2, 8, 9), bool)
    mask[1, 2:4, 3:6] = True
    rows = sv.Detections(xyxy=np.array([[0.0, 0, 5, 5], [1, 1, 7, 7]]), mask=mask, tracker_id=np.array([-1, 4]))
    writer = CocoVidWriter(tmp_path / "tracks.json", "v", 9, 8)
    writer.write(1, "a.jpg", rows)
    writer.close()
    (annotation,) = json.loads((tmp_path / "tracks.json").read_text())["annotations"]
    np.testing.assert_array_equal(coco.decode(annotation["segmentation"]), mask[1])
    assert annotation["area"] == 6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such checkpoint: .*sam.pth"),
        (b"half of a zip", "not a whole torch checkpoint.*download it again"),
        (b"", "not a whole torch checkpoint"),
    ],
)
def test_a_bad_checkpoint_is_refused_before_any_work(
    content: bytes | None, message: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "sam.pth", tmp_path / "out"
    if content is not None:
        path.write_bytes(content)
    options = ["--detections", str(clip / "gt" / "gt.txt"), "--masks", str(path), "--out", str(out)]
    assert main(["track", str(clip), *options]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not out.exists()


def test_a_truncated_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    whole = checkpoint.read_bytes()
    safe = write_sam(tmp_path / "sam.safetensors").read_bytes()
    for name, content in (("cut.pth", whole[: len(whole) // 2]), ("cut.safetensors", safe[: len(safe) // 2])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} is not a whole"):
            load_sam(tmp_path / name, "cpu")


def test_what_is_missing_is_named(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(
        InputError, match=r'pycocotools.* is needed for masks: run `pip install "\.\[sam\]"` in a checkout'
    ):
        load_sam(checkpoint)
