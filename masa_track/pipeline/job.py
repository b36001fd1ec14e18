"""What a run is given, :class:`Job`, and what comes of it, :class:`Outcome`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from masa_track.drawing.tracks import TrackDrawer
from masa_track.files import fault_of

if TYPE_CHECKING:
    import supervision as sv

    from masa_track.contracts import Detector, Frame, IdentitySource, ResultStage
    from masa_track.detectors.selection import Selection
    from masa_track.drawing.blur import Blur
    from masa_track.formats.jsonl import JsonLinesWriter
    from masa_track.masklets.tracking import MaskletTracker
    from masa_track.pipeline.counting import Counter
    from masa_track.pipeline.http_view import HttpView
    from masa_track.pipeline.window import Window
    from masa_track.runs.resume import Resumed
    from masa_track.runs.store import RunInfo
    from masa_track.segmenters.base import Segmenter
    from masa_track.tracker import MasaTracker
    from masa_track.video.frame_folder import FrameFolder
    from masa_track.video.sources import Source


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
        audio: whether that gets the sound of the source, a file.
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
        start: number of the first frame.
        stop: number of the last frame; None: the source's last.
        batch: frames that the detector gets at once.
        detect_every: the detector runs in each frame of this number; the tracker must do without in the others.
        overlap: decode, detect, associate and write in threads of their own; the results are the same.
        live_latency: seconds by which the results of a live source may lag behind it; then frames are dropped.
        counter: counts what crosses lines and what is in zones; None for none.
        view: shows the drawn frames to browsers; None for none. It is closed by who opened it.
        window: shows the drawn frames; None for none. The run stops when it is closed.
        blur: makes faces or objects unrecognisable in all that is stored and shown; None: nothing is.
        rotate: seconds after which a new part of the run begins, in a folder of its own; None: one part.
        keep: seconds for which parts are kept; None: for ever.
        stages: add to the results what comes after identities.
        snapshot_seconds: between states of the tracker in the record; None: 10.
        info: what the run's record says of it; None: of the source alone.
        resumed: the run to go on with; None: a new one.
        outcome: what has come of it so far; None before it begins.
    """

    source: Source
    detector: Detector | Callable[[Frame], sv.Detections]
    class_names: Mapping[int, str]
    tracker: MasaTracker | MaskletTracker | IdentitySource
    folder: Path
    with_video: bool = True
    audio: bool = False
    stride: int = 1
    max_frames: int | None = None
    facts: dict[str, object] = field(default_factory=dict)
    segmenter: Segmenter | None = None
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
    start: int = 1
    stop: int | None = None
    batch: int = 1
    detect_every: int = 1
    overlap: bool = True
    live_latency: float = 1.0
    counter: Counter | None = None
    view: HttpView | None = None
    window: Window | None = None
    blur: Blur | None = None
    rotate: float | None = None
    keep: float | None = None
    stages: Sequence[ResultStage] = ()
    snapshot_seconds: float | None = None
    info: RunInfo | None = None
    resumed: Resumed | None = None
    outcome: Outcome | None = field(default=None, init=False)

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
        dropped: frames of a live source that were left out, as the run was slower.
        interrupted: whether it ended before the source did: by a signal, or because a result could not be written.
        files: the results that are in their places.
        faults: what is wrong with the results: a full disk, a reader of ``lines`` that has left.
        boxes: given by the detector or the file, those that were left out aside.
        left_out: boxes that ``Job.select`` removed.
        weak_boxes: of these, those that score too little to start a track.
        best_score: of all boxes; 0 without any.
        cut_short: what is missing at the end of the source, in words; empty where nothing is known to be missing.
        tracks: in the last frame.
        recent_fps: frames a second of the last 50 frames.
        lag: seconds from a live source's frame to its result, of the last frame, and
        longest_lag: of all.
        work: seconds from when the detector took the last frame of a live source to its result.
    """

    frames: int = 0
    identities: int = 0
    seconds: float = 0.0
    broken: int = 0
    broken_listed: list[str] = field(default_factory=list)
    dropped: int = 0
    interrupted: bool = False
    files: list[Path] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    boxes: int = 0
    left_out: int = 0
    weak_boxes: int = 0
    best_score: float = 0.0
    cut_short: str = ""
    tracks: int = 0
    recent_fps: float = 0.0
    lag: float = 0.0
    longest_lag: float = 0.0
    work: float = 0.0

    def count_boxes(self, detections: sv.Detections, track_activation_threshold: float) -> None:
        """Takes note of a frame's boxes."""
        self.boxes += len(detections)
        if len(detections) and detections.confidence is not None:
            scores = np.asarray(detections.confidence)
            self.weak_boxes += int(np.count_nonzero(scores <= track_activation_threshold))
            self.best_score = max(self.best_score, float(scores.max()))

    def cannot_write(self, number: int, error: OSError) -> None:
        """Notes that the run ends at a frame, as a result cannot be written."""
        self.interrupted = True
        self.faults.append(f"stopped at frame {number}, {error.filename} cannot be written: {fault_of(error)}")

    @property
    def fps(self) -> float:
        """Frames a second, the reading and writing included."""
        return self.frames / self.seconds if self.seconds else 0.0

    def counts(self) -> dict[str, float]:
        """The numbers that a resumed run goes on with."""
        return {name: getattr(self, name) for name in _COUNTS}

    def restore(self, counts: Mapping[str, float]) -> None:
        """Goes on with numbers of :meth:`counts`."""
        for name in _COUNTS:
            setattr(self, name, type(getattr(self, name))(counts[name]))


_COUNTS = ("frames", "seconds", "broken", "dropped", "boxes", "left_out", "weak_boxes", "best_score")
