"""Ctrl-C between two pieces of work, not in the middle of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Stop:
    """Turns the first Ctrl-C or SIGTERM into a wish that the loop can ask for; a second one stops at once.

    Once ``finishing`` is set, nothing stops any more: the files are being put in their places. Outside the main
    thread signals cannot be caught, and the loop is never asked to stop.
    """

    def __init__(self) -> None:
        self.asked = False
        self.finishing = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and not self.finishing:
            raise KeyboardInterrupt
        self.asked = True
