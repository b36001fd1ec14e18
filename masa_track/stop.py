"""Ctrl-C, SIGTERM and SIGHUP take effect between two frames, not within one."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

# SIGHUP: the terminal was closed. Windows has none.
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stop:
    """The first Ctrl-C, SIGTERM or SIGHUP sets ``asked``, which the loop checks; a second Ctrl-C or SIGTERM ends it.

    While ``finishing`` is set, signals stop nothing: the files are being put in their places. Outside the main thread
    signals cannot be caught, and ``asked`` stays False. Under ``nohup`` SIGHUP stays ignored.
    """

    def __init__(self) -> None:
        self.asked = False
        self.finishing = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        # A terminal that closes may send SIGHUP twice: the system to its processes, and the shell to its jobs.
        if self.asked and not self.finishing and number != getattr(signal, "SIGHUP", None):
            raise KeyboardInterrupt
        self.asked = True
