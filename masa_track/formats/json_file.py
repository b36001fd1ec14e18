"""Json of other people: read whole, and its fields checked one by one. All readers of json share these checks."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeGuard

from masa_track.errors import InputError

MAX_WHOLE = 2**63 - 1  # what an int64 holds
MAX_FRAME = 2**53  # what a float64 counts without gaps


def parse_json(text: str | bytes) -> Any:
    """What the text holds.

    A number of 20 digits or more becomes a float, possibly an infinite one, because no field here has so many: Python
    itself refuses to read thousands of digits, and hundreds overflow where they become a float.

    Raises:
        ValueError: it is not whole json, or too deep. The message says where.
    """
    try:
        return json.loads(text, parse_int=_int)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _int(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 else float(digits)


def shown(value: Any) -> str:
    """A value in a message: at most 60 characters of it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def is_number(value: Any) -> bool:
    """Whether it is a number, not a truth value; it may be NaN or infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Whether it is a finite number."""
    return is_number(value) and math.isfinite(value)


def is_key(value: Any) -> TypeGuard[int | str]:
    """Whether it can be an id in json: a number or a text, so not a list."""
    return isinstance(value, str) or is_finite(value)


def whole(entry: Mapping[str, Any], key: str, place: str, most: int = MAX_WHOLE) -> int:
    """The whole number under ``key``, as itself, as a float, or as text of up to 18 digits.

    Args:
        entry: an object of the file.
        key: its field.
        place: file and entry, for the message.
        most: the largest size allowed.

    Raises:
        InputError: it is missing, something else, or larger.
    """
    value: Any = entry.get(key)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        value = int(value)
    if not is_finite(value) or value != int(value):
        raise InputError(f"{place}: {key} must be a whole number, got {shown(value)}; fix it")
    if abs(int(value)) > most:
        raise InputError(f"{place}: {key} must be {most} at most, got {shown(value)}; fix it")
    return int(value)


def objects(value: Any, place: str) -> list[dict[str, Any]]:
    """A list of objects.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise InputError(f"{place} must be a list of objects, got {shown(value)}")
    return value
