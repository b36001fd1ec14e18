"""Tracks as JSON lines, a line a frame or an event, for a process that follows the file while it grows."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import supervision as sv

from masa_track.contracts import CountEvent, TrackEvent
from masa_track.errors import InputError
from masa_track.files import lock_file
from masa_track.formats.rows import ClassNames, class_ids, confidences, part_fields, row_names, tracked_rows


class JsonLinesWriter:
    """Writes each frame as one whole line that is in the file when :meth:`write` returns.

    ``{"frame": 12, "time": 0.44, "tracks": [{"id": 3, "class_id": 2, "class": "car", "score": 0.91,
    "box": [x1, y1, x2, y2]}]}``: frames count from 1, time is in seconds since the first, boxes are 0-based pixels.
    A frame without tracks is a line too. Events (:meth:`write_events`) have the key ``event`` in place of ``tracks``. A
    line is handed over in one piece, so whoever reads up to the last newline
    reads whole frames. Unlike the other results it is not written beside its place; an earlier file is emptied.

    Args:
        path: a file, or a named pipe.
        class_names: the names by class id.
        append: go on with an earlier file: a line that was cut short is removed, and frames that are in it, and their
            events, are not written again.

    Raises:
        InputError: the file cannot be opened, or another process writes it.
    """

    def __init__(self, path: str | Path, class_names: ClassNames = None, append: bool = False) -> None:
        self.path = Path(path)
        self._class_names = class_names
        self._last = 0  # frame of an earlier file
        self._current = 1  # frame of the events that are written
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise InputError(f"--jsonl must be a file that can be written, got {path}: {error.strerror}") from error
        if stat.S_ISREG(os.fstat(self._file).st_mode):
            if not lock_file(self._file):
                self.close()
                raise InputError(f"--jsonl {path} is being written by another run: name another file, or stop that run")
            if append:
                self._last = self._go_on()
            else:
                os.ftruncate(self._file, 0)

    def _go_on(self) -> int:
        """Removes a line that was cut short. Returns the number of the last frame; 0 without one."""
        end = last = place = 0
        with open(self.path, "rb") as file:
            for line in file:
                place += len(line)
                with suppress(ValueError, KeyError, TypeError):
                    value = json.loads(line)
                    if line.endswith(b"\n"):
                        end = place
                        last = int(value["frame"]) if "tracks" in value else last
        os.ftruncate(self._file, end)
        return last

    def move_to(self, path: Path) -> None:
        """Copies what was written to another file, and empties this one; a pipe stays as it is.

        Raises:
            OSError: the copy cannot be written.
        """
        if stat.S_ISREG(os.fstat(self._file).st_mode):
            shutil.copyfile(self.path, path)
            os.ftruncate(self._file, 0)

    def write(self, frame_number: int, seconds: float, detections: sv.Detections) -> None:
        """Adds one frame. In a file it is there whole or not at all.

        Raises:
            BrokenPipeError: nobody reads the pipe any more.
            OSError: the disk is full, or the like.
        """
        self._current = frame_number
        if frame_number <= self._last:
            return
        rows = tracked_rows(detections)
        ids = [] if rows.tracker_id is None else rows.tracker_id.tolist()
        names = row_names(rows, self._class_names)
        tree = part_fields(rows)
        columns = zip(
            ids, class_ids(rows).tolist(), names, confidences(rows).tolist(), rows.xyxy.tolist(), tree, strict=True
        )
        tracks = [
            {
                "id": track_id,
                "class_id": number,
                "class": name,
                "score": round(score, 4),
                "box": [round(side, 2) for side in box],
                **tree,
            }
            for track_id, number, name, score, box, tree in columns
        ]
        self._append([{"frame": frame_number, "time": round(seconds, 4), "tracks": tracks}])

    def write_events(self, events: Iterable[TrackEvent | CountEvent]) -> None:
        """Adds events of the frame that was written last, a line each; those of one call are there whole or not at all.

        ``{"event": "born", "frame": 12, "time": 0.44, "id": 3, "first_frame": 9}``: ``first_frame`` is that of the
        track's first box, where it was tentative before. ``cut`` has no ``id``; ``merged`` and ``split`` have
        ``other``; those of lines and zones have ``name`` and ``class_id``, and ``left`` has ``seconds``, the time in
        the zone.

        Raises:
            BrokenPipeError: nobody reads the pipe any more.
            OSError: the disk is full, or the like.
        """
        if self._current > self._last:
            self._append([_event(event) for event in events])

    def _append(self, values: list[dict[str, Any]]) -> None:
        """Adds a line for each value, all or none."""
        data = memoryview("".join(f"{json.dumps(value, allow_nan=False)}\n" for value in values).encode())
        size = os.fstat(self._file).st_size
        try:
            while data:  # a pipe may take a long line in parts, and a disk that gets full
                data = data[os.write(self._file, data) :]
        except OSError as error:
            with suppress(OSError):  # a pipe has no size
                os.ftruncate(self._file, size)
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def close(self) -> None:
        """Closes the file; what was written stays."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> JsonLinesWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _event(event: TrackEvent | CountEvent) -> dict[str, Any]:
    """An event as the value of its line."""
    value: dict[str, Any] = {"event": event.kind, "frame": event.number, "time": round(event.time, 4)}
    if event.identity >= 0:
        value["id"] = event.identity
    if isinstance(event, CountEvent):
        value |= {"name": event.name, "class_id": event.class_id}
        if event.kind == "left":
            value["seconds"] = round(event.seconds, 4)
        return value
    if event.other >= 0:
        value["other"] = event.other
    if event.earlier:
        value["first_frame"] = event.earlier[0][0]
    return value
