"""Lengths of time as the command line takes them: ``90s``, ``30m``, ``1h30m``, ``7d``."""

from __future__ import annotations

import re

from masa_track.errors import InputError

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}  # in the order in which they are written
_NUMBER = r"(\d+(?:\.\d+)?)"
_FORM = re.compile("".join(rf"(?:{_NUMBER}{unit})?" for unit in _UNITS), re.ASCII)
LONGEST = 100 * 366 * 86400.0  # seconds; later dates cannot be written


def seconds_of(text: str, argument: str) -> float:
    """The seconds of a length of time.

    Args:
        text: numbers with the units ``d``, ``h``, ``m`` and ``s``, each at most once and in this order; or a number
            alone, which is seconds.
        argument: the name of the argument, for the message, e.g. ``--rotate``.

    Returns:
        Seconds, above 0 and at most 100 years.

    Raises:
        InputError: the text has another form, or is 0, or more than 100 years.
    """
    form = text.strip().lower()
    if re.fullmatch(_NUMBER, form, re.ASCII):
        seconds = float(form)
    elif form and (found := _FORM.fullmatch(form)):
        seconds = sum(float(n) * unit for n, unit in zip(found.groups(), _UNITS.values(), strict=True) if n is not None)
    else:
        raise InputError(
            f"{argument} must be a length of time such as 90s, 30m, 1h30m or 7d, got {text!r}: "
            "the units are d, h, m and s, in this order; a number alone is seconds"
        )
    if not 0 < seconds <= LONGEST:
        raise InputError(f"{argument} must be longer than 0 and at most 100 years (36600d), got {text!r}")
    return seconds
