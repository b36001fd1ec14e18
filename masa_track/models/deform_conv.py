"""Modulated deformable 3x3 convolution (DCNv2), shared by :mod:`deform_fusion` and :mod:`dyhead`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

TAPS = 9  # of a 3x3 kernel
ROWS_AT_ONCE = 8192  # positions a matrix product: 8 MB of values; 2,048 were slower, all at once no faster


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
    return buffer.flatten(1)[:, : channels * height * width].reshape(-1, channels, height, width)


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

    On a CPU, where no gradient is asked for, rows are gathered instead of torchvision's operator: half its time. Where
    one is, ``grid_sample`` reads the taps: the way back takes a fifth of the operator's time.
    Neither has bfloat16, so that type is computed in float32 and rounded at the end.

    Source: Zhu et al., Deformable ConvNets v2, CVPR 2019.
    """
    if torch.onnx.is_in_onnx_export():
        return _by_taps(x, offset, mask, weight, stride)
    dtype = x.dtype
    if dtype == torch.bfloat16:
        x, offset, mask, weight = x.float(), offset.float(), mask.float(), weight.float()
    learns = torch.is_grad_enabled() and any(t.requires_grad for t in (x, offset, mask, weight))
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):
        if learns:
            return _sampled(x, offset, mask, weight, stride).to(dtype)
        return torch.stack([_gathered(*one, weight, stride) for one in zip(x, offset, mask, strict=True)]).to(dtype)
    return deform_conv2d(x, offset, weight, stride=stride, padding=1, mask=mask).to(dtype)


def _sampled(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The convolution of a batch, with gradients, by reading all taps as one picture."""
    height, width = x.shape[-2:]
    rows, columns = (torch.arange(n, dtype=x.dtype) * stride - 1 for n in offset.shape[-2:])
    taps = torch.arange(TAPS)
    y, column = offset.unflatten(1, (TAPS, 2)).unbind(2)  # each (B, 9, h, w)
    y = (y + rows[:, None] + (taps // 3)[:, None, None]).clamp(-1, height).nan_to_num(-1)
    column = (column + columns + (taps % 3)[:, None, None]).clamp(-1, width).nan_to_num(-1)
    grid = torch.stack([(2 * column + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1).flatten(1, 2)
    values = F.grid_sample(x, grid, padding_mode="zeros", align_corners=False)  # (B, C, 9 * h, w)
    values = values.unflatten(2, (TAPS, -1)) * mask[:, None]
    return torch.einsum("bckhw,ock->bohw", values, weight.flatten(2))


def _by_taps(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The convolution in operators that ONNX has; one tap after the other, so that no map of all taps is held.

    ONNX's own DeformConv (opset 19) is missing in ONNX Runtime.
    """
    height, width = (torch.as_tensor(side).to(x.dtype) for side in x.shape[-2:])
    rows, columns = ((torch.arange(side) * stride - 1).to(x.dtype) for side in offset.shape[-2:])
    low, taps = torch.tensor(-1, dtype=x.dtype), torch.arange(TAPS)
    y, column = offset.unflatten(1, (TAPS, 2)).unbind(2)  # each (B, 9, h, w)
    y = torch.clamp(y + rows[:, None] + (taps // 3)[:, None, None], low, height)
    column = torch.clamp(column + columns + (taps % 3)[:, None, None], low, width)
    grids = torch.stack([(2 * column + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)  # (B, 9, h, w, 2)
    kernels = weight.flatten(2).unbind(2)
    total = torch.zeros((), dtype=x.dtype)
    for grid, share, kernel in zip(grids.unbind(1), mask.split(1, dim=1), kernels, strict=True):
        values = F.grid_sample(x, grid, padding_mode="zeros", align_corners=False) * share
        total = total + F.conv2d(values, kernel[..., None, None])
    return total


def _gathered(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The convolution of one image (C, H, W), without gradients, by gathering the four pixels around each tap.

    A tap's bilinear value is a weighted sum of four rows of the channels-last map, which is what ``embedding_bag``
    computes; a border of zeros takes what falls outside. Then one matrix product a tap.
    """
    channels, height, width = x.shape
    out_height, out_width = offset.shape[-2:]
    line = width + 3  # one zero before, two behind: a tap at most one pixel outside reads them
    rows = F.pad(x, (1, 2, 1, 2)).flatten(1).t().contiguous()  # ((H + 3) * (W + 3), C)

    def places(size: int) -> Tensor:
        return torch.arange(size, dtype=x.dtype) * stride - 1

    taps = torch.arange(TAPS)
    y, column = offset.unflatten(0, (TAPS, 2)).unbind(1)  # each (9, h, w)
    y = (y + places(out_height)[:, None] + (taps // 3)[:, None, None]).clamp(-1, height).nan_to_num(-1).flatten(1)
    column = (column + places(out_width) + (taps % 3)[:, None, None]).clamp(-1, width).nan_to_num(-1).flatten(1)
    top, left = y.floor(), column.floor()
    first = ((top + 1) * line + left + 1).long()
    corners = torch.stack([first, first + 1, first + line, first + line + 1], dim=-1)  # (9, h * w, 4)
    lower, right, own = y - top, column - left, mask.flatten(1)
    upper, lower = (1 - lower) * own, lower * own
    shares = torch.stack([upper * (1 - right), upper * right, lower * (1 - right), lower * right], dim=-1)

    kernel = weight.permute(2, 3, 1, 0).reshape(TAPS, channels, -1)
    out = x.new_zeros((out_height * out_width, len(weight)))
    for start in range(0, len(out), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        for tap in range(TAPS):
            values = F.embedding_bag(corners[tap, part], rows, per_sample_weights=shares[tap, part], mode="sum")
            out[part].addmm_(values, kernel[tap])
    return out.t().unflatten(1, (out_height, out_width))


def convolve_neighbours(
    convs: tuple[DeformConvNorm, DeformConvNorm, DeformConvNorm],
    levels: Sequence[Tensor],
    index: int,
    offsets: Sequence[Tensor],
    masks: Sequence[Tensor],
) -> list[Tensor]:
    """Convolutions of a level, of the next finer and of the next coarser level, as far as these exist.

    Args:
        convs: for the level itself, for the finer level (stride 2) and for the coarser level.
        levels: (B, C, H_i, W_i), finest first.
        index: of the level.
        offsets: three, (B, 18, H, W), in the order of ``convs``.
        masks: three, (B, 9, H, W), 0..1.

    Returns:
        One to three maps (B, C, H, W); that of the coarser level is scaled up.
    """
    x = levels[index]
    parts = [convs[0](x, offsets[0], masks[0])]
    if index > 0:
        parts.append(convs[1](levels[index - 1], offsets[1], masks[1]))
    if index + 1 < len(levels):
        coarser = levels[index + 1]
        h, w = coarser.shape[-2:]
        # The official weights expect this reading of the finer level's offsets: see read_as.
        high = convs[2](coarser, read_as(offsets[2], 2 * TAPS, h, w), read_as(masks[2], TAPS, h, w))
        parts.append(F.interpolate(high, size=x.shape[-2:], mode="bilinear", align_corners=True))
    return parts
