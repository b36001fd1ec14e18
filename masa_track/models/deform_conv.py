"""Modulated deformable 3x3 convolution (DCNv2), shared by :mod:`deform_fusion` and :mod:`dyhead`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

TAPS = 9  # of a 3x3 kernel


def read_as(buffer: Tensor, channels: int, height: int, width: int) -> Tensor:
    """The first numbers of each image's ``buffer``, read as if they had been written with another height and width.

    The compiled operator of the reference takes the offsets of a finer level for a convolution of a coarser one
    and, not looking at their shape, walks their memory with the coarser level's strides. The official weights were
    trained with that, so it is reproduced, by name. Gradients go back to the numbers that were read.

    Args:
        buffer: (B, C, H, W) with ``C * H * W >= channels * height * width``.
        channels: channels of the view.
        height: rows of the view.
        width: columns of the view.

    Returns:
        (B, channels, height, width).
    """
    return buffer.flatten(1)[:, : channels * height * width].unflatten(1, (channels, height, width))


class DeformConvNorm(nn.Module):
    """Modulated deformable 3x3 convolution without bias, then group norm with 16 groups.

    The weight is called ``conv.weight`` and the norm ``norm``, the names in the official checkpoints.

    Args:
        channels: channels of the input and of the output.
        stride: 1 or 2.
    """

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        # Holds the weight under the official name; the plain convolution itself is never run.
        self.conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.GroupNorm(16, channels)
        self.stride = stride

    def output_size(self, x: Tensor) -> tuple[int, int]:
        """Height and width of the output for ``x`` (B, C, H, W)."""
        return -(-x.shape[-2] // self.stride), -(-x.shape[-1] // self.stride)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """Convolves and normalises.

        Args:
            x: (B, C, H, W).
            offset: (B, 18, h, w) pixels of ``x``, (y, x) pairs over the nine taps, row by row.
            mask: (B, 9, h, w) weight of each tap, 0..1.

        Returns:
            (B, C, h, w) with ``h = ceil(H / stride)``.
        """
        return self.norm(modulated_deform_conv(x, offset, mask, self.conv.weight, self.stride))


def modulated_deform_conv(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """Deformable 3x3 convolution with padding 1; shapes as in :class:`DeformConvNorm`.

    Torchvision's operator has no bfloat16, so that type is computed in float32 and rounded at the end.

    Source: Zhu et al., Deformable ConvNets v2, CVPR 2019.
    """
    dtype = x.dtype
    if dtype == torch.bfloat16:
        x, offset, mask, weight = x.float(), offset.float(), mask.float(), weight.float()
    return deform_conv2d(x, offset, weight, stride=stride, padding=1, mask=mask).to(dtype)
