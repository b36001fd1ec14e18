"""The detectors that the command can run."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from masa_track.detectors import coco, open_detector
from masa_track.detectors.motion import MotionDetector
from masa_track.detectors.nanodet import COCO_NAMES
from masa_track.detectors.selection import chosen_classes
from masa_track.errors import InputError


def scene(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(40, 160, (12, 16, 3)).astype(np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)


def with_walker(picture: np.ndarray, x: int) -> np.ndarray:
    picture = picture.copy()
    picture[200:320, x : x + 50] = (10, 10, 240)
    return picture


def iou(a: np.ndarray, b: np.ndarray) -> float:
    inter = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return float(inter / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inter))


@pytest.mark.slow
def test_motion_finds_what_moves() -> None:
    detector, street = MotionDetector(), scene(0)
    for _ in range(20):
        assert len(detector.detect([street])[0]) == 0
    for x in range(50, 500, 30):
        found = detector.detect([with_walker(street, x)])[0]
        assert len(found) == 1
        assert iou(found.xyxy[0], np.array([x, 200, x + 50, 320])) > 0.6
        assert found.class_id.tolist() == [0]
    assert detector.class_names == {0: "moving"}


@pytest.mark.slow
def test_motion_of_a_shaking_camera_and_a_cut() -> None:
    rng = np.random.default_rng(0)
    detector, boxes = MotionDetector(), 0
    for index in range(60):
        street = scene(1 if index < 30 else 2)
        found = detector.detect([np.roll(street, rng.integers(-3, 4, 2), axis=(0, 1))])[0]
        boxes += len(found)
    assert boxes <= 6  # 60 frames that shake by up to 3 pixels, and a cut in the middle


def test_motion_of_any_size() -> None:
    for size in ((1, 1), (16, 16), (2160, 3840)):
        detector = MotionDetector()
        for value in (0, 255, 0):
            detector.detect([np.full((*size, 3), value, np.uint8)])


@pytest.mark.slow
def test_coco_detector_with_random_weights() -> None:
    """The plumbing of torchvision's detectors; the real weights are fetched by torchvision."""
    detector = coco.CocoDetector("ssdlite320_mobilenet_v3_large", "cpu", pretrained=False)
    found = detector.detect([scene(0)])[0]
    assert found.xyxy.shape[1] == 4
    assert detector.class_names[1] == "person"
    assert set(found.class_id.tolist()) <= set(range(91))
    assert len(found) == len(found.confidence)


def test_unknown_detector() -> None:
    with pytest.raises(InputError, match="unknown detector 'motoin': did you mean 'motion'"):
        open_detector("motoin")


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(InputError, match=r"could not be fetched.*checkpoints, or use --detector motion"):
        open_detector("ssdlite320_mobilenet_v3_large")


def test_torchvisions_masks_are_kept() -> None:
    detector = coco.CocoDetector("ssdlite320_mobilenet_v3_large", "cpu", pretrained=False)
    masks = torch.zeros(2, 1, 6, 8)
    masks[0, 0, :3] = 0.9
    boxes = torch.tensor([[0.0, 0, 8, 3], [0, 0, 4, 4]])
    result = {"boxes": boxes, "scores": torch.tensor([0.8, 0.01]), "labels": torch.tensor([3, 1]), "masks": masks}
    detector._network = lambda pictures: [result]
    found = detector.detect([np.zeros((6, 8, 3), np.uint8)])[0]
    assert found.class_id.tolist() == [3]
    assert found.mask.shape == (1, 6, 8)
    assert (found.mask[0] == (masks[0, 0].numpy() > 0.5)).all()


@pytest.mark.parametrize("shape", [(1, 1), (16, 20000), (20000, 16), (3, 3), (1, 640)])
def test_pictures_of_any_shape_have_motion_and_a_camera(shape: tuple[int, int]) -> None:
    from masa_track.video.camera_motion import CameraMotion

    rng, detector, camera = np.random.default_rng(0), MotionDetector(), CameraMotion()
    for _ in range(8):
        frame = rng.integers(0, 255, (*shape, 3)).astype(np.uint8)
        found = detector.detect([frame])[0]
        assert (found.xyxy <= [shape[1], shape[0]] * 2).all()
        camera.estimate(frame, found.xyxy)


def test_classes_of_any_detector_by_name_number_and_group() -> None:
    names = dict(enumerate(COCO_NAMES, start=1))
    names[90] = "Animals"  # a name of the detector goes before the group
    assert chosen_classes(["people", "Dog", "7"], names) == {1, 7, 17}
    assert chosen_classes(["vehicles"], names) == set(range(2, 10))
    assert chosen_classes(["animals"], names) == {90}
    assert chosen_classes(["dog", "all"], names) is None
    assert chosen_classes(["3", "0"], {}) == {0, 3}
    for wrong in ("dgo", "91", "", "people"):
        with pytest.raises(InputError, match="unknown class"):
            chosen_classes(["dog", wrong], {1: "dog", 2: "cat"})
    with pytest.raises(InputError, match="the boxes have no class names: give class numbers"):
        chosen_classes(["dog"], {})
