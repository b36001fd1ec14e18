"""DyHead: deformable mixing of neighbouring levels with attention over scales and channels.

It is the second half of the adapter of ``sam-vitb`` and ``sam-vith``.

Source: Dai et al., Dynamic Head, CVPR 2021; Chen et al., Dynamic ReLU, ECCV 2020; with mmdet's order of steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masa_track.models.conv_norm import ConvNorm
from masa_track.models.deform_conv import TAPS, DeformConvNorm, convolve_neighbours


class DynamicReLU(nn.Module):
    """The larger of two lines a channel, whose slopes and offsets are computed from the whole map."""

    def __init__(self, channels: int, ratio: int = 4) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels // ratio, 1, relu=True)
        self.conv2 = ConvNorm(channels // ratio, channels * 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as ``x`` (B, C, H, W)."""
        pooled = x.mean(dim=(2, 3), keepdim=True)
        coefficients = F.hardsigmoid(self.conv2(self.conv1(pooled))) - 0.5  # (B, 4 C, 1, 1) in -0.5 .. 0.5
        slope1, offset1, slope2, offset2 = coefficients.chunk(4, dim=1)
        return torch.maximum(x * (slope1 * 2 + 1) + offset1, x * (slope2 * 2) + offset2)


class DyHeadBlock(nn.Module):
    """One round: each level becomes an attended mean of three deformable convolutions, then a dynamic ReLU."""

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.spatial_conv_high = DeformConvNorm(channels)
        self.spatial_conv_mid = DeformConvNorm(channels)
        self.spatial_conv_low = DeformConvNorm(channels, stride=2)
        self.spatial_conv_offset = nn.Conv2d(channels, TAPS * 3, 3, padding=1)
        # Pooling, 1x1 convolution, ReLU, hard sigmoid; only the second has parameters.
        self.scale_attn_module = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 1, 1), nn.ReLU(), nn.Hardsigmoid()
        )
        self.task_attn_module = DynamicReLU(channels)
        for parameter in self.spatial_conv_offset.parameters():
            nn.init.zeros_(parameter)  # starts as a plain convolution with half weights

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Mixes ``levels`` (B, C, H_i, W_i), finest first, each half the size (rounded up) of the one before."""
        return [self._mix(levels, index) for index in range(len(levels))]

    def _mix(self, levels: Sequence[Tensor], index: int) -> Tensor:
        x = levels[index]
        raw = self.spatial_conv_offset(x)  # (B, 27, H, W): 18 offsets, 9 masks
        offset, mask = raw[:, : 2 * TAPS], raw[:, 2 * TAPS :].sigmoid()

        convs = (self.spatial_conv_mid, self.spatial_conv_low, self.spatial_conv_high)
        parts = convolve_neighbours(convs, levels, index, [offset] * 3, [mask] * 3)
        total = torch.zeros_like(parts[0])
        for part in parts:
            total = total + part * self.scale_attn_module(part)
        return self.task_attn_module(total / len(parts))


class DyHead(nn.Module):
    """``blocks`` rounds of :class:`DyHeadBlock`.

    Args:
        channels: channels of every level.
        blocks: rounds; the official models have three.
    """

    def __init__(self, channels: int = 256, blocks: int = 3) -> None:
        super().__init__()
        self.dyhead_blocks = nn.ModuleList(DyHeadBlock(channels) for _ in range(blocks))

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """``levels`` (B, C, H_i, W_i), finest first. Returns levels of the same shapes."""
        mixed = list(levels)
        for block in self.dyhead_blocks:
            mixed = block(mixed)
        return mixed
