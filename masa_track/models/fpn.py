"""Feature pyramid with batch norm: the first half of the adapter of ``r50``, ``gdino-swinb`` and ``detic-swinb``.

Source: Lin et al., Feature Pyramid Networks, CVPR 2017, as mmdet's ``FPN`` with ``num_outs=5`` and no extra
convolutions runs it: the levels above the last one are every second pixel of the level below.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from masa_track.models.conv_norm import ConvNorm, Norm


def top_down(laterals: Sequence[Tensor]) -> list[Tensor]:
    """Adds to each level the nearest-neighbour enlargement of the (already summed) level above it.

    Args:
        laterals: maps of one width, finest first, (B, C, H_i, W_i).

    Returns:
        Maps of the same shapes, finest first.
    """
    summed = [laterals[-1]]
    for lateral in reversed(laterals[:-1]):
        summed.append(lateral + F.interpolate(summed[-1], size=lateral.shape[-2:], mode="nearest"))
    return summed[::-1]


def add_coarser(levels: list[Tensor], count: int) -> list[Tensor]:
    """Appends levels, each every second row and column of the one before, until there are ``count``."""
    levels = list(levels)
    while len(levels) < count:
        levels.append(levels[-1][:, :, ::2, ::2])
    return levels


class FPN(nn.Module):
    """Lateral 1x1 convolutions, a top-down sum, 3x3 convolutions, and coarser levels by subsampling.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        channels: channels of every level.
        levels: how many levels come out, at least as many as maps go in.
        norm: the normalisation after each convolution.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 256, levels: int = 5, norm: Norm = "bn") -> None:
        super().__init__()
        self.levels = levels
        self.lateral_convs = nn.ModuleList(ConvNorm(c, channels, 1, norm) for c in in_channels)
        self.fpn_convs = nn.ModuleList(ConvNorm(channels, channels, 3, norm) for _ in in_channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """``maps`` (B, in_channels[i], H_i, W_i), finest first. Returns ``levels`` maps of ``channels`` channels."""
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, maps, strict=True)]
        levels = [conv(x) for conv, x in zip(self.fpn_convs, top_down(laterals), strict=True)]
        return add_coarser(levels, self.levels)
