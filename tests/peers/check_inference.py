"""Answers of Roboflow's inference in ``MasaTracker.update``; see ``tests/test_peers_roboflow.py``."""

from __future__ import annotations

import numpy as np
from inference.core.entities.responses.inference import (
    InferenceResponseImage,
    InstanceSegmentationInferenceResponse,
    InstanceSegmentationPrediction,
    ObjectDetectionInferenceResponse,
    ObjectDetectionPrediction,
)

from masa_track import MasaTracker

FRAME = np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8)
IMAGE = InferenceResponseImage(width=100, height=80)
BOXES = [(20, 30, 20, 40, 0.9, "cat", 3), (70, 40, 30, 20, 0.6, "dog", 5)]


def fields(row: tuple) -> dict:
    return dict(zip(("x", "y", "width", "height", "confidence", "class", "class_id"), row, strict=True))


def test_boxes() -> None:
    answer = ObjectDetectionInferenceResponse(
        image=IMAGE, predictions=[ObjectDetectionPrediction(**fields(row)) for row in BOXES]
    )
    tracker = MasaTracker(preset="appearance", device="cpu")  # its tracks start at low scores, too
    for result in (answer, [answer], answer.model_dump(by_alias=True, exclude_none=True)):
        tracked = tracker.update(result, FRAME)
        assert tracked.xyxy.tolist() == [[10, 10, 30, 50], [55, 30, 85, 50]]
        assert tracked.class_id.tolist() == [3, 5]
        assert tracked.data["class_name"].tolist() == ["cat", "dog"]
        assert tracked.tracker_id.tolist() == [1, 2]
    assert len(tracker.update(ObjectDetectionInferenceResponse(image=IMAGE, predictions=[]), FRAME)) == 0


def test_masks() -> None:
    points = [{"x": 10, "y": 10}, {"x": 30, "y": 10}, {"x": 30, "y": 50}, {"x": 10, "y": 50}]
    answer = InstanceSegmentationInferenceResponse(
        image=IMAGE, predictions=[InstanceSegmentationPrediction(**fields(BOXES[0]), points=points)]
    )
    tracked = MasaTracker(device="cpu").update(answer, FRAME)
    assert tracked.mask.shape == (1, 80, 100)
    assert tracked.mask[0, 20:40, 15:25].all()
