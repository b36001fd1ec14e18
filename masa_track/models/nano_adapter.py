"""nano's adapter: a narrow feature pyramid and deformable fusion, which correct the centred maps.

The last convolution of the correction starts at zero, so that training starts from the centred features and moves away
from them only where the photographs say so.

Source: after Li et al., Matching Anything by Segmenting Anything, CVPR 2024, with batch norm instead of group norm:
its statistics are fixed at inference, so it folds into the convolutions, and a position does not depend on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from masa_track.models.deform_conv import TAPS, modulated_deform_conv
from masa_track.models.lite0 import CENTRED_CHANNELS, CHANNELS


class DeformConvBatchNorm(nn.Module):
    """Modulated deformable 3x3 convolution, then batch norm.

    Args:
        channels: of the input and of the output.
        stride: 1 or 2.
    """

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)  # holds the weight
        self.norm = nn.BatchNorm2d(channels)
        self.stride = stride

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """As :class:`~masa_track.models.deform_conv.DeformConvNorm`."""
        out = modulated_deform_conv(x, offset, mask, self.conv.weight, self.stride)
        if self.conv.bias is not None:  # the norm was folded into it
            out = out + self.conv.bias[:, None, None]
        return self.norm(out)


class NanoFusion(nn.Module):
    """Deformable fusion of the levels at strides 16 and 32 with their neighbours; stride 8 is left as it is.

    There deformation would cost four times as much, and an object's context is at the coarser levels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Zero offsets: it starts as a plain convolution with half weights.
        self.offset = _zero_init(nn.Conv2d(channels, TAPS * 3, 3, padding=1))
        self.finer = DeformConvBatchNorm(channels, stride=2)
        self.own = DeformConvBatchNorm(channels)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """``levels``: (B, C, H_i, W_i), each half the size of the one before. Returns the same shapes."""
        fused = [levels[0]]
        for finer, x in pairwise(levels):
            raw = self.offset(x)
            offset, mask = raw[:, : 2 * TAPS], raw[:, 2 * TAPS :].sigmoid()
            mixed = self.finer(finer, offset, mask) + self.own(x, offset, mask)
            fused.append(x + F.relu(mixed / 2))
        return fused


class NanoAdapter(nn.Module):
    """Backbone maps to the levels that boxes are read from.

    Args:
        channels: of the pyramid.
        fusion: without it the pyramid is taken as it is: an ablation.
    """

    def __init__(self, channels: int = 64, fusion: bool = True) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(c, affine=False), nn.Conv2d(c, channels, 1)) for c in CHANNELS
        )
        self.finest = nn.Conv2d(channels, channels, 3, stride=2, padding=1)  # what stride 4 knows, at stride 8
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
            for _ in range(3)
        )
        self.fusion = NanoFusion(channels) if fusion else None
        self.correct = nn.ModuleList(_zero_init(nn.Conv2d(channels, kept, 1)) for kept in CENTRED_CHANNELS[1:])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of :class:`~masa_track.models.lite0.CentredLite0` to four levels at strides 4 to 32.

        Returns:
            The centred colours as they are, (B, kept_0, H / 4, W / 4); three corrected centred maps (B, kept_i, H / s,
            W / s).
        """
        raw, colours, centred = maps[: len(CHANNELS)], maps[len(CHANNELS)], maps[len(CHANNELS) + 1 :]
        x4, x8, x16, x32 = (lateral(x) for lateral, x in zip(self.lateral, raw, strict=True))
        x16 = x16 + F.interpolate(x32, size=x16.shape[-2:])
        x8 = x8 + F.interpolate(x16, size=x8.shape[-2:]) + self.finest(x4)
        pyramid = [smooth(x) for smooth, x in zip(self.smooth, (x8, x16, x32), strict=True)]
        if self.fusion is not None:
            pyramid = self.fusion(pyramid)
        corrections = [correct(x) for correct, x in zip(self.correct, pyramid, strict=True)]
        return [colours, *(base + x for base, x in zip(centred, corrections, strict=True))]


def _zero_init(convolution: nn.Conv2d) -> nn.Conv2d:
    """The convolution with zeros for weights."""
    nn.init.zeros_(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution
