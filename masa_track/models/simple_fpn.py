"""A pyramid from maps of one size: the first half of the adapter of ``sam-vitb`` and ``sam-vith``.

Source: Li et al., Exploring Plain Vision Transformer Backbones for Object Detection, ECCV 2022, with one tapped
block a level and a top-down sum, as in MASA's ``SimpleFPN``.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from masa_track.models.conv_norm import ConvNorm
from masa_track.models.fpn import add_coarser, top_down


class ChannelNorm(nn.Module):
    """Layer norm over the channels of a map (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as ``x``."""
        return self.ln(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SimpleFPN(nn.Module):
    """Four maps of stride 16 to strides 4, 8, 16 and 32, then as :class:`~masa_track.models.fpn.FPN` without norms.

    Args:
        in_channels: channels of each of the four maps.
        channels: channels of every level.
        levels: how many levels come out.
    """

    def __init__(self, in_channels: int, channels: int = 256, levels: int = 5) -> None:
        super().__init__()
        self.levels = levels

        def twice() -> nn.ConvTranspose2d:
            return nn.ConvTranspose2d(in_channels, in_channels, kernel_size=2, stride=2)

        self.fpn1 = nn.Sequential(twice(), ChannelNorm(in_channels), nn.GELU(), twice())
        self.fpn2 = nn.Sequential(twice())
        self.fpn3 = nn.Identity()
        self.fpn4 = nn.MaxPool2d(2)
        self.lateral_convs = nn.ModuleList(ConvNorm(in_channels, channels, 1) for _ in range(4))
        self.fpn_convs = nn.ModuleList(ConvNorm(channels, channels, 3) for _ in range(4))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """``maps``: four of (B, in_channels, H, W). Returns ``levels`` of (B, channels, 4 H / 2^i, 4 W / 2^i)."""
        scalers = (self.fpn1, self.fpn2, self.fpn3, self.fpn4)
        laterals = [conv(scaler(x)) for conv, scaler, x in zip(self.lateral_convs, scalers, maps, strict=True)]
        levels = [conv(x) for conv, x in zip(self.fpn_convs, top_down(laterals), strict=True)]
        return add_coarser(levels, self.levels)
