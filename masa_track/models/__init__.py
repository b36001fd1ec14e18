"""Models: from a frame and boxes to embeddings. Needs torch, torchvision and timm."""

from masa_track.models.embedder import Embedder
from masa_track.models.registry import build_model, load

__all__ = ["Embedder", "build_model", "load"]
