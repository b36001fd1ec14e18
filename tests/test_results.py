"""Results of torchvision, transformers, mmdet's kind, COCO and MOT in ``MasaTracker.update``, rows kept.

ultralytics and inference are in ``tests/peers``, mmdet itself in ``tests/mmdet``.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
import torch
from torchvision import models

from masa_track import MasaTracker
from masa_track.errors import InputError
from masa_track.formats.detections import read_detections
from masa_track.formats.results import to_detections

FRAME = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
BOXES = torch.tensor([[5.0, 5, 60, 100], [70, 20, 150, 110], [0, 0, 30, 30]])
SCORES = torch.tensor([0.9, 0.8, 0.7])


class Flat:
    """Embeds each box by its corner."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.eye(200, dtype=np.float32)[boxes[:, 0].astype(int)]


@pytest.fixture
def tracker() -> MasaTracker:
    return MasaTracker(Flat())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "maskrcnn_resnet50_fpn"])
def test_torchvision(name: str) -> None:
    torch.manual_seed(0)
    small = {"min_size": 120, "max_size": 160, "box_detections_per_img": 7, "box_score_thresh": 0.0}
    network = models.get_model(name, weights=None, weights_backbone=None, num_classes=91, **small).eval()
    with torch.inference_mode():
        result = network([torch.from_numpy(FRAME).permute(2, 0, 1).float() / 255])
    found = result[0]
    assert len(found["boxes"]) > 0
    for given in (result, found):
        tracked = MasaTracker(device="cpu").update(given, FRAME)
        assert np.array_equal(tracked.xyxy, found["boxes"].numpy())
        assert np.array_equal(tracked.confidence, found["scores"].numpy())
        assert np.array_equal(tracked.class_id, found["labels"].numpy())
        assert tracked.tracker_id.shape == (len(found["boxes"]),)
        if "masks" in found:
            assert np.array_equal(tracked.mask, found["masks"][:, 0].numpy() > 0.5)


def test_half_floats_and_gradients(tracker: MasaTracker) -> None:
    found = {"boxes": BOXES.bfloat16().requires_grad_(), "scores": SCORES.bfloat16(), "labels": torch.tensor([1, 2, 0])}
    assert tracker.update(found, FRAME).class_id.tolist() == [1, 2, 0]  # background is a row, too


def test_names_become_numbers(tracker: MasaTracker) -> None:
    """As Grounding DINO names things; supervision's connector takes no such result."""
    names = ["a dog", "a red car", "a dog"]
    found = {"scores": SCORES, "boxes": BOXES, "text_labels": names, "labels": names}
    with pytest.raises(AttributeError):
        sv.Detections.from_transformers(found)
    assert tracker.update(found, FRAME).class_id.tolist() == [0, 1, 0]
    later = {"scores": SCORES[:2], "boxes": BOXES[:2], "text_labels": ["a bird", "a red car"], "labels": ["", ""]}
    tracked = tracker.update(later, FRAME)
    assert tracked.class_id.tolist() == [2, 1]
    assert tracked.data["class_name"].tolist() == ["a bird", "a red car"]
    assert tracker.phrases == {"a dog": 0, "a red car": 1, "a bird": 2}
    tracker.reset()
    assert tracker.update(later, FRAME).class_id.tolist() == [2, 1]


def test_phrases_given_before() -> None:
    phrases = {"a bird": 7}
    found = {"scores": SCORES[:2], "boxes": BOXES[:2], "labels": ["a dog", "a bird"]}
    assert to_detections(found, phrases).class_id.tolist() == [8, 7]


@pytest.mark.parametrize("labels", [torch.zeros(0, dtype=int), []], ids=["numbers", "names"])
def test_nothing_found(labels: object, tracker: MasaTracker) -> None:
    found = {"scores": SCORES[:0], "boxes": BOXES[:0], "labels": labels}
    assert len(tracker.update(found, FRAME)) == 0
    assert tracker.update([], FRAME).tracker_id.shape == (0,)


def test_coco_rows(tracker: MasaTracker) -> None:
    rows = [{"bbox": [5, 6, 10, 20], "score": 0.5, "category_id": 3}, {"bbox": [50, 6, 1, 2]}]
    tracked = tracker.update(rows, FRAME)
    assert tracked.xyxy.tolist() == [[5, 6, 15, 26], [50, 6, 51, 8]]
    assert tracked.confidence.tolist() == [0.5, 1.0]
    assert tracked.class_id.tolist() == [3, 0]


class Clip:
    """What must be known of a video for files of detections."""

    name, width, height, length, last_number = "clip", 160, 120, 2, 2
    file_names = ("1.png", "2.png")


@pytest.mark.parametrize("kind", ["mot", "coco"])
def test_files(kind: str, tmp_path: Path, tracker: MasaTracker) -> None:
    path = tmp_path / "boxes"
    if kind == "mot":
        path.write_text("1,-1,6,6,10,20,0.5\n2,-1,7,6,10,20,0.5\n1,-1,51,6,10,20,0.9\n")
    else:
        rows = [(1, [5, 5, 10, 20], 0.5), (2, [6, 5, 10, 20], 0.5), (1, [50, 5, 10, 20], 0.9)]
        path.write_text(json.dumps([{"image_id": n, "bbox": b, "score": s, "category_id": 0} for n, b, s in rows]))
    file = read_detections(path, Clip())
    tracked = tracker.update(file.at(1), FRAME)
    assert tracked.xyxy.tolist() == [[5, 5, 15, 25], [50, 5, 60, 25]]
    assert len(tracker.update(file.at(2), FRAME)) == 1


def test_not_changed(tracker: MasaTracker) -> None:
    given = sv.Detections(BOXES.numpy(), data={"mine": np.arange(3)})
    tracked = tracker.update(given, FRAME)
    assert tracked.data["mine"].tolist() == [0, 1, 2]
    assert given.tracker_id is None
    assert to_detections(given) is given


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "detections must be supervision.Detections, .* got builtins.NoneType"),
        (np.zeros((2, 7)), r"got numpy.ndarray of shape \(2, 7\): rows of numbers"),
        ({"logits": 1}, "got a dict of logits"),
        ([{"boxes": BOXES}, {"boxes": BOXES}], r"those of one frame, got 2 results \(a list of dict\): give"),
        ([[5, 5, 60, 100, 0.9, 0]], r"got a list of numbers: rows of numbers must be an array of shape \(N, 4"),
        ([(5, 5, 60, 100), (5, 5, 60, 100)], "got a list of numbers: rows of numbers must be"),
        ([5, 5, 60, 100, 0.9], "got a list of numbers: rows of numbers must be"),
        ([np.zeros(6), np.zeros(6)], "got a list of numbers: rows of numbers must be"),
        (torch.zeros(3, 2), r"got torch.Tensor of shape \(3, 2\): rows of numbers"),
        ([np.zeros((3, 8))], r"got numpy.ndarray of shape \(3, 8\): rows of numbers"),
        ([([5, 5, 60, 100], 0.9, "dog")] * 2, r"got 2 results \(a list of tuple\)"),
        ([{"bbox": [1, 2, 3, 4], "image_id": k} for k in (4, 7, 9, 9, 11)], r"4 images \(image_id 4, 7, 9, \.\.\.\)"),
        ([{"bbox": [1, 2, 3, 4]}, {"bbox": [1, 2, 3]}], r"bbox must be four numbers .* got \[1, 2, 3\] in row 1"),
        ([{"bbox": ["1", 2, 3, 4]}], "bbox must be four numbers"),
        ([{"bbox": None}], "bbox must be four numbers"),
        ([{"bbox": [1, 2, 3, 10**400]}], "bbox must be numbers"),
        ([{"bbox": [1, 2, 3, 4], "score": "0.9"}], "score must be a number in 0..1, got '0.9' in row 0"),
        ([{"bbox": [1, 2, 3, 4], "category_id": "dog"}], "labels must be whole numbers, got .*dog"),
        ([{"bbox": [1, 2, 3, 4], "category_id": 10**30}], "labels must be whole numbers"),
        ({"boxes": [[1, 2, 3, 4], [1, 2, 3]], "scores": [1, 1]}, "boxes must be an array of numbers, with rows of one"),
        ({"boxes": np.zeros((4, 5)), "scores": np.ones(5)}, r"boxes must be \(N, 4\) xyxy pixels, got \(4, 5\)"),
        ({"boxes": [["a", "b", "c", "d"]], "scores": [1]}, "boxes must be numbers, got 'a'"),
        ({"boxes": BOXES, "scores": SCORES[:2]}, r"scores must be \(3,\).*got \(2,\)"),
        ({"boxes": BOXES, "scores": ["0.9", "0.8", "0.7"]}, "scores must be numbers, got '0.9'"),
        ({"boxes": BOXES, "scores": SCORES, "labels": [1, 2]}, r"labels must be \(3,\)"),
        ({"boxes": BOXES, "scores": SCORES, "labels": ["a", "b"]}, "one for each of the 3 boxes, got 2 names"),
        ({"boxes": BOXES, "scores": SCORES, "labels": [1, [2], 3]}, "rows of one length"),
        ({"boxes": BOXES, "scores": SCORES, "labels": [1, 2, 1e300]}, "whole numbers of 64 bits, got 1e.300 in row 2"),
        ({"boxes": BOXES, "scores": SCORES, "labels": torch.tensor([1, torch.inf, 0])}, "64 bits, got inf in row 1"),
        ({"boxes": BOXES, "scores": SCORES, "masks": np.zeros((2, 9, 9))}, r"masks must be .* for 3 boxes"),
        ({"predictions": [{"class": "dog", "confidence": 0.9}], "top": "dog"}, "must have boxes, got predictions"),
    ],
)
def test_something_else(result: object, message: str, tracker: MasaTracker) -> None:
    with pytest.raises(InputError, match=message):
        tracker.update(result, FRAME)


def test_dicts_without_labels_or_scores(tracker: MasaTracker) -> None:
    """As documented: without a class each box counts as 0, without a score as 1."""
    tracked = tracker.update({"boxes": BOXES, "scores": SCORES}, FRAME)
    assert tracked.class_id is None
    assert np.array_equal(tracked.confidence, SCORES.numpy())
    assert tracker.class_of(1) == 0
    tracked = MasaTracker(Flat()).update({"boxes": BOXES.tolist()}, FRAME)
    assert tracked.tracker_id.tolist() == [1, 2, 3]  # at once, as scores of 1 do


class Classified:
    """A result of ultralytics for a picture as a whole, by its attributes (`ultralytics.engine.results.Results`)."""

    def __init__(self) -> None:
        self.names, self.probs = {0: "cat"}, object()
        self.boxes = self.obb = self.masks = None


def test_a_classification_has_no_boxes(tracker: MasaTracker) -> None:
    for result in (Classified(), [Classified()]):
        with pytest.raises(InputError, match=r"must have boxes, got .* a classification .* instead of yolo11n-cls\.pt"):
            tracker.update(result, FRAME)


def test_no_warning_of_transformers() -> None:
    """Its Grounding DINO warns whoever reads ``labels``, which are the names over again."""
    from transformers.models.grounding_dino.processing_grounding_dino import DictWithDeprecationWarning

    found = DictWithDeprecationWarning(
        {"scores": SCORES[:1], "boxes": BOXES[:1], "text_labels": ["a dog"], "labels": ["a dog"]}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert to_detections(found, {"a dog": 4}).class_id.tolist() == [4]
