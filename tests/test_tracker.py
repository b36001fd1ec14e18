"""The public tracker: rows and order, identities, time, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import supervision as sv

from masa_track import MasaTracker
from masa_track.contracts import Frame
from masa_track.errors import InputError

FRAME = np.zeros((120, 160, 3), np.uint8)


class ByColour:
    """A model that embeds a box by the mean colour under it, so that a test can paint identities."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        cells = [frame[int(y1) : int(y2), int(x1) : int(x2)].reshape(-1, 3).mean(axis=0) for x1, y1, x2, y2 in boxes]
        return (np.array(cells, np.float32).reshape(-1, 3) - 100) / 10


COLOURS = np.array([[250, 40, 40], [40, 250, 40], [40, 40, 250], [240, 240, 30]], np.uint8)


def painted(order: list[int], places: list[int]) -> tuple[sv.Detections, np.ndarray]:
    """A frame with objects ``order`` painted at ``places``, and their boxes."""
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
    """Each frame's identity of each object; the objects are at other places in every frame."""
    rng = np.random.default_rng(seed)
    found = []
    for order in things:
        detections, frame = painted(order, rng.permutation(12)[: len(order)].tolist())
        tracked = tracker.update(detections, frame)
        found.append(dict(zip(tracked.data["thing"].tolist(), tracked.tracker_id.tolist(), strict=True)))
    return found


def test_objects_keep_their_identity_wherever_they_are() -> None:
    found = identities(MasaTracker(ByColour()), [[0, 1, 2], [2, 0, 1], [1, 2], [3, 0, 1, 2], [0, 3]])
    assert found[0] == {0: 1, 1: 2, 2: 3}
    for frame in found[1:]:
        assert frame == {thing: thing + 1 for thing in frame}


def test_a_detector_whose_scores_start_no_track_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    weak, sure = MasaTracker(ByColour()), MasaTracker(ByColour(), track_activation_threshold=0.25)
    for tracker, told in ((weak, 1), (sure, 0)):
        caplog.clear()
        for number in range(30):
            detections, frame = painted([0, 1], [0, 5])
            detections.confidence = np.array([0.4, 0.3 + 0.005 * number])
            identities = tracker.update(detections, frame).tracker_id
        assert len(caplog.records) == told
        assert (identities == -1).all() == bool(told)
        if told:
            assert "track_activation_threshold = 0.7, from which tracks start; the best has 0.40" in caplog.text


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


@pytest.mark.parametrize("preset", ["default", "tao"])
@pytest.mark.parametrize("classes", [["Duck", 2], [1, 2]])
def test_other_classes_have_no_identity_and_no_effect(classes: list, preset: str) -> None:
    some = MasaTracker(ByColour(), preset, classes=classes)
    alone = MasaTracker(ByColour(), preset)
    for number in range(6):
        detections, frame = painted([3, 0, 1, 2], [number, 7, 6, 5])
        detections.class_id, detections.confidence = np.array([0, 1, 0, 2]), np.full(4, 0.9)
        detections.data["class_name"] = np.array(["cat", "duck", "cat", "goose"])
        expected = alone.update(detections[[1, 3]], frame)  # type: ignore[arg-type]
        found = some.update(detections, frame, return_embeddings=True)
        assert found.tracker_id.tolist() == [-1, expected.tracker_id[0], -1, expected.tracker_id[1]]
        assert found.data["thing"].tolist() == [3, 0, 1, 2]
        assert np.isnan(found.data["embedding"]).all(axis=1).tolist() == [True, False, True, False]
        assert [decision.row for decision in some.decisions] == [0, 1, 2, 3]
        assert [decision.identity for decision in some.decisions[::2]] == [-1, -1]
        assert [decision.log_odds for decision in some.decisions[1::2]] == [one.log_odds for one in alone.decisions]
        given = found.data.pop("embedding")
        with pytest.raises(InputError, match=r"embeddings must be \(4, D\), one for each"):
            some.update(detections, frame, embeddings=given[:2])
    assert expected.tracker_id.tolist() == [1, 2]
    detections.data.pop("class_name")
    if "Duck" in classes:
        with pytest.raises(InputError, match=r"the name 'duck', but the detections have no data\['class_name'\]"):
            some.update(detections, frame)
    assert len(some.update(sv.Detections.empty(), frame)) == 0


def test_births_name_rows_of_the_given_detections() -> None:
    """Rows of other classes come before a thing that is confirmed late; also for a tracker with a restored state."""
    one, other = (MasaTracker(ByColour(), classes=[1], track_activation_threshold=0.35) for _ in range(2))
    births = []
    for number in range(1, 9):
        cats = number % 3
        detections, frame = painted([*[0] * cats, *[1] * (number > 2)], [*range(cats), *[9] * (number > 2)])
        detections.class_id = np.array([0] * cats + [1] * (number > 2))
        detections.confidence = np.array([0.9] * cats + [0.5] * (number > 2))
        (result,) = one.step(Frame(number, number / 10, FRAME.shape[1::-1], image=frame), detections)
        births += [event for event in result.events if event.kind == "born"]
        if number == 3:
            other.load_state_dict(one.state_dict())
            one = other
    (born,) = births
    assert [number for number, _ in born.earlier] == list(range(3, born.number))
    assert len(born.earlier) >= 2
    assert [row for _, row in born.earlier] == [number % 3 for number, _ in born.earlier]


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
        tracker = MasaTracker(ByColour(), preset, memory_frames=10, fps=10.0, track_activation_threshold=0.1)
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
        ({"track_activation_threshold": "high"}, "track_activation_threshold must be a finite number"),
        ({"model": "nan"}, "unknown model 'nan': did you mean 'nano'"),
        ({"device": "tpu9"}, "device 'tpu9' cannot be used here"),
        ({"classes": "person"}, r"classes must be a list of class numbers or names, .*got 'person'"),
        ({"classes": []}, "classes must be a list"),
        ({"classes": [1.5]}, "classes must be a list"),
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


def scored(*scores: object) -> sv.Detections:
    """Boxes side by side with these scores."""
    detections = sv.Detections(np.array([[40 * k, 0, 40 * k + 30, 60] for k in range(len(scores))], np.float32))
    detections.confidence = np.array(scores)
    return detections


@pytest.mark.parametrize("preset", ["default", "appearance", "tao"])
@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([95, 12], r"scores must be probabilities, 0\.\.1, got 95 in row 0: percent: divide by 100"),
        ([1.5, 0.2], "got 1.5 in row 0: percent: divide by 100"),
        ([3, 251], r"got 251 in row 1: 0\.\.255: divide by 255"),
        ([0.5, 3000], r"got 3000 in row 1: scale them to 0\.\.1"),
        ([0.9, -1], "got -1 in row 1: -1 stands for 'no score' in MOTChallenge text"),
        ([0.9, -1.7], "got -1.7 in row 1: negative scores may be logits: apply the sigmoid"),
        ([40.0, -1.7], "got -1.7 in row 1: negative scores may be logits"),
        ([0.9, np.nan], "scores must be finite numbers, got nan in row 1"),
        (["0.9", "high"], "scores must be numbers, got '0.9'"),
        ([None, 0.9], "scores must be numbers, got None"),
    ],
)
def test_scores_that_are_no_probabilities(preset: str, scores: list, message: str) -> None:
    tracker = MasaTracker(ByColour(), preset)
    with pytest.raises(InputError, match=message):
        tracker.update(scored(*scores), FRAME)
    assert tracker.update(scored(1.0004, 1.0, 0.0), FRAME).tracker_id[:2].tolist() == [1, 2]  # rounding is no mistake


@pytest.mark.parametrize("name", ["track_activation_threshold", "object_score_threshold"])
@pytest.mark.parametrize("preset", ["default", "appearance"])
def test_a_threshold_in_percent(preset: str, name: str) -> None:
    with pytest.raises(InputError, match=f"{name} must be at most 1, as scores are, got 40: percent: divide by 100"):
        MasaTracker(ByColour(), preset, **{name: 40})


@pytest.mark.parametrize("bad", [1e300, np.inf, np.nan, 2.5, 1e19])
def test_classes_that_int64_cannot_hold(bad: float) -> None:
    detections = scored(0.9, 0.9)
    detections.class_id = np.array([3, bad])
    with pytest.raises(InputError, match=r"labels must be whole numbers of 64 bits, got .* in row 1"):
        MasaTracker(ByColour()).update(detections, FRAME)
    detections.class_id = np.array([3, 2**64 - 1], np.uint64)
    with pytest.raises(InputError, match="labels must be whole numbers of 64 bits, got 18446744073709551615"):
        MasaTracker(ByColour()).update(detections, FRAME)


@pytest.mark.parametrize("preset", ["default", "appearance"])
def test_identities_cannot_wrap(preset: str) -> None:
    with pytest.raises(InputError, match="first_id must be at most 4503599627370496, got 9223372036854775807"):
        MasaTracker(ByColour(), preset, first_id=2**63 - 1)
    detections, frame = painted([0, 1], [0, 1])
    tracked = MasaTracker(ByColour(), preset, first_id=2**52).update(detections, frame)
    assert tracked.tracker_id.tolist() == [2**52, 2**52 + 1]


@pytest.mark.parametrize(
    ("name", "value"), [("views", 10**9), ("views", 10**400), ("fps", 10**400), ("track_activation_threshold", 10**400)]
)
@pytest.mark.parametrize("preset", ["default", "appearance"])
def test_options_of_absurd_size(preset: str, name: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{name} must be"):
        MasaTracker(ByColour(), preset, **{name: value})


def warned(caplog: pytest.LogCaptureFixture, times: list[float | None], **options: object) -> list[str]:
    """What the tracker says about frames of these times."""
    caplog.clear()
    tracker = MasaTracker(ByColour(), **options)
    detections, frame = painted([0, 1], [0, 1])
    for time in times:
        tracker.update(detections, frame, time)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("preset", ["default", "appearance"])
@pytest.mark.parametrize("fps", [10, 30, 60, 120])
def test_milliseconds_are_noticed_once(fps: int, preset: str, caplog: pytest.LogCaptureFixture) -> None:
    times = (1000 / fps * np.arange(1, 20)).tolist()
    (said,) = warned(caplog, times, preset=preset)
    assert "Are these milliseconds? Then divide by 1000" in said
    assert warned(caplog, times[:3], preset=preset) == []  # two gaps may be chance
    assert warned(caplog, (np.arange(1, 20) / fps).tolist(), preset=preset) == []


def test_milliseconds_against_a_short_memory(caplog: pytest.LogCaptureFixture) -> None:
    assert "3 frames in a row came more than 2 s" in warned(caplog, [0, 3, 6, 9, 12], memory_seconds=2.0)[0]
    assert warned(caplog, [0, 3, 4, 7, 8, 11, 12], memory_seconds=2.0) == []  # not in a row
    assert warned(caplog, [0, 3, 6, 9, 12]) == []
    assert warned(caplog, [0, 100, 200, 300, 400], preset="tao") == []  # which leaves timestamps aside


def test_seconds_divided_once_too_often(caplog: pytest.LogCaptureFixture) -> None:
    (said,) = warned(caplog, (np.arange(1, 20) / 30 / 1000).tolist())
    assert "came less than 0.0009 s after the one before" in said
    assert warned(caplog, (np.arange(1, 20) / 1000).tolist()) == []  # a thousand frames a second


@pytest.mark.parametrize("timestamp", ["1.5", "soon", None, b"2", True, np.datetime64("2026-01-01"), 10**400, [1, 2]])
def test_timestamps_that_are_no_numbers(timestamp: object) -> None:
    tracker = MasaTracker(ByColour())
    detections, frame = painted([0, 1], [0, 1])
    tracker.update(detections, frame, 1.0)
    if timestamp is not None:
        with pytest.raises(InputError, match="timestamp must be seconds, a finite number, got"):
            tracker.update(detections, frame, timestamp)
    assert tracker.update(detections, frame, np.float32(1.25)).tracker_id.tolist() == [1, 2]


def test_timestamps_in_some_calls_only() -> None:
    detections, frame = painted([0, 1], [0, 1])
    tracker = MasaTracker(ByColour())
    for _ in range(10):
        tracker.update(detections, frame)
    for timestamp in (0.1, 1.7e9):
        with pytest.raises(InputError, match=r"timestamp must be given for each frame or for none, .* after 10 fra"):
            tracker.update(detections, frame, timestamp)
    assert tracker.update(detections, frame).tracker_id.tolist() == [1, 2]
    tracker.reset()
    tracker.update(detections, frame, 5.0)
    for _ in range(3):
        tracker.update(detections, frame)
    with pytest.raises(InputError, match=r"timestamp must be later than the last frame's, got 5\.02 after 5\.1: 3 fra"):
        tracker.update(detections, frame, 5.02)
    assert tracker.update(detections, frame, 5.2).tracker_id.tolist() == [1, 2]


def test_what_the_result_holds_is_not_the_callers() -> None:
    given, frame = painted([0, 1], [0, 1])
    given.metadata["camera"] = "door"
    tracked = MasaTracker(ByColour()).update(given, frame)
    tracked.data["name"] = np.array(["a", "b"])
    tracked.metadata["camera"] = "yard"
    assert list(given.data) == ["thing"]
    assert given.metadata == {"camera": "door"}


class Failing(ByColour):
    """A model of which one call fails, or gives what the association refuses."""

    def __init__(self) -> None:
        self.how: object = None

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        how, self.how = self.how, None
        if isinstance(how, BaseException):
            raise how
        return super().embed(frame, boxes) * (np.nan if how else 1)


@pytest.mark.parametrize("how", [KeyboardInterrupt(), MemoryError(), "NaN"], ids=["ctrl-c", "memory", "refused"])
@pytest.mark.parametrize("timed", [False, True])
def test_a_frame_that_fails_leaves_no_trace(how: object, timed: bool) -> None:
    """Beside a tracker that never saw that frame: a picture of a camera that moved, with names never seen."""
    rng = np.random.default_rng(0)
    world = np.kron(rng.integers(0, 255, (40, 60, 3)), np.ones((8, 8, 1))).astype(np.uint8)

    def view(left: int, name: str) -> tuple[dict, np.ndarray]:
        boxes = np.array([[200 - left, 50, 230 - left, 110], [240 - left, 50, 270 - left, 110]], np.float32)
        names = [name, "a dog"]
        return {"boxes": boxes, "scores": np.array([0.9, 0.9]), "labels": names}, world[:240, left : left + 320]

    model = Failing()
    tracker = MasaTracker(model, camera_motion=True)
    untouched = MasaTracker(ByColour(), camera_motion=True)
    times = [5.0, 5.1, 5.2, 5.3] if timed else [None] * 4
    for left, time in zip((0, 10), times[:2], strict=True):
        for each in (tracker, untouched):
            each.update(*view(left, "a cat"), time)
    model.how = how
    with pytest.raises((KeyboardInterrupt, MemoryError, InputError)):
        tracker.update(*view(100, "a bird"), times[2])
    assert tracker.phrases == untouched.phrases == {"a cat": 0, "a dog": 1}
    for left, time in zip((20, 30), times[2:], strict=True):
        one, other = (each.update(*view(left, "a fox"), time) for each in (tracker, untouched))
        assert one.tracker_id.tolist() == other.tracker_id.tolist() == [1, 2]
        assert tracker._frames.number == untouched._frames.number
        np.testing.assert_array_equal(tracker._associator.memory.states, untouched._associator.memory.states)
    assert tracker.phrases == untouched.phrases
