"""What a long run has done so far, a line an image, so that it can be killed at any moment and go on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from masa_track.errors import InputError

try:
    import fcntl
except ImportError:  # not on Windows; there two runs on one file are not noticed
    fcntl = None  # type: ignore[assignment]


class Journal:
    """An append-only file of JSON lines: the settings first, then a record an image.

    A record is one write, so a kill leaves at most half of the last line, which is dropped on opening. The last record
    of an image counts. As long as it is open no other process can open it.

    Args:
        path: the file; made if it is not there.
        settings: what the records depend on. A journal of other settings is refused.

    Attributes:
        path: the file.
        faults: by name, the record of each image that could not be read.

    Raises:
        InputError: other settings, a damaged line, another run at work on it, or a file that cannot be opened.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.faults: dict[str, dict[str, Any]] = {}
        self._places: dict[str, int] = {}  # by name, where its record begins
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}") from error
        try:
            self._lock()
            self._read(json.loads(json.dumps(settings)))
        except BaseException:
            os.close(self._file)
            raise

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __len__(self) -> int:
        return len(self._places)

    def record(self, name: str) -> dict[str, Any]:
        """The record of an image."""
        with open(self.path, "rb") as file:
            file.seek(self._places[name])
            return json.loads(file.readline())

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds the record of ``record["image"]``; one with an ``error`` is also among the faults.

        Raises:
            InputError: the file cannot be written any more; what is in it stays.
        """
        try:
            self._note(record, self._write(record))
        except OSError as error:
            raise InputError(f"{self.path} cannot be written ({error.strerror}): what was done is kept") from error

    def close(self) -> None:
        """Lets another process open it."""
        os.close(self._file)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another run is at work on {self.path}: wait for it, or name another --out") from error

    def _read(self, settings: dict[str, Any]) -> None:
        """Notes what is there, drops half a line, and begins an empty file with the settings."""
        place, before, header = 0, 0, None
        with open(self.path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            for number, line in enumerate(file, 1):
                before, place = place, place + len(line)
                try:
                    if not line.endswith(b"\n"):
                        raise ValueError
                    content = json.loads(line)
                    if header is None:
                        header = content["settings"]
                        self._compare(header, settings)
                    else:
                        self._note(content, before)
                except (ValueError, KeyError, TypeError) as error:
                    if isinstance(error, InputError):
                        raise
                    if place < size or (header is None and line.endswith(b"\n")):
                        raise InputError(
                            f"{self.path}, line {number} is damaged: remove the file to begin anew"
                        ) from error
                    os.ftruncate(self._file, before)
        if header is None:
            self._write({"settings": settings})

    def _compare(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        other = [
            f"{k} was {before.get(k)!r}, is {now.get(k)!r}" for k in {**before, **now} if before.get(k) != now.get(k)
        ]
        if other:
            raise InputError(
                f"{self.path} was begun with other settings: {'; '.join(other)}. Go on with those, name another --out, "
                "or remove the file to begin anew"
            )

    def _note(self, record: Mapping[str, Any], place: int) -> None:
        name = record["image"]
        self._places[name] = place
        if "error" in record:
            self.faults[name] = dict(record)
        else:
            self.faults.pop(name, None)

    def _write(self, content: Mapping[str, Any]) -> int:
        """Appends one line; gives where it begins."""
        line = json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
        place = os.lseek(self._file, 0, os.SEEK_END)
        while line:
            line = line[os.write(self._file, line) :]
        return place
