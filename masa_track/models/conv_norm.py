"""A convolution, its normalisation and its activation, named as in the official checkpoints."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Norm = Literal["bn", "gn", "none"]


class ConvNorm(nn.Module):
    """Convolution without stride that keeps the map's size, then a norm, then (if asked) a ReLU.

    The children are called ``conv`` and ``bn`` or ``gn``, the names in the official checkpoints.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the square kernel, odd; padding is half of it.
        norm: ``bn`` (batch), ``gn`` (group, 32 groups) or ``none``; a normed convolution has no bias of its own.
        relu: whether a ReLU follows.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, norm: Norm = "none", relu: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=norm == "none")
        self.norm_name = norm
        if norm == "bn":
            self.bn = nn.BatchNorm2d(out_channels)
        elif norm == "gn":
            self.gn = nn.GroupNorm(32, out_channels)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Runs the three on ``x`` (B, in_channels, H, W). Returns (B, out_channels, H, W)."""
        x = self.conv(x)
        if self.norm_name != "none":
            x = getattr(self, self.norm_name)(x)
        return x.relu() if self.relu else x
