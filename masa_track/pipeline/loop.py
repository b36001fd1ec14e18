"""One video through a detector and a tracker into a folder of results: the loop behind `masa-track track`."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from tqdm import tqdm

from masa_track.contracts import FrameResult
from masa_track.errors import InputError
from masa_track.files import fault_of
from masa_track.pipeline.job import Job, Outcome
from masa_track.pipeline.queues import MOST_ITEMS, Ahead, Behind
from masa_track.pipeline.rotation import PartSinks
from masa_track.pipeline.sinks import Sinks, Snapshot
from masa_track.pipeline.stages import Broken, MaskStage, decoded, detected, identified, item_bytes
from masa_track.runs.resume import Resumed, with_names
from masa_track.runs.store import STORE_NAME, open_store
from masa_track.stop import Stop
from masa_track.video.sound import add_sound
from masa_track.video.source import PastTheEnd
from masa_track.video.streams import VideoSource

if TYPE_CHECKING:
    import supervision as sv

SNAPSHOT_SECONDS = 10.0  # between states of the tracker in the record
_USUAL_STATE, _MOST_STATE = 40 * 2**20, 512 * 2**20  # bytes up to which a state is kept so often, and at all
_FAULTY_SETUP = 10  # frames: if none of so many can be used, that is the fault of the setup, not of the frames
_LIVE_BUFFER = 1000  # frames of a live source that wait at most; mostly their age and bytes decide
_LIVE_ITEMS = 1  # of a live source that wait between two stages: what waits gets old
_LOST_SECONDS = 2.0  # for which lost tracks are shown
_FPS_FRAMES = 10  # of which the frames a second in the drawing are a mean


def track_video(job: Job) -> Outcome:
    """Tracks the whole source. Ctrl-C (SIGTERM, SIGHUP) ends it after the frame in work, with whole files.

    The detector is reset before: it keeps nothing of another video.

    A frame that cannot be read, or at which the detector, the tracker or the segmenter raises InputError, is reported
    and skipped. A result that cannot be written any more, as on a full disk, ends the run. Whatever else goes wrong,
    the frames done so far are in whole files before the error goes on. The results of an earlier run are replaced
    together: none of them stays beside new ones. The record of a run that was killed (:mod:`masa_track.runs.store`)
    lacks half a second of frames at most; ``job.resumed`` goes on with it.

    With ``job.offline`` the online tracks are in online.json when the last frame has been tracked. Then the other
    results are made of the finished tracks. Ctrl-C ends the tracking, or the second reading of the source: then the
    tracks are all there, and the report and the video end where it was asked.

    Returns:
        What came of it. The files are in ``job.folder``: tracks.txt, .json, .csv, report.html, video.mp4 and the
        record, run.sqlite.

    Raises:
        OSError: a result cannot be opened; no part of any is left.
        InputError: none of the first 10 frames could be used, so the setup is at fault; the first frame's error.
    """
    outcome = _track(job)
    if job.offline and outcome.files:
        from masa_track.pipeline.finishing import write_finished

        write_finished(replace(job, offline=False), outcome)
    if job.audio and job.folder / "video.mp4" in outcome.files:
        _add_sound(job, outcome)
    return outcome


def _add_sound(job: Job, outcome: Outcome) -> None:
    """Adds the source's sound to video.mp4; without it the video is as it was, and a fault is noted."""
    source = cast(VideoSource, job.source)
    try:
        with open_store(job.folder / STORE_NAME) as store:
            begin = store.first_time() or 0.0
        if not add_sound(job.folder / "video.mp4", source.paths[0], begin, source.stream_index):
            tqdm.write(f"{source.name} has no sound: video.mp4 has none", file=sys.stderr)
    except OSError as error:
        outcome.faults.append(f"video.mp4 is without sound: {fault_of(error)}")
        tqdm.write(f"masa-track: error: {outcome.faults[-1]}", file=sys.stderr)


def _track(job: Job) -> Outcome:
    """The first reading of the source, in which all is tracked."""
    outcome = job.outcome = Outcome()
    if hasattr(job.detector, "reset"):
        job.detector.reset()
    with ExitStack() as opened:
        if job.resumed is not None:
            _restore(job, job.resumed)
        sinks = Sinks(job, outcome) if job.rotate is None else PartSinks(job, outcome)
        opened.callback(sinks.abandon)  # nothing is left to abandon after close
        start, most, later = job.start, job.max_frames, 0.0
        if job.resumed is not None:
            most = None if most is None else most - outcome.frames
            if job.source.live:
                start, later = _go_on_live(job, job.resumed, sinks)
            elif job.resumed.last:
                start = job.resumed.last + job.stride
                _warm_up(job, job.resumed.last)
        stop = opened.enter_context(Stop())
        job.source.notice, job.source.stop_asked = sinks.say, lambda: stop.asked
        begun = time.perf_counter() - outcome.seconds
        try:
            if (most is None or most > 0) and (job.stop is None or start <= job.stop):
                with _progress_bar(job, outcome) as bar:
                    _run(job, outcome, sinks, stop, bar, decoded(job, start, most, later), begun)
        except PastTheEnd:
            if job.resumed is None:  # else all frames of the source had been tracked
                raise
        except BaseException:
            outcome.interrupted = True
            raise
        finally:
            stop.finishing = True
            outcome.seconds = time.perf_counter() - begun
            if outcome.frames:
                sinks.close()
            if outcome.faults:
                tqdm.write(f"masa-track: error: {'; '.join(outcome.faults)}", file=sys.stderr)
    return outcome


def _run(
    job: Job, outcome: Outcome, sinks: Sinks | PartSinks, stop: Stop, bar: tqdm, frames: Any, begun: float
) -> None:
    """Tracks decoded frames. The sinks have taken every frame that was tracked when it returns or raises.

    Args:
        job: what is tracked.
        outcome: of it.
        sinks: take the results.
        stop: says when to end.
        bar: shows the progress.
        frames: decoded.
        begun: when the run began, by ``time.perf_counter``, the time of earlier sessions added.
    """
    live = job.source.live
    stages = [*([] if job.segmenter is None else [MaskStage(job.segmenter)]), *job.stages]
    with ExitStack() as opened:
        waiting = None
        if job.overlap:
            latency, most = (job.live_latency, _LIVE_BUFFER) if live else (None, MOST_ITEMS)
            frames = ahead = Ahead(frames, "decode", item_bytes, latency, most)
            waiting = ahead.waiting if live else None
        seen: Any = detected(frames, job, waiting)
        if job.overlap:
            seen = Ahead(seen, "detect", item_bytes, most_items=_LIVE_ITEMS if live else 2 * job.batch)
        writer = None
        if job.overlap and job.window is None:  # a window wants the main thread
            writer = Behind(sinks.take, sinks.idle, item_bytes, most_items=_LIVE_ITEMS if live else MOST_ITEMS)
        hand_over = sinks.take if writer is None else writer.put
        opened.callback(_close_all, frames, seen)
        state_at, part_from = time.monotonic(), None  # of the last state; seconds of the part's first frame
        every = pause = SNAPSHOT_SECONDS if job.snapshot_seconds is None else job.snapshot_seconds
        number = faults = 0
        dropped = outcome.dropped  # in earlier sessions
        first_fault: InputError | None = None
        durations: deque[float] = deque(maxlen=_FPS_FRAMES)
        ending = stopped_at_state = False  # no further frame is taken; and a state was kept of where it stopped
        settled = True  # the tracker's state goes with the last frame

        def ended() -> bool:
            return ending

        try:
            for item in identified(seen, job.tracker, stages, ended):
                if sinks.stopped:
                    break
                if isinstance(item, Broken):
                    hand_over(item)
                    if stop.asked:
                        outcome.interrupted = ending = True
                        continue
                    faults += item.fault is not None
                    first_fault = first_fault or item.fault
                    if first_fault is not None and faults == _FAULTY_SETUP and not number and job.resumed is None:
                        raise first_fault
                    continue
                number = item.result.frame.number
                durations.append(item.seconds)
                item.result.extras = _extras(job, item.result, durations)
                tracks = _live(item.result)
                if live and job.overlap:
                    work = max(outcome.work, time.monotonic() - item.taken)
                    ahead.reserve = max(work, 0.8 * ahead.reserve + 0.2 * work)
                    outcome.dropped = dropped + ahead.dropped
                hand_over(item)
                part_from = item.result.frame.time if part_from is None else part_from
                ends_part = job.rotate is not None and item.result.frame.time - part_from >= job.rotate
                asked = stop.asked or (job.window is not None and job.window.closed)  # before another frame is tracked
                due = ends_part or asked or time.monotonic() - state_at >= pause
                if due and item.settled and not ending:
                    outcome.seconds = time.perf_counter() - begun
                    pause = every * _snapshot(job, number, sinks, hand_over, ends_part)
                    state_at, stopped_at_state = time.monotonic(), asked
                    part_from = None if ends_part else part_from
                bar.set_postfix(tracks=tracks, refresh=False)
                bar.update()
                settled = item.settled
                del item
                if asked:
                    outcome.interrupted = ending = True
            if number and settled and not stopped_at_state and not sinks.stopped:
                outcome.seconds = time.perf_counter() - begun
                _snapshot(job, number, sinks, hand_over)
        finally:
            stop.finishing = True
            if writer is not None:
                writer.close()


def _snapshot(
    job: Job, number: int, sinks: Sinks | PartSinks, hand_over: Callable[[Any], None], ends_part: bool = False
) -> float:
    """Keeps the tracker's state after a frame, where it has one and no stage holds results back.

    Returns:
        How many times as long as usual the next state should wait: large states are kept more seldom.
    """
    tracker = job.tracker
    if not hasattr(tracker, "state_dict") or any(stage.look_ahead for stage in job.stages):
        return 1.0
    state = tracker.state_dict()
    size = sum(np.asarray(value).nbytes for value in state.values())
    if size > _MOST_STATE:
        sinks.say(
            f"the state after frame {number} is not kept: it has {size / 2**20:,.0f} MiB; --resume begins earlier"
        )
    else:
        hand_over(Snapshot(number, with_names("tracker", state), ends_part))
    return max(1.0, size / _USUAL_STATE)


def _restore(job: Job, resumed: Resumed) -> None:
    """Gives the tracker and the counter the states that they had, before any file is touched.

    Raises:
        InputError: a state is not of this tracker, or of other lines and zones; or the tracker cannot go on with a live
            source.
    """
    counter, counted = job.counter, resumed.json("counter")
    if resumed.state and (counter is None) != (counted is None):
        had, has = ("had", "has none") if counter is None else ("had none", "has some")
        raise InputError(
            f"--resume needs the lines and zones of the run that it continues: it {had}, this one {has}: give the "
            "same --line and --zone again, or name another folder"
        )
    if job.source.live and not hasattr(job.tracker, "reserve"):
        raise InputError(
            "--resume of a live source needs --identities masa: "
            f"{type(job.tracker).__name__} needs frames that are gone"
        )
    if resumed.state:
        if not hasattr(job.tracker, "load_state_dict"):
            raise InputError(f"--resume needs a tracker whose state can be kept: {type(job.tracker).__name__} has none")
        job.tracker.load_state_dict(resumed.part("tracker"))
    if counter is not None and counted is not None:
        counter.load_state_dict(counted)


def _go_on_live(job: Job, resumed: Resumed, sinks: Sinks | PartSinks) -> tuple[int, float]:
    """Prepares to go on with a run of a live source, whose frames since the last state are gone.

    Returns:
        The number of the first frame to track, and the seconds by which its frames are later than the source says, as
        its clock begins anew.
    """
    store, tracker = sinks.store, cast(Any, job.tracker)
    highest = store.last_identity()
    tracker.reserve(highest)  # of tracks that are younger than the state
    for result in store.results(resumed.state_at + 1):
        if result.detections.tracker_id is not None:
            highest = max([highest, *result.detections.tracker_id.tolist()])
        if job.counter is not None:
            job.counter.update(result)
    tracker.reserve(highest)  # of parts, whose births are no events
    if getattr(job.detector, "warm_up", 0):
        sinks.say("the detector learns the scene anew: the frames before are gone")
    start = resumed.last + job.stride if resumed.last else job.start
    return start, max(time.time() - resumed.info.started, store.last_time() + 1 / job.source.fps)


def _warm_up(job: Job, last: int) -> None:
    """Shows a detector with state the frames up to ``last`` that it still remembers."""
    detector = cast(Any, job.detector)
    warm_up = getattr(detector, "warm_up", 0)
    if not warm_up:
        return
    first = max(job.start, last - (warm_up - 1) * job.stride)
    first += (last - first) % job.stride
    with tqdm(total=1 + (last - first) // job.stride, unit="frame", desc="warming up the detector") as bar:
        for frame in job.source.frames(job.stride, None, None, start=first, stop=last):
            detector.detect([frame.picture])
            bar.update()


def _extras(job: Job, result: FrameResult, durations: deque[float]) -> dict[str, Any]:
    """What the drawing shows beside the tracks."""
    extras = dict(result.extras)
    if job.show_lost:
        extras["lost"] = _lost(job.tracker, result.frame.time)
    if job.show_fps:
        extras["corner"] = f"{len(durations) / sum(durations):.1f} fps"
    return extras


def _lost(tracker: Any, now: float) -> sv.Detections:
    """Where the tracks that were lost less than 2 s ago are expected."""
    import supervision as sv

    view = tracker.tracks
    rows = view.lost & (view.ids >= 0) & (now - view.last_seen < _LOST_SECONDS)
    return sv.Detections(view.boxes[rows], class_id=view.labels[rows], tracker_id=view.ids[rows])


def _live(result: FrameResult) -> int:
    """How many of a frame's detections have an identity."""
    ids = result.detections.tracker_id
    return 0 if ids is None else int(np.count_nonzero(ids >= 0))


def _close_all(*stages: Any) -> None:
    for stage in stages:
        stage.close()


def _progress_bar(job: Job, outcome: Outcome) -> tqdm:
    """A bar over the frames that will be tracked; without an end for a stream."""
    length = job.source.length
    total = None
    if length is not None:
        last = length if job.stop is None else min(length, job.stop)
        total = max(0, -(-(last - job.start + 1) // job.stride))
    if job.max_frames is not None:
        total = job.max_frames if total is None else min(total, job.max_frames)
    return tqdm(total=total, initial=outcome.frames, unit="frame", dynamic_ncols=True, desc=job.source.name)
