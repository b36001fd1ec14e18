"""Swin-B's last three maps: the backbone of the official ``gdino-swinb`` and ``detic-swinb``.

The parameters, patch merging and MLPs are torchvision's; the window attention is ours, for no library's fits:
torchvision and transformers stop shifting windows on maps no larger than one window, and timm pads after shifting,
where the reference (mmdet) pads, always shifts, and masks. On larger maps ours and torchvision's agree (tested).

Source: Liu et al., Swin Transformer, ICCV 2021; torchvision (BSD-3-Clause).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.swin_transformer import ShiftedWindowAttention, SwinTransformer

APART = -100.0  # added to the attention of positions that are no neighbours in the picture, as in the reference


def to_windows(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C), H and W multiples of ``window``, to (B * windows, window ** 2, C), row by row."""
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))  # (B, h, window, w, window, C)
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def from_windows(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """The inverse of :func:`to_windows`, to (B, height, width, C)."""
    x = windows.unflatten(1, (window, window)).unflatten(0, (-1, height // window, width // window))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def shift_mask(height: int, width: int, window: int, shift: int, like: Tensor) -> Tensor:
    """What is added to the attention after a cyclic shift: 0 within a region of the picture, -100 across.

    Args:
        height: of the padded map.
        width: of the padded map.
        window: side of a window.
        shift: rows and columns shifted.
        like: its type and device are taken.

    Returns:
        (windows, window ** 2, window ** 2).
    """

    def bands(size: int) -> Tensor:
        position = torch.arange(size, device=like.device)
        return (position >= size - window).long() + (position >= size - shift).long()

    regions = bands(height)[:, None] * 3 + bands(width)  # (height, width), nine regions
    of_window = to_windows(regions[None, :, :, None], window).squeeze(2)  # (windows, window ** 2)
    apart = of_window[:, :, None] != of_window[:, None, :]
    return torch.zeros_like(apart, dtype=like.dtype).masked_fill(apart, APART)


class WindowAttention(ShiftedWindowAttention):
    """Torchvision's window attention with the reference's order: pad, shift (always), attend, shift back, cut."""

    def forward(self, x: Tensor) -> Tensor:
        """Attends within windows of ``x`` (B, H, W, C). Returns the same shape."""
        _, height, width, channels = x.shape
        window, shift = self.window_size[0], self.shift_size[0]
        x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        padded_height, padded_width = x.shape[1:3]
        if shift:
            x = x.roll((-shift, -shift), dims=(1, 2))
        windows = to_windows(x, window)  # (B * n, window ** 2, C)
        qkv = self.qkv(windows).unflatten(2, (3, self.num_heads, channels // self.num_heads))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B * n, heads, window ** 2, C / heads)
        bias = self.get_relative_position_bias().to(query.dtype)  # (1, heads, window ** 2, window ** 2)
        if shift:
            mask = shift_mask(padded_height, padded_width, window, shift, bias)
            bias = (bias + mask[:, None]).repeat(len(x), 1, 1, 1)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        windows = self.proj(attended.transpose(1, 2).flatten(2))
        x = from_windows(windows, window, padded_height, padded_width)
        if shift:
            x = x.roll((shift, shift), dims=(1, 2))
        return x[:, :height, :width]


class SwinB(nn.Module):
    """Swin-B, giving its last three maps, each layer-normed.

    Args:
        window: side of the attention's windows: 12 in Grounding DINO, 7 in Detic.
    """

    channels = (256, 512, 1024)
    reduction = (8, 16, 32)

    def __init__(self, window: int) -> None:
        super().__init__()
        self.body = swin_body(128, (2, 2, 18, 2), (4, 8, 16, 32), window)
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in self.channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of ``images`` (B, 3, H, W), normalised, at strides 8, 16 and 32, finest first."""
        maps = swin_stages(self.body, images)[1:]
        return [norm(x).permute(0, 3, 1, 2).contiguous() for norm, x in zip(self.norms, maps, strict=True)]


def swin_body(dim: int, depths: Sequence[int], heads: Sequence[int], window: int) -> nn.Sequential:
    """Torchvision's patch embedding, blocks and merging layers, with :class:`WindowAttention` in the blocks."""
    donor = SwinTransformer([4, 4], dim, list(depths), list(heads), [window, window], num_classes=1)
    for module in donor.modules():
        if isinstance(module, ShiftedWindowAttention):
            module.__class__ = WindowAttention  # the same parameters, another order of steps
            index = module.relative_position_index
            del module.relative_position_index  # follows from the window's size: no part of a checkpoint here
            module.register_buffer("relative_position_index", index, persistent=False)
    return cast(nn.Sequential, donor.features)


def swin_stages(body: nn.Sequential, images: Tensor) -> list[Tensor]:
    """Every stage's map before merging, (B, H / s, W / s, C) for strides 4, 8, 16, 32; sides are padded to 4."""
    height, width = images.shape[-2:]
    x = F.pad(images, (0, -width % 4, 0, -height % 4))
    maps = []
    for index, layer in enumerate(body):
        x = layer(x)
        if index % 2 == 1:  # 0: patch embedding; 2, 4, 6: merging; between them the stages
            maps.append(x)
    return maps


def unfold_to_torchvision(parameter: Tensor) -> Tensor:
    """Reorders the last dimension of a patch-merging parameter from mmdet's order to torchvision's.

    The 2x2 patch is flattened by ``nn.Unfold`` in the reference: channel, then row, then column. Torchvision joins
    four slices: column, then row, then channel.
    """
    return parameter.unflatten(-1, (-1, 2, 2)).transpose(-3, -1).flatten(-3)
