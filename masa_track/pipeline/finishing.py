"""The second reading of a source: the results of `masa-track track --offline`, made of the finished tracks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import supervision as sv
from tqdm import tqdm

from masa_track.contracts import FrameResult, TrackEvent
from masa_track.errors import InputError
from masa_track.formats.panoptic import PanopticMap
from masa_track.formats.run import Run, read_run
from masa_track.masks import decode_mask
from masa_track.pipeline.job import Job, Outcome
from masa_track.pipeline.scenes import PanopticSink, panoptic_of
from masa_track.pipeline.sinks import DrawnTarget, FileSink, TrackFilesSink, VideoSink, close_files, info_of, with_stuff
from masa_track.report.report import ReportBuilder
from masa_track.runs.demo_steps import demo_run
from masa_track.runs.postprocess import finish_run
from masa_track.runs.store import open_store
from masa_track.stop import Stop


def write_finished(job: Job, outcome: Outcome) -> None:
    """Finishes the tracks of online.json and writes all results of them. Pictures are read one by one.

    The track files and the maps of things and stuff need no pictures: they are whole whenever the reading ends.

    Args:
        job: what was tracked; its folder has online.json and the record.
        outcome: of the tracking; files, faults, time and an interruption of this reading are added.
    """
    started, known = time.perf_counter(), len(outcome.faults)
    info = job.info or info_of(job)
    with ExitStack() as opened:
        stop = opened.enter_context(Stop())
        run = finished_run(job.folder, job.post)
        report = ReportBuilder(info.name, "", *info.size, info.fps, info.class_names)
        tracks = TrackFilesSink(job.folder, info, finished=True)
        opened.callback(tracks.abandon)
        files: list[FileSink] = [tracks]
        targets: list[DrawnTarget] = [] if job.frame_folder is None else [job.frame_folder]
        if job.with_video:
            video = VideoSink(job.folder, info, pixel_aspect=job.source.pixel_aspect)
            opened.callback(video.abandon)
            files.append(video)
            targets.insert(0, video)
        try:
            write_tracks(run, tracks)
            if info.stuff:
                store = opened.enter_context(open_store(job.folder))
                finished = FinishedIdentities(run, () if job.post else store.events())
                panoptic = PanopticSink(job.folder, info)
                opened.callback(panoptic.abandon)
                files.append(panoptic)
                for result in store.results(maps=True):
                    panoptic.write(finished.give(result))

                def map_at(number: int) -> PanopticMap | None:
                    here = store.results(number, number, maps=True)
                    return next((panoptic_of(finished.give(result)) for result in here), None)

            _draw(job, run, stop, outcome, report, targets, map_at if info.stuff else None)
        except OSError as error:
            outcome.cannot_write(int(run.frames[-1]), error)
        except InputError as error:
            outcome.faults.append(f"the source cannot be read again: {error}")
        finally:
            stop.finishing = True
            outcome.seconds += time.perf_counter() - started
            outcome.identities = len(np.unique(run.ids))
            close_files(job.folder, outcome, files, report, job.facts)
            if outcome.faults[known:]:
                tqdm.write(f"masa-track: error: {'; '.join(outcome.faults[known:])}", file=sys.stderr)


def finished_run(folder: Path, post: tuple[str, ...] = ()) -> Run:
    """The tracks of a folder's online.json, finished, or after the steps ``post`` of the authors' demo."""
    if post:
        return demo_run(read_run(folder / "online.json"), post)
    return finish_run(read_run(folder / "online.json", births=True))


def write_tracks(run: Run, tracks: TrackFilesSink) -> None:
    """Writes the track files of finished tracks.

    Raises:
        OSError: one cannot be written.
    """
    for place, (number, name) in enumerate(zip(run.frames.tolist(), run.file_names, strict=True)):
        presence = run.presence[place] if run.presence else None
        tracks.writers.write(number, name, run.detections(place), float(run.times[place]), presence)


class FinishedIdentities:
    """Gives frames of the record the identities of finished tracks, for the maps of things and stuff.

    A box that fills a gap is not in the record; it has no mask, and so no segment.

    Args:
        run: the finished tracks.
        events: of the run, where its tracks begin before they were confirmed; else none.
    """

    def __init__(self, run: Run, events: Iterable[TrackEvent]) -> None:
        self._numbers, self._ids = run.frames[run.rows], run.ids
        self._births = {place: event.identity for event in events for place in event.earlier}

    def give(self, result: FrameResult) -> FrameResult:
        """Changes the identities of a frame's rows; -1 for those of tracks that were removed."""
        found, number = result.detections, result.frame.number
        ids = np.full(len(found), -1) if found.tracker_id is None else found.tracker_id
        born = [self._births.get((number, row), identity) for row, identity in enumerate(ids.tolist())]
        rows = slice(*np.searchsorted(self._numbers, [number, number + 1]))
        found.tracker_id = np.where(np.isin(born, self._ids[rows]), born, -1).astype(np.int64)
        return result


def _draw(
    job: Job,
    run: Run,
    stop: Stop,
    outcome: Outcome,
    report: ReportBuilder,
    targets: list[DrawnTarget],
    map_at: Callable[[int], PanopticMap | None] | None = None,
) -> None:
    """Reads the tracked frames again, for the video and for the report's pictures.

    Raises:
        OSError: the video cannot be written.
        InputError: the source has gone.
    """
    source = job.source
    drawer = job.drawer()
    place_of = {number: place for place, number in enumerate(run.frames.tolist())}
    last = int(run.frames[-1])
    with tqdm(total=len(place_of), unit="frame", dynamic_ncols=True, desc=f"{source.name}, finished tracks") as bar:
        for frame in source.frames(job.stride, start=job.start, stop=job.stop):
            if frame.number in place_of:
                place = place_of[frame.number]
                tracked = run.detections(place)
                if job.blur is not None:
                    frame = replace(frame, image=job.blur(frame.picture, tracked))
                if targets:
                    panoptic = None if map_at is None else map_at(frame.number)
                    picture = with_stuff(drawer, frame.picture, panoptic, job.class_names)
                    drawing = drawer.draw(picture, _with_masks(tracked, frame.picture))
                    for target in targets:
                        target.write(frame, drawing)
                presence = run.presence[place] if run.presence else None
                report.add(frame.number, frame.time, frame.picture, tracked, presence)
                bar.update()
            if frame.number >= last:
                return
            if stop.asked:
                outcome.interrupted = True
                return


def _with_masks(tracked: sv.Detections, picture: np.ndarray) -> sv.Detections:
    """The rows with their masks as pictures, for the drawer."""
    masks = tracked.data.get("segmentation")
    if masks is None:
        return tracked
    tracked.mask = np.zeros((len(tracked), *picture.shape[:2]), bool)
    for row, mask in enumerate(masks):
        if mask is not None:
            tracked.mask[row] = decode_mask({**mask, "counts": mask["counts"].encode("ascii")})
    return tracked
