"""nano with an adapter to be trained: its centred start, its levels, its heads, and the file that training leaves."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torchvision.ops import box_iou, roi_align

import masa_track
from masa_track.errors import InputError
from masa_track.models import adapted_nano, build_model, nano
from masa_track.models.fuse import fold_batch_norms
from masa_track.models.lite0 import CentredLite0
from masa_track.models.preprocess import to_input
from masa_track.training.export import export

BOXES = np.array([[20, 30, 90, 200], [200, 40, 330, 160], [0, 0, 40, 40]], np.float32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as training leaves it: nano's backbone, the rest of chance."""
    torch.manual_seed(0)
    network = build_model("nano-adapter").eval()
    given = {key.removeprefix("backbone."): value.float() for key, value in load_file(nano.WEIGHTS).items()}
    network.backbone.features.load_state_dict(given, strict=False)
    with torch.no_grad():
        for convolution in network.adapter.correct:
            convolution.weight.normal_(0, 0.02)
    return export(network, tmp_path_factory.mktemp("w") / "m.safetensors", "nano-adapter", backbone=True, half=True)


@pytest.fixture(scope="module")
def model(weights: Path) -> masa_track.models.Embedder:
    return masa_track.load(weights, device="cpu")


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    """A made picture with structure at several scales."""
    rng = np.random.default_rng(0)
    picture = sum(
        cv2.resize(rng.uniform(0, 255, (h, 2 * h, 3)), (480, 240), interpolation=cv2.INTER_CUBIC)
        for h in (3, 9, 27, 81)
    )
    return np.clip(picture / 4, 0, 255).astype(np.uint8)


def test_shape_type_and_length(model: masa_track.models.Embedder, frame: np.ndarray) -> None:
    embeddings = model.embed(frame, BOXES)
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (3, model.dimension) == (3, (40 + 64 + 128) * 8)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), adapted_nano.LENGTH, rtol=1e-4)
    assert [tuple(level.shape) for level in model.pyramid(frame)] == [
        (1, 40 + 64, 56, 104),
        (1, 64 + 64, 28, 52),
        (1, 128 + 64, 14, 26),
        (1, 64, 7, 13),
    ]


def test_it_is_loaded_from_a_file_only(weights: Path, model: masa_track.models.Embedder, frame: np.ndarray) -> None:
    named = masa_track.load("nano-adapter", "cpu", checkpoint=weights)
    np.testing.assert_array_equal(named.embed(frame, BOXES), model.embed(frame, BOXES))
    with pytest.raises(InputError, match=r"'nano-adapter' comes without weights: train some .*give checkpoint"):
        masa_track.load("nano-adapter")
    with pytest.raises(InputError, match=r"does not fit the model 'nano' .it says it is of 'nano-adapter'"):
        masa_track.load("nano", checkpoint=weights)


def test_centring_takes_mean_and_large_components_off() -> None:
    torch.manual_seed(0)
    mixing = torch.randn(112, 112) * torch.logspace(0, -2, 112)
    x = torch.randn(20_000, 112) @ mixing + 5
    backbone = CentredLite0()
    backbone.fill_center(1, x.mean(0), x.T.cov(), power=0.5)
    y = backbone.center[1](x.T[None, :, :, None])[0, :, :, 0].T  # (20000, 64)
    torch.testing.assert_close(y.mean(0), torch.zeros(64), atol=1e-2, rtol=0)
    torch.testing.assert_close(y.T.cov()[-20:, -20:], torch.eye(20), atol=2e-2, rtol=0)  # the largest, all alike now
    kept = torch.linalg.eigvalsh(x.T.cov())[-64:]
    backbone.fill_center(1, x.mean(0), x.T.cov(), power=0.0)
    y = backbone.center[1](x.T[None, :, :, None])[0, :, :, 0].T
    torch.testing.assert_close(y.T.cov().diagonal(), kept, atol=1e-2, rtol=2e-2)


def test_a_fresh_model_is_its_centred_features(frame: np.ndarray) -> None:
    """All that training adds starts at zero, so training starts from the centred features."""
    torch.manual_seed(0)
    fresh = build_model("nano-adapter").eval()
    image, factors = to_input(frame, fresh.long_side, fresh.mean, fresh.std, fresh.size_divisor)
    boxes = torch.from_numpy(BOXES * factors)
    with torch.inference_mode():
        maps = fresh.backbone_maps(image)
        got = fresh.embed(fresh.adapt(maps), [boxes])
        parts = []
        for x, stride in zip(maps[4:], (8, 16, 32), strict=True):
            part = roi_align(x, [boxes], (4, 2), 1 / stride, 2, True).flatten(1)
            parts.append(torch.nn.functional.normalize(part, dim=1))
        expected = torch.cat(parts, dim=1) / 3**0.5
        torch.testing.assert_close(got, expected * adapted_nano.LENGTH, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(fresh.embed_start(maps, [boxes]), expected)
        fresh.train()
        lengths = fresh.embed(fresh.adapt(maps), [boxes]).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((3,), adapted_nano.TRAINING_LENGTH))


def test_own_boxes_are_in_the_frame_and_sorted(model: masa_track.models.Embedder, frame: np.ndarray) -> None:
    boxes, scores = model.detect(frame)
    assert 0 < len(boxes) <= adapted_nano.MAX_DETECTIONS
    assert (np.diff(scores) <= 0).all()
    assert (boxes >= 0).all()
    assert (boxes <= np.array([480, 240, 480, 240]) + 1e-3).all()
    overlaps = box_iou(torch.from_numpy(boxes), torch.from_numpy(boxes)).fill_diagonal_(0)
    assert overlaps.max() <= adapted_nano.DETECTION_IOU + 1e-4


def test_folding_batch_norms_changes_nothing(frame: np.ndarray) -> None:
    """Against the plain network with random running statistics, which a network must not be able to hide."""
    torch.manual_seed(0)
    plain = build_model("nano-adapter").eval()
    for parameter in plain.parameters():  # also what starts at zero
        parameter.data.add_(torch.randn_like(parameter) * 0.01)
    for key, buffer in plain.named_buffers():
        if key.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
        elif key.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    image = to_input(frame, 320, plain.mean, plain.std, plain.size_divisor)[0]
    with torch.inference_mode():
        expected = plain.pyramid(image)
        fold_batch_norms(plain)
        got = plain.pyramid(image)
    left = [m for m in plain.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(left) == 4  # the laterals normalise before they convolve
    for level, wanted in zip(got, expected, strict=True):
        torch.testing.assert_close(level, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_boxes_do_not_depend_on_each_other(model: masa_track.models.Embedder, frame: np.ndarray) -> None:
    together = model.embed(frame, BOXES)
    np.testing.assert_allclose(model.embed(frame, BOXES[::-1])[::-1], together, atol=1e-4)
    np.testing.assert_allclose(model.embed(frame, BOXES[1:2]), together[1:2], atol=1e-4)


@pytest.mark.parametrize("size", [(16, 16), (1, 1), (3, 900), (2160, 3840)])
def test_any_size_of_frame(model: masa_track.models.Embedder, size: tuple[int, int]) -> None:
    picture = np.full((*size, 3), 127, np.uint8)
    embeddings = model.embed(picture, np.array([[0, 0, size[1], size[0]]]))
    assert np.isfinite(embeddings).all()
