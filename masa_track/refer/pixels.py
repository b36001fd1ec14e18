"""Pixels for the masks: a pyramid from the encoder's tokens to a fourth of the clip's size, and the kernels' layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class PixelDecoder(nn.Module):
    """Convolutions with group norm; maps of the video encoder are added at an eighth and a fourth of the size.

    Args:
        width: d, channels of the encoder's tokens.
        skips: channels of the video encoder's maps at a fourth and an eighth.
        kernel: channels of the result.
    """

    def __init__(self, width: int, skips: Sequence[int], kernel: int) -> None:
        super().__init__()
        widths = (width, width, width // 2, width // 4, width // 8)
        for number in range(1, 5):
            setattr(self, f"lay{number}", nn.Conv2d(widths[number - 1], widths[number], 3, padding=1))
            setattr(self, f"gn{number}", nn.GroupNorm(8, widths[number]))
        self.adapter1 = nn.Conv2d(skips[1], width // 2, 1)
        self.adapter2 = nn.Conv2d(skips[0], width // 4, 1)
        self.out_lay = nn.Conv2d(width // 8, kernel, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                module.bias.data.zero_()  # type: ignore[union-attr]

    def forward(self, tokens: Tensor, eighth: Tensor, fourth: Tensor) -> Tensor:
        """``tokens`` (R, d, h, w), maps (R, C, 2h, 2w) and (R, C, 4h, 4w) -> (R, kernel, 4h, 4w)."""
        x = self._block(self._block(tokens, 1), 2)
        x = self._block(self.adapter1(eighth) + F.interpolate(x, size=eighth.shape[-2:]), 3)
        x = self._block(self.adapter2(fourth) + F.interpolate(x, size=fourth.shape[-2:]), 4)
        pixels: Tensor = self.out_lay(x)
        return pixels

    def _block(self, x: Tensor, number: int) -> Tensor:
        return F.relu(getattr(self, f"gn{number}")(getattr(self, f"lay{number}")(x)))


class KernelHead(nn.Module):
    """Two linear layers that make the weights of a query's mask.

    Args:
        width: of the queries.
        kernel: channels of the pixels.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList((nn.Linear(width, width), nn.Linear(width, kernel)))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (..., width) -> (..., kernel)."""
        kernels: Tensor = self.layers[1](F.relu(self.layers[0](x)))
        return kernels
