"""Reads numpy's npz of plain arrays. Each array's header is checked before its data take memory."""

from __future__ import annotations

import lzma
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from masa_track.errors import InputError

MAX_BYTES = 2**32  # of all arrays together, uncompressed: a few kilobytes of zip can claim any size
_KINDS = {"text": "UT", "bytes": "S", "numbers": "iuf"}
# What a damaged or hostile zip or npy raises, besides InputError.
_DAMAGE = (
    *(ValueError, TypeError, KeyError, EOFError, OverflowError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


def read_arrays(path: str | Path, layout: Mapping[str, tuple[int, str]], what: str) -> dict[str, np.ndarray]:
    """The arrays of an npz; nothing in the file is run as code.

    Args:
        path: the file.
        layout: number of dimensions and kind (``numbers``, ``text`` or ``bytes``) of each array that may be there.
        what: what the file is, for messages.

    Returns:
        The arrays that are there, by name.

    Raises:
        InputError: the file cannot be read, is no npz, holds an array that ``layout`` does not allow, or has more than
            4 GiB of data.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            for name, info in members.items():
                if name not in layout:
                    raise InputError(f"{path}: unknown array {name!r}; an npz of {what} has {', '.join(layout)}")
                _check_header(path, archive, info, name, *layout[name])
            total = sum(info.file_size for info in members.values())
            if total > MAX_BYTES:
                raise InputError(f"{path}: its arrays take {total:,} bytes, at most {MAX_BYTES:,} are read: split it")
            for name, info in members.items():
                with archive.open(info) as file:
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{what} {str(path)!r} cannot be read: {error.strerror or error}") from error
    except _DAMAGE as error:
        raise InputError(f"{what} {str(path)!r} cannot be read: no npz of plain arrays: {error}") from error
    return arrays


def _check_header(
    path: str | Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, ndim: int, kind: str
) -> None:
    """Raises InputError unless the header fits the layout, and ValueError unless the data fill the member."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        start = file.tell()
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded")
    if len(shape) != ndim or dtype.kind not in _KINDS[kind]:
        raise InputError(f"{path}: {name} must be {ndim}-dimensional {kind}, got {shape} {dtype}")
    if min(shape) < 0 or math.prod(shape) * dtype.itemsize != info.file_size - start:
        raise ValueError(f"{name} claims {shape} {dtype}, but has {info.file_size - start:,} bytes")
