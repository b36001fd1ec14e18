"""Result files: checked before any work, written beside their place and renamed over it when they are whole."""

from __future__ import annotations

import errno
import glob
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from masa_track.errors import InputError

try:
    import fcntl
except ImportError:  # not on Windows; there two runs in one folder are not noticed
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = ".masa-track.lock"

_HINTS = {
    errno.ENOSPC: "free disk space, or write to another disk",
    getattr(errno, "EDQUOT", -1): "free disk space of your quota, or write to another disk",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or write to another file system",
    errno.EROFS: "write to another file system",
    errno.EACCES: "change its permissions, or name another file or folder",
    errno.ENOENT: "check the path",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs",
}


class PartFile:
    """A file under construction: ``.NAME.part`` in the folder of ``NAME``, or the file ``part`` there.

    The writer makes ``part`` with :meth:`create`, writes, closes it and calls :meth:`commit`; an earlier ``NAME`` stays
    until then.

    Attributes:
        path: where the finished file will be.
        part: where it is being written.
    """

    def __init__(self, path: str | Path, part: Path | None = None) -> None:
        self.path = Path(path)
        self.part = part or self.path.with_name(f".{self.path.name}.part")
        self._held: IO[bytes] | None = None  # kept open, so that no other file gets its inode

    def create(self) -> int:
        """Makes an empty part. One that a killed run left is removed first; a link in its place is not followed.

        Returns:
            Its file descriptor, open for writing; the caller closes it.

        Raises:
            OSError: the part cannot be made.
        """
        self.part.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        number = os.open(self.part, flags, 0o666)
        self._held = open(os.dup(number), "wb", buffering=0)  # noqa: SIM115 (closed by commit and abandon)
        return number

    def commit(self) -> None:
        """Renames the finished part over ``path``, atomically, after its bytes have reached the disk.

        Raises:
            OSError: the part is not there, another process has made its own, or ``path`` cannot be replaced.
        """
        with open(self.part, "rb+") as file:
            if not self._is_ours(os.fstat(file.fileno())):
                raise OSError(errno.EBUSY, "another process writes the same file", str(self.path))
            os.fsync(file.fileno())  # else a power cut after the rename can leave an empty file under the good name
        self._release()
        os.replace(self.part, self.path)

    def abandon(self) -> None:
        """Removes the part, if there is one; ``path`` is as it was. The part of another process stays."""
        with suppress(OSError):
            if self._is_ours(self.part.lstat()):
                self.part.unlink()
        self._release()

    def _is_ours(self, status: os.stat_result) -> bool:
        return self._held is None or _place(os.fstat(self._held.fileno())) == _place(status)

    def _release(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


def write_text(path: str | Path, text: str) -> None:
    """Writes ``text`` as UTF-8 to ``path``, as :func:`write_bytes`."""
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes ``content`` to ``path``, whole or not at all.

    Raises:
        OSError: the file cannot be written; an earlier one is as it was.
    """
    file = PartFile(path)
    try:
        with open(file.create(), "wb") as out:
            out.write(content)
        file.commit()
    except BaseException:
        file.abandon()
        raise


def fault_of(error: OSError) -> str:
    """The system's reason for a fault of a file, and what to do where that is known."""
    reason = error.strerror or str(error) or type(error).__name__
    hint = _HINTS.get(error.errno or 0)
    return f"{reason}: {hint}" if hint else reason


def prepare_folder(path: str | Path, argument: str = "--out") -> Path:
    """Makes the folder for the results, with its parents, and checks, before any work, that files can be made in it.

    Args:
        path: the folder; it may exist, and what is in it stays.
        argument: the name of the argument, for the message.

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
        _try_file_in(folder)
    except (FileExistsError, NotADirectoryError) as error:
        file = next(place for place in (folder, *folder.parents) if place.exists() and not place.is_dir())
        raise InputError(f"{argument} must be a folder, but {file} is a file: name another folder") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{argument} must be a folder that can be written, got {folder}: {reason}") from error
    return folder


def check_file(path: str | Path, argument: str) -> Path:
    """Checks that a result file can be put in its place, before any work is done.

    Args:
        path: the file; it may exist.
        argument: the name of the argument, for the message.

    Returns:
        The file.

    Raises:
        InputError: it is a folder, a pipe or a device, or its folder is not there or cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{argument} must name a file, got {path}, a folder: name another file, or remove the folder")
    if path.exists() and not path.is_file():  # a device would be replaced by the file
        raise InputError(f"{argument} must name a regular file, got {path}, a pipe or device: name another file")
    if not path.parent.is_dir():
        raise InputError(f"{argument} must be in a folder that is there, but there is no {path.parent}")
    try:
        _try_file_in(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{argument} must be in a folder that can be written, got {path}: {reason}") from error
    return path


def check_overwriting(outputs: Iterable[tuple[str, str | Path]], inputs: Iterable[tuple[str, str | Path]]) -> None:
    """Checks that no output of a run is one of its inputs or another of its outputs, before any work is done.

    Two names are one file where device and inode are the same, so links count. A file that is not there yet is known by
    its folder and name. Folders, pipes and devices are ignored: they are not overwritten.

    Args:
        outputs: the argument of each, and the file; its part files are checked too.
        inputs: the same of what is read. It is only consumed when an output exists.

    Raises:
        InputError: an output is an input, or there twice. The message names both arguments.
    """
    written: dict[object, tuple[str, Path]] = {}
    for argument, output in outputs:
        if _identity(Path(output)) is None:
            continue
        for path in (Path(output), PartFile(output).part, *_numbered_parts(Path(output))):
            identity = _identity(path)
            if identity in written:
                other, _ = written[identity]
                raise InputError(
                    f"{argument} and {other} would both write {output}: give one of them another file or folder"
                )
            written[identity] = argument, path
    if not any(path.exists() for _, path in written.values()):
        return
    for argument, file in inputs:
        if not os.path.exists(file):
            continue
        identity = _identity(Path(file))
        if identity in written:
            writer, target = written[identity]
            name = "" if str(target) == str(file) else f", which is the same file as {file}"
            raise InputError(
                f"{writer} would overwrite {argument}: it writes {target}{name}; give {writer} another file or folder"
            )


@contextmanager
def locked_folder(folder: Path, argument: str = "--out") -> Iterator[None]:
    """Locks a folder of results against other runs. The lock of a run that was killed has no effect.

    Args:
        folder: an existing folder. It holds a lock file meanwhile.
        argument: the name of the argument, for the message.

    Raises:
        InputError: another run uses the folder. The message names its process.
    """
    number = _lock(folder / LOCK_NAME, folder, argument)
    try:
        yield
    finally:
        if number is not None:
            with suppress(OSError):
                (folder / LOCK_NAME).unlink()
            os.close(number)


def lock_file(number: int) -> bool:
    """Locks an open file against other processes until it is closed. False where another one has locked it.

    Where the system or the file system has no such locks, nothing is locked and the result is True.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _lock(path: Path, folder: Path, argument: str) -> int | None:
    """The descriptor of the locked file; None where there are no locks."""
    if fcntl is None:
        return None
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            number = os.open(path, flags, 0o666)
        except OSError as error:
            raise InputError(
                f"{argument} {folder} cannot be locked ({path.name}: {error.strerror}): remove that file"
            ) from error
        if not lock_file(number):
            holder = os.read(number, 32).decode("ascii", errors="replace").strip() or "unknown"
            os.close(number)
            raise InputError(
                f"{argument} {folder} is in use by another run (process {holder}): wait until it ends, stop it, or "
                "name another folder"
            )
        try:
            if _place(os.stat(path)) == _place(os.fstat(number)):
                break
        except FileNotFoundError:
            pass
        os.close(number)  # the run before removed the file between our open and our lock
    with suppress(OSError):  # on a full disk the lock holds all the same
        os.ftruncate(number, 0)
        os.write(number, f"{os.getpid()}\n".encode())
    return number


def _numbered_parts(path: Path) -> Iterator[Path]:
    """The parts ``.NAME-0001.SUFFIX``, ... that a killed run left of a video."""
    return path.parent.glob(f".{glob.escape(path.stem)}-[0-9]*{glob.escape(path.suffix)}")


def _try_file_in(folder: Path) -> None:
    # Trying is the only sure test: permission bits mean nothing to root, on /proc or on a read-only mount.
    with tempfile.NamedTemporaryFile(prefix=".masa-track-", dir=folder):
        pass


def _place(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _identity(path: Path) -> object:
    """What all names of a file have in common; None for what is there and is no regular file."""
    try:
        status = os.stat(path)
    except OSError:
        real = Path(os.path.realpath(path))
        try:
            return (*_place(os.stat(real.parent)), real.name)
        except OSError:
            return str(real)
    return _place(status) if stat.S_ISREG(status.st_mode) else None
