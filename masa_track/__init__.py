"""masa-track: makes any detector track anything.

The public names are :class:`MasaTracker`, :func:`load`, and, for models of your own, :func:`list_models`,
:func:`register_model` and :class:`ModelSpec`. They are imported when first used, so that ``import masa_track`` is quick
and needs neither torch nor any optional package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["MasaTracker", "ModelSpec", "__version__", "list_models", "load", "register_model"]

if TYPE_CHECKING:
    from masa_track.encoders.loading import load
    from masa_track.registry import ModelSpec, list_models, register_model
    from masa_track.tracker import MasaTracker


def __getattr__(name: str) -> Any:
    if name == "MasaTracker":
        from masa_track.tracker import MasaTracker

        return MasaTracker
    if name == "load":
        from masa_track.encoders.loading import load

        return load
    if name in ("ModelSpec", "list_models", "register_model"):
        from masa_track import registry

        return getattr(registry, name)
    raise AttributeError(f"module 'masa_track' has no attribute {name!r}")
