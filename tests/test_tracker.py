"""The public tracker: rows and order, identities, time, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import supervision as sv

from masa_track import MasaTracker
from masa_track.errors import InputError

FRAME = np.zeros((120, 160, 3), np.uint8)


class ByColour:
    """A model that embeds a box by the mean colour under it, so that a test can paint identities."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        cells = [frame[int(y1) : int(y2), int(x1) : int(x2)].reshape(-1, 3).mean(axis=0) for x1, y1, x2, y2 in boxes]
        return (np.array(cells, np.float32).reshape(-1, 3) - 100) / 10


COLOURS = np.array([[250, 40, 40], [40, 250, 40], [40, 40, 250], [240, 240, 30]], np.uint8)


def painted(order: list[int], places: list[int]) -> tuple[sv.Detections, np.ndarray]:
    """A frame with things ``order`` painted at ``places``, and their boxes."""
    frame = FRAME.copy()
    boxes = []
    for thing, place in zip(order, places, strict=True):
        x, y = 40 * (place % 4), 40 * (place // 4)
        frame[y : y + 40, x : x + 40] = COLOURS[thing]
        boxes.append([x + 2, y + 2, x + 38, y + 38])
    detections = sv.Detections(np.array(boxes, np.float32).reshape(-1, 4))
    detections.data["thing"] = np.array(order)
    return detections, frame


def identities(tracker: MasaTracker, things: list[list[int]], seed: int = 0) -> list[dict[int, int]]:
    """Each frame's identity of each thing, the things standing somewhere else in every frame."""
    rng = np.random.default_rng(seed)
    found = []
    for order in things:
        detections, frame = painted(order, rng.permutation(12)[: len(order)].tolist())
        tracked = tracker.update(detections, frame)
        found.append(dict(zip(tracked.data["thing"].tolist(), tracked.tracker_id.tolist(), strict=True)))
    return found


def test_things_keep_their_identity_wherever_they_are() -> None:
    found = identities(MasaTracker(ByColour()), [[0, 1, 2], [2, 0, 1], [1, 2], [3, 0, 1, 2], [0, 3]])
    assert found[0] == {0: 1, 1: 2, 2: 3}
    for frame in found[1:]:
        assert frame == {thing: thing + 1 for thing in frame}


def test_a_detector_whose_scores_start_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    weak, sure = MasaTracker(ByColour()), MasaTracker(ByColour(), init_score_threshold=0.25)
    for tracker, told in ((weak, 1), (sure, 0)):
        caplog.clear()
        for number in range(30):
            detections, frame = painted([0, 1], [0, 5])
            detections.confidence = np.array([0.4, 0.3 + 0.005 * number])
            identities = tracker.update(detections, frame).tracker_id
        assert len(caplog.records) == told
        assert (identities == -1).all() == bool(told)
        if told:
            assert "init_score_threshold = 0.7, from which tracks start; the best has 0.40" in caplog.text


def test_rows_order_and_what_they_carry_stay() -> None:
    detections, frame = painted([2, 0, 1], [0, 5, 7])
    detections.confidence = np.array([0.005, 0.9, 0.8])
    detections.class_id = np.array([4, 5, 6])
    before = detections.xyxy.copy()
    tracked = MasaTracker(ByColour()).update(detections, frame)
    assert tracked.tracker_id.tolist() == [-1, 1, 2]  # too unsure to start a track
    np.testing.assert_array_equal(tracked.xyxy, before)
    assert tracked.class_id.tolist() == [4, 5, 6]
    assert tracked.data["thing"].tolist() == [2, 0, 1]
    assert detections.tracker_id is None
    assert tracked is not detections


def test_no_detections() -> None:
    tracker = MasaTracker(ByColour())
    assert tracker.update(sv.Detections.empty(), FRAME).tracker_id.tolist() == []
    assert identities(tracker, [[0, 1]])[0] == {0: 1, 1: 2}
    assert len(tracker.update(sv.Detections.empty(), FRAME)) == 0


def test_two_trackers_side_by_side_share_nothing() -> None:
    """Identities are the tracker's own: what another one does changes none of them, and reset is for one alone."""
    things = [[0, 1], [1, 2], [0, 2, 3]]
    # They swap places, which motion would not have.
    alone = identities(MasaTracker(ByColour(), "appearance"), things)
    first = MasaTracker(ByColour(), "appearance")
    second = MasaTracker(ByColour(), "appearance", first_id=1000)
    together = []
    for order in things:
        together += identities(first, [order])
        others = identities(second, [[3, 2, 1, 0], [0]])
        second.reset()
        assert min(others[0].values()) == 1000  # apart for good, where one table holds both
    assert together == alone


def test_reset_starts_anew() -> None:
    tracker = MasaTracker(ByColour())
    identities(tracker, [[0, 1], [0, 1]])
    tracker.reset()
    assert identities(tracker, [[3, 2]])[0] == {3: 1, 2: 2}


def test_memory_counts_calls_or_time() -> None:
    """Ten frames of memory at 10 frames a second: gone after ten calls, or after one second."""

    def after(calls: int, seconds: float | None, preset: str = "appearance") -> int:
        tracker = MasaTracker(ByColour(), preset, memory_frames=10, fps=10.0, init_score_threshold=0.1)
        times = [None] * (calls + 1) if seconds is None else np.linspace(5.0, 5.0 + seconds, calls + 1).tolist()
        first, frame = painted([0, 1], [0, 1])
        other = painted([2], [5])
        tracker.update(first, frame, times[0])
        for time in times[1:-1]:
            tracker.update(*other, time)
        return int(tracker.update(first, frame, times[-1]).tracker_id[0])

    assert after(10, None) == 1
    assert after(11, None) == 4
    assert after(3, 0.9) == 1
    assert after(3, 1.2) == 4
    assert after(3, 60.0, "demo") == 1  # the reference's presets count frames


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "defualt"}, "unknown preset 'defualt': did you mean 'default'"),
        ({"memory": 3}, "unknown option 'memory'"),
        ({"init_score_threshold": "high"}, "init_score_threshold must be a finite number"),
        ({"model": "nan"}, "unknown model 'nan': did you mean 'nano'"),
        ({"device": "tpu9"}, "device 'tpu9' cannot be used here"),
    ],
)
def test_bad_construction(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MasaTracker(**arguments)


@pytest.mark.parametrize(
    ("boxes", "frame", "timestamp", "message"),
    [
        ([[0, 0, 9, 9]], np.zeros((9, 9), np.uint8), None, "frame must be"),
        ([[0, 0, 9, np.nan]], FRAME, None, "boxes must be finite"),
        ([[9, 0, 0, 9]], FRAME, None, "x1 <= x2"),
        ([[0, 0, 9, 9]], FRAME, 4.0, r"timestamp must be seconds, later than the last \(5.0\), got 4.0"),
        ([[0, 0, 9, 9]], FRAME, float("nan"), "timestamp must be seconds"),
    ],
)
def test_bad_frames_leave_no_trace(boxes: list, frame: np.ndarray, timestamp: float | None, message: str) -> None:
    tracker = MasaTracker(ByColour())
    detections, good = painted([0, 1], [0, 1])
    tracker.update(detections, good, 5.0)
    wrong = sv.Detections(np.zeros((1, 4), np.float32))
    wrong.xyxy = np.array(boxes, np.float32)  # supervision's own check is at construction
    with pytest.raises(InputError, match=message):
        tracker.update(wrong, frame, timestamp)
    assert tracker.update(detections, good, 5.1).tracker_id.tolist() == [1, 2]


def test_the_shipped_model_tracks() -> None:
    """Textured patches that swap places in every frame, by the real model."""
    rng = np.random.default_rng(0)
    patches = [np.kron(rng.integers(0, 255, (n, n, 3)), np.ones((60 // n, 60 // n, 1))) for n in (2, 4, 10, 20)]
    tracker = MasaTracker(preset="appearance", device="cpu")
    for _ in range(5):
        frame = np.full((120, 240, 3), 127, np.uint8)
        boxes, order = [], rng.permutation(4)
        for thing, place in enumerate(order):
            x, y = 60 * (place % 4), 30
            frame[y : y + 60, x : x + 60] = patches[thing]
            boxes.append([x, y, x + 60, y + 60])
        assert tracker.update(sv.Detections(np.array(boxes, np.float32)), frame).tracker_id.tolist() == [1, 2, 3, 4]
