"""Tracks as files, written frame by frame with flat memory: MOTChallenge text, COCO-VID JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

import numpy as np
import supervision as sv

from masa_track.io.files import PartFile
from masa_track.io.rle import encode_mask
from masa_track.io.rows import ClassNames, class_ids, class_name, confidences, plain_text, row_names, tracked_rows

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # also in full width


class TrackWriter(Protocol):
    """One result file in the making. Only rows with an identity and a finite box are written."""

    file: PartFile

    def write(self, frame_number: int, file_name: str, detections: sv.Detections) -> None:
        """Adds one frame, numbered from 1 in the source; frames without a track are written too."""

    def finish(self) -> None:
        """Completes the part, so that only its renaming is left."""

    def close(self) -> None:
        """Completes the file and puts it in its place."""

    def abandon(self) -> None:
        """Stops and removes the part; an earlier file is as it was. Does nothing after :meth:`close`."""


class MotWriter:
    """MOTChallenge text: ``frame,id,left,top,width,height,confidence,-1,-1,-1``, all of it counted from 1.

    Args:
        path: the file, e.g. ``tracks.txt``.

    Source: Dendorfer et al., MOT20, 2020, https://motchallenge.net/instructions (the format's 1-based pixels).
    """

    def __init__(self, path: str | Path) -> None:
        self.file = PartFile(path)
        self._out = _Appender(_created(self.file))

    def write(self, frame_number: int, file_name: str, detections: sv.Detections) -> None:
        """Adds one frame; see :class:`TrackWriter`."""
        rows = tracked_rows(detections)
        lines = []
        boxes = np.asarray(rows.xyxy, dtype=np.float64)  # (N, 4) 0-based xyxy
        for track_id, (x1, y1, x2, y2), score in zip(_ids(rows), boxes.tolist(), confidences(rows), strict=True):
            box = f"{x1 + 1:.3f},{y1 + 1:.3f},{x2 - x1:.3f},{y2 - y1:.3f}"
            lines.append(f"{frame_number},{track_id},{box},{score:.4f},-1,-1,-1\n")
        self._out.append("".join(lines))

    def finish(self) -> None:
        """See :class:`TrackWriter`."""
        self._out.close()

    def close(self) -> None:
        """See :class:`TrackWriter`."""
        _close(self)

    def abandon(self) -> None:
        """See :class:`TrackWriter`."""
        with suppress(OSError):  # what a full disk did not take is thrown away anyhow
            self._out.close()
        self.file.abandon()


class CocoVidWriter:
    """COCO-VID JSON: every processed frame is an image; boxes are ``[x, y, width, height]`` in 0-based pixels.

    Where the detections have masks, ``segmentation`` is one as compressed COCO RLE, and ``area`` is the mask's.
    Images go straight into the file and annotations into a nameless spool beside it, joined at the end. A frame that
    cannot be written whole is in neither.
    ``frame_id`` counts from 0, the image's ``id`` is the frame's number from 1, ``category_id`` is the ``class_id``.

    Args:
        path: the file, e.g. ``tracks.json``.
        video_name: the name of the one video.
        width: of the video, in pixels.
        height: of the video, in pixels.
        fps: frames per second of the source, where it has them.
        class_names: the names by class id; those of classes never seen are listed too.
    """

    def __init__(
        self,
        path: str | Path,
        video_name: str,
        width: int,
        height: int,
        fps: float | None = None,
        class_names: ClassNames = None,
    ) -> None:
        from masa_track import __version__

        self.file = PartFile(path)
        self._size = {"width": int(width), "height": int(height)}
        self._class_names = class_names
        known = class_names.items() if isinstance(class_names, Mapping) else enumerate(class_names or ())
        self._categories = {int(i): plain_text(name) for i, name in known}
        self._annotations = 0
        self._last_frame = 0
        self._out = _Appender(_created(self.file))
        try:
            spool = tempfile.TemporaryFile(buffering=0, dir=self.file.path.parent)  # noqa: SIM115 (closed by finish)
        except BaseException:
            self._out.close()
            self.file.abandon()
            raise
        self._spool = _Appender(spool)
        info = {"description": "tracks in COCO-VID form", "version": "1.0", "contributor": f"masa-track {__version__}"}
        video: dict[str, object] = {"id": 1, "name": video_name, **self._size}
        if fps:
            video["fps"] = float(fps)
        self._head = f'{{"info":{_json(info)},\n"videos":[{_json(video)}],\n"images":['

    def write(self, frame_number: int, file_name: str, detections: sv.Detections) -> None:
        """Adds one frame; see :class:`TrackWriter`.

        Raises:
            ValueError: the number is not above that of the frame before, so the image's id would not be its own.
        """
        if frame_number <= self._last_frame:
            raise ValueError(f"frame_number must rise from 1, got {frame_number} after {self._last_frame}")
        image = {"id": frame_number, "video_id": 1, "frame_id": frame_number - 1, "file_name": file_name, **self._size}

        rows = tracked_rows(detections)
        names = row_names(rows, self._class_names)
        pieces = []
        count = self._annotations
        boxes = np.asarray(rows.xyxy, dtype=np.float64).tolist()  # (N, 4) 0-based xyxy
        fields = zip(_ids(rows), class_ids(rows).tolist(), names, boxes, confidences(rows).tolist(), strict=True)
        for row, (track_id, category_id, name, (x1, y1, x2, y2), score) in enumerate(fields):
            self._categories.setdefault(category_id, name)
            count += 1
            annotation: dict[str, object] = {
                "id": count,
                "image_id": frame_number,
                "video_id": 1,
                "category_id": category_id,
                "track_id": track_id,
                "instance_id": track_id,
                "bbox": [round(x1, 3), round(y1, 3), round(x2 - x1, 3), round(y2 - y1, 3)],
                "area": round((x2 - x1) * (y2 - y1), 3),
                "score": round(score, 4),
                "iscrowd": 0,
            }
            if rows.mask is not None:
                annotation["segmentation"] = encode_mask(np.asarray(rows.mask[row]))
                annotation["area"] = int(np.count_nonzero(rows.mask[row]))
            pieces.append(("\n" if count == 1 else ",\n") + _json(annotation))
        before = self._spool.size
        self._spool.append("".join(pieces))
        try:
            self._out.append((self._head + "\n" if self._last_frame == 0 else ",\n") + _json(image))
        except OSError:
            self._spool.cut(before)
            raise
        self._annotations, self._last_frame = count, frame_number

    def finish(self) -> None:
        """See :class:`TrackWriter`."""
        if not self._categories:
            self._categories = {0: class_name(0, None)}
        categories = [{"id": i, "name": name} for i, name in sorted(self._categories.items())]
        self._out.append((self._head if self._last_frame == 0 else "") + '],\n"annotations":[')
        self._spool.file.seek(0)
        shutil.copyfileobj(self._spool.file, self._out)
        self._out.append(f'],\n"categories":{_json(categories)}}}\n')
        self._spool.close()
        self._out.close()

    def close(self) -> None:
        """See :class:`TrackWriter`."""
        _close(self)

    def abandon(self) -> None:
        """See :class:`TrackWriter`."""
        for file in (self._spool, self._out):
            with suppress(OSError):
                file.close()
        self.file.abandon()


class CsvWriter:
    """CSV with a header, rows as of supervision's :class:`~supervision.CSVSink`: 0-based ``x_min,y_min,x_max,y_max``...

    A class name that a spreadsheet would run as a formula (it begins with ``=``, ``+``, ``-``, ``@``, a tab or a line
    break) gets an apostrophe before it, as OWASP advises (https://owasp.org/www-community/attacks/CSV_Injection).

    Args:
        path: the file, e.g. ``tracks.csv``.
        class_names: the names by class id.
    """

    def __init__(self, path: str | Path, class_names: ClassNames = None) -> None:
        self.file = PartFile(path)
        self._class_names = class_names
        self._columns: list[str] = sv.CSVSink.parse_field_names(self._named(sv.Detections.empty()), {"frame": 0})
        self._out = _Appender(_created(self.file))
        try:
            self._append([dict(zip(self._columns, self._columns, strict=True))])
        except BaseException:
            self.abandon()
            raise

    def write(self, frame_number: int, file_name: str, detections: sv.Detections) -> None:
        """Adds one frame; see :class:`TrackWriter`."""
        rows = self._named(detections)
        self._append(sv.CSVSink.parse_detection_data(rows, {"frame": frame_number}))

    def _named(self, detections: sv.Detections) -> sv.Detections:
        rows = tracked_rows(detections)
        names = ["'" + name if name.startswith(_FORMULA) else name for name in row_names(rows, self._class_names)]
        rows.data = {"class_name": np.array(names, dtype=object)}
        return rows

    def _append(self, rows: list[dict[str, object]]) -> None:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns).writerows(rows)
        self._out.append(text.getvalue())

    def finish(self) -> None:
        """See :class:`TrackWriter`."""
        self._out.close()

    def close(self) -> None:
        """See :class:`TrackWriter`."""
        _close(self)

    def abandon(self) -> None:
        """See :class:`TrackWriter`."""
        with suppress(OSError):
            self._out.close()
        self.file.abandon()


class TrackWriters:
    """``tracks.txt``, ``tracks.json`` and ``tracks.csv`` of one run, opened and closed together.

    Results of an earlier run stay in the folder until :meth:`close` puts the new ones over them. As a context manager
    it closes at the end and on Ctrl-C, with the frames done so far, and abandons on any other exception.

    Args:
        folder: an existing folder.
        video_name: the name of the source.
        width: of the video, in pixels.
        height: of the video, in pixels.
        fps: frames per second of the source, where it has them.
        class_names: the names by class id.

    Raises:
        OSError: a file cannot be opened; none is left behind.
    """

    def __init__(
        self,
        folder: str | Path,
        video_name: str,
        width: int,
        height: int,
        fps: float | None = None,
        class_names: ClassNames = None,
    ) -> None:
        folder = Path(folder)
        self._closed = False
        self._writers: list[TrackWriter] = []
        try:
            self._writers.append(MotWriter(folder / "tracks.txt"))
            self._writers.append(CocoVidWriter(folder / "tracks.json", video_name, width, height, fps, class_names))
            self._writers.append(CsvWriter(folder / "tracks.csv", class_names))
        except BaseException:
            self.abandon()
            raise

    @property
    def paths(self) -> list[Path]:
        """Where the files are after :meth:`close`."""
        return [writer.file.path for writer in self._writers]

    def write(self, frame_number: int, file_name: str, detections: sv.Detections) -> None:
        """Adds one processed frame to each file.

        Args:
            frame_number: of the frame in the source, from 1, rising; it may skip.
            file_name: the frame's name, e.g. ``000001.jpg``.
            detections: its rows, in 0-based pixels of the source; those without an identity are not written.

        Raises:
            OSError: the disk is full, or the like; its ``filename`` is the result's. The files can still be closed:
                each holds whole frames, some of them perhaps this one.
        """
        for writer in self._writers:
            try:
                writer.write(frame_number, file_name, detections)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(writer.file.path)) from error

    def close(self) -> dict[Path, OSError]:
        """Completes each file and puts it in its place; one that cannot be completed does not keep the others back.

        Returns:
            Why a file is not there, by its path; an earlier file of that name is as it was.
        """
        faults: dict[Path, OSError] = {}
        if self._closed:
            return faults
        self._closed = True
        for writer in self._writers:
            try:
                writer.close()
            except OSError as error:
                faults[writer.file.path] = error
        return faults

    def abandon(self) -> None:
        """Removes the parts; earlier results are as they were. Does nothing after :meth:`close`."""
        self._closed = True
        for writer in self._writers:
            writer.abandon()

    def __enter__(self) -> TrackWriters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            for fault in self.close().values():
                raise fault
        else:
            self.abandon()


class _Appender:
    """Adds pieces to a file, each whole or not at all, so that what is there can be used when the disk is full.

    Args:
        file: empty, unbuffered, open for writing.

    Attributes:
        file: the same.
        size: bytes in it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.size = 0

    def append(self, text: str) -> None:
        """Adds a text as UTF-8.

        Raises:
            OSError: the disk is full, or the like; the file is as it was.
        """
        self.write(text.encode())

    def write(self, data: bytes) -> int:
        """As :meth:`append`, for bytes."""
        left = memoryview(data)
        try:
            while left:
                left = left[self.file.write(left) or 0 :]
        except OSError:
            self.cut(self.size)
            raise
        self.size += len(data)
        return len(data)

    def cut(self, size: int) -> None:
        """Removes what is behind the first ``size`` bytes."""
        self.file.truncate(size)
        self.file.seek(size)
        self.size = size

    def close(self) -> None:
        """Closes the file."""
        self.file.close()


def _created(file: PartFile) -> IO[bytes]:
    return open(file.create(), "wb", buffering=0)


def _close(writer: TrackWriter) -> None:
    try:
        writer.finish()
        writer.file.commit()
    except BaseException:
        writer.abandon()
        raise


def _ids(rows: sv.Detections) -> list[int]:
    return [] if rows.tracker_id is None else [int(i) for i in rows.tracker_id]


def _json(value: object) -> str:
    # ASCII only: a file name that is no UTF-8 reaches us with lone surrogates, which only an escape can carry.
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
