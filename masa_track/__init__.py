"""masa-track: makes any detector track anything.

The two public doors are :class:`MasaTracker` and :func:`load`; both are imported when first used, so that
``import masa_track`` is quick and needs neither torch nor any optional package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["MasaTracker", "__version__", "load"]

if TYPE_CHECKING:
    from masa_track.encoders.loading import load
    from masa_track.tracker import MasaTracker


def __getattr__(name: str) -> Any:
    if name == "MasaTracker":
        from masa_track.tracker import MasaTracker

        return MasaTracker
    if name == "load":
        from masa_track.encoders.loading import load

        return load
    raise AttributeError(f"module 'masa_track' has no attribute {name!r}")
