"""MOTChallenge text: detections in, tracks out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import supervision as sv

from masa_track.errors import InputError
from masa_track.files import PartFile
from masa_track.formats.detection_file import Rows
from masa_track.formats.rows import (
    confidences,
    marks,
    track_ids,
    tracked_rows,
)
from masa_track.formats.writer import Appender, close_writer, create_part

MOT_LINE = "frame,id,left,top,width,height,confidence"


def read_mot_detections(path: Path, text: str) -> Rows:
    """The rows of a MOTChallenge text; ``path`` is for messages.

    Raises:
        InputError: for lines of another form.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    numbers = np.array([number for number, line in enumerate(lines, 1) if line.strip()])
    try:
        # All at once is five times as fast as a line at a time, but its errors name no line.
        table = np.loadtxt(lines, delimiter=",", comments=None, ndmin=2)
    except ValueError:
        table = _parse_lines(path, lines)
    columns = table.shape[1]
    if columns < 6:
        raise InputError(f"{path}, line {numbers[0]}: {columns} columns, MOTChallenge lines are {MOT_LINE}")
    scores = table[:, 6] if columns > 6 else np.ones(len(table))
    keep = np.ones(len(table), bool)
    if (table[:, 1] != -1).any():
        keep = scores != 0
        if not keep.any():
            raise InputError(f"{path} holds no detections: confidence is 0, to be ignored, in all {len(table)} lines")
    table, scores, numbers = table[keep], scores[keep], numbers[keep]
    classes = np.zeros(len(table))
    if columns > 7 and (table[:, 7] >= 1).all() and (table[:, 7] == np.floor(table[:, 7])).all():
        classes = table[:, 7]
    return Rows(table[:, 0], table[:, 2:6] - [1, 1, 0, 0], scores, classes, lambda i: f"line {numbers[i]}")


def _parse_lines(path: Path, lines: Sequence[str]) -> np.ndarray:
    """(N, 6 to 8) float64: as many columns as every line has."""
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields = line.strip().rstrip(",").split(",")
        if len(fields) < 6:
            raise InputError(
                f"{path}, line {number}: {len(fields)} columns, MOTChallenge lines are {MOT_LINE}; got {_short(line)}"
            )
        try:
            rows.append([float(field) for field in fields[:8]])
        except ValueError as error:
            raise InputError(
                f"{path}, line {number}: not numbers: {_short(line)}; MOTChallenge lines are {MOT_LINE}"
            ) from error
    columns = min(map(len, rows))
    return np.array([row[:columns] for row in rows])


def _short(line: str) -> str:
    return repr(line.strip()[:60])


class MotWriter:
    """MOTChallenge text: ``frame,id,left,top,width,height,confidence,-1,-1,state``, all of it counted from 1.

    The state is -1 for a box as detected, 1 for one that fills a gap, and 2 for one that was smoothed.

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
