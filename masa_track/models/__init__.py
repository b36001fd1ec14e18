"""Networks in torch: backbones, adapters and heads. Need the extra ``torch``; without torch the import says so."""

from importlib.util import find_spec

from masa_track.registry import build_model, check_installed

if find_spec("torch") is None:  # timm alone may be missing: not every network needs it
    check_installed("torch", purpose="for networks in torch")

__all__ = ["build_model"]
