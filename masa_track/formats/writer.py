"""The interface of a file of tracks that is written frame by frame."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO, Protocol

import supervision as sv

from masa_track.files import PartFile


class TrackWriter(Protocol):
    """One result file in the making. Only rows with an identity and a finite box are written."""

    file: PartFile

    def write(self, frame_number: int, file_name: str, detections: sv.Detections, time: float | None = None) -> None:
        """Adds one frame, numbered from 1 in the source; frames without a track are written too.

        ``time`` is in seconds since frame 1, None where it is not known.
        """

    def finish(self) -> None:
        """Completes the part, so that only its renaming is left."""

    def close(self) -> None:
        """Completes the file and puts it in its place."""

    def abandon(self) -> None:
        """Stops and removes the part; an earlier file is as it was. Does nothing after :meth:`close`."""


class Appender:
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


def rounded_time(time: float | None) -> float | None:
    """A frame's time as it is written: to the microsecond; None where it is not known."""
    return None if time is None else round(time, 6)


def create_part(file: PartFile) -> IO[bytes]:
    """The part of a new file, open for writing."""
    return open(file.create(), "wb", buffering=0)


def unnamed_file(folder: Path) -> IO[bytes]:
    """A new file that is gone when it is closed."""
    return tempfile.TemporaryFile(buffering=0, dir=folder)


def close_writer(writer: TrackWriter) -> None:
    """Completes the file and puts it in its place; after an error the part is removed."""
    try:
        writer.finish()
        writer.file.commit()
    except BaseException:
        writer.abandon()
        raise
