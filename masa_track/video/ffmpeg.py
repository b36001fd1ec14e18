"""FFmpeg's log, by PyAV, kept out of the way."""

from __future__ import annotations

import av


def silence_ffmpeg() -> None:
    """Turns PyAV's logging off, which older torchvisions turn on when they are imported.

    A coder's thread that logs waits for Python's lock, which whoever closes the coder holds while waiting for its
    threads: both would wait for ever.
    """
    av.logging.set_level(None)
