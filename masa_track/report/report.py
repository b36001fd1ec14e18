"""The one-page report of a run: collected frame by frame, written once, shown without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv

from masa_track.files import write_text
from masa_track.formats.rows import ClassNames, confidences, part_fields, row_names, tracked_rows
from masa_track.report.page import Run, render_page
from masa_track.report.records import LiveCurve, SeekTimes, TrackRecords, consider_crop

RESULT_FILES = ("video.mp4", "tracks.txt", "tracks.json", "tracks.csv")


class ReportBuilder:
    """Collects what ``report.html`` shows. Its memory is bounded: see :mod:`masa_track.report.records`.

    Args:
        title: what was tracked, e.g. the source's file name.
        source: where it came from, e.g. the whole path; may be empty.
        width: of the frames, in pixels, where known.
        height: of the frames, in pixels, where known.
        fps: frames per second of the source, where known.
        class_names: the names by class id.

    Attributes:
        on_thumbnail: called with identity, score and JPEG of each new thumbnail; None: nobody is.
    """

    def __init__(
        self,
        title: str,
        source: str = "",
        width: int | None = None,
        height: int | None = None,
        fps: float | None = None,
        class_names: ClassNames = None,
    ) -> None:
        self._run = Run(title=title, source=source, width=width, height=height, fps=fps)
        self._class_names = class_names
        self._tracks = TrackRecords()
        self.on_thumbnail: Callable[[int, float, bytes], None] | None = None
        self._curve = LiveCurve()
        self._seek_times = SeekTimes()

    @property
    def identities(self) -> int:
        """How many different identities there were."""
        return self._tracks.identities

    def add(
        self,
        frame_number: int,
        timestamp: float | None,
        image: np.ndarray | None,
        detections: sv.Detections,
        presence: Mapping[str, float] | None = None,
    ) -> None:
        """Takes one processed frame; neither the image nor the detections are kept or altered.

        Args:
            frame_number: of the frame in the source, from 1, rising; it may skip.
            timestamp: its time in seconds, or None where the source has no clock.
            image: the frame, (H, W, 3) uint8 BGR, without drawings; None gives no thumbnails.
            detections: all its rows, in pixels of the image; those without an identity are only counted.
            presence: probability that a phrase is in the frame at all, by phrase; a curve shows it.
        """
        index = self._run.frames
        rows = tracked_rows(detections)
        names = row_names(rows, self._class_names)
        parents = [int(one.get("parent_id", -1)) for one in part_fields(rows)]
        ids = [] if rows.tracker_id is None else rows.tracker_id.tolist()
        scores, masks = confidences(rows).tolist(), rows.mask
        columns = zip(ids, names, rows.xyxy.tolist(), scores, parents, strict=True)
        for row, (track_id, name, box, score, parent) in enumerate(columns):
            record = self._tracks.get(track_id, name, frame_number, timestamp)
            record.parent = parent
            record.extend(index, frame_number, timestamp, name, score)
            mask = None if masks is None else partial(_mask_of, masks, row)
            new = image is not None and consider_crop(record, image, tuple(box), score, mask)
            if new and self.on_thumbnail is not None:
                self.on_thumbnail(track_id, record.thumbnail_score, record.thumbnail or b"")
        self._tracks.prune(index)
        self._curve.add(frame_number, timestamp, len(ids), presence)
        if timestamp is not None and np.isfinite(timestamp):
            self._seek_times.add(frame_number, timestamp)
        self._run.frames += 1
        self._run.detections += len(detections)
        self._run.boxes += len(ids)

    def restore_thumbnails(self, thumbnails: Iterable[tuple[int, float, bytes]]) -> None:
        """Gives the tracks pictures of an earlier part of the run: identity, score and JPEG of each."""
        for track_id, score, jpeg in thumbnails:
            if (record := self._tracks.records.get(track_id)) is not None:
                record.thumbnail, record.thumbnail_score = jpeg, score

    def write(
        self,
        path: str | Path,
        facts: Mapping[str, object],
        *,
        processing_fps: float | None = None,
        broken_frames: Sequence[object] = (),
        cut_short: str = "",
        files: Sequence[str] | None = None,
    ) -> None:
        """Writes the page, whole or not at all; the builder can go on and write again.

        Args:
            path: the file, e.g. ``report.html``.
            facts: the run's settings by name, in the order to show: model, preset, detector...
            processing_fps: frames per second of the run itself.
            broken_frames: numbers or descriptions of the frames that could not be read.
            cut_short: what is missing at the end of the source, in words; empty if nothing is.
            files: names of the results beside it to link to; ``video.mp4`` is embedded. By default those that exist.

        Raises:
            OSError: the file cannot be written; an earlier one is as it was.
        """
        path = Path(path)
        if files is None:
            files = [name for name in RESULT_FILES if (path.parent / name).is_file()]
        run = self._run
        run.facts = {str(name): str(value) for name, value in facts.items()}
        run.processing_fps = processing_fps
        run.broken_frames = [str(frame) for frame in broken_frames]
        run.cut_short = cut_short
        run.files = list(files)
        run.seek_times = self._seek_times.points()
        run.identities = self.identities
        run.median_length, run.mean_length = self._tracks.lengths()
        write_text(path, render_page(run, self._tracks.longest(), self._curve.bins, self._curve.phrases))


def _mask_of(masks: Any, row: int) -> np.ndarray:
    """The (H, W) bool mask of a row, of a CompactMask or (N, H, W)."""
    return np.asarray(masks[row], bool)
