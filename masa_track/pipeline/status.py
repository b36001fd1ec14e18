"""The state of a run in numbers, for those who watch it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

from masa_track.pipeline.job import Job


def status_of(job: Job) -> dict[str, Any]:
    """The state of a job that is at work, as names and values that JSON holds. It may be called from any thread.

    Returns:
        ``source``, ``frames`` (done), ``fps`` (of the last 50 frames), ``tracks`` (in the last frame), ``dropped`` and
        ``skipped`` (frames), ``lag_seconds`` (of the last frame), ``memory_mb`` (of the process), ``last_error`` (text;
        empty without one), and ``counts`` of lines and zones where there are any.
    """
    outcome = job.outcome
    status: dict[str, Any] = {"source": job.source.name, "frames": 0, "fps": 0.0, "tracks": 0, "last_error": ""}
    if outcome is not None:
        errors = [*outcome.broken_listed[-1:], *outcome.faults[-1:]]
        status |= {
            "frames": outcome.frames,
            "fps": round(outcome.recent_fps, 2),
            "tracks": outcome.tracks,
            "dropped": outcome.dropped,
            "skipped": outcome.broken,
            "lag_seconds": round(outcome.lag, 3),
            "last_error": errors[-1] if errors else "",
        }
    status["memory_mb"] = round(memory_bytes() / 2**20)
    if job.counter is not None:
        status["counts"] = job.counter.summary()
    return status


def memory_bytes() -> int:
    """The memory that the process has now; where the system does not say that, the most it had."""
    with suppress(OSError, ValueError, IndexError), open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with suppress(ImportError):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return 0
