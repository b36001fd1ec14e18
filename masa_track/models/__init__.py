"""Networks in torch: backbones, adapters and heads. Needs the extra ``torch``; without it the import says so."""

from masa_track.registry import build_model, check_installed

check_installed("torch", purpose="for networks in torch")

__all__ = ["build_model"]
