"""Colours as a feature map: a soft histogram of each small patch of a picture, in CIELAB.

A classifier is trained to be invariant to colour, but the colours of clothes are important to distinguish people at low
resolution: on the dev clips the histogram alone separated people better than all maps of EfficientNet-Lite0 together.

Source: sRGB and CIELAB as in IEC 61966-2-1 and CIE 15, white point D65; the bins and their widths are our own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LIGHTNESS = (5.0, 23.0, 41.0, 59.0, 77.0, 95.0)  # centres of the bins
OPPONENT = (-30.0, -18.0, -6.0, 6.0, 18.0, 30.0)  # of a and of b: few things are more colourful
LIGHTNESS_WIDTH, OPPONENT_WIDTH = 12.0, 9.0
TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
WHITE = (0.9505, 1.0, 1.089)


def lab(rgb: Tensor) -> Tensor:
    """CIELAB (B, 3, H, W), L in 0..100, of sRGB (B, 3, H, W) in 0..1."""
    rgb = rgb.clamp(0, 1)
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055).clamp(min=0) ** 2.4, rgb / 12.92)
    matrix = rgb.new_tensor(TO_XYZ) / rgb.new_tensor(WHITE)[:, None]
    xyz = torch.einsum("ij,bjhw->bihw", matrix, linear)
    x, y, z = torch.where(xyz > 0.008856, xyz.clamp(min=1e-6) ** (1 / 3), 7.787 * xyz + 16 / 116).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


class ColourBins(nn.Module):
    """Square roots of soft histograms: 6 bins of lightness, and 6 x 6 of the two opponent colours.

    The square root makes dot products Bhattacharyya's coefficient, in which a large plain area does not hide a small
    one.

    Attributes:
        channels: bins.
    """

    channels = len(LIGHTNESS) + len(OPPONENT) ** 2

    def forward(self, images: Tensor) -> Tensor:
        """(B, 42, H / 4, W / 4) of images (B, 3, H, W), RGB in -1..1; a histogram's two parts each sum to one."""
        dtype = images.dtype
        with torch.autocast(images.device.type, enabled=False):
            colours = lab((images[:, :, ::2, ::2].float() + 1) / 2)  # every other pixel is enough to count
            light = _bins(colours[:, :1], LIGHTNESS, LIGHTNESS_WIDTH)
            a, b = (_bins(colours[:, i : i + 1], OPPONENT, OPPONENT_WIDTH) for i in (1, 2))
            total: Tensor | float = 0.0
            for y in (0, 1):
                for x in (0, 1):  # the four pixels of a patch
                    one, other, third = (part[:, :, y::2, x::2] for part in (light, a, b))
                    pairs = (other[:, :, None] * third[:, None]).flatten(1, 2)  # (B, 36, H / 4, W / 4)
                    total = total + torch.cat([one, pairs], dim=1)
            return (total / 4).sqrt().to(dtype)  # type: ignore[union-attr]


def _bins(x: Tensor, centres: tuple[float, ...], width: float) -> Tensor:
    """(B, 1, H, W) to (B, bins, H, W): its shares of the bins; beyond the outermost, it is the outermost."""
    x = x.clamp(centres[0], centres[-1])
    near = (-(((x - x.new_tensor(centres)[:, None, None]) / width) ** 2)).exp()
    return near / near.sum(dim=1, keepdim=True)
