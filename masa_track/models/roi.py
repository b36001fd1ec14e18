"""RoI features from a pyramid: which level a box reads, and RoIAlign on it.

Source: Lin et al., Feature Pyramid Networks, CVPR 2017 (level by size); He et al., Mask R-CNN, ICCV 2017
(RoIAlign). ``aligned=True`` and as many samples a bin as pixels, as in the reference; torchvision's
``MultiScaleRoIAlign`` is not aligned and therefore not used.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

FINEST_SCALE = 56  # pixels: boxes below twice this side read the finest level (mmdet's SingleRoIExtractor)
ROI_SIZE = 7


def roi_levels(boxes: Tensor, levels: int) -> Tensor:
    """The level each box is read from: ``floor(log2(sqrt(area) / 56 + 1e-6))``, clamped.

    Args:
        boxes: (N, 4) xyxy pixels of the network's input; may have zero area.
        levels: number of levels there are, finest first.

    Returns:
        (N,) int64 in ``0 .. levels - 1``.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).float().clamp(min=0)
    scale = sides.prod(dim=1).sqrt()
    return (scale / FINEST_SCALE + 1e-6).log2().floor().clamp(0, levels - 1).long()


def with_batch_index(boxes: Sequence[Tensor]) -> Tensor:
    """(sum N, 5): the image's index before each of its boxes (N, 4)."""
    return torch.cat([torch.cat([torch.full_like(b[:, :1], i), b], dim=1) for i, b in enumerate(boxes)])


def align(
    level: Tensor, boxes: Tensor | list[Tensor], grid: int | tuple[int, int], stride: int, sampling_ratio: int
) -> Tensor:
    """RoIAlign of boxes on one level, in the level's type; torchvision's has no bfloat16, so that goes by float32.

    Args:
        level: (B, C, H, W).
        boxes: (K, 5) with the image's index first, or B tensors (N_b, 4); xyxy pixels of the network's input.
        grid: rows and columns of cells.
        stride: pixels of the input per pixel of the level.
        sampling_ratio: points a cell's side; 0: as many as there are positions.

    Returns:
        (K, C, rows, columns).
    """
    maps = level.float() if level.dtype == torch.bfloat16 else level
    rois = boxes.to(maps.dtype) if isinstance(boxes, Tensor) else [b.to(maps.dtype) for b in boxes]
    return roi_align(maps, rois, grid, 1 / stride, sampling_ratio, aligned=True).to(level.dtype)


def roi_features(levels: Sequence[Tensor], boxes: Sequence[Tensor], strides: Sequence[int]) -> Tensor:
    """RoIAlign 7x7 of every box on the level of its size.

    Args:
        levels: maps (B, C, H_i, W_i), finest first; only the first ``len(strides)`` are read.
        boxes: B tensors (N_b, 4), xyxy pixels of the network's input.
        strides: pixels of the input per pixel of each level.

    Returns:
        (sum N_b, C, 7, 7) in the order of the boxes, image by image, of the levels' type.
    """
    rois = with_batch_index(boxes).float()
    level_of = roi_levels(rois[:, 1:], len(strides))
    if torch.onnx.is_in_onnx_export():  # the tracer would keep which levels were empty in its example
        places = [(level_of == index).nonzero().squeeze(1) for index in range(len(strides))]
        parts = [align(levels[i], rois[rows], ROI_SIZE, strides[i], 0) for i, rows in enumerate(places)]
        return torch.cat(parts)[torch.cat(places).argsort()]
    features = levels[0].new_zeros((len(rois), levels[0].shape[1], ROI_SIZE, ROI_SIZE))
    for index, stride in enumerate(strides):
        rows = (level_of == index).nonzero().squeeze(1)
        if len(rows) == 0:
            continue
        features = features.index_copy(0, rows, align(levels[index], rois[rows], ROI_SIZE, stride, 0))
    return features
