"""Boxes of chance with known correspondence, in place of regions: the ablation that shows what regions are worth."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

MIN_SIDE = 8.0  # pixels of a box in either view
SCALES = (16.0, 256.0)  # least and largest side drawn, in pixels


def fit_axes(key_boxes: Tensor, ref_boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The scale (2,) and shift (2,) that bring the centres of boxes (N, 4) nearest to those of others (N, 4).

    A flip is a negative scale. An axis on which all centres are the same keeps its scale.
    """
    key = ((key_boxes[:, :2] + key_boxes[:, 2:]) / 2).double()
    ref = ((ref_boxes[:, :2] + ref_boxes[:, 2:]) / 2).double()
    key_mean, ref_mean = key.mean(dim=0), ref.mean(dim=0)
    spread = (key - key_mean).square().sum(dim=0)
    slope = ((key - key_mean) * (ref - ref_mean)).sum(dim=0) / spread.clamp(min=1e-9)
    scale = torch.where(spread > 1e-6, slope, torch.ones_like(slope))
    return scale, ref_mean - scale * key_mean


def random_pairs(
    boxes: tuple[Tensor, Tensor],
    ids: tuple[Tensor, Tensor],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    count: int,
    generator: Generator,
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Random boxes of the key view, and where they are in the reference view.

    How the views lie to each other is read from the regions in both, axis by axis, so that a rotation or a
    perspective is followed only roughly.

    Args:
        boxes: of the key and of the reference view, (N, 4) and (M, 4) xyxy pixels.
        ids: their instances, (N,) and (M,).
        sizes: (height, width) of both views.
        count: boxes drawn; those that leave either view by more than half, or are tiny there, are dropped.
        generator: on the CPU.

    Returns:
        Boxes (K, 4) in both views and their ids (K,), ``K <= count``; none where fewer than two regions are in both.
    """
    device, dtype = boxes[0].device, boxes[0].dtype
    rows, columns = (ids[0][:, None] == ids[1][None]).nonzero().unbind(1)
    if len(rows) < 2:
        empty = boxes[0].new_zeros((0, 4))
        return (empty, empty), ids[0].new_zeros((0,))
    scale, shift = fit_axes(boxes[0][rows].cpu(), boxes[1][columns].cpu())
    height, width = sizes[0]
    low, high = (torch.tensor(side).log() for side in SCALES)
    sides = (low + (high - low) * torch.rand((count, 2), generator=generator)).exp().double()
    centres = torch.rand((count, 2), generator=generator).double() * torch.tensor([width, height])
    key = torch.cat([centres - sides / 2, centres + sides / 2], dim=1)
    half = sides / 2 * scale.abs()
    moved = centres * scale + shift
    drawn = (key, torch.cat([moved - half, moved + half], dim=1))
    clipped, good = [], torch.ones(count, dtype=torch.bool)
    for box, (view_height, view_width) in zip(drawn, sizes, strict=True):
        inside = box.clamp(min=0).minimum(box.new_tensor([view_width, view_height] * 2))
        kept = inside[:, 2:] - inside[:, :2]
        good &= (kept >= MIN_SIDE).all(dim=1) & (kept.prod(dim=1) >= (box[:, 2:] - box[:, :2]).prod(dim=1) / 2)
        clipped.append(inside)
    pairs = (clipped[0][good].to(device, dtype), clipped[1][good].to(device, dtype))
    return pairs, torch.arange(int(good.sum()), device=ids[0].device)
