"""Where results go: the record, track files, drawings, the report. Each is closed for itself: one may fail alone."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from masa_track.contracts import Frame, FrameResult
from masa_track.drawing.tracks import TrackDrawer
from masa_track.formats.jsonl import JsonLinesWriter
from masa_track.formats.panoptic import JSON_NAME, PanopticMap, remove_pictures
from masa_track.formats.tracks import TrackWriters
from masa_track.parts.scene import SceneTracker
from masa_track.pipeline.counting import Counter, CountsWriter
from masa_track.pipeline.job import Job, Outcome
from masa_track.pipeline.scenes import PanopticSink, panoptic_of, stuff_of
from masa_track.pipeline.semantic_maps import SemanticMaps
from masa_track.pipeline.stages import Broken, Done
from masa_track.pipeline.tentative import TentativeRows
from masa_track.report.report import RESULT_FILES, ReportBuilder
from masa_track.runs.resume import Resumed
from masa_track.runs.rows import with_run_lengths
from masa_track.runs.store import STORE_NAME, RunInfo, RunStore, create_store, move_store, open_store, remove_store
from masa_track.video.parts import join_parts, part_number, part_path, parts_of
from masa_track.video.writer import SQUARE, VideoWriter

RESULTS = (
    "report.html",
    *RESULT_FILES,
    "counts.csv",
    JSON_NAME,
    STORE_NAME,
    "online.json",
)  # in the order in which they are listed
_EARLIER = ".run.sqlite.earlier"  # the record of the run before, until this one has a frame
_HINT_FRAMES = 50  # without a box that starts a track, after which another detector is suggested
_RECENT_FRAMES = 51  # whose times give the frames a second that the state of a run has
MOST_BROKEN_LISTED = 100  # a report of a night's bad cable is a number, not a book


class Snapshot:
    """The state of the tracker after a frame; the sinks add theirs.

    Args:
        number: of the frame.
        state: of the tracker.
        ends_part: whether a part of the run ends with this frame.
    """

    def __init__(self, number: int, state: Mapping[str, np.ndarray], ends_part: bool = False) -> None:
        self.number, self.state, self.ends_part = number, state, ends_part


class Sink(Protocol):
    """Takes results, one after the other."""

    def write(self, result: FrameResult) -> None:
        """Takes a frame.

        Raises:
            OSError: it cannot be written; ``filename`` is the result's.
        """


class FileSink(Protocol):
    """Makes files that are put in their places at the end."""

    def close(self) -> dict[Path, OSError | None]:
        """Puts the sink's files in their places. Why one is not there, by its path; None where it is."""

    def abandon(self) -> None:
        """Removes what was begun; earlier results are as they were. Does nothing after :meth:`close`."""


class DrawnTarget(Protocol):
    """Takes drawn frames."""

    def write(self, frame: Frame, drawing: np.ndarray) -> None:
        """Takes a drawn frame, (H, W, 3) uint8 BGR; it is not changed later.

        Raises:
            OSError: it cannot be written; ``filename`` is the result's.
        """


class RecordSink:
    """The record, ``run.sqlite``. That of an earlier run comes back if there is no frame."""

    def __init__(self, folder: Path, info: RunInfo, resumed: Resumed | None = None) -> None:
        self.path = folder / STORE_NAME
        self._earlier = folder / _EARLIER
        self._closed = False
        self._resumed = resumed is not None
        if resumed is not None:
            self.store: RunStore = open_store(self.path, write=True)
            self.store.forget_after(resumed.last)
            self.store.info.recipe, self.store.info.facts = info.recipe, info.facts
            self.store.finish("")
            return
        move_store(self.path, self._earlier)
        try:
            self.store = create_store(self.path, info)
        except BaseException:
            move_store(self._earlier, self.path)
            raise

    def write(self, result: FrameResult) -> None:
        """See :class:`Sink`."""
        self.store.append(result.observation, result)

    def close(self) -> dict[Path, OSError | None]:
        """See :class:`FileSink`."""
        self._closed = True
        try:
            self.store.close()
        except OSError as error:
            return {self.path: error}
        remove_store(self._earlier)
        return {self.path: None}

    def abandon(self) -> None:
        """See :class:`FileSink`. A run that is gone on with keeps its record."""
        if self._closed:
            return
        self._closed = True
        with suppress(OSError):
            self.store.close()
        if not self._resumed:
            remove_store(self.path)
            move_store(self._earlier, self.path)


class TrackFilesSink:
    """``tracks.txt``, ``tracks.json`` and ``tracks.csv``; or ``online.json`` alone, of tracks to be finished."""

    def __init__(self, folder: Path, info: RunInfo, online: bool = False, finished: bool = False) -> None:
        about = info.name, *info.size, info.fps, info.class_names
        self.writers = TrackWriters(folder, *about, finished=finished, online=online, parts=info.parts)
        self._tentative = TentativeRows()

    def write(self, result: FrameResult) -> None:
        """See :class:`Sink`."""
        number, rows = result.frame.number, result.detections
        if "segmentation" in rows.data:
            rows = replace(rows, mask=None)
        self._tentative.add(number, rows)
        self.writers.write(number, result.frame.name, rows, result.frame.time, result.extras.get("presence"))
        self._tentative.write(self.writers, result.events)

    def close(self) -> dict[Path, OSError | None]:
        """See :class:`FileSink`."""
        paths, faults = self.writers.paths, self.writers.close()
        return {path: faults.get(path) for path in paths}

    def abandon(self) -> None:
        """See :class:`FileSink`."""
        self.writers.abandon()


class VideoSink:
    """``video.mp4``, a target of drawn frames. A run that goes on adds a part to the video of the frames so far."""

    def __init__(
        self, folder: Path, info: RunInfo, start_time: float | None = None, pixel_aspect: Fraction = SQUARE
    ) -> None:
        video, parts = folder / "video.mp4", parts_of(folder)
        self._was_whole = start_time is not None and not parts and video.is_file()
        if self._was_whole:
            video.replace(part_path(video, 1))
            parts = parts_of(folder)
        first = 1 if start_time is None or not parts else part_number(parts[-1]) + 1
        self.writer = VideoWriter(video, *info.size, info.fps / info.stride, first, start_time, pixel_aspect)

    def write(self, frame: Frame, drawing: np.ndarray) -> None:
        """See :class:`DrawnTarget`."""
        try:
            self.writer.write(drawing, frame.time)
        except OSError:
            self.writer.abandon()  # a packet is missing
            raise

    def close(self) -> dict[Path, OSError | None]:
        """See :class:`FileSink`."""
        path = self.writer.file.path
        try:
            return {path: None if self.writer.close() else OSError()}
        except OSError as error:
            return {path: error}

    def abandon(self) -> None:
        """See :class:`FileSink`."""
        self.writer.abandon()
        if self._was_whole:
            with suppress(OSError):
                part_path(self.writer.file.path, 1).rename(self.writer.file.path)


class JoinedVideo:
    """``video.mp4`` of the parts that a killed run left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def close(self) -> dict[Path, OSError | None]:
        """See :class:`FileSink`."""
        parts, video = parts_of(self._folder), self._folder / "video.mp4"
        try:
            if not parts:
                return {video: None} if video.is_file() else {}
            if not join_parts(parts, video):
                return {}
            for part in parts:
                part.unlink()
        except OSError as error:
            return {video: error}
        return {video: None}

    def abandon(self) -> None:
        """See :class:`FileSink`."""


class CountsSink:
    """``counts.csv``, and the same events in the record."""

    def __init__(self, folder: Path, info: RunInfo) -> None:
        self.writer = CountsWriter(folder / "counts.csv", info.class_names)

    def close(self) -> dict[Path, OSError | None]:
        """See :class:`FileSink`."""
        try:
            self.writer.close()
        except OSError as error:
            return {self.writer.file.path: error}
        return {self.writer.file.path: None}

    def abandon(self) -> None:
        """See :class:`FileSink`."""
        self.writer.abandon()


class DrawnSink:
    """Draws each frame once, for all who want the drawing."""

    def __init__(self, job: Job, targets: Sequence[DrawnTarget]) -> None:
        self._drawer, self._targets, self._counter = job.drawer(), targets, job.counter
        self._names = job.class_names

    def write(self, result: FrameResult) -> None:
        """See :class:`Sink`."""
        if result.frame.image is None or not self._targets:
            return
        corner = str(result.extras.get("corner", ""))
        picture = with_stuff(self._drawer, result.frame.image, panoptic_of(result), self._names)
        drawing = self._drawer.draw(picture, result.detections, result.extras.get("lost"), corner)
        if self._counter is not None:
            self._counter.draw(drawing)
        for target in self._targets:
            target.write(result.frame, drawing)


def with_stuff(
    drawer: TrackDrawer, picture: np.ndarray, panoptic: PanopticMap | None, class_names: Mapping[int, str]
) -> np.ndarray:
    """A picture with the stuff of its map tinted and named; without a map as it is."""
    if panoptic is None:
        return picture
    stuff = {n: class_names.get(one.label, "") for n, one in panoptic.segments.items() if one.identity < 0}
    return drawer.draw_stuff(picture, panoptic.numbers, stuff)


class LinesSink:
    """Lines of JSON for other processes. The run goes on when the one that reads a pipe has left."""

    def __init__(self, lines: JsonLinesWriter, outcome: Outcome, say: Callable[[str], None]) -> None:
        self.lines: JsonLinesWriter | None = lines
        self._outcome, self._say = outcome, say

    def write(self, result: FrameResult) -> None:
        """See :class:`Sink`."""
        if self.lines is None:
            return
        frame = result.frame
        try:
            self.lines.write(frame.number, frame.time, result.detections)
            self.lines.write_events([*result.events, *result.extras.get("counts", ())])
        except BrokenPipeError:
            self._outcome.faults.append(f"the reader of --jsonl {self.lines.path} left at frame {frame.number}")
            self._say(f"{self._outcome.faults[-1]}; the run goes on without it")
            self.lines = None


class Sinks:
    """All sinks of a run, in the thread that writes.

    Args:
        job: what is tracked, and where to.
        outcome: counts what was done.

    Raises:
        OSError: a result cannot be opened; no part of any is left.
        InputError: the record of a run to go on with cannot be used.
    """

    def __init__(self, job: Job, outcome: Outcome) -> None:
        self._job, self._outcome = job, outcome
        self.stopped = False  # by a result that cannot be written: no further frame is taken
        self._closed = False
        self._done_at: deque[float] = deque(maxlen=_RECENT_FRAMES)
        self._earlier = outcome.frames, outcome.broken  # in the parts before
        info = job.info or info_of(job)
        self.report = ReportBuilder(info.name, "", *info.size, info.fps, info.class_names)
        self._files: list[FileSink] = []
        try:
            self._record = RecordSink(job.folder, info, job.resumed)
            self._files.append(self._record)
            self._tracks = TrackFilesSink(job.folder, info, online=job.offline)
            self._files.append(self._tracks)
            targets: list[DrawnTarget] = []
            if job.counter is not None:
                self._counts = CountsSink(job.folder, info)
                self._files.append(self._counts)
            if job.with_video and not job.offline:
                first = None if job.resumed is None else self.store.first_time()
                video = VideoSink(job.folder, info, first, job.source.pixel_aspect)
                self._files.append(video)
                targets.append(video)
            if job.frame_folder is not None and not job.offline:
                targets.append(job.frame_folder)
            targets += [target for target in (job.view, job.window) if target is not None]
            maps = SemanticMaps(job.folder, goes_on=job.resumed is not None)
            self._sinks: list[Sink] = [self._record, self._tracks, maps, DrawnSink(job, targets)]
            self._lines = None if job.lines is None else LinesSink(job.lines, outcome, self.say)
            if self._lines is not None:
                self._sinks.insert(0, self._lines)
            self._panoptic = PanopticSink(job.folder, info) if info.stuff and not job.offline else None
            if self._panoptic is not None:
                self._files.append(self._panoptic)
                self._sinks.append(self._panoptic)
            if job.resumed is not None:
                self._replay(job.resumed)
        except BaseException:
            self.abandon()
            raise
        self.report.on_thumbnail = self.store.thumbnail

    @property
    def store(self) -> RunStore:
        """The record."""
        return self._record.store

    @property
    def lines(self) -> JsonLinesWriter | None:
        """What lines are written to; None without it, or when the one who reads it has left."""
        return None if self._lines is None else self._lines.lines

    def say(self, text: str) -> None:
        """Prints a line above the progress bar."""
        tqdm.write(f"{self._job.source.name}: {text}", file=sys.stderr)

    def take(self, item: Done | Broken | Snapshot) -> None:
        """Writes a frame, notes a broken one, or keeps a state. After a fault of a file nothing more is taken."""
        if self.stopped:
            return
        try:
            if isinstance(item, Broken):
                self._note(item)
            elif isinstance(item, Snapshot):
                state = dict(item.state) | {
                    "outcome": np.asarray(json.dumps(self._outcome.counts())),
                    "earlier": np.asarray(json.dumps(self._earlier)),
                }
                if self._job.counter is not None:
                    state["counter"] = np.asarray(json.dumps(self._job.counter.state_dict()))
                self.store.snapshot(item.number, state)
            else:
                self._write(item)
        except OSError as error:
            number = item.result.frame.number if isinstance(item, Done) else item.number
            self._outcome.cannot_write(number, error)
            self.stopped = True

    def idle(self) -> None:
        """Brings the record onto the disk, when there is nothing to write."""
        if not self.stopped:
            try:
                self.store.commit()
            except OSError as error:
                self._outcome.cannot_write(self.store.last_number(), error)
                self.stopped = True

    def _note(self, broken: Broken) -> None:
        self._outcome.broken += 1
        if self._outcome.broken <= MOST_BROKEN_LISTED:
            self._outcome.broken_listed.append(f"{broken.number}: {broken.reason}")
            tqdm.write(f"frame {broken.number} skipped: {broken.reason}", file=sys.stderr)
        self.store.broken(broken.number, broken.reason)

    def _write(self, done: Done) -> None:
        result, job, outcome = done.result, self._job, self._outcome
        with_run_lengths(result.detections)
        outcome.left_out += done.left_out
        outcome.count_boxes(result.detections, job.track_activation_threshold)
        if job.blur is not None and result.frame.image is not None:
            result.frame = replace(result.frame, image=job.blur(result.frame.image, result.detections))
        if job.counter is not None and (counts := job.counter.update(result)):
            result.extras = {**result.extras, "counts": counts}
            self.store.add_counts(result.frame.number, counts)
            self._counts.writer.write(counts)
        for sink in self._sinks:
            sink.write(result)
        frame = result.frame
        picture = None if job.offline else frame.image
        self.report.add(frame.number, frame.time, picture, result.detections, result.extras.get("presence"))
        outcome.frames += 1
        if outcome.frames == _HINT_FRAMES and job.hint and outcome.weak_boxes == outcome.boxes:
            self.say(f"warning: {job.hint.format(frames=_HINT_FRAMES)}")
        outcome.tracks = 0 if result.detections.tracker_id is None else int((result.detections.tracker_id >= 0).sum())
        now = time.monotonic()
        self._done_at.append(now)
        if len(self._done_at) > 1:
            outcome.recent_fps = (len(self._done_at) - 1) / max(now - self._done_at[0], 1e-9)
        if job.source.live:
            outcome.lag, outcome.work = now - done.arrived, now - done.taken
            outcome.longest_lag = max(outcome.longest_lag, outcome.lag)

    def _replay(self, resumed: Resumed) -> None:
        """Writes the frames so far of a run that goes on, but for pictures."""
        store, outcome = self.store, self._outcome
        read_record(store, self._tracks, self.report, self._panoptic)
        if (counts := resumed.json("outcome")) is not None:
            outcome.restore(counts)
            self._earlier = tuple(resumed.json("earlier"))
        if self._job.counter is not None:
            self._counts.writer.write(store.counts())
        broken = store.broken_frames()
        outcome.broken_listed = [f"{n}: {reason}" for n, reason in broken[:MOST_BROKEN_LISTED]]
        # More than at the state, for a live source; fewer, where broken frames after the last one will be read again.
        outcome.frames, outcome.broken = self._earlier[0] + store.count(), self._earlier[1] + len(broken)

    def close(self, whole: bool | None = None) -> None:
        """Puts the files of the frames done so far in their places, each for itself. Does nothing the second time.

        Args:
            whole: whether all is there that was wanted; None: if the run was not interrupted.
        """
        if self._closed:
            return
        self._closed = True
        whole = not self._outcome.interrupted if whole is None else whole
        with suppress(OSError):
            self.store.finish("whole" if whole else "stopped")
        self._outcome.identities = self.report.identities
        self._outcome.cut_short = self._job.source.cut_short
        report = None if self._job.offline else self.report
        if not self._job.with_video:
            for part in parts_of(self._job.folder):  # of a run that was killed
                with suppress(OSError):
                    part.unlink()
        facts = self._job.facts | ({} if self._job.counter is None else counted(self._job.counter))
        close_files(self._job.folder, self._outcome, self._files, report, facts)

    def abandon(self) -> None:
        """Removes what was begun; earlier results are as they were. Does nothing after :meth:`close`."""
        if not self._closed:
            for sink in self._files:
                sink.abandon()


def counted(counter: Counter) -> dict[str, object]:
    """The counts of lines and zones, for the report."""
    said: dict[str, object] = {}
    of = counter.summary()
    for name, line in of["lines"].items():
        said[f"line {name}"] = f"{line['in']} in, {line['out']} out"
    for name, zone in of["zones"].items():
        mean = "" if zone["mean_seconds"] is None else f", {zone['mean_seconds']:.1f} s on average"
        said[f"zone {name}"] = f"{zone['visits']} visits of {zone['visitors']} tracks{mean}, {zone['inside']} inside"
    return said


def read_record(
    store: RunStore, tracks: TrackFilesSink, report: ReportBuilder, panoptic: PanopticSink | None = None
) -> None:
    """Writes all frames of a record into track files and a report, which gets the pictures that the record keeps.

    Args:
        store: the record.
        tracks: gets the frames.
        report: gets them, too.
        panoptic: gets them, too; None for none.

    Raises:
        OSError: a file cannot be written.
        InputError: the record is damaged.
    """
    with tqdm(total=store.count(), unit="frame", dynamic_ncols=True, desc="reading the record") as bar:
        for result in store.results(maps=panoptic is not None):
            tracks.write(result)
            if panoptic is not None:
                panoptic.write(result)
            report.add(result.frame.number, result.frame.time, None, result.detections, result.extras.get("presence"))
            bar.update()
    report.restore_thumbnails(store.thumbnails())


def close_files(
    folder: Path,
    outcome: Outcome,
    files: Sequence[FileSink],
    report: ReportBuilder | None,
    facts: Mapping[str, object] | None = None,
) -> None:
    """Puts files in their places, each for itself, and removes those of an earlier run that have no successor.

    Args:
        folder: of the results.
        outcome: gets the files, and what is not there.
        files: the sinks that write them.
        report: is written at the end, and links to the others; None: there is none yet.
        facts: settings to show in it.
    """
    missing: dict[str, str] = {}
    for sink in reversed(files):  # the video first: should it fail on a full disk, its room is free for the others
        for path, error in sink.close().items():
            if error is None:
                outcome.files.append(path)
            else:
                missing[path.name] = f" ({error.strerror})" if error.strerror else ""
    outcome.files.sort(key=lambda path: RESULTS.index(path.name))
    if report is not None:
        write_report(folder, outcome, report, missing, facts or {})
    if missing:
        outcome.faults.append(f"not written: {', '.join(name + reason for name, reason in missing.items())}")
    if outcome.files:
        for name in RESULTS:
            if name != STORE_NAME and folder / name not in outcome.files:
                with suppress(OSError):
                    (folder / name).unlink(missing_ok=True)
                    if name == JSON_NAME:
                        remove_pictures(folder)


def write_report(
    folder: Path, outcome: Outcome, report: ReportBuilder, missing: dict[str, str], facts: Mapping[str, object]
) -> None:
    """Writes ``report.html``; why it is not there is put into ``missing``."""
    facts = {**facts, "stopped early": "yes"} if outcome.interrupted else dict(facts)
    if outcome.dropped:
        facts["frames dropped"] = f"{outcome.dropped:,}: the source was faster"
    if outcome.longest_lag:
        facts["longest lag"] = f"{outcome.longest_lag:.2f} s"
    broken = [*outcome.broken_listed]
    if outcome.broken > len(broken):
        broken.append(f"and {outcome.broken - len(broken)} more")
    path = folder / "report.html"
    try:
        report.write(
            path,
            facts,
            processing_fps=outcome.fps,
            broken_frames=broken,
            cut_short=outcome.cut_short,
            files=[file.name for file in outcome.files],
        )
        outcome.files.append(path)
    except OSError as error:
        missing[path.name] = f" ({error.strerror or error})"


def info_of(job: Job) -> RunInfo:
    """What the record says of a job that has no recipe."""
    from masa_track import __version__

    source, hierarchy = job.source, stuff_of(job.tracker)
    return RunInfo(
        source.name,
        source.name,
        (source.width, source.height),
        source.fps,
        {int(number): str(name) for number, name in job.class_names.items()},
        first=job.start,
        stride=job.stride,
        live=source.live,
        offline=job.offline,
        post=job.post,
        started=time.time(),
        version=__version__,
        facts={str(name): str(value) for name, value in job.facts.items()},
        parts=isinstance(job.tracker, SceneTracker),
        things=() if hierarchy is None else hierarchy.labels("thing"),
        stuff=() if hierarchy is None else hierarchy.labels("stuff"),
    )
