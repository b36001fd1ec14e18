"""What `masa_track.contracts.Detector` promises, for each detector that can be built without a download."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv
import torch
from sam3_networks import image_model
from tiny_grounding import tiny_embedder, tiny_text_detector

import masa_track
from masa_track.detectors.coco import CocoDetector
from masa_track.detectors.motion import MotionDetector
from masa_track.detectors.nanodet import NanodetDetector
from masa_track.detectors.own import OwnDetector
from masa_track.errors import InputError

WIDTH, HEIGHT = 160, 120


def street(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    grid = rng.integers(40, 160, (12, 16, 3)).astype(np.uint8)
    return cv2.resize(grid, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def walker(x: int, scene: np.ndarray | None = None, y: int = 50) -> np.ndarray:
    """The street with somebody at column x; with nobody for x < 0."""
    picture = street() if scene is None else scene.copy()
    if x >= 0:
        picture[y : y + 40, x : x + 20] = (10, 10, 240)
    return picture


def text() -> Any:
    pytest.importorskip("transformers")
    return tiny_text_detector(tiny_embedder())


def own() -> OwnDetector:
    model: Any = masa_track.load("nano", "cpu", backend="onnx")
    model.facts = replace(model.facts, preprocessing=replace(model.facts.preprocessing, long_side=320))
    return OwnDetector(model, 0.05)


def own_torch() -> OwnDetector:
    model: Any = masa_track.load("nano", "cpu", backend="torch")
    model.network.long_side = 320
    return OwnDetector(model, 0.05)


def nanodet() -> NanodetDetector:
    return NanodetDetector(["all"], 0.01, threads=1)  # so low that it finds something in these pictures


def torchvision() -> CocoDetector:
    torch.manual_seed(0)
    detector = CocoDetector("ssdlite320_mobilenet_v3_large", "cpu", pretrained=False)
    with torch.no_grad():
        for name, weights in detector._network.head.classification_head.named_parameters():
            if name.endswith("1.bias"):
                weights.normal_(0, 2)  # so that some scores are above its lowest
    return detector


def sam3() -> Any:
    from masa_track.masklets.concept_detector import Sam3Detector

    return Sam3Detector(image_model(), ["red car", "dog"], least_score=0.2)


BUILDERS: dict[str, Callable[[], Any]] = {
    "own": own,
    "nanodet": nanodet,
    "own by torch": own_torch,
    "motion": MotionDetector,
    "torchvision": torchvision,
    "text": text,
    "sam3": sam3,
}


@pytest.fixture(params=BUILDERS, scope="module")
def built(request: pytest.FixtureRequest) -> Any:
    return BUILDERS[request.param]()


@pytest.fixture
def detector(built: Any) -> Iterator[Any]:
    built.reset()
    return built


def pictures(detector: Any) -> list[np.ndarray]:
    """Those in which it finds something: a few, or some of a video."""
    if detector.stateful:
        return [walker(-1)] * 8 + [walker(x) for x in range(10, 130, 15)]
    return [walker(10), walker(60)[:90, :140]]


def same(one: list[sv.Detections], other: list[sv.Detections]) -> None:
    assert len(one) == len(other)
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(ours.xyxy, theirs.xyxy, atol=0.01)
        np.testing.assert_allclose(ours.confidence, theirs.confidence, atol=1e-4)
        assert np.array_equal(ours.class_id, theirs.class_id)


def test_facts(detector: Any) -> None:
    assert detector.class_names
    assert all(isinstance(index, int) and isinstance(name, str) for index, name in detector.class_names.items())
    assert 0 < detector.track_activation_threshold < 1
    assert detector.stateful == (detector.warm_up > 0)
    assert detector.features_key is None or "@" in detector.features_key


def test_no_picture(detector: Any) -> None:
    assert detector.detect([]) == []
    if detector.features_key:
        assert detector.detect([], []) == []


@pytest.mark.slow
def test_boxes_have_their_form(detector: Any) -> None:
    images = pictures(detector)
    found = detector.detect(images)
    assert len(found) == len(images)
    assert sum(map(len, found)) > 0
    for image, own in zip(images, found, strict=True):
        height, width = image.shape[:2]
        assert own.xyxy.shape == (len(own), 4)
        assert np.isfinite(own.xyxy).all()
        assert (own.xyxy[:, 2:] >= own.xyxy[:, :2]).all()
        assert (own.xyxy >= -0.01).all()
        assert (own.xyxy <= np.array([width, height] * 2) + 0.01).all()
        if len(own):
            assert own.confidence.shape == own.class_id.shape == (len(own),)
            assert ((own.confidence >= 0) & (own.confidence <= 1)).all()
            assert np.issubdtype(own.class_id.dtype, np.integer)


@pytest.mark.slow
def test_all_at_once_equals_one_by_one_and_reset_forgets(detector: Any) -> None:
    images = pictures(detector)
    once = detector.detect(images)
    detector.reset()
    same([own for image in images for own in detector.detect([image])], once)
    if not detector.stateful:
        same(detector.detect(images[::-1])[::-1], once)


def test_pictures_of_another_form_are_refused(detector: Any) -> None:
    with pytest.raises(InputError, match=r"images must be a sequence of pictures.*pass \[frame\]"):
        detector.detect(street())
    with pytest.raises(InputError, match=r"frame must be \(H, W, 3\) BGR uint8, got \(120, 160\)"):
        detector.detect([street()[..., 0]])


def test_motion_keeps_nothing_of_another_video() -> None:
    """The same street seen by day and by night would be one background, and all that differs would be moving."""
    day = [walker(100, y=20)] * 60  # somebody stands there, who is not in the second video
    second = [walker(-1)] * 8 + [walker(x) for x in range(10, 130, 15)]
    fresh = MotionDetector().detect(second)
    detector = MotionDetector()
    detector.detect(day)
    assert sum(map(len, detector.detect(second))) != sum(map(len, fresh))  # what reset is for
    detector.reset()
    detector.detect(day)
    detector.reset()
    same(detector.detect(second), fresh)


def test_motion_starts_anew_for_pictures_of_another_size() -> None:
    detector = MotionDetector()
    detector.detect([walker(-1)] * 10)
    small = [cv2.resize(image, (80, 60)) for image in pictures(detector)]
    same(detector.detect(small), MotionDetector().detect(small))


@pytest.mark.slow
def test_motion_goes_on_after_its_warm_up() -> None:
    """A new detector that saw the last ``warm_up`` frames finds what the one finds that saw them all."""
    rng = np.random.default_rng(0)

    def noisy(image: np.ndarray) -> np.ndarray:
        image = cv2.resize(image, (80, 60))
        return cv2.add(image, rng.integers(0, 4, image.shape).astype(np.uint8))

    # Somebody stands there for long, then leaves, and others walk by.
    before = [noisy(walker(100, y=5)) for _ in range(100)]
    after = [noisy(walker(4 * (i % 60) - 60)) for i in range(MotionDetector.warm_up)]
    last = [noisy(walker(x)) for x in range(10, 130, 15)]

    def found(*parts: list[np.ndarray]) -> list[sv.Detections]:
        detector = MotionDetector()
        for part in parts:
            detector.detect(part)
        return detector.detect(last)

    whole = found(before, after)
    assert all(len(own) == 1 for own in whole)
    for ours, theirs in zip(found(after), whole, strict=True):
        np.testing.assert_allclose(ours.xyxy, theirs.xyxy, atol=1)
    # Fewer frames are not enough: just after somebody left, the one that knew them finds what was behind them.
    soon = [noisy(walker(-1)) for _ in range(8)]
    assert any(len(ours) != len(theirs) for ours, theirs in zip(found(soon), found(before, soon), strict=True))


@pytest.mark.slow
def test_a_run_resets_its_detector(tmp_path: Path) -> None:
    """The second run of one detector is as the first."""
    from masa_track import MasaTracker
    from masa_track.pipeline.loop import Job, track_video
    from masa_track.video.sources import open_source

    images = [walker(-1)] * 8 + [walker(x) for x in range(10, 130, 15)]
    for number, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"{number:02}.png"), image)
    detector, model = MotionDetector(), tiny_embedder()
    boxes = []
    for _ in range(2):
        source = open_source(str(tmp_path / "*.png"))
        boxes.append(track_video(Job(source, detector, {}, MasaTracker(model), tmp_path, with_video=False)).boxes)
        detector.detect([walker(100, y=20)] * 60)  # another video between
    assert boxes[0] > 0
    assert all(one == other for one, other in pairwise(boxes))
