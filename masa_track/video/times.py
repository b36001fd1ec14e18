"""Frame numbers of the times that a user gives, as in ``--start 1:30``."""

from __future__ import annotations

import re

from masa_track.errors import InputError
from masa_track.video.source import Source

TOLERANCE = 1e-3  # seconds: Matroska rounds its times to this
FORMS = "a frame number, 1500, or a time: 12.5s, 1:30, 1:02:03.5"


def frame_of(text: str, source: Source, end: bool = False) -> int:
    """The frame that a value of ``--start`` or ``--end`` means.

    A time is in seconds since frame 1, as of :class:`~masa_track.contracts.Frame`. Of a video, the timestamps of its
    packets decide, without decoding; so a variable frame rate is followed.

    Args:
        text: a frame number from 1, ``1500``; or a time: seconds, ``12.5s``; ``minutes:seconds``;
            ``hours:minutes:seconds``.
        source: what is to be read.
        end: whether it is the last frame wanted. Then a time gives the last frame at or before it, also where the
            source is shorter; otherwise the first frame at or after it.

    Raises:
        InputError: the text is none of these, the source is live and the text is a time, or no frame comes at or after
            the time of ``--start``.
    """
    argument = "--end" if end else "--start"
    if re.fullmatch(r"[0-9]{1,18}", text):
        if int(text) < 1:
            raise InputError(f"{argument} must be a frame number from 1, got {text}; for a time write {text}s")
        return int(text)
    seconds = _seconds(text, argument)
    if source.live:
        raise InputError(
            f"{argument} must be a frame number for a live source, got {text}: its times are not known yet"
        )
    number, time = 0, 0.0
    for time in source.frame_times():
        if end and time > seconds + TOLERANCE:
            break
        number += 1
        if not end and time >= seconds - TOLERANCE:
            return number
    if end and number:
        return number
    raise InputError(f"{argument} {text} is after the last frame of {source.name}, which comes at {time:.3f} s")


def _seconds(text: str, argument: str) -> float:
    decimal = r"[0-9]+(?:\.[0-9]*)?"
    if re.fullmatch(decimal + "s", text):
        return float(text[:-1])
    clock = re.fullmatch(rf"(?:([0-9]+):)?([0-9]+):({decimal})", text)
    if clock:
        hours, minutes, seconds = float(clock[1] or 0), float(clock[2]), float(clock[3])
        if seconds < 60 and (minutes < 60 or clock[1] is None):
            return 3600 * hours + 60 * minutes + seconds
        raise InputError(f"{argument}: minutes and seconds after a colon must be below 60, got {text!r}")
    hint = f"; for seconds write {text}s" if re.fullmatch(decimal, text) else ""
    raise InputError(f"{argument} must be {FORMS}; got {text!r}{hint}")
