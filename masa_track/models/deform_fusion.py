"""DeformFusion: mixes neighbouring pyramid levels by deformable convolutions.

It is the second half of the adapter of ``r50``, ``gdino-swinb`` and ``detic-swinb``: a dynamic head without scale
and task attention, in which every level has its own offsets for itself, the finer and the coarser neighbour.

Source: Li et al., Matching Anything by Segmenting Anything, CVPR 2024; Dai et al., Dynamic Head, CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from masa_track.models.deform_conv import TAPS, DeformConvNorm, convolve_neighbours

NEIGHBOURS = 3  # itself, the finer level, the coarser level, in the order of the offsets' channels


class FusionBlock(nn.Module):
    """One round: each level becomes the mean of three deformable convolutions, of itself and its two neighbours."""

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.spatial_conv_offset = nn.Conv2d(channels, NEIGHBOURS * TAPS * 3, 3, padding=1)
        self.spatial_conv_high = DeformConvNorm(channels)
        self.spatial_conv_mid = DeformConvNorm(channels)
        self.spatial_conv_low = DeformConvNorm(channels, stride=2)
        for parameter in self.spatial_conv_offset.parameters():
            nn.init.zeros_(parameter)  # starts as a plain convolution with half weights

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Fuses ``levels`` (B, C, H_i, W_i), finest first, each half the size (rounded up) of the one before."""
        return [self._fuse(levels, index) for index in range(len(levels))]

    def _fuse(self, levels: Sequence[Tensor], index: int) -> Tensor:
        x = levels[index]
        raw = self.spatial_conv_offset(x)  # (B, 81, H, W): 3 x 18 offsets, then 3 x 9 masks
        split = NEIGHBOURS * TAPS * 2
        offsets = raw[:, :split].chunk(NEIGHBOURS, dim=1)  # each (B, 18, H, W)
        masks = raw[:, split:].sigmoid().chunk(NEIGHBOURS, dim=1)  # each (B, 9, H, W)

        convs = (self.spatial_conv_mid, self.spatial_conv_low, self.spatial_conv_high)
        parts = convolve_neighbours(convs, levels, index, offsets, masks)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total / len(parts)


class DeformFusion(nn.Module):
    """``blocks`` rounds of :class:`FusionBlock`.

    Args:
        channels: channels of every level.
        blocks: rounds; the official models have three.
    """

    def __init__(self, channels: int = 256, blocks: int = 3) -> None:
        super().__init__()
        self.dyhead_blocks = nn.ModuleList(FusionBlock(channels) for _ in range(blocks))  # the official name

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """``levels`` (B, C, H_i, W_i), finest first. Returns levels of the same shapes."""
        fused = list(levels)
        for block in self.dyhead_blocks:
            fused = block(fused)
        return fused
