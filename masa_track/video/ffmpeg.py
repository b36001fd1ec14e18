"""What the readers and writers by PyAV share: FFmpeg's log kept out of the way, streams copied as they are."""

from __future__ import annotations

from typing import Any

import av


def silence_ffmpeg() -> None:
    """Turns PyAV's logging off, which older torchvisions turn on when they are imported.

    A coder's thread that logs waits for Python's lock, which whoever closes the coder holds while waiting for its
    threads: both would wait for ever.
    """
    av.logging.set_level(None)


def copied_stream(container: Any, stream: Any) -> Any:
    """A stream of ``container`` that takes the packets of another one as they are."""
    if hasattr(container, "add_stream_from_template"):
        made = container.add_stream_from_template(stream)
    else:  # before PyAV 14
        made = container.add_stream(template=stream)
    made.time_base = stream.time_base
    return made
