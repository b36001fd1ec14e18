"""Makes the files of a run from its record, after a run that was killed."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from masa_track.errors import InputError
from masa_track.formats.panoptic import JSON_NAME
from masa_track.pipeline.finishing import FinishedIdentities, finished_run, write_tracks
from masa_track.pipeline.job import Outcome
from masa_track.pipeline.scenes import PanopticSink
from masa_track.pipeline.sinks import (
    MOST_BROKEN_LISTED,
    CountsSink,
    FileSink,
    JoinedVideo,
    TrackFilesSink,
    close_files,
    read_record,
)
from masa_track.report.report import ReportBuilder
from masa_track.runs.store import open_store


def recover(folder: Path) -> Outcome:
    """Makes track files, maps of things and stuff, and the report of a folder's record, and the video of its parts.

    An earlier run's files in the folder are replaced. The record is marked as stopped: a run may replace it, or go on
    with it.

    Args:
        folder: of the run; no other process may use it.

    Returns:
        What there is.

    Raises:
        InputError: there is no record, it is damaged, or it has no frame.
        OSError: a file cannot be opened.
    """
    outcome = Outcome()
    with ExitStack() as opened:
        store = opened.enter_context(open_store(folder, write=True))
        info = store.info
        outcome.frames = store.count()
        if not outcome.frames:
            raise InputError(f"{store.path} has no frame: there is nothing to make files of")
        outcome.interrupted = info.finished != "whole"
        broken = [f"{number}: {reason}" for number, reason in store.broken_frames()]
        outcome.broken, outcome.broken_listed = len(broken), broken[:MOST_BROKEN_LISTED]
        report = ReportBuilder(info.name, "", *info.size, info.fps, info.class_names)
        files: list[FileSink] = [JoinedVideo(folder)]
        try:
            tracks = TrackFilesSink(folder, info, online=info.offline)
            opened.callback(tracks.abandon)
            files.append(tracks)
            panoptic = None
            if not info.stuff and info.finished and (folder / JSON_NAME).is_file():
                outcome.files.append(folder / JSON_NAME)  # of an earlier version, whose record has no maps
            if info.stuff:
                panoptic = PanopticSink(folder, info)
                opened.callback(panoptic.abandon)
            if panoptic is not None and not info.offline:
                files.append(panoptic)
            read_record(store, tracks, report, None if info.offline else panoptic)
            if counts := list(store.counts()):
                counted = CountsSink(folder, info)
                opened.callback(counted.abandon)
                files.append(counted)
                counted.writer.write(counts)
            outcome.identities = report.identities
            if info.offline:
                close_files(folder, outcome, files, None)
                run = finished_run(folder, info.post)
                files = [TrackFilesSink(folder, info, finished=True)]
                opened.callback(files[0].abandon)
                write_tracks(run, files[0])  # type: ignore[arg-type]
                if panoptic is not None:
                    files.append(panoptic)
                    finished = FinishedIdentities(run, () if info.post else store.events())
                    for result in store.results(maps=True):
                        panoptic.write(finished.give(result))
                report = ReportBuilder(info.name, "", *info.size, info.fps, info.class_names)
                for place, number in enumerate(run.frames.tolist()):
                    report.add(number, float(run.times[place]), None, run.detections(place))
                report.restore_thumbnails(store.thumbnails())
                outcome.identities = len(np.unique(run.ids))
        except OSError as error:
            outcome.cannot_write(store.last_number(), error)
        if not info.finished:
            store.finish("stopped")
        close_files(folder, outcome, files, report, info.facts)
        outcome.files.append(store.path)
    return outcome
