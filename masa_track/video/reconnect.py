"""Keeps reading a live source whose connection breaks: reconnects after growing waits, and reports it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

from masa_track.contracts import Frame
from masa_track.errors import InputError
from masa_track.video.source import OnBroken

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds before an attempt: 1, 2, 4, ..., 30, 30, ...


class Connects(Protocol):
    """A source that can be connected to again.

    Attributes:
        fps: frames per second.
        notice: called with a text on each event.
        stop_asked: whether the user wants to end.
    """

    fps: float
    notice: Callable[[str], None]
    stop_asked: Callable[[], bool]

    def connection(self, stride: int, report: OnBroken) -> Iterator[Frame]:
        """Connects anew and reads to the end; raises InputError if that is not possible."""

    def why_ended(self) -> str:
        """What ended the last connection."""


def kept_alive(source: Connects, patience: float, stride: int, report: OnBroken, start: int = 1) -> Iterator[Frame]:
    """The frames of one connection after another.

    Numbers and timestamps continue: the time without a picture counts, in frames of 1 / ``fps``, so that tracks are
    forgotten after the right time.

    Args:
        source: what to read.
        patience: seconds for which to try without a picture.
        stride: yields frames start, start + stride, ...
        report: called with broken frames, and with the end.
        start: number of the first frame.
    """
    number_shift, seconds_shift = start - 1, 0.0
    number, seconds, seen = start - 1, 0.0, time.monotonic()  # of the last picture
    wait, attempts = FIRST_WAIT, 0
    reason, since = "", seen
    while True:

        def report_shifted(own: int, text: str, shift: int = number_shift) -> None:
            report(own + shift, text)

        try:
            for frame in source.connection(stride, report_shifted):
                if attempts:
                    tries = f"{attempts} attempt{'s' * (attempts > 1)}"
                    source.notice(f"connected again after {time.monotonic() - seen:.1f} s, {tries}")
                    wait, attempts = FIRST_WAIT, 0
                number, seconds = frame.number + number_shift, frame.time + seconds_shift
                yield replace(frame, number=number, time=seconds, name=f"{number:06d}.jpg")
                seen = time.monotonic()
                del frame  # not held while the next one is decoded
            lost = source.why_ended() or "the address stopped giving pictures"
        except InputError as error:
            lost = str(error)
        if not attempts:
            reason, since = lost, time.monotonic()
            limit = f" for up to {patience:g} s" if math.isfinite(patience) else ""
            source.notice(f"after frame {number}: {reason}; connecting again{limit}")
        left = since + patience - time.monotonic()
        if not _waited(min(wait, left), source.stop_asked):
            report(number + 1, reason)
            return
        if left <= wait and attempts:
            report(number + 1, f"{reason}; {attempts} attempts in {patience:g} s to connect again failed")
            return
        attempts += 1
        wait = min(2 * wait, LONGEST_WAIT)
        gap = time.monotonic() - seen
        strides = math.ceil((number - start + 1 + round(gap * source.fps)) / stride)
        number_shift = start - 1 + strides * stride
        seconds_shift = seconds + gap


def _waited(seconds: float, stop_asked: Callable[[], bool]) -> bool:
    """Waits; False if the user wants to end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if stop_asked():
            return False
        time.sleep(min(0.1, max(0.0, until - time.monotonic())))
    return not stop_asked()
