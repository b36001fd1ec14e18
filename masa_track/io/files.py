"""Result files are written beside their place and renamed over it: nobody ever sees half a file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from masa_track.errors import InputError


class PartFile:
    """A file under construction: ``.NAME.part`` in the folder of ``NAME``.

    The writer opens ``part``, writes, closes it and calls :meth:`commit`; an earlier ``NAME`` stays until then.

    Attributes:
        path: where the finished file will be.
        part: where it is being written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.part = self.path.with_name(f".{self.path.name}.part")

    def commit(self) -> None:
        """Renames the finished part over ``path``, atomically, after its bytes have reached the disk.

        Raises:
            OSError: the part is not there, or ``path`` cannot be replaced.
        """
        with open(self.part, "rb+") as file:
            os.fsync(file.fileno())  # else a power cut after the rename can leave an empty file under the good name
        os.replace(self.part, self.path)

    def abandon(self) -> None:
        """Removes the part, if there is one; ``path`` is as it was."""
        self.part.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes ``text`` as UTF-8 to ``path``, whole or not at all.

    Raises:
        OSError: the file cannot be written; an earlier one is as it was.
    """
    file = PartFile(path)
    try:
        file.part.write_bytes(text.encode("utf-8", errors="backslashreplace"))
        file.commit()
    except BaseException:
        file.abandon()
        raise


def prepare_folder(path: str | Path, argument: str = "--out") -> Path:
    """Makes the folder for the results, with its parents, and tries a file in it: before any work is done.

    Args:
        path: the folder; it may exist, and what is in it stays.
        argument: what the caller calls it, for the message.

    Returns:
        The folder.

    Raises:
        InputError: something else is in its place, or nothing can be written there.
    """
    if not str(path):
        raise InputError(f"{argument} must name a folder, got ''")
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Trying is the only sure test: permission bits mean nothing to root, on /proc or on a read-only mount.
        with tempfile.NamedTemporaryFile(prefix=".masa-track-", dir=folder):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        file = next(place for place in (folder, *folder.parents) if place.exists() and not place.is_dir())
        raise InputError(f"{argument} must be a folder, but {file} is a file: name another folder") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{argument} must be a folder that can be written, got {folder}: {reason}") from error
    return folder
