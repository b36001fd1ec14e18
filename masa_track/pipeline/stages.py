"""One video through a detector and a tracker into a folder of results: the loop behind `masa-track track`."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from tqdm import tqdm

from masa_track.drawing.tracks import TrackDrawer
from masa_track.errors import InputError
from masa_track.files import fault_of
from masa_track.formats.jsonl import JsonLinesWriter
from masa_track.formats.tracks import TrackWriters
from masa_track.pipeline.tentative import TentativeRows
from masa_track.report.report import RESULT_FILES, ReportBuilder
from masa_track.stop import Stop
from masa_track.video.writer import VideoWriter

if TYPE_CHECKING:
    import supervision as sv

    from masa_track.contracts import Detector, Features, Frame
    from masa_track.detectors.selection import Selection
    from masa_track.segmenters.sam import SamSegmenter
    from masa_track.tracker import MasaTracker
    from masa_track.video.frame_folder import FrameFolder
    from masa_track.video.sources import Source

RESULTS = ("report.html", *RESULT_FILES, "online.json")
_FAULTY_SETUP = 10  # frames: if none of so many can be used, that is the fault of the setup, not of the frames
_HINT_FRAMES = 50  # without a box that starts a track, after which another detector is suggested
_LOST_SECONDS = 2.0  # for which lost tracks are shown
_FPS_FRAMES = 10  # of which the frames a second in the drawing are a mean
_MOST_BROKEN_LISTED = 100  # a report of a night's bad cable is a number, not a book


@dataclass
class Job:
    """What to track, with what, and where to.

    Attributes:
        source: the video.
        detector: finds a frame's boxes; or a function that gives them, for boxes of a file.
        class_names: each class id's name; may be empty.
        tracker: gives them identities.
        folder: an existing folder for the results.
        with_video: whether to write ``video.mp4``.
        stride: every how many frames.
        max_frames: stop after so many.
        facts: settings to show in the report.
        segmenter: gives the tracked boxes masks; None for none.
        lines: gets each frame at once, for others to follow; None for none. It is closed by who opened it.
        track_activation_threshold: a box must score above it to start a track; boxes below are counted in the outcome.
        offline: finish the tracks when the video is over, and read the source a second time for the pictures: it must
            not be live.
        post: steps of :mod:`masa_track.runs.demo_steps` in place of finishing; for ``offline``.
        show_lost: draw where tracks that were lost lately are expected.
        color_by: what has a colour of its own in the video, one of ``masa_track.drawing.colours.COLOR_BY``.
        line_width: pixels of lines in the drawing; None: by the size of the frames.
        show_fps: write the frames a second of detector and tracker, a mean over 10 frames, into the drawing.
        frame_folder: gets the drawn frames as pictures; None for none.
        select: removes boxes before they are tracked; None: none is removed.
        hint: said when no box of the first 50 frames scores enough to start a track, with ``{frames}``; empty: nothing.
    """

    source: Source
    detector: Detector | Callable[[Frame], sv.Detections]
    class_names: Mapping[int, str]
    tracker: MasaTracker
    folder: Path
    with_video: bool = True
    stride: int = 1
    max_frames: int | None = None
    facts: dict[str, object] = field(default_factory=dict)
    segmenter: SamSegmenter | None = None
    lines: JsonLinesWriter | None = None
    track_activation_threshold: float = 0.0
    offline: bool = False
    post: tuple[str, ...] = ()
    show_lost: bool = False
    color_by: str = "identity"
    line_width: int | None = None
    show_fps: bool = False
    frame_folder: FrameFolder | None = None
    select: Selection | None = None
    hint: str = ""

    def drawer(self) -> TrackDrawer:
        """A drawer for the source's frames."""
        source = self.source
        return TrackDrawer(
            source.width,
            source.height,
            source.fps / self.stride,
            self.class_names,
            color_by=self.color_by,
            line_width=self.line_width,
        )


@dataclass
class Outcome:
    """What came of a job.

    Attributes:
        frames: done.
        identities: found.
        seconds: that it took.
        broken: frames skipped, as they could not be read, or their boxes not be used.
        broken_listed: the first of them, with the reason.
        interrupted: whether it ended before the source did: by a signal, or because a result could not be written.
        files: the results that are in their places.
        faults: what is wrong with the results: a full disk, a reader of ``lines`` that has left.
        boxes: given by the detector or the file, those that were left out aside.
        left_out: boxes that ``Job.select`` removed.
        weak_boxes: of these, those that score too little to start a track.
        best_score: of all boxes; 0 without any.
        cut_short: what is missing at the end of the source, in words; empty where nothing is known to be missing.
    """

    frames: int = 0
    identities: int = 0
    seconds: float = 0.0
    broken: int = 0
    broken_listed: list[str] = field(default_factory=list)
    interrupted: bool = False
    files: list[Path] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    boxes: int = 0
    left_out: int = 0
    weak_boxes: int = 0
    best_score: float = 0.0
    cut_short: str = ""

    def count_boxes(self, detections: sv.Detections, track_activation_threshold: float) -> None:
        """Takes note of a frame's boxes."""
        self.boxes += len(detections)
        if len(detections) and detections.confidence is not None:
            scores = np.asarray(detections.confidence)
            self.weak_boxes += int(np.count_nonzero(scores <= track_activation_threshold))
            self.best_score = max(self.best_score, float(scores.max()))

    @property
    def fps(self) -> float:
        """Frames a second, the reading and writing included."""
        return self.frames / self.seconds if self.seconds else 0.0


def track_video(job: Job) -> Outcome:
    """Tracks the whole source. Ctrl-C (SIGTERM, SIGHUP) ends it after the frame in work, with whole files.

    The detector is reset before: it keeps nothing of another video.

    A frame that cannot be read, or at which the detector, the tracker or the segmenter raises InputError, is reported
    and skipped. A result that cannot be written any more, as on a full disk, ends the run. Whatever else goes wrong,
    the frames done so far are in whole files before the error goes on. The results of an earlier run are replaced
    together: none of them stays beside new ones.

    With ``job.offline`` the online tracks are in online.json when the last frame has been tracked. Then the other
    results are made of the finished tracks. Ctrl-C ends the tracking, or the second reading of the source: then the
    tracks are all there, and the report and the video end where it was asked.

    Returns:
        What came of it. The files are in ``job.folder``: tracks.txt, .json, .csv, report.html and video.mp4.

    Raises:
        OSError: a result cannot be opened; no part of any is left.
        InputError: none of the first 10 frames could be used, so the setup is at fault; the first frame's error.
    """
    outcome = _track(job)
    if job.offline and outcome.files:
        from masa_track.pipeline.finishing import write_finished

        write_finished(replace(job, offline=False), outcome)
    return outcome


def _track(job: Job) -> Outcome:
    """The first reading of the source, in which all is tracked."""
    source, outcome = job.source, Outcome()
    if hasattr(job.detector, "reset"):
        job.detector.reset()
    width, height, fps, names = source.width, source.height, source.fps, job.class_names
    report = ReportBuilder(source.name, "", width, height, fps, names)
    drawer, drawn = job.drawer(), not job.offline and (job.with_video or job.frame_folder is not None)
    durations: deque[float] = deque(maxlen=_FPS_FRAMES)
    with ExitStack() as opened:
        writers = TrackWriters(job.folder, source.name, width, height, fps, names, online=job.offline)
        opened.callback(writers.abandon)  # nothing is left to abandon after close
        video = None
        if job.with_video and not job.offline:
            video = VideoWriter(job.folder / "video.mp4", width, height, fps / job.stride)
        if video is not None:
            opened.callback(video.abandon)
        started = time.perf_counter()
        bar, stop = opened.enter_context(_progress_bar(job)), opened.enter_context(Stop())

        def report_broken(number: int, reason: str) -> None:
            outcome.broken += 1
            if outcome.broken <= _MOST_BROKEN_LISTED:
                outcome.broken_listed.append(f"{number}: {reason}")
                tqdm.write(f"frame {number} skipped: {reason}", file=sys.stderr)

        def say(text: str) -> None:
            tqdm.write(f"{source.name}: {text}", file=sys.stderr)

        first_fault: InputError | None = None
        faults = 0
        source.notice, source.stop_asked = say, lambda: stop.asked
        lines, tentative = job.lines, TentativeRows()
        try:
            for frame in source.frames(job.stride, job.max_frames, report_broken):
                image = frame.picture
                begun = time.perf_counter()
                try:
                    detections, features = detect(job.detector, frame, job.tracker.model)
                    given = len(detections)
                    if job.select is not None:
                        detections = job.select(detections)
                    tracked = job.tracker.update(detections, image, frame.time, features=features)
                    tentative.add(frame.number, tracked)
                    if job.segmenter is not None:
                        tracked = job.segmenter.add_masks(tracked, image)
                    if getattr(job.tracker.options, "filter_boxes", False):
                        tracked.xyxy = np.asarray(tracked.data.pop("box"), np.float32)
                except InputError as error:
                    report_broken(frame.number, str(error))
                    faults, first_fault = faults + 1, first_fault or error
                    if not outcome.frames and faults == _FAULTY_SETUP:
                        raise first_fault from None
                    continue
                durations.append(time.perf_counter() - begun)
                outcome.left_out += given - len(tracked)
                outcome.count_boxes(tracked, job.track_activation_threshold)
                if lines is not None:
                    try:
                        lines.write(frame.number, frame.time, tracked)
                    except BrokenPipeError:
                        outcome.faults.append(f"the reader of --jsonl {lines.path} left at frame {frame.number}")
                        say(f"{outcome.faults[-1]}; the run goes on without it")
                        lines = None
                    except OSError as error:
                        cannot_write(outcome, frame.number, error)
                        break
                try:
                    writers.write(frame.number, frame.name, tracked)
                    tentative.write(writers, job.tracker.events, frame.number)
                    if drawn:
                        lost = _lost(job.tracker, frame.time) if job.show_lost else None
                        corner = f"{len(durations) / sum(durations):.1f} fps" if job.show_fps else ""
                        show(job, drawer.draw(image, tracked, lost, corner), frame, video)
                except OSError as error:
                    cannot_write(outcome, frame.number, error)
                    if video is not None and error.filename == str(video.file.path):
                        video.abandon()  # a packet is missing
                    break
                report.add(frame.number, frame.time, None if job.offline else image, tracked)
                outcome.frames += 1
                if outcome.frames == _HINT_FRAMES and job.hint and outcome.weak_boxes == outcome.boxes:
                    say(f"warning: {job.hint.format(frames=_HINT_FRAMES)}")
                bar.set_postfix(tracks=_live(tracked), refresh=False)
                bar.update()
                if stop.asked:
                    outcome.interrupted = True
                    break
        finally:
            stop.finishing = True
            outcome.seconds = time.perf_counter() - started
            if outcome.frames:
                close_results(job, outcome, writers, video, report)
            if outcome.faults:
                tqdm.write(f"masa-track: error: {'; '.join(outcome.faults)}", file=sys.stderr)
    return outcome


def show(job: Job, drawing: np.ndarray, frame: Frame, video: VideoWriter | None) -> None:
    """Writes a drawn frame into the video and into the folder of frames, where they are wanted.

    Raises:
        OSError: one of them cannot be written.
    """
    if video is not None:
        video.write(drawing, frame.time)
    if job.frame_folder is not None:
        job.frame_folder.write(frame.number, drawing)


def detect(
    detector: Detector | Callable[[Frame], sv.Detections], frame: Frame, model: Any
) -> tuple[sv.Detections, Features | None]:
    """The boxes of a frame.

    Args:
        detector: finds them, or gives them.
        frame: of the source.
        model: that will embed them.

    Returns:
        The detections; and the frame's features, where the detector works on those of the same model.
    """
    if not hasattr(detector, "detect"):
        return detector(frame), None
    detector, features = cast("Detector", detector), None  # for mypy, to which any function may have attributes
    if detector.features_key is not None and detector.features_key == getattr(model, "key", None):
        features = model.encode([frame.picture])
    (detections,) = detector.detect([frame.picture], features)
    return detections, None if features is None else features[0]


def cannot_write(outcome: Outcome, number: int, error: OSError) -> None:
    """Notes that the run ends at a frame, as a result cannot be written."""
    outcome.interrupted = True
    outcome.faults.append(f"stopped at frame {number}, {error.filename} cannot be written: {fault_of(error)}")


def close_results(
    job: Job, outcome: Outcome, writers: TrackWriters, video: VideoWriter | None, report: ReportBuilder
) -> None:
    """Puts the files of the frames done so far in their places, each for itself: one may fail alone."""
    missing: dict[str, str] = {}
    if video is not None:  # first: should it fail on a full disk, its room is free for the others
        try:
            if video.close():
                outcome.files.append(video.file.path)
            else:
                missing[video.file.path.name] = ""
        except OSError as error:
            missing[video.file.path.name] = f" ({error.strerror or error})"
    faults = writers.close()
    missing.update({path.name: f" ({error.strerror or error})" for path, error in faults.items()})
    outcome.files += [path for path in writers.paths if path not in faults]
    outcome.identities = report.identities
    outcome.cut_short = job.source.cut_short
    if not job.offline:
        _write_report(job, outcome, report, missing)
    if missing:
        outcome.faults.append(f"not written: {', '.join(name + reason for name, reason in missing.items())}")
    if outcome.files:
        for name in RESULTS:
            if job.folder / name not in outcome.files:
                with suppress(OSError):
                    (job.folder / name).unlink(missing_ok=True)


def _write_report(job: Job, outcome: Outcome, report: ReportBuilder, missing: dict[str, str]) -> None:
    facts = {**job.facts, "stopped early": "yes"} if outcome.interrupted else job.facts
    broken = [*outcome.broken_listed]
    if outcome.broken > len(broken):
        broken.append(f"and {outcome.broken - len(broken)} more")
    path = job.folder / "report.html"
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


def _lost(tracker: MasaTracker, now: float) -> sv.Detections:
    """Where the tracks that were lost less than 2 s ago are expected."""
    import supervision as sv

    view = tracker.tracks
    rows = view.lost & (view.ids >= 0) & (now - view.last_seen < _LOST_SECONDS)
    return sv.Detections(view.boxes[rows], class_id=view.labels[rows], tracker_id=view.ids[rows])


def _live(tracked: sv.Detections) -> int:
    """How many of a frame's detections have an identity."""
    return 0 if tracked.tracker_id is None else int(np.count_nonzero(tracked.tracker_id >= 0))


def _progress_bar(job: Job) -> tqdm:
    """A bar over the frames that will be tracked; without an end for a stream."""
    length = job.source.length
    total = None if length is None else -(-length // job.stride)
    if job.max_frames is not None:
        total = job.max_frames if total is None else min(total, job.max_frames)
    return tqdm(total=total, unit="frame", dynamic_ncols=True, desc=job.source.name)
