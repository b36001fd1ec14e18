"""MasaTracker without pictures, with arrays, and over the end of a process."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import supervision as sv

from masa_track import MasaTracker
from masa_track.errors import InputError

RNG = np.random.default_rng
LOOKS = RNG(1).normal(size=(6, 16)).astype(np.float32)


class Never:
    """A model that must not run."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        raise AssertionError("the model ran")


class Colours:
    """Embeds the mean colour of each box in a few numbers; counts the boxes."""

    dimension = 6

    def __init__(self) -> None:
        self.boxes = 0

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        self.boxes += len(boxes)
        means = [frame[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1].mean(axis=(0, 1)) for x1, y1, x2, y2 in boxes]
        means = np.array(means, np.float32).reshape(-1, 3) - 120
        return np.concatenate((means, -means[:, ::-1]), axis=1)


def street(frames: int, shift: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows (N, 6) and pictures of coloured boxes that walk over a patterned ground, seen by a camera that moves."""
    rng = RNG(0)
    ground = np.kron(rng.integers(60, 200, (40, 80, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    colours, made = rng.integers(0, 255, (4, 3)), []
    for k in range(frames):
        picture = ground[:240, shift * k : shift * k + 320].copy()
        rows = []
        for n in range(4):
            x, y = 20 + 70 * n + (2 if n % 2 else -1) * k - shift * k, 40 + 40 * n
            if 0 <= x < 280 and not (n == 2 and 10 < k < 16):
                picture[y : y + 50, x : x + 30] = colours[n]
                rows.append([x, y, x + 30, y + 50, 0.9, n])
        made.append((np.array(rows, np.float32).reshape(-1, 6), picture))
    return made


@pytest.mark.parametrize("columns", [4, 5, 6])
def test_arrays_are_detections(columns: int) -> None:
    rows, picture = street(1)[0]
    tracked = MasaTracker(Colours()).update(rows[:, :columns], picture)
    np.testing.assert_array_equal(tracked.xyxy, rows[:, :4])
    assert tracked.tracker_id.tolist() == [1, 2, 3, 4]
    assert (tracked.confidence is None) == (columns < 5)
    assert (None if tracked.class_id is None else tracked.class_id.tolist()) == ([0, 1, 2, 3] if columns == 6 else None)


def test_by_motion_alone_neither_a_picture_nor_the_model_is_needed() -> None:
    tracker, without_size = (MasaTracker(Never(), use_appearance=False) for _ in range(2))
    for rows, _ in street(30):
        ids = tracker.update(rows, size=(320, 240)).tracker_id
        assert ids.tolist() == [n + 1 for n in rows[:, 5].astype(int).tolist()]
        without_size.update(rows)
    assert len(without_size.tracks.ids) == 4


def test_embeddings_may_be_given() -> None:
    tracker = MasaTracker(Never())
    for k, order in enumerate([[0, 1, 2], [2, 0], [1, 2, 0]]):
        boxes = np.array([[20 + 90 * n + k, 50, 60 + 90 * n + k, 130] for n in order], np.float32)
        tracked = tracker.update(boxes, embeddings=LOOKS[order], size=(640, 480), return_embeddings=True)
        assert tracked.tracker_id.tolist() == [n + 1 for n in order]
        np.testing.assert_array_equal(tracked.data["embedding"], LOOKS[order])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"frame must be given, got None: embeddings=\(N, D\)"),
        ({"embeddings": LOOKS[:2]}, r"embeddings must be \(4, D\), one for each"),
        (
            {"frame": np.zeros((240, 320, 3), np.uint8), "size": (100, 100)},
            r"size must be .* of the frame, \(320, 240\)",
        ),
    ],
)
def test_what_is_missing_is_named(arguments: dict, message: str) -> None:
    tracker = MasaTracker(Never())
    with pytest.raises(InputError, match=message):
        tracker.update(street(1)[0][0], **arguments)
    with pytest.raises(InputError, match="frame must be given where camera_motion=True"):
        MasaTracker(Never(), camera_motion=True).update(street(1)[0][0], embeddings=LOOKS[:4])


def test_only_what_is_wanted_is_embedded() -> None:
    """Boxes that better ones hide are not embedded, unless all embeddings are asked for."""
    rows, picture = street(1)[0]
    weak = rows.copy()
    weak[:, 4] = 0.3
    twice = np.concatenate((rows, weak))
    model = Colours()
    tracked = MasaTracker(model).update(twice, picture)
    assert model.boxes == 4
    assert tracked.tracker_id.tolist() == [1, 2, 3, 4, -1, -1, -1, -1]
    assert "embedding" not in tracked.data
    asked = MasaTracker(model).update(twice, picture, return_embeddings=True)
    assert model.boxes == 12
    np.testing.assert_array_equal(asked.data["embedding"][:4], asked.data["embedding"][4:])


def test_tracks_events_and_decisions() -> None:
    tracker = MasaTracker(Colours())
    assert len(tracker.tracks.ids) == 0
    assert tracker.events == []
    assert len(tracker.decisions) == 0
    kinds = []
    for rows, picture in street(20):
        ids = tracker.update(rows, picture).tracker_id
        kinds += [(event.kind, event.identity) for event in tracker.events]
        assert [decision.identity for decision in tracker.decisions] == ids.tolist()
        seen = tracker.tracks
        assert seen.ids[~seen.lost].tolist() == sorted(ids.tolist())
        lost = seen.boxes[seen.lost]  # where the object that is hidden should be
        assert ((lost[:, 0] > 100) & (lost[:, 0] < 200)).all()
    assert kinds == [*(("born", n) for n in (1, 2, 3, 4)), ("lost", 3), ("found", 3)]
    tracker.reset()
    assert tracker.events == []


@pytest.mark.slow
@pytest.mark.parametrize("camera", [False, True])
@pytest.mark.parametrize("timed", [False, True])
def test_a_saved_tracker_gives_the_identities_of_the_uninterrupted_run(camera: bool, timed: bool) -> None:
    options = {"camera_motion": camera, "fps": 25.0}
    whole, first, second = (MasaTracker(Colours(), **options) for _ in range(3))
    frames = street(24, shift=3)
    times = [0.04 * k if timed else None for k in range(24)]
    expected = [whole.update(*frame, time).tracker_id.tolist() for frame, time in zip(frames, times, strict=True)]
    for frame, time in zip(frames[:13], times, strict=False):
        first.update(*frame, time)
    file = io.BytesIO()
    np.savez(file, **first.state_dict())
    file.seek(0)
    second.update(*frames[0], 99.0)
    second.load_state_dict(np.load(file, allow_pickle=False))
    got = [second.update(*frame, time).tracker_id.tolist() for frame, time in zip(frames[13:], times[13:], strict=True)]
    assert got == expected[13:]


def test_names_are_saved() -> None:
    first, second = MasaTracker(Never(), use_appearance=False), MasaTracker(Never(), use_appearance=False)
    named = {"boxes": np.array([[5, 5, 50, 90]]), "scores": np.array([0.9]), "labels": ["a red car"]}
    first.update(named)
    second.load_state_dict(first.state_dict())
    assert second.phrases == {"a red car": 0}


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    tracker, other = MasaTracker(Colours()), MasaTracker(Colours(), memory_seconds=5)
    frames = street(3)
    tracker.update(*frames[0])
    other.update(*frames[0])
    with pytest.raises(InputError, match=r"memory_seconds is 30\.0, in the state 5"):
        tracker.load_state_dict(other.state_dict())
    with pytest.raises(InputError, match="state must be one of state_dict"):
        tracker.load_state_dict({"frame": np.zeros(1)})
    assert tracker.update(*frames[1]).tracker_id.tolist() == [1, 2, 3, 4]


_PROCESS = """
import os, signal, sys
import numpy as np
sys.path.insert(0, {tests!r})
from masa_track import MasaTracker
from test_tracker_state import Colours, street

tracker, state = MasaTracker(Colours(), fps=25.0), {state!r}
first = 0
if os.path.exists(state):
    tracker.load_state_dict(np.load(state, allow_pickle=False))
    first = int(tracker.state_dict()["tracker.calls"]) + 1
for k, frame in enumerate(street(24)):
    if k < first:
        continue
    print(k, *tracker.update(*frame).tracker_id.tolist(), flush=True)
    if k % 4 == 0 and k < 20:
        np.savez(state + ".part.npz", **tracker.state_dict())
        os.replace(state + ".part.npz", state)
    if k == {kill}:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_process_goes_on_with_its_identities(tmp_path: Path) -> None:
    whole, got = MasaTracker(Colours(), fps=25.0), {}
    expected = {k: whole.update(*frame).tracker_id.tolist() for k, frame in enumerate(street(24))}
    for kill in (6, 13, 99):
        code = _PROCESS.format(tests=str(Path(__file__).parent), state=str(tmp_path / "state.npz"), kill=kill)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
        assert done.returncode == (0 if kill == 99 else -signal.SIGKILL), done.stderr
        for line in done.stdout.splitlines():
            k, *ids = (int(number) for number in line.split())
            got[k] = ids
    assert got == expected


def test_detections_given_are_not_changed() -> None:
    rows, picture = street(1)[0]
    given = sv.Detections(xyxy=rows[:, :4].copy(), data={"row": np.arange(len(rows))})
    tracked = MasaTracker(Colours()).update(given, picture, return_embeddings=True)
    assert list(given.data) == ["row"]
    assert given.tracker_id is None
    assert sorted(tracked.data) == ["embedding", "row"]
