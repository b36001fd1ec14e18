"""The record of a run: what is packed comes back, what is written is read while it grows, and damage is named."""

from __future__ import annotations

import json
import sqlite3
import struct
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import supervision as sv

from masa_track.contracts import CountEvent, Decision, Frame, FrameResult, Observation
from masa_track.errors import InputError
from masa_track.masks import decode_mask
from masa_track.runs import store as stores
from masa_track.runs.packing import pack, unpack
from masa_track.runs.store import RunInfo, RunStore, create_store, open_store
from masa_track.tracker import MasaTracker

SIZE = (64, 48)
INFO = RunInfo("/videos/street.mp4", "street", SIZE, 25.0, {0: "car", 3: "person"}, post=("giants",), facts={"a": "b"})


class Place:
    """Embeds a box by its place, so that no two boxes have one embedding."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.concatenate((boxes, boxes[:, ::-1]), axis=1).astype(np.float32)


def rows(*boxes: tuple[float, ...], ids: tuple[int, ...] = (), **more: object) -> sv.Detections:
    count = len(boxes)
    return sv.Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        confidence=np.linspace(0.9, 0.8, count, dtype=np.float32),
        class_id=np.zeros(count, int),
        tracker_id=np.array(ids or range(count), int),
        **more,  # type: ignore[arg-type]
    )


def result(number: int, detections: sv.Detections, **more: object) -> FrameResult:
    return FrameResult(Frame(number, number / 25, SIZE, f"{number:06d}.jpg"), detections, **more)  # type: ignore[arg-type]


@lru_cache
def tracked(count: int) -> list[FrameResult]:
    """What a real tracker says of two boxes that walk, one of which is missing at times."""
    tracker = MasaTracker(Place())
    found = []
    for number in range(1, count + 1):
        x = 2 + number / 4 + 25 * (number > 56)  # it is elsewhere at once
        boxes = [(x, 4, x + 12, 20), (40, 24, 52, 44)][: 1 if number % 9 == 5 else 2]
        image = np.full((SIZE[1], SIZE[0], 3), number % 255, np.uint8)
        found += tracker.step(Frame(number, number / 25, SIZE, f"{number:06d}.jpg", image), rows(*boxes))
    return found


@pytest.fixture
def store(tmp_path: Path):
    with create_store(tmp_path / "run.sqlite", INFO) as made:
        yield made


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.zeros((0, 4), np.float32),
        np.array([True, False]),
        np.array(7, np.uint8),
        np.array([1.5, np.nan, np.inf], np.float16),
        np.array([1, 2], ">i4"),
        np.array(["car", "Straße", ""]),
        np.array([], "<U1"),
        np.zeros((2, 0), "<U0"),
        np.array([b"\x00a", b"b"]),
        np.asarray('{"a": 1}'),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_arrays_come_back_from_a_blob(array: np.ndarray) -> None:
    held = unpack(pack({"before": np.ones(3), "it": array, "after": np.zeros(2, bool)}))
    assert list(held) == ["before", "it", "after"]
    assert (held["it"].dtype, held["it"].shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(held["it"], array)
    assert held["after"].tolist() == [False, False]
    assert unpack(pack({})) == {}


@pytest.mark.parametrize("array", [np.array([{}], object), np.array(["2020-01-01"], "M8[D]"), np.zeros(2, "i4,f4")])
def test_other_arrays_are_not_packed(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"array 'x' has the dtype .*: numbers and text alone can be stored"):
        pack({"x": array})


def test_damaged_blobs_are_value_errors() -> None:
    good = pack({"boxes": np.ones((3, 4), np.float32), "names": np.array(["a", "b"])})
    for end in range(len(good)):
        with pytest.raises(ValueError, match=r"at least 4 bytes|header|blob ends within"):
            unpack(good[:end])
    rng = np.random.default_rng(0)
    for _ in range(300):  # any other error fails the test
        damaged = np.frombuffer(good, np.uint8).copy()
        damaged[rng.integers(0, 60, 3)] = rng.integers(0, 256, 3)
        with suppress(ValueError):
            unpack(damaged.tobytes())


@pytest.mark.parametrize(
    "entry",
    ['["x","|O",[1]]', '["x","i4,f4",[1]]', '["x","nothing",[1]]', '["x","<i4",[-1]]', '["x","<i4",[1e999]]', "7"],
)
def test_a_header_of_another_program_is_refused(entry: str) -> None:
    text = f"[{entry}]".encode()
    with pytest.raises(ValueError, match=r"header|not stored"):
        unpack(struct.pack("<I", len(text)) + text + bytes(64))


def test_frames_come_back_as_the_tracker_gave_them(store: RunStore) -> None:
    """Rows, events with the detections that a track took before its birth, and each column of the decisions."""
    given = tracked(70)
    for one in given:
        store.append(one.observation, one)
    held = list(store.results())
    assert [one.frame for one in held] == [
        Frame(one.frame.number, one.frame.time, SIZE, one.frame.name) for one in given
    ]
    assert any(event.earlier for one in given for event in one.events)
    assert [one.events for one in held] == [one.events for one in given]
    for mine, theirs in zip(held, given, strict=True):
        for name in ("xyxy", "confidence", "class_id", "tracker_id"):
            np.testing.assert_array_equal(getattr(mine.detections, name), getattr(theirs.detections, name))
        assert len(mine.decisions) == len(theirs.decisions)
        for a, b in zip(mine.decisions, theirs.decisions, strict=True):
            assert (a.row, a.identity, a.tentative, a.runner_up) == (b.row, b.identity, b.tentative, b.runner_up)
            assert a.terms == pytest.approx(b.terms, abs=1e-4, nan_ok=True)
            assert [a.log_odds, a.margin] == pytest.approx([b.log_odds, b.margin], abs=1e-4, nan_ok=True)
    assert [one.frame.number for one in store.results(20, 22)] == [20, 21, 22]
    assert (store.count(), store.last_number(), store.first_time()) == (70, 70, 1 / 25)
    assert store.last_time() == 70 / 25
    assert store.last_identity() == max(e.identity for one in given for e in one.events if e.kind == "born")


def test_decisions_of_another_tracker_come_back(store: RunStore) -> None:
    """A list of decisions, with identities of tracks that are not confirmed and terms that some rows lack."""
    given = [
        Decision(0, 5, False, 3.5, {"motion": 1.5, "mask": 2.0}, 7, 0.5),
        Decision(1, 9, True, -1.0, {"motion": -1.0}, -1, 0.25),
    ]
    store.append(None, result(1, rows((1, 1, 9, 9), (20, 20, 30, 30), ids=(5, -1)), decisions=given))
    store.append(None, result(2, rows()))
    first, second = store.results()
    assert [(one.identity, one.tentative, one.runner_up) for one in first.decisions] == [(5, False, 7), (9, True, -1)]
    assert first.decisions[0].terms == {"motion": 1.5, "mask": 2.0}
    assert list(second.decisions) == []
    assert len(second.detections) == 0


@pytest.mark.parametrize("dense", [True, False])
def test_masks_come_back_as_run_lengths(store: RunStore, dense: bool) -> None:
    masks = np.zeros((3, SIZE[1], SIZE[0]), bool)
    masks[0, 2:9, 3:7], masks[2, 40:, 60:] = True, True  # the second is empty
    found = rows((3, 2, 7, 9), (9, 9, 20, 20), (60, 40, 64, 48), mask=masks)
    if not dense:
        from masa_track.runs.rows import with_run_lengths

        found = with_run_lengths(found)
        found.mask = None
    store.append(None, result(1, found))
    (held,) = store.results()
    lengths = held.detections.data["segmentation"]
    assert held.detections.mask is None
    for row in range(3):
        json.dumps(lengths[row])  # as tracks.json has it
        decoded = decode_mask({**lengths[row], "counts": lengths[row]["counts"].encode("ascii")})
        np.testing.assert_array_equal(decoded, masks[row])


def test_data_columns_of_numbers_and_text_come_back(store: RunStore) -> None:
    data = {
        "class_name": np.array(["car", "Straße"], object),
        "speed": np.array([1.5, 2.5]),
        "corner": np.arange(4).reshape(2, 2),
        "object": np.array([{}, []], object),  # left out
        "short": np.arange(3),  # not one for each row
    }
    found = rows((1, 1, 9, 9), (20, 20, 30, 30))
    found.data.update(data)
    store.append(None, result(1, found))
    (held,) = store.results()
    assert set(held.detections.data) == {"class_name", "speed", "corner"}
    assert held.detections.data["class_name"].tolist() == ["car", "Straße"]
    np.testing.assert_array_equal(held.detections.data["corner"], data["corner"])


def test_one_embedding_a_second_is_kept_of_each_identity(store: RunStore) -> None:
    given = tracked(80)
    for one in given:
        store.append(one.observation, one)
    times: dict[int, list[float]] = {}
    for held, one in zip(store.observations(), given, strict=True):
        assert one.observation is not None
        wanted = one.observation.embeddings
        assert wanted is not None
        if held.embeddings is None:
            continue
        kept = ~np.isnan(held.embeddings).any(axis=1)
        np.testing.assert_allclose(held.embeddings[kept], wanted[kept], rtol=1e-3)
        for identity in np.asarray(one.detections.tracker_id)[kept].tolist():
            times.setdefault(identity, []).append(held.time)
    assert {1, 2} <= set(times)
    for seconds in (times[1], times[2]):
        assert len(seconds) >= 3
        assert np.diff(seconds).min() >= 1
        assert np.diff(seconds).max() < 1.3


@pytest.mark.parametrize("options", [{}, {"filter_boxes": True}, {"classes": [0]}], ids=str)
def test_a_replay_of_observations_gives_the_same_identities(store: RunStore, options: dict) -> None:
    """Also where the results have other boxes (filtered ones), or rows that the tracker did not see."""
    given = []
    tracker = MasaTracker(Place(), use_appearance=False, **options)
    for number in range(1, 50):
        found = rows((2 + number, 4, 14 + number, 20), (1, 30, 9, 46), (50 - number, 22, 62 - number, 40))
        found.class_id = np.array([0, 5, 0])
        image = np.full((SIZE[1], SIZE[0], 3), number, np.uint8)
        given += tracker.step(Frame(number, number / 25, SIZE, "", image), found)
    for one in given:
        store.append(one.observation, one)
    again = MasaTracker(Place(), use_appearance=False, **options)._associator
    for held, one in zip(store.observations(), given, strict=True):
        seen = one.observation
        assert seen is not None
        assert (held.number, held.time, held.size) == (one.frame.number, one.frame.time, SIZE)
        for name in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(getattr(held, name), getattr(seen, name))
        ids, _, _ = again.update(held)
        every = np.asarray(one.detections.tracker_id)
        np.testing.assert_array_equal(ids, every if len(ids) == 3 else every[[0, 2]])


def test_camera_and_scene_change_come_back(store: RunStore) -> None:
    camera = np.array([[1, 0, 2.5], [0, 1, -1]])
    found = rows((1, 1, 9, 9))
    seen = Observation(1, 0.04, SIZE, found.xyxy, found.confidence, found.class_id, camera=camera, scene_change=0.75)
    store.append(seen, result(1, found))
    (held,) = store.observations()
    np.testing.assert_array_equal(held.camera, camera)
    assert held.scene_change == 0.75
    assert held.embeddings is None


def test_broken_frames_thumbnails_and_counts(store: RunStore) -> None:
    events = [
        CountEvent("crossed_in", "door", 4, 0, 12, 0.48),
        CountEvent("left", "yard", 5, 3, 3, 0.12, seconds=2.5),
    ]
    store.broken(7, "cannot be decoded")
    store.thumbnail(4, 0.5, b"worse")
    store.thumbnail(4, 0.75, b"better")
    store.add_counts(12, events)
    assert store.broken_frames() == [(7, "cannot be decoded")]
    assert list(store.thumbnails()) == [(4, 0.75, b"better")]
    assert list(store.counts()) == events


def test_what_came_after_a_frame_is_forgotten(store: RunStore) -> None:
    for one in tracked(30):
        store.append(one.observation, one)
        store.add_counts(one.frame.number, [CountEvent("entered", "a", 1, 0, one.frame.number, one.frame.time)])
        if one.frame.number % 5 == 0:
            store.snapshot(one.frame.number, {"n": np.array(one.frame.number)})
    # A visit that ended at frame 10 is known to have ended at frame 25.
    store.add_counts(25, [CountEvent("left", "a", 1, 0, 10, 0.4)])
    store.broken(29, "x")
    store.forget_after(20)
    assert [one.frame.number for one in store.results()] == list(range(1, 21))
    assert max(event.number for one in store.results() for event in one.events) <= 20
    assert store.snapshot_before(100)[0] == 20
    assert [event.kind for event in store.counts()] == ["entered"] * 20
    assert store.broken_frames() == []


def test_pictures_go_with_the_last_frame(store: RunStore) -> None:
    for one in tracked(4):
        store.append(one.observation, one)
    store.thumbnail(0, 0.9, b"jpeg")
    store.forget_after(2)
    assert list(store.thumbnails()) == [(0, 0.9, b"jpeg")]
    store.forget_after(0)
    assert list(store.thumbnails()) == []


def test_large_snapshots_are_fewer(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest four and the first are kept in any case."""
    monkeypatch.setattr("masa_track.runs.store._SNAPSHOT_BYTES", 2**20)
    noise = np.random.default_rng(0).integers(0, 256, 3 * 10**5, np.uint8)  # cannot be compressed
    for number in range(1, 13):
        store.snapshot(number, {"a": noise})
    numbers = [row[0] for row in store._connection.execute("SELECT number FROM snapshots ORDER BY number")]
    assert numbers == [1, 9, 10, 11, 12]
    assert (store.snapshot_before(12)[1]["a"] == noise).all()


def test_old_snapshots_are_thinned_out(store: RunStore) -> None:
    """At most 32 are kept: the first, the newest four, and the older the further apart."""
    for number in range(10, 1210, 10):
        store.snapshot(number, {"n": np.array(number)})
    numbers = [row[0] for row in store._connection.execute("SELECT number FROM snapshots ORDER BY number")]
    assert len(numbers) == 32
    assert numbers[0] == 10
    assert numbers[-4:] == [1170, 1180, 1190, 1200]
    gaps = np.diff(numbers)
    assert gaps[:8].mean() > 2 * gaps[-8:].mean()
    assert store.snapshot_before(1195) == (1190, {"n": np.array(1190)})
    assert store.snapshot_before(9) == (0, {})


def test_each_half_second_is_on_the_disk(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another connection sees it; earlier, a frame may wait."""
    now = [time.monotonic()]
    monkeypatch.setattr(stores.time, "monotonic", lambda: now[0])
    store.commit()
    with open_store(store.path) as reader:
        seen = []
        for number in range(1, 21):
            now[0] += 0.2
            store.append(None, result(number, rows((1, 1, 9, 9))))
            seen.append(number - reader.count())
        assert max(seen) == 2  # frames at 0.2 and 0.4 s wait for the one at 0.6 s
        assert seen[2::3] == [0] * len(seen[2::3])
        store.commit()
        assert reader.count() == 20


def test_a_reader_while_a_writer_is_at_work(tmp_path: Path) -> None:
    """It sees whole frames as they were when it began to read; the writer goes on, and closes at once."""
    store = create_store(tmp_path / "run.sqlite", INFO)
    for one in tracked(30):
        store.append(one.observation, one)
    store.commit()
    with open_store(store.path) as reader:
        assert reader.info == INFO
        frames = reader.results()
        first = next(frames)
        for number in range(31, 41):
            store.append(None, result(number, rows((1, 1, 9, 9))))
        store.commit()
        assert [first.frame.number, *(one.frame.number for one in frames)] == list(range(1, 31))
        assert reader.count() == 40
        begun = time.monotonic()
        store.close()
        assert time.monotonic() - begun < 5
        assert reader.count() == 40
    with open_store(store.path) as again:
        assert again.count() == 40


def test_a_closed_record_is_one_file(tmp_path: Path) -> None:
    with create_store(tmp_path / "run.sqlite", INFO) as made:
        made.append(None, result(1, rows((1, 1, 9, 9))))
        made.finish("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["run.sqlite"]
    with open_store(tmp_path) as again:
        assert again.info.finished == "whole"
        assert (again.info.post, again.info.class_names) == (("giants",), {0: "car", 3: "person"})


def test_reading_streams(store: RunStore) -> None:
    """The memory does not grow with the frames."""
    noise = np.random.default_rng(0)
    for number in range(1, 401):
        found = rows((1, 1, 9, 9))
        found.data["much"] = noise.random((1, 5000))  # 40 kB a frame, 16 MB in all
        store.append(None, result(number, found))
    store.commit()
    tracemalloc.start()
    try:
        assert sum(len(one.detections) for one in store.results()) == 400
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()


def damage(how: str, path: Path) -> None:
    if how == "text":
        path.write_text("this is no database, whatever its name says" * 40)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "foreign":
        path.unlink()
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE songs (name TEXT)")
        other.close()
    elif how == "format":
        with sqlite3.connect(path) as other:
            other.execute("PRAGMA user_version = 99")
        other.close()
    elif how == "info":
        with sqlite3.connect(path) as other:
            other.execute("UPDATE info SET value = '[1]' WHERE name = 'class_names'")
        other.close()
    elif how == "missing":
        path.unlink()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("text", "run.sqlite is not the record of a run, or it is damaged: file is not a database"),
        ("empty", "run.sqlite has format 0, this version of masa-track reads 1"),
        ("foreign", "run.sqlite has format 0, this version of masa-track reads 1"),
        ("format", "run.sqlite has format 99, this version of masa-track reads 1 to 2: use the one that wrote it"),
        ("info", "run.sqlite is not the record of a run, or it is damaged"),
        ("missing", "holds no run.sqlite: name the folder of a run of `masa-track track`"),
    ],
)
def test_what_is_no_record_is_refused(how: str, message: str, tmp_path: Path) -> None:
    create_store(tmp_path / "run.sqlite", INFO).close()
    damage(how, tmp_path / "run.sqlite")
    with pytest.raises(InputError, match=message):
        open_store(tmp_path)


@pytest.mark.parametrize(
    "read",
    [
        lambda store: list(store.results()),
        lambda store: list(store.observations()),
        lambda store: store.snapshot_before(999),
        lambda store: (store.count(), store.last_number(), store.broken_frames(), list(store.results())),
    ],
)
@pytest.mark.parametrize("how", ["pages", "blob", "arrays"])
def test_damage_inside_is_named(read: Callable[[RunStore], object], how: str, tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    with create_store(path, INFO) as made:
        for one in tracked(80):
            made.append(one.observation, one)
        made.snapshot(80, {"n": np.zeros(3000)})
    if how == "pages":
        content = bytearray(path.read_bytes())
        content[8192:] = b"\xff" * (len(content) - 8192)
        path.write_bytes(content)
    else:
        blob = b"\x07\x00" if how == "blob" else pack({"other": np.zeros(1)})
        with sqlite3.connect(path) as other:
            other.execute("UPDATE frames SET data = ? WHERE number = 60", (blob,))
            other.execute("UPDATE snapshots SET data = ?", (b"\x07\x00",))
        other.close()
    with pytest.raises(InputError, match=r"run\.sqlite is (damaged|not the record of a run)"), open_store(path) as held:
        read(held)


def test_a_kill_while_the_record_is_made_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a record would be refused by --resume."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stores, "_write_info", killed)
    with pytest.raises(KeyboardInterrupt):
        create_store(tmp_path / "run.sqlite", INFO)
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_gets_damaged_while_it_is_written_is_a_fault_of_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    with create_store(path, INFO) as made:
        for one in tracked(80):
            made.append(one.observation, one)
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises((OSError, InputError), match=r"malformed|damaged"), open_store(path, write=True) as held:
        held.forget_after(10)


def test_presence_comes_back(store: RunStore) -> None:
    store.append(None, result(1, rows(), extras={"presence": {"a dog": 0.25}}))
    store.append(None, result(2, rows()))
    assert [one.extras for one in store.results()] == [{"presence": {"a dog": 0.25}}, {}]
