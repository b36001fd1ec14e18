"""Reads a pickle of plain containers and numpy arrays without running anything that it says.

A pickle is a program: all that it names is imported and called. Here it may name only the parts of numpy's arrays, and
each of these names is replaced by a few lines of our own. numpy's own reconstruction does not run, only
``np.frombuffer`` with a dtype of numbers, booleans or text, after the length has been checked.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.errors import InputError

_KIND = re.compile(r"[<>=|]?(\?|[bhilqBHILQefd]|[biuf](1|2|4|8)|[SU][0-9]{1,5})")
_CONTAINERS = {dict, list, tuple, set, frozenset, str, bytes, bytearray, bool, int, float, type(None)}


def read_pickle(path: str | Path) -> Any:
    """Reads dicts, lists, tuples, sets, text, numbers and numpy arrays and scalars of numbers, booleans or text.

    Args:
        path: a pickle of any protocol, of Python 2 or 3 and of numpy 1 or 2.

    Returns:
        What was pickled; arrays are copies.

    Raises:
        InputError: it cannot be read, is no pickle, is cut off, or names anything else; nothing of it was run.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if file.read(2) == b"PK":
                raise InputError(f"{path} is a zip archive (of torch.save?), not a pickle: save numpy arrays instead")
            file.seek(0)
            content = _Unpickler(file, encoding="latin1").load()
        return _finished(content)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(str(path)) else f"{path} is refused: {text}") from None
    # Broken opcodes surface as any of these; nothing but the stand-ins below was called.
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise InputError(f"{path} is no whole pickle of numpy arrays: {error}") from error
    except (MemoryError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} is no sound pickle: {type(error).__name__}") from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _ADMITTED.get((module, name))
        if found is None:
            raise InputError(
                f"it names {module}.{name}, and only numpy arrays and plain containers are read; nothing was run"
            )
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise InputError("it names an object outside the file (a persistent id); nothing was run")


class _DType:
    """Stands for ``numpy.dtype``; of its state only the byte order is taken."""

    def __init__(self, kind: Any, *flags: Any) -> None:
        if not isinstance(kind, str) or not _KIND.fullmatch(kind):
            raise InputError(f"it holds an array of {kind!r}, and only numbers, booleans and text are read")
        self.kind = kind

    def __setstate__(self, state: Any) -> None:
        if state[2] is not None or state[3] is not None:
            raise InputError("it holds an array of records, and only numbers, booleans and text are read")
        if state[1] in ("<", ">"):
            self.kind = state[1] + self.kind.lstrip("<>=|")

    def of(self, data: Any, shape: tuple[int, ...], fortran: bool) -> np.ndarray:
        """The array of these bytes."""
        dtype = np.dtype(self.kind)
        if isinstance(data, str):
            data = data.encode("latin1")
        whole = all(isinstance(size, int) and size >= 0 for size in shape)
        if not isinstance(data, bytes | bytearray) or not whole or math.prod(shape) * dtype.itemsize != len(data):
            raise InputError(f"an array of shape {shape} and kind {dtype} does not have the bytes for it")
        return np.frombuffer(bytes(data), dtype).reshape(shape, order="F" if fortran else "C").copy()


class _Array:
    """Stands for an empty ``numpy.ndarray`` that waits for its state."""

    value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        shape, dtype, fortran, data = state[-4:]
        if not isinstance(dtype, _DType) or not isinstance(shape, tuple):
            raise InputError("it holds an array of an unknown kind")
        self.value = dtype.of(data, shape, bool(fortran))


def _reconstruct(kind: Any, *_: Any) -> _Array:
    if kind is not _NDARRAY:
        raise InputError("it holds a subclass of numpy's array")
    return _Array()


def _scalar(dtype: Any, data: Any) -> Any:
    return dtype.of(data, (), False)[()]


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return dtype.of(data, tuple(shape), order == "F")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How protocol 2 writes bytes."""
    if encoding != "latin1":
        raise InputError(f"it encodes text as {encoding!r}")
    return text.encode("latin1")


def _bytes(*nothing: Any) -> bytes:
    if nothing:
        raise InputError("it builds bytes")
    return b""


def _ndarray(*_: Any) -> Any:
    raise InputError("it makes an array by another way than numpy's own pickles do")


class _Call:
    """A name that may be called and that nothing in a pickle can alter."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise InputError("it alters what it names")


_NDARRAY = _Call(_ndarray)
_ADMITTED: dict[tuple[str, str], _Call] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Call(_DType),
    ("_codecs", "encode"): _Call(_encode),
    ("__builtin__", "bytes"): _Call(_bytes),
    ("builtins", "bytes"): _Call(_bytes),
}
for _core in ("numpy.core", "numpy._core"):  # as numpy 1 and numpy 2 call it
    _ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _Call(_reconstruct)
    _ADMITTED[f"{_core}.multiarray", "scalar"] = _Call(_scalar)
    _ADMITTED[f"{_core}.numeric", "_frombuffer"] = _Call(_frombuffer)


def _finished(value: Any) -> Any:
    """The value with arrays in place of their stand-ins."""
    if isinstance(value, _Array):
        if value.value is None:
            raise InputError("it holds an array without content")
        return value.value
    if isinstance(value, dict):
        return {_finished(key): _finished(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_finished(one) for one in value)
    if type(value) in _CONTAINERS or isinstance(value, np.ndarray | np.generic):
        return value
    raise InputError(f"it holds a {type(value).__name__}, and only numpy arrays and plain containers are read")
