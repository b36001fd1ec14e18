"""How many objects fit into the memory: too many are refused early, and not when the memory is full."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from masa_track.contracts import MaskPropagator
from masa_track.errors import InputError

_SHARE = 0.8  # of the free memory that objects may take
_PIXEL_BYTES = 10  # for each object and pixel of the picture, while a frame is made: float32 values and masks
_CGROUP = Path("/sys/fs/cgroup")


class ObjectLimit:
    """Refuses more objects than .8 of the free memory holds.

    Bytes per object are measured once, when the first objects were committed: the most that the propagator keeps of one
    object, and 10 bytes for each pixel of the picture.

    Args:
        propagator: that holds the objects.
        argument: name of the argument that shows the objects, for the message.
        fix: how to show fewer, for the message.
        free_bytes: free memory before the first object; None: as the propagator or the system says. Where neither
            says it, nothing is refused.
    """

    def __init__(self, propagator: MaskPropagator, argument: str, fix: str, free_bytes: int | None = None) -> None:
        self.propagator, self.argument, self.fix, self.free_bytes = propagator, argument, fix, free_bytes
        self._each: int | None = None
        self._free: int | None = None

    def check(self, count: int, size: tuple[int, int]) -> None:
        """Refuses to go on with ``count`` objects in pictures of ``size`` (width, height).

        Raises:
            InputError: they do not fit.
        """
        kept = self.propagator.memory_bytes()
        if not count or not kept:
            return
        if self._each is None:
            self._each = self.propagator.most_bytes_per_object() + _PIXEL_BYTES * size[0] * size[1]
            free = self.propagator.free_bytes() if self.free_bytes is None else self.free_bytes
            self._free = free if free is None or self.free_bytes is not None else free + kept
        if self._free is None:
            return
        most = int(_SHARE * self._free / self._each)
        if count > most:
            raise InputError(
                f"{self.argument} must show at most {most} objects at a time, got {count}: each takes "
                f"{self._each / 1e6:.1f} MB, and {_SHARE:.0%} of {self._free / 1e6:.0f} MB of free memory may be used; "
                f"{self.fix}"
            )


def free_memory() -> int | None:
    """Bytes of memory that this process can still take; None where the system does not say it (only Linux does)."""
    found = []
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    with suppress(OSError, ValueError):  # the limit of a container; without one the file holds "max"
        limit, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        found.append(max(limit - used, 0))
    return min(found, default=None)
