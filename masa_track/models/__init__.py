"""Networks: backbones, adapters and heads. Needs torch, torchvision and timm."""

from masa_track.registry import build_model

__all__ = ["build_model"]
