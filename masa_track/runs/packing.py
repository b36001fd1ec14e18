"""Arrays in one blob: their names, dtypes and shapes as JSON, then their bytes. Nothing is unpickled."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from functools import lru_cache
from math import prod

import numpy as np

_LENGTH = struct.Struct("<I")  # of the header, bytes
_KINDS = frozenset("biufUS")  # bool, int, unsigned, float, text, bytes: no objects


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The arrays as one blob.

    Raises:
        ValueError: an array holds Python objects.
    """
    held = [np.asarray(array) for array in arrays.values()]
    header = _header(tuple((name, one.dtype.str, one.shape) for name, one in zip(arrays, held, strict=True)))
    return b"".join([header, *(one.tobytes() for one in held)])


def unpack(blob: bytes) -> dict[str, np.ndarray]:
    """The arrays of :func:`pack`, read-only views of the blob.

    Raises:
        ValueError: the blob is damaged.
    """
    if len(blob) < _LENGTH.size:
        raise ValueError(f"a blob of arrays has at least {_LENGTH.size} bytes, got {len(blob)}")
    (length,) = _LENGTH.unpack_from(blob)
    start = _LENGTH.size + length
    arrays: dict[str, np.ndarray] = {}
    for name, dtype, shape in _entries(blob[_LENGTH.size : start]):
        count = prod(shape)
        if start + count * dtype.itemsize > len(blob):
            raise ValueError(f"the blob ends within the array {name!r}")
        arrays[name] = np.ndarray(shape, dtype, blob, start)
        start += count * dtype.itemsize
    return arrays


@lru_cache(maxsize=1024)  # of a video's frames, many have the same arrays
def _header(entries: tuple[tuple[str, str, tuple[int, ...]], ...]) -> bytes:
    for name, kind, _ in entries:
        if np.dtype(kind).kind not in _KINDS:
            raise ValueError(f"array {name!r} has the dtype {kind}: numbers and text alone can be stored")
    text = json.dumps(entries, separators=(",", ":")).encode()
    return _LENGTH.pack(len(text)) + text


@lru_cache(maxsize=1024)
def _entries(header: bytes) -> tuple[tuple[str, np.dtype, tuple[int, ...]], ...]:
    try:
        entries = tuple(
            (str(name), np.dtype(str(kind)), tuple(map(int, shape))) for name, kind, shape in json.loads(header)
        )
    except (ValueError, TypeError, SyntaxError, OverflowError, RecursionError) as error:
        raise ValueError(f"the header of a blob of arrays is damaged: {error}") from error
    for name, dtype, shape in entries:
        if dtype.kind not in _KINDS or min(shape, default=0) < 0:
            raise ValueError(f"array {name!r} has the dtype {dtype} and the shape {shape}, which are not stored")
    return entries
