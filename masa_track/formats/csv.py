"""CSV: tracks out."""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import supervision as sv

from masa_track.files import PartFile
from masa_track.formats.rows import PART_FIELDS, ClassNames, marks, part_fields, row_names, tracked_rows
from masa_track.formats.writer import Appender, close_writer, create_part, rounded_time

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # also in full width


def spreadsheet_text(name: str) -> str:
    """A name as a cell; one that a spreadsheet would run as a formula gets an apostrophe before it."""
    return "'" + name if name.startswith(_FORMULA) else name


class CsvWriter:
    """CSV with a header, rows as of supervision's :class:`~supervision.CSVSink`: 0-based ``x_min,y_min,x_max,y_max``...

    ``time`` is of the frame, in seconds since frame 1; empty where it is not known.

    A class name that a spreadsheet would run as a formula (it begins with ``=``, ``+``, ``-``, ``@``, a tab or a line
    break) gets an apostrophe before it, as OWASP advises (https://owasp.org/www-community/attacks/CSV_Injection).

    Args:
        path: the file, e.g. ``tracks.csv``.
        class_names: the names by class id.
        finished: add the columns ``filled`` and ``smoothed``, 0 or 1: boxes that fill a gap, and those smoothed.
        parts: add the columns ``parent_id`` (empty for none), ``part`` and ``phrase``; see :mod:`masa_track.parts`.
    """

    def __init__(
        self, path: str | Path, class_names: ClassNames = None, finished: bool = False, parts: bool = False
    ) -> None:
        self.file = PartFile(path)
        self._class_names = class_names
        self._finished, self._parts = finished, parts
        self._columns: list[str] = sv.CSVSink.parse_field_names(
            self._named(sv.Detections.empty()), {"frame": 0, "time": 0.0}
        )
        self._out = Appender(create_part(self.file))
        try:
            self._append([dict(zip(self._columns, self._columns, strict=True))])
        except BaseException:
            self.abandon()
            raise

    def write(self, frame_number: int, file_name: str, detections: sv.Detections, time: float | None = None) -> None:
        """Adds one frame; see :class:`~masa_track.formats.writer.TrackWriter`."""
        rows = self._named(detections)
        self._append(sv.CSVSink.parse_detection_data(rows, {"frame": frame_number, "time": rounded_time(time)}))

    def _named(self, detections: sv.Detections) -> sv.Detections:
        rows = tracked_rows(detections)
        names = [spreadsheet_text(name) for name in row_names(rows, self._class_names)]
        states = {name: marks(rows, name).astype(int) for name in ("filled", "smoothed")} if self._finished else {}
        tree: dict[str, np.ndarray] = {}
        if self._parts:
            fields = part_fields(rows)
            for name in PART_FIELDS:
                tree[name] = np.array([spreadsheet_text(str(one.get(name, ""))) for one in fields], dtype=object)
        rows.data = {"class_name": np.array(names, dtype=object), **states, **tree}
        return rows

    def _append(self, rows: list[dict[str, object]]) -> None:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns).writerows(rows)
        self._out.append(text.getvalue())

    def finish(self) -> None:
        """See :class:`~masa_track.formats.writer.TrackWriter`."""
        self._out.close()

    def close(self) -> None:
        """See :class:`~masa_track.formats.writer.TrackWriter`."""
        close_writer(self)

    def abandon(self) -> None:
        """See :class:`~masa_track.formats.writer.TrackWriter`."""
        with suppress(OSError):
            self._out.close()
        self.file.abandon()
