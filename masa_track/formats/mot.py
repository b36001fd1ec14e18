"""MOTChallenge text: detections in, tracks out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import numpy as np
import supervision as sv

from masa_track.errors import InputError
from masa_track.files import PartFile
from masa_track.formats.detection_file import Rows
from masa_track.formats.rows import (
    confidences,
    marks,
    part_rows,
    track_ids,
    tracked_rows,
)
from masa_track.formats.tables import BadRows, fields_of, lines_of, separator_of
from masa_track.formats.writer import Appender, close_writer, create_part

MOT_LINE = "frame,id,left,top,width,height,confidence"


VISDRONE = (
    *("ignored regions", "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle"),
    *("bus", "motor", "others"),
)


def read_mot_detections(path: Path, text: str, bad: BadRows) -> Rows:
    """The rows of a MOTChallenge text, whose columns are separated by commas, semicolons, tabs or blanks.

    Args:
        path: of the file, for messages.
        text: what it holds.
        bad: takes lines of another form.

    Raises:
        InputError: for lines of another form.
    """
    lines = lines_of(text)
    numbers = np.array([number for number, line in enumerate(lines, 1) if line.strip()])
    separator = separator_of(lines[numbers[0] - 1])
    try:
        # All at once is five times as fast as a line at a time, but its errors name no line.
        table = np.loadtxt(lines, delimiter=separator, comments=None, ndmin=2)
    except ValueError:
        table, numbers = _parse_lines(lines, separator, bad)
    if table.shape[1] < 6:
        raise InputError(f"{path}, line {numbers[0]}: {table.shape[1]} columns, MOTChallenge lines are {MOT_LINE}")
    return mot_table(path, table, lambda i: f"line {numbers[i]}")


def mot_table(path: Path, table: np.ndarray, place: Callable[[int], str]) -> Rows:
    """The rows of a table (N, 6 or more) float64 of MOTChallenge's columns.

    Ten columns with a class of 0 to 11, and truncation and occlusion at the end, are VisDrone's: their pixels count
    from 0, and classes have its names. Results have -1 at the end, as others have: they are VisDrone's in files called
    ``uav0000013_00000_v.txt`` and the like.

    Raises:
        InputError: all rows are to be ignored.
    """
    columns = table.shape[1]
    scores = table[:, 6] if columns > 6 else np.ones(len(table))
    visdrone = columns == 10 and _is_visdrone(path, table)
    keep = np.ones(len(table), bool)
    if (table[:, 1] != -1).any():
        keep = scores != 0
        if visdrone:
            keep &= ~np.isin(table[:, 7], (0, 11))
        if not keep.any():
            raise InputError(f"{path} holds no detections: confidence is 0, to be ignored, in all {len(table)} lines")
    places = np.flatnonzero(keep)
    table, scores = table[keep], scores[keep]
    classes = np.zeros(len(table))
    if columns > 7:
        eighth = table[:, 7]
        whole = (eighth >= 0).all() and (eighth == np.floor(eighth)).all()
        if whole and len(eighth) and (eighth.min() >= 1 or eighth.min() < eighth.max()):
            classes = eighth
    names = dict(enumerate(VISDRONE)) if visdrone else {}
    notes = (f"{path}: read as VisDrone's rows: pixels count from 0",) if visdrone else ()
    boxes = table[:, 2:6] - ([0, 0, 0, 0] if visdrone else [1, 1, 0, 0])
    return Rows(table[:, 0], boxes, scores, classes, lambda i: place(int(places[i])), names, notes=notes)


def _is_visdrone(path: Path, table: np.ndarray) -> bool:
    category, truncation, occlusion = table[:, 7], table[:, 8], table[:, 9]
    if not np.isin(category, range(12)).all():
        return False
    if re.match(r"uav[0-9]{7}_", path.name):
        return True
    fits = np.isin(table[:, 6], (0, 1)) & np.isin(truncation, (0, 1)) & np.isin(occlusion, (0, 1, 2))
    return bool(len(table) and fits.all() and category.any())


def _parse_lines(lines: Sequence[str], separator: str | None, bad: BadRows) -> tuple[np.ndarray, np.ndarray]:
    """(N, 6 to 8) float64, as many columns as every line has; and the numbers of the lines."""
    rows, numbers = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields = fields_of(line, separator)
        if len(fields) < 6:
            bad.add(f"line {number}", f"{len(fields)} columns, MOTChallenge lines are {MOT_LINE}; got {_short(line)}")
            continue
        try:
            rows.append([float(field) for field in fields[:10]])
        except ValueError:
            bad.add(f"line {number}", f"not numbers: {_short(line)}; MOTChallenge lines are {MOT_LINE}")
            continue
        numbers.append(number)
    columns = min(map(len, rows), default=6)
    return np.array([row[:columns] for row in rows], np.float64).reshape(-1, columns), np.array(numbers, np.int64)


def _short(line: str) -> str:
    return repr(line.strip()[:60])


class MotWriter:
    """MOTChallenge text: ``frame,id,left,top,width,height,confidence,-1,-1,state``, all of it counted from 1.

    The state is -1 for a box as detected, 1 for one that fills a gap, and 2 for one that was smoothed. Parts of things
    are not written.

    Args:
        path: the file, e.g. ``tracks.txt``.

    Source: Dendorfer et al., MOT20, 2020, https://motchallenge.net/instructions (the format's 1-based pixels).
    """

    def __init__(self, path: str | Path) -> None:
        self.file = PartFile(path)
        self._out = Appender(create_part(self.file))

    def write(self, frame_number: int, file_name: str, detections: sv.Detections, time: float | None = None) -> None:
        """Adds one frame; see :class:`~masa_track.formats.writer.TrackWriter`."""
        rows = tracked_rows(detections)
        rows = cast(sv.Detections, rows[~part_rows(rows)])
        lines = []
        boxes = np.asarray(rows.xyxy, dtype=np.float64)  # (N, 4) 0-based xyxy
        states = np.where(marks(rows, "filled"), 1, np.where(marks(rows, "smoothed"), 2, -1)).tolist()
        fields = zip(track_ids(rows), boxes.tolist(), confidences(rows), states, strict=True)
        for track_id, (x1, y1, x2, y2), score, state in fields:
            box = f"{x1 + 1:.3f},{y1 + 1:.3f},{x2 - x1:.3f},{y2 - y1:.3f}"
            lines.append(f"{frame_number},{track_id},{box},{score:.4f},-1,-1,{state}\n")
        self._out.append("".join(lines))

    def finish(self) -> None:
        """See :class:`~masa_track.formats.writer.TrackWriter`."""
        self._out.close()

    def close(self) -> None:
        """See :class:`~masa_track.formats.writer.TrackWriter`."""
        close_writer(self)

    def abandon(self) -> None:
        """See :class:`~masa_track.formats.writer.TrackWriter`."""
        with suppress(OSError):  # what a full disk did not take is thrown away anyhow
            self._out.close()
        self.file.abandon()
