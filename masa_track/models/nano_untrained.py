"""`nano-untrained`: nano's frozen backbone, read as it is. What training has to beat, and a baseline for papers.

Source: `tf_efficientnet_lite0` of timm with ImageNet weights (Apache-2.0); the card beside the weights says more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from masa_track.models.roi import align

STRIDES = (8, 16, 32)
GRID = (4, 2)  # rows and columns of cells that a box is read in; things are more often tall than wide
# Length of an embedding: dot products are 200 times a cosine, which makes the softmaxes sharp. On the dev clips lengths
# from 10 to 20 were within .05 IDF1 of each other; a length of 1 lost .1.
LENGTH = 14.0


class UntrainedNano(nn.Module):
    """Frozen EfficientNet-Lite0 maps at strides 8, 16 and 32; an embedding joins a 4 x 2 grid of each.

    Attributes:
        mean, std, long_side, short_side, size_divisor: of the input, set by :func:`~masa_track.registry.build_model`;
            see :class:`~masa_track.registry.Preprocessing`.
        dimension: of an embedding.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    long_side: int
    short_side: int | None
    size_divisor: int

    def __init__(self) -> None:
        super().__init__()
        import timm

        backbone: Any = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(2, 3, 4))
        self.dimension = sum(backbone.feature_info.channels()) * GRID[0] * GRID[1]
        self.backbone = backbone

    def backbone_maps(self, images: Tensor) -> list[Tensor]:
        """The three maps of normalised images.

        Args:
            images: (B, 3, H, W) float, H and W multiples of 32.

        Returns:
            (B, 40, H / 8, W / 8), (B, 112, H / 16, W / 16) and (B, 320, H / 32, W / 32).
        """
        return list(self.backbone(images))

    def adapt(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps as they are: there is no adapter."""
        return list(maps)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The levels of normalised images, see :meth:`backbone_maps`."""
        return self.adapt(self.backbone_maps(images))

    def embed(self, levels: list[Tensor], boxes: list[Tensor]) -> Tensor:
        """Embeddings of boxes.

        Args:
            levels: what :meth:`pyramid` gave.
            boxes: for each image (N, 4) xyxy in pixels of the input.

        Returns:
            (sum of N, ``dimension``), of the maps' dtype; each level's share has the same length.
        """
        parts = []
        for level, stride in zip(levels, STRIDES, strict=True):
            regions = align(level, boxes, GRID, stride, sampling_ratio=2)
            parts.append(functional.normalize(regions.flatten(1), dim=1))  # (N, C * 4 * 2)
        return torch.cat(parts, dim=1) * (LENGTH / len(parts) ** 0.5)
