"""Our embeddings in BoxMOT, deep-sort-realtime and norfair: the slots as the packages have them, and what they gain.

Run by ``tests/test_peers.py`` in the environment that has the packages.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import supervision as sv

from masa_track.adapters import boxmot, deepsort, norfair

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import bench_adapters

SHARED = Path(__file__).resolve().parents[3] / "shared"
FRAME = np.zeros((240, 320, 3), np.uint8)
# IDF1 at stride 10 of TUD-Campus's true boxes must rise by this; tools/bench_adapters.py measured .23, .16 and .65.
GAINS = {"boxmot": 0.15, "deepsort": 0.05, "norfair": 0.4}


class Corners:
    """Embeds a box by which corner of the picture it was put into first: 12 pixels wide boxes are one thing each."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        widths = (boxes[:, 2] - boxes[:, 0]).astype(int)
        return np.eye(64, dtype=np.float32)[widths % 64] * 7  # not of length 1


def detections(*places: tuple[int, int]) -> sv.Detections:
    """Boxes at (left, width), so that the width says which thing it is."""
    xyxy = np.array([[left, 20, left + width, 80] for left, width in places], np.float32).reshape(-1, 4)
    return sv.Detections(xyxy=xyxy, confidence=np.full(len(xyxy), 0.9), class_id=np.zeros(len(xyxy), int))


A, B = (10, 30), (200, 40)
SWAPPED = [(10, 40), (200, 30)]  # the two have changed places


def test_boxmot_follows_appearance() -> None:
    from boxmot import BotSort

    options = {"reid_model": boxmot.ReIDModel(Corners()), "proximity_thresh": 1.0, "appearance_thresh": 0.5}
    tracker = BotSort(use_cmc=False, **options)

    def ids(found: sv.Detections) -> list[int]:
        rows = np.concatenate([found.xyxy, found.confidence[:, None], found.class_id[:, None]], axis=1)
        tracks = tracker.update(rows.astype(np.float32), FRAME)
        return tracks[np.argsort(tracks[:, 7]), 4].astype(int).tolist()

    first = ids(detections(A, B))
    assert len(set(first)) == 2
    assert ids(detections(A, B)) == first
    assert len(ids(detections())) == 0
    assert ids(detections((100, 30), (260, 40))) == first  # far away, and known again


def test_boxmot_without_boxes() -> None:
    features = boxmot.ReIDModel(Corners()).get_features(detections(A, B).xyxy, FRAME)
    assert np.allclose(np.linalg.norm(features, axis=1), 1)


def test_deepsort_keeps_the_rows() -> None:
    from deep_sort_realtime.deepsort_tracker import DeepSort

    tracker = DeepSort(embedder=None, n_init=1, max_cosine_distance=0.3)
    found = detections(A, (50, 0), B)  # the empty box in the middle is dropped by DeepSort
    deepsort.update_tracks(tracker, Corners(), found, FRAME)
    tracked = deepsort.update_tracks(tracker, Corners(), found, FRAME)
    assert tracked.tracker_id[1] == -1
    first, second = tracked.tracker_id[[0, 2]].tolist()
    assert -1 != first != second != -1
    assert np.array_equal(tracked.xyxy, found.xyxy)
    assert found.tracker_id is None
    again = deepsort.update_tracks(tracker, Corners(), detections(B, A), FRAME)
    assert again.tracker_id.tolist() == [second, first]
    assert len(deepsort.update_tracks(tracker, Corners(), detections(), FRAME)) == 0


@pytest.mark.parametrize("slot", ["distance_function", "reid_distance_function"])
def test_norfair_follows_appearance(slot: str) -> None:
    from norfair import Tracker

    delay = 0 if slot == "distance_function" else 1
    options = {"distance_function": "iou", "distance_threshold": 0.7, "initialization_delay": delay}
    options |= {slot: norfair.embedding_distance, slot.replace("function", "threshold"): 0.3}
    tracker = Tracker(hit_counter_max=2, reid_hit_counter_max=20, **options)

    def ids(found: sv.Detections) -> dict[int, int]:
        """Ids by row, of what was seen in this frame."""
        given = norfair.with_embeddings(Corners(), found, FRAME)
        return {o.last_detection.data: o.id for o in tracker.update(given) if o.last_detection in given}

    for _ in range(3):
        first = ids(detections(A, B))
    assert len(set(first.values())) == 2
    for _ in range(1 if slot == "distance_function" else 5):  # re-identification is for those that are gone
        ids(detections())
    for _ in range(3):
        later = ids(detections((120, 30), (250, 40)))
    assert later == first


def test_norfair_without_embeddings() -> None:
    from norfair import Detection

    assert norfair.with_embeddings(Corners(), detections(), FRAME) == []
    (seen,) = norfair.with_embeddings(Corners(), detections(A), FRAME)
    bare = Detection(np.zeros((2, 2)))
    bare.last_detection, bare.past_detections = bare, []
    assert norfair.embedding_distance(seen, bare) == 2.0


@pytest.mark.shared_data
@pytest.mark.parametrize("library", GAINS)
def test_gain(library: str) -> None:
    clip = SHARED / "clips" / "mot15" / "TUD-Campus"
    without, ours = bench_adapters.both(library, clip, 10, bench_adapters.load("nano", device="cpu"))
    assert ours >= without + GAINS[library], (without, ours)


@pytest.mark.shared_data
def test_every_box_of_norfair_counts() -> None:
    """At full frame rate overlap alone follows everybody (1.00), if no identity is lost on the way to the score."""
    clip = SHARED / "clips" / "mot15" / "TUD-Campus"
    assert bench_adapters.idf1(clip, 1, bench_adapters.norfair(None, bench_adapters.GATE)) > 0.95


def test_the_example_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``tests/examples/other_trackers.py`` as it stands, with a detector of random weights that finds something."""
    import cv2
    import torch
    from ultralytics import YOLO
    from ultralytics.utils import YAML
    from ultralytics.utils.checks import check_yaml

    monkeypatch.chdir(tmp_path)
    writer = cv2.VideoWriter("street.mp4", cv2.VideoWriter_fourcc(*"mp4v"), 25, (320, 240))
    picture = cv2.resize(np.random.default_rng(0).integers(0, 255, (12, 16, 3)).astype(np.uint8), (320, 240))
    for _ in range(4):
        writer.write(picture)
    writer.release()
    torch.manual_seed(0)
    yolo = YOLO("yolo11n.yaml")
    for branch in yolo.model.model[-1].cv3:
        torch.nn.init.zeros_(branch[-1].bias)
    yolo.save("yolo11n.pt")
    YAML.save("reid.yaml", {**YAML.load(check_yaml("botsort.yaml")), "with_reid": True, "model": "auto"})
    names: dict = {}
    path = Path(__file__).resolve().parents[1] / "examples" / "other_trackers.py"
    exec(compile(path.read_text(), path.name, "exec"), names)
    assert len(names["found"]) > 0
    assert names["by_deep_sort"].shape == (len(names["found"]),)
    assert isinstance(names["by_boxmot"], np.ndarray)
    assert isinstance(names["by_norfair"], list)  # empty: norfair gives no identity in four frames
