"""Official models at work on frames: bad input, batches, own detections, half precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from masa_track.encoders.embedder import Embedder
from masa_track.errors import InputError
from masa_track.registry import build_model

pytestmark = pytest.mark.slow  # together they take seconds

RANDOM = np.random.default_rng(0)
SIDE = 96  # of the networks' inputs


def picture(height, width):
    """A BGR frame with structure at several scales."""
    import cv2

    noise = sum(cv2.resize(RANDOM.uniform(0, 255, (h, h, 3)), (width, height)) for h in (3, 9, 27)) / 3
    return noise.astype(np.uint8)


@pytest.fixture(scope="module")
def model():
    """Detic's shape with random weights, on small inputs for speed."""
    torch.manual_seed(0)
    network = build_model("detic-swinb")
    network.long_side = network.short_side = SIDE
    network.roi_head.score_threshold = 0.0
    return Embedder(network, "detic-swinb", "cpu")


@pytest.mark.slow
def test_boxes_of_every_kind(model):
    frame = picture(120, 200)
    boxes = np.array(
        [
            [10, 10, 60, 90],
            [-50, -40, 30, 30],  # reaches beyond the picture
            [-90, -90, -50, -50],  # wholly outside
            [300, 300, 400, 380],
            [20, 20, 20, 20],  # zero area
            [20, 20, 20, 60],
            [0, 0, 200, 120],
            [-1e6, -1e6, 1e6, 1e6],
        ],
        np.float32,
    )
    embeddings = model.embed(frame, boxes)
    assert embeddings.shape == (8, 256)
    assert embeddings.dtype == np.float32
    assert np.isfinite(embeddings).all()
    np.testing.assert_allclose(model.embed(frame, boxes[::-1]), embeddings[::-1], atol=1e-4)
    np.testing.assert_allclose(model.embed(frame, boxes[:1]), embeddings[:1], atol=1e-4)
    assert np.abs(embeddings[0] - embeddings[6]).max() > 1e-3


def test_no_box_and_no_work(model, monkeypatch):
    monkeypatch.setattr(model.network, "backbone_maps", None)
    assert model.embed(picture(40, 50), np.zeros((0, 4))).shape == (0, 256)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((20, 30), np.uint8), r"\(20, 30\).*COLOR_GRAY2BGR"),
        (np.zeros((20, 30, 4), np.uint8), r"\(20, 30, 4\).*COLOR_BGRA2BGR"),
        (np.zeros((20, 30, 1), np.uint8), r"\(20, 30, 1\)"),
        (np.zeros((20, 30, 3), np.float32), "float32"),
        (np.zeros((0, 30, 3), np.uint8), "at least one pixel"),
    ],
)
def test_other_frames_are_refused_by_name(model, frame, message):
    with pytest.raises(InputError, match=message):
        model.embed(frame, np.array([[0, 0, 5, 5]]))
    with pytest.raises(InputError, match=message):
        model.detect(frame)
    with pytest.raises(InputError, match=message):
        model.embed_batch([frame], [np.zeros((0, 4))])


@pytest.mark.slow
@pytest.mark.parametrize("size", [(16, 16), (1, 1), (3, 400), (4320, 7680)])
def test_tiny_thin_and_8k_frames(model, size):
    height, width = size
    frame = picture(height, width)
    embeddings = model.embed(frame, np.array([[0, 0, width, height], [0, 0, width / 2, height / 2]]))
    assert embeddings.shape == (2, 256)
    assert np.isfinite(embeddings).all()
    boxes, scores = model.detect(frame)
    assert len(boxes) == len(scores) <= 100
    assert (boxes >= 0).all()
    assert (boxes <= [width + 1e-3, height + 1e-3] * 2).all()


def test_detections_are_in_the_frames_pixels(model, monkeypatch):
    """The head works in the input's pixels, clipped to the picture inside the padding; the caller sees the frame's."""
    seen = []

    def head(levels, sizes):
        seen.extend(sizes)
        return [(torch.tensor([[2.0, 4, 96, 60], [10, 20, 30, 40]]), torch.tensor([0.9, 0.3]))]

    monkeypatch.setattr(model.network, "detect", head)
    boxes, scores = model.detect(picture(120, 192))  # half the size, 60 x 96, padded to 64 x 96
    assert seen == [(60, 96)]
    np.testing.assert_allclose(boxes, [[4, 8, 192, 120], [20, 40, 60, 80]], rtol=1e-6)
    np.testing.assert_allclose(scores, [0.9, 0.3], rtol=1e-6)


def test_detections_are_sorted_and_few(model):
    boxes, scores = model.detect(picture(96, 144))
    assert 5 < len(boxes) <= 100
    assert (np.diff(scores) <= 0).all()
    assert (boxes[:, 2:] >= boxes[:, :2]).all()


@pytest.mark.slow
def test_backbone_runs_once_for_a_frame(model, monkeypatch):
    calls = []
    maps = model.network.backbone_maps
    monkeypatch.setattr(model.network, "backbone_maps", lambda images: calls.append(1) or maps(images))
    frame = picture(60, 80)
    (features,) = model.encode([frame])
    boxes, scores = model.detect_features(features)
    embeddings = model.embed_features(features, boxes)
    assert len(calls) == 1
    np.testing.assert_array_equal(model.detect(frame)[0], boxes)
    np.testing.assert_array_equal(model.detect(frame)[1], scores)
    np.testing.assert_array_equal(model.embed(frame, boxes), embeddings)
    assert len(calls) == 4


@pytest.mark.slow
def test_batches_equal_one_by_one(model):
    frames = [picture(90, 120), picture(50, 150), picture(90, 120), picture(60, 60)]
    boxes = [np.array([[5, 5, 50, 60], [20, 10, 110, 80]]), np.array([[0, 0, 90, 40]]), np.array([[1, 2, 30, 40]])]
    boxes.append(np.zeros((0, 4)))
    got = model.embed_batch(frames, boxes)
    assert [g.shape for g in got] == [(2, 256), (1, 256), (1, 256), (0, 256)]
    for frame, own, ours in zip(frames, boxes, got, strict=True):
        np.testing.assert_allclose(ours, model.embed(frame, own), atol=1e-4)
    assert model.embed_batch([], []) == []
    with pytest.raises(InputError, match="one array a frame, got 1 for 2 frames"):
        model.embed_batch(frames[:2], boxes[:1])


@pytest.mark.slow
def test_many_boxes_are_embedded_in_parts(model, monkeypatch):
    monkeypatch.setattr("masa_track.models.official.MAX_EMBED_BOXES", 3)
    frames = [picture(60, 80), picture(60, 80)]
    corners = RANDOM.uniform(0, 40, (7, 2))
    boxes = np.concatenate([corners, corners + 20], axis=1)
    parts = model.embed_batch(frames, [boxes, boxes[:2]])
    monkeypatch.undo()
    whole = model.embed_batch(frames, [boxes, boxes[:2]])
    for ours, theirs in zip(parts, whole, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near(model, dtype):
    """What comes out is float32, and points where the float32 model's does."""
    frame, boxes = picture(80, 120), np.array([[10, 10, 60, 70], [30, 5, 110, 75], [0, 0, 25, 25]])
    want = model.embed(frame, boxes)
    torch.manual_seed(0)
    network = build_model("detic-swinb")
    network.load_state_dict(model.network.state_dict())
    network.long_side = network.short_side = SIDE
    half = Embedder(network, "detic-swinb", "cpu", dtype)
    got = half.embed(frame, boxes)
    assert got.dtype == np.float32
    cosine = (got * want).sum(axis=1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)
    assert cosine.min() > 0.98
    found, scores = half.detect(frame)
    assert found.dtype == scores.dtype == np.float32
    assert np.isfinite(found).all()


def test_dtypes_are_checked():
    network = torch.nn.Linear(1, 1)
    with pytest.raises(InputError, match="did you mean 'float16'"):
        Embedder(network, "x", "cpu", "float61")
    with pytest.raises(InputError, match=r"got torch\.int8"):
        Embedder(network, "x", "cpu", torch.int8)


def test_the_untrained_nano_finds_no_boxes():
    import masa_track

    with pytest.raises(InputError, match="'nano-untrained' finds no boxes itself"):
        masa_track.load("nano-untrained", device="cpu").detect(picture(40, 40))
