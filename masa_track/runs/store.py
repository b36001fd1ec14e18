"""The record of a run, ``run.sqlite``: each frame's observation, identities, decisions and events, and snapshots.

The file is SQLite in WAL mode. A frame is one row whose arrays are one blob (:mod:`masa_track.runs.packing`). Nothing
is unpickled, and readers stream: no run is in memory as a whole.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sqlite3
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv

from masa_track.contracts import CountEvent, Frame, FrameResult, Observation, TrackEvent
from masa_track.errors import InputError
from masa_track.formats.panoptic import PANOPTIC_BY_ROW
from masa_track.runs.packing import pack, unpack
from masa_track.runs.rows import decision_arrays, decisions_of, detection_arrays, detections_of, map_arrays, map_of

STORE_NAME = "run.sqlite"
FORMAT = 2  # of the tables and blobs; 2 has maps of things and stuff
COMMIT_SECONDS = 0.5  # at most this much is lost by a kill
VIEW_SECONDS = 1.0  # of an identity, one embedding in so much time is kept
_MOST_SNAPSHOTS, _NEWEST = 32, 4  # older snapshots are thinned out, the newest are kept
_SNAPSHOT_BYTES = 128 * 2**20  # of all snapshots
_PROBE = 2**17  # bytes
_TICK = 1e-4  # seconds: more than the rounding of times in a video, less than a frame lasts

_PRESENCE = "presence"  # array of a frame: json of the presence by phrase
_PART = re.compile(r"part-\d{6,}")  # folders of a run in parts

_TABLES = """
CREATE TABLE info (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE frames (number INTEGER PRIMARY KEY, time REAL NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL);
CREATE TABLE events (number INTEGER NOT NULL, time REAL NOT NULL, kind TEXT NOT NULL, identity INTEGER NOT NULL,
    other INTEGER NOT NULL, earlier TEXT NOT NULL);
CREATE INDEX events_by_number ON events (number);
CREATE TABLE snapshots (number INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE thumbnails (identity INTEGER PRIMARY KEY, score REAL NOT NULL, jpeg BLOB NOT NULL);
CREATE TABLE counts (number INTEGER NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, identity INTEGER NOT NULL,
    class_id INTEGER NOT NULL, frame INTEGER NOT NULL, time REAL NOT NULL, seconds REAL NOT NULL);
CREATE TABLE broken (number INTEGER NOT NULL, reason TEXT NOT NULL);
"""


@dataclass
class RunInfo:
    """What a run is of.

    Attributes:
        source: what was tracked, without a password.
        name: of the source, for files.
        size: (width, height) of the frames in pixels.
        fps: frames per second of the source.
        class_names: by class id.
        recipe: model, detector and options, by name; see :class:`masa_track.pipeline.recipe.TrackRecipe`.
        model_key: name, checksum and dtype of the model that embedded the boxes.
        first: number of the first frame that was asked for.
        stride: every how many frames.
        inputs: bytes and time of change (seconds since 1970) of the files that are read, by argument: the video, and
            the file of detections.
        live: whether frames came when they happened.
        offline: whether the tracks are finished when the source has ended.
        post: steps of :mod:`masa_track.runs.demo_steps` for that, in place of the usual ones.
        started: when the run began, seconds since 1970.
        version: of masa-track.
        finished: empty while the run goes on or if it was killed; ``whole`` when the source had ended, ``stopped``
            when the run was.
        facts: settings by name, for the report.
        parts: whether tracks may be parts of others.
        things: numbers of the classes that are things, and
        stuff: of those that are stuff, in a run with maps of things and stuff; both empty in others.
    """

    source: str
    name: str
    size: tuple[int, int]
    fps: float
    class_names: dict[int, str]
    recipe: dict[str, Any] = field(default_factory=dict)
    model_key: str = ""
    first: int = 1
    stride: int = 1
    inputs: dict[str, list[float]] = field(default_factory=dict)
    live: bool = False
    offline: bool = False
    post: tuple[str, ...] = ()
    started: float = 0.0
    version: str = ""
    finished: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    parts: bool = False
    things: tuple[int, ...] = ()
    stuff: tuple[int, ...] = ()


class RunStore:
    """The record of one run. Made by :func:`create_store` and :func:`open_store`.

    It is used by one thread at a time. As a context manager it closes at the end.

    Attributes:
        path: of the file.
        info: what the run is of.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, info: RunInfo) -> None:
        self.path, self.info = path, info
        self._connection = connection
        self._committed = time.monotonic()
        self._views: dict[int, float] = {}  # time of the last kept embedding, by identity

    def append(self, observation: Observation | None, result: FrameResult) -> None:
        """Adds a frame. It is on the disk half a second later, at most, if another frame or :meth:`commit` follows.

        Args:
            observation: what was known of the frame before identities; None leaves out what the result does not have.
            result: the frame with identities; its number must be new.

        Raises:
            OSError: the disk is full, or the like. What was committed before is whole.
        """
        frame, detections = result.frame, result.detections
        arrays = detection_arrays(detections) | decision_arrays(result.decisions, detections.tracker_id)
        if presence := result.extras.get("presence"):
            arrays[_PRESENCE] = np.asarray(json.dumps(dict(presence)))
        if (by_row := result.extras.get(PANOPTIC_BY_ROW)) is not None:
            arrays |= map_arrays(by_row)
        if observation is not None:
            arrays |= self._observation_arrays(observation, detections, frame.time)
        with self._writing():
            self._connection.execute(
                "INSERT INTO frames VALUES (?, ?, ?, ?)", (frame.number, frame.time, frame.name, pack(arrays))
            )
            if result.events:
                self._connection.executemany(
                    "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
                    [(e.number, e.time, e.kind, e.identity, e.other, json.dumps(e.earlier)) for e in result.events],
                )
            if time.monotonic() - self._committed >= COMMIT_SECONDS:
                self.commit()

    def broken(self, number: int, reason: str) -> None:
        """Notes a frame that was skipped."""
        with self._writing():
            self._connection.execute("INSERT INTO broken VALUES (?, ?)", (number, reason))

    def add_counts(self, number: int, events: Sequence[CountEvent]) -> None:
        """Adds what was known at frame ``number`` to have happened at counting lines and in zones."""
        rows = [(number, *astuple(event)) for event in events]
        with self._writing():
            self._connection.executemany("INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def counts(self) -> Iterator[CountEvent]:
        """What happened at counting lines and in zones."""
        with self._reading():
            for _, *values in self._connection.execute("SELECT * FROM counts ORDER BY rowid"):
                yield CountEvent(*values)

    def thumbnail(self, identity: int, score: float, jpeg: bytes) -> None:
        """Keeps the best picture of an identity so far."""
        with self._writing():
            self._connection.execute("INSERT OR REPLACE INTO thumbnails VALUES (?, ?, ?)", (identity, score, jpeg))

    def snapshot(self, number: int, state: Mapping[str, np.ndarray]) -> None:
        """Keeps the state after frame ``number``, and commits.

        Old snapshots are thinned out: at most 32, of 128 MB together, are kept, and the newest four in any case.
        """
        with self._writing():
            blob = zlib.compress(pack(state), 1)
            self._connection.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?)", (number, blob))
            query = "SELECT number, LENGTH(data) FROM snapshots ORDER BY number"
            kept = dict(self._connection.execute(query).fetchall())
            while len(kept) > _NEWEST + 1 and (len(kept) > _MOST_SNAPSHOTS or sum(kept.values()) > _SNAPSHOT_BYTES):
                numbers = list(kept)
                gaps = {
                    numbers[i]: (numbers[i + 1] - numbers[i - 1]) / max(numbers[-1] - numbers[i], 1)
                    for i in range(1, len(numbers) - _NEWEST)
                }
                thinned = min(gaps, key=gaps.__getitem__)
                self._connection.execute("DELETE FROM snapshots WHERE number = ?", (thinned,))
                del kept[thinned]
            self.commit()

    def commit(self) -> None:
        """Brings everything so far onto the disk.

        Raises:
            OSError: the disk is full, or the like.
        """
        with self._writing():
            self._connection.commit()
        self._committed = time.monotonic()

    def finish(self, how: str) -> None:
        """Marks the run as finished, ``whole`` or ``stopped``; empty: it goes on."""
        self.info.finished = how
        with self._writing():
            _write_info(self._connection, self.info)
            self.commit()

    def forget_after(self, number: int) -> None:
        """Removes what is known of frames after ``number``: a run goes on from there."""
        with self._writing():
            for table in ("frames", "events", "snapshots", "counts", "broken"):
                self._connection.execute(f"DELETE FROM {table} WHERE number > ?", (number,))
            if not self.count():
                self._connection.execute("DELETE FROM thumbnails")
            self.commit()
        self._views.clear()

    def frame_names(self) -> dict[int, str]:
        """The name of each frame by its number, in order."""
        return dict(self._connection.execute("SELECT number, name FROM frames ORDER BY number"))

    def first_number(self) -> int:
        """The number of the first frame; 0 without one."""
        return int(self._value("SELECT MIN(number) FROM frames") or 0)

    def last_number(self) -> int:
        """The number of the last frame; 0 without one."""
        return int(self._value("SELECT MAX(number) FROM frames") or 0)

    def count(self) -> int:
        """How many frames there are."""
        return int(self._value("SELECT COUNT(*) FROM frames"))

    def last_before(self, seconds: float) -> int:
        """The number of the last frame at or before a time; 0 without one."""
        return int(self._value("SELECT MAX(number) FROM frames WHERE time <= ?", seconds + _TICK) or 0)

    def last_identity(self) -> int:
        """The highest identity that was given; -1 without one."""
        highest = self._value("SELECT MAX(identity) FROM events WHERE kind = 'born'")
        return -1 if highest is None else int(highest)

    def first_time(self) -> float | None:
        """Seconds of the first frame; None without one."""
        seconds = self._value("SELECT time FROM frames ORDER BY number LIMIT 1")
        return None if seconds is None else float(seconds)

    def last_time(self) -> float:
        """Seconds of the last frame; 0 without one."""
        return float(self._value("SELECT time FROM frames ORDER BY number DESC LIMIT 1") or 0.0)

    def _value(self, query: str, *values: float) -> Any:
        """The one value that a query gives; None without a row."""
        with self._reading():
            row = self._connection.execute(query, values).fetchone()
            return None if row is None else row[0]

    def observations(self, first: int = 1, last: int | None = None) -> Iterator[Observation]:
        """The frames ``first`` to ``last`` (the last one included) before identities, with untracked rows.

        ``embeddings`` are NaN in rows whose embedding was not kept: one a second is kept of each identity.

        Raises:
            InputError: the record is damaged.
        """
        for number, seconds, _, arrays in self._frames(first, last):
            with self._reading():
                boxes = arrays.get("seen.boxes", arrays["xyxy"]).astype(np.float32)
                count = len(boxes)
                embeddings = None
                if "seen.embeddings" in arrays:
                    kept = arrays["seen.embeddings"]
                    embeddings = np.full((count, kept.shape[1]), np.nan, np.float32)
                    embeddings[arrays["seen.embedded"]] = kept
                change = arrays.get("seen.scene_change")
                scores = arrays.get("seen.scores", arrays.get("confidence", np.ones(count)))
                labels = arrays.get("seen.labels", arrays.get("class_id", np.zeros(count)))
                observation = Observation(
                    number,
                    seconds,
                    self.info.size,
                    boxes,
                    scores.astype(np.float32),
                    labels.astype(np.int64),
                    embeddings,
                    camera=arrays.get("seen.camera"),
                    scene_change=None if change is None else float(change),
                )
            yield observation

    def results(self, first: int = 1, last: int | None = None, maps: bool = False) -> Iterator[FrameResult]:
        """The frames ``first`` to ``last`` (the last one included) with identities; no pictures.

        Masks are ``data["segmentation"]`` (N,), run lengths as in ``tracks.json``, None for a row without one.

        Args:
            first: number of a frame.
            last: number of a frame; None: to the end.
            maps: with ``extras["panoptic_by_row"]``, where the record has it.

        Raises:
            InputError: the record is damaged.
        """
        events = self.events(first, last)
        event = next(events, None)
        for number, seconds, name, arrays in self._frames(first, last):
            own: list[TrackEvent] = []
            while event is not None and event.number <= number:
                own.append(event)
                event = next(events, None)
            with self._reading():
                detections = detections_of(arrays, self.info.size)
                decisions = decisions_of(arrays, detections.tracker_id)
                extras = {"presence": json.loads(str(arrays[_PRESENCE]))} if _PRESENCE in arrays else {}
                if maps and (by_row := map_of(arrays, self.info.size)) is not None:
                    extras[PANOPTIC_BY_ROW] = by_row
            yield FrameResult(Frame(number, seconds, self.info.size, name), detections, own, decisions, extras)

    def snapshot_before(self, number: int) -> tuple[int, dict[str, np.ndarray]]:
        """The last state after a frame at or before ``number``: that frame's number, 0 without one, and the state."""
        query = "SELECT number, data FROM snapshots WHERE number <= ? ORDER BY number DESC LIMIT 1"
        with self._reading():
            row = self._connection.execute(query, (number,)).fetchone()
            return (0, {}) if row is None else (int(row[0]), unpack(zlib.decompress(row[1])))

    def broken_frames(self) -> list[tuple[int, str]]:
        """The frames that were skipped, with the reasons."""
        with self._reading():
            return [(int(n), str(why)) for n, why in self._connection.execute("SELECT * FROM broken ORDER BY number")]

    def thumbnails(self) -> Iterator[tuple[int, float, bytes]]:
        """Identity, score and JPEG of each kept picture."""
        with self._reading():
            yield from self._connection.execute("SELECT identity, score, jpeg FROM thumbnails")

    def close(self) -> None:
        """Commits and closes. The folder has the one file then.

        Raises:
            OSError: the disk is full, or the like; what was committed before is whole.
        """
        try:
            with self._writing():
                if self._connection.in_transaction:
                    self._connection.commit()
                with suppress(sqlite3.OperationalError):  # another process reads: its log stays beside the file
                    self._connection.execute("PRAGMA journal_mode = DELETE")
        finally:
            self._connection.close()

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _observation_arrays(
        self, observation: Observation, detections: sv.Detections, seconds: float
    ) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        for name, seen, kept in (
            ("boxes", observation.boxes, detections.xyxy),
            ("scores", observation.scores, detections.confidence),
            ("labels", observation.labels, detections.class_id),
        ):  # they differ where boxes are filtered, or a tracker leaves out classes
            if kept is None or not np.array_equal(seen, np.asarray(kept, seen.dtype)):
                arrays[f"seen.{name}"] = np.asarray(seen)
        if observation.camera is not None:
            arrays["seen.camera"] = np.asarray(observation.camera)
        if observation.scene_change is not None:
            arrays["seen.scene_change"] = np.array(observation.scene_change, np.float32)
        ids, embeddings = detections.tracker_id, observation.embeddings
        if embeddings is not None and ids is not None and len(ids) == len(embeddings):
            rows = []
            for row, identity in enumerate(ids.tolist()):
                due = identity >= 0 and seconds - self._views.get(identity, -np.inf) >= VIEW_SECONDS
                if due and not np.isnan(embeddings[row, 0]):
                    rows.append(row)
                    self._views[identity] = seconds
            if rows:
                arrays["seen.embedded"] = np.array(rows, np.int32)
                arrays["seen.embeddings"] = np.asarray(embeddings[rows], np.float16)
            if len(self._views) > 10_000:  # identities of long ago
                self._views = {i: at for i, at in self._views.items() if seconds - at < VIEW_SECONDS}
        return arrays

    def _frames(self, first: int, last: int | None) -> Iterator[tuple[int, float, str, dict[str, np.ndarray]]]:
        query = "SELECT number, time, name, data FROM frames WHERE number BETWEEN ? AND ? ORDER BY number"
        with self._reading():
            for number, seconds, name, data in self._connection.execute(query, (first, _end(last))):
                yield int(number), float(seconds), str(name), unpack(data)

    def events(self, first: int = 1, last: int | None = None) -> Iterator[TrackEvent]:
        """What happened to tracks in the frames ``first`` to ``last``, the last one included."""
        query = "SELECT * FROM events WHERE number BETWEEN ? AND ? ORDER BY number, rowid"
        with self._reading():
            for number, seconds, kind, identity, other, earlier in self._connection.execute(query, (first, _end(last))):
                rows = tuple((int(frame), int(row)) for frame, row in json.loads(earlier))
                yield TrackEvent(kind, int(identity), int(number), float(seconds), int(other), rows)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """SQLite's errors of a disk as OSError."""
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):  # a fault of the program
            raise
        except sqlite3.DatabaseError as error:
            with suppress(sqlite3.Error):
                self._connection.rollback()
            raise os_error(error, self.path) from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError, zlib.error) as error:
            raise InputError(f"{self.path} is damaged: {error}") from error


def create_store(path: Path, info: RunInfo) -> RunStore:
    """A new record; there must be none at ``path``. It is there whole or not at all, should the process be killed.

    Raises:
        OSError: it cannot be made.
    """
    new = path.with_name(f".{path.name}.new")
    remove_store(new)
    try:
        with closing(sqlite3.connect(new)) as empty:
            empty.executescript(_TABLES)
            empty.execute(f"PRAGMA user_version = {FORMAT}")
            _write_info(empty, info)
            empty.commit()
        new.rename(path)
        connection = _connect(path)
    except sqlite3.OperationalError as error:
        remove_store(path)
        raise os_error(error, path) from error
    finally:
        remove_store(new)
    return RunStore(path, connection, info)


def open_store(path: Path, write: bool = False) -> RunStore:
    """The record at ``path``, of a run's folder or as named.

    Args:
        path: a run's folder, or its ``run.sqlite``.
        write: to go on with it.

    Raises:
        InputError: there is none, it is not a record of a run, or of another version of this format.
    """
    if path.is_dir():
        path = path / STORE_NAME
    if not path.is_file():
        raise InputError(f"{path.parent} holds no {STORE_NAME}: name the folder of a run of `masa-track track`")
    try:
        connection = _connect(path) if write else sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if not 1 <= version <= FORMAT:
                raise InputError(
                    f"{path} has format {version}, this version of masa-track reads 1 to {FORMAT}: use the one that "
                    "wrote it"
                )
            info = _read_info(connection)
            if write and version != FORMAT:
                connection.execute(f"PRAGMA user_version = {FORMAT}")
        except BaseException:
            connection.close()
            raise
    except (sqlite3.DatabaseError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is not the record of a run, or it is damaged: {error}") from error
    return RunStore(path, connection, info)


def part_of_run(folder: Path, number: int) -> Path:
    """The folder of part ``number``, from 1, of a run in parts."""
    return folder / f"part-{number:06d}"


def run_part_number(part: Path) -> int:
    """The number of a part, from the name of its folder."""
    return int(part.name.partition("-")[2])


def parts_of_run(folder: Path) -> list[Path]:
    """The folders of a run's parts, in their order; empty where a run has none."""
    if not folder.is_dir():
        return []
    parts = [path for path in folder.iterdir() if _PART.fullmatch(path.name) and (path / STORE_NAME).is_file()]
    return sorted(parts, key=run_part_number)


def remove_store(path: Path) -> None:
    """Removes a record with SQLite's files beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        with suppress(OSError):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def move_store(path: Path, to: Path) -> None:
    """Renames a closed record, with a log of SQLite beside it. Does nothing if there is none."""
    remove_store(to)
    for suffix in ("-wal", "-shm", "-journal", ""):
        if path.with_name(path.name + suffix).exists():
            path.with_name(path.name + suffix).rename(to.with_name(to.name + suffix))


def os_error(error: sqlite3.Error, path: Path) -> OSError:
    """SQLite's error as that of the system, which SQLite does not tell: a file like the record is tried."""
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    try:
        with tempfile.TemporaryFile(buffering=0, dir=path.parent) as probe:
            probe.truncate(size + _PROBE)  # over a limit on the size of files
            probe.write(bytes(_PROBE))  # on a full disk
            os.fsync(probe.fileno())
    except OSError as found:
        return OSError(found.errno, found.strerror, str(path))
    return OSError(errno.EIO, str(error), str(path))


def _connect(path: Path) -> sqlite3.Connection:
    # Written by the thread of the sinks, closed by the main thread: never both at once.
    connection = sqlite3.connect(path, check_same_thread=False, timeout=30.0)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # a commit is on the disk also after a power cut
    return connection


def _write_info(connection: sqlite3.Connection, info: RunInfo) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO info VALUES (?, ?)", [(name, json.dumps(value)) for name, value in asdict(info).items()]
    )


def _read_info(connection: sqlite3.Connection) -> RunInfo:
    held: dict[str, Any] = {name: json.loads(text) for name, text in connection.execute("SELECT * FROM info")}
    held["size"] = tuple(int(side) for side in held["size"])
    held["post"] = tuple(held["post"])
    for name in ("things", "stuff"):
        held[name] = tuple(int(number) for number in held.get(name, ()))
    held["class_names"] = {int(number): str(name) for number, name in held["class_names"].items()}
    return RunInfo(**held)


def _end(last: int | None) -> int:
    return 2**62 if last is None else last
