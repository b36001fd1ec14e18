"""Boxes as differences to reference boxes, and back.

Source: Girshick et al., Rich Feature Hierarchies, CVPR 2014, with the clamps of mmdet's ``DeltaXYWHBBoxCoder``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

UNIT = (1.0, 1.0, 1.0, 1.0)
MAX_LOG_RATIO = abs(math.log(16 / 1000))  # a box grows or shrinks at most 62.5 times (mmdet's wh_ratio_clip)


def decode_boxes(
    reference: Tensor,
    deltas: Tensor,
    stds: Sequence[float] = UNIT,
    image_size: tuple[int, int] | None = None,
) -> Tensor:
    """Moves and scales reference boxes.

    Args:
        reference: (N, 4) xyxy pixels: anchors or proposals.
        deltas: (N, 4): shift of the centre in widths and heights, logarithm of the growth; over ``stds``.
        stds: what each of the four is multiplied by.
        image_size: (height, width) to clip to, or None.

    Returns:
        (N, 4) xyxy pixels.
    """
    shift, growth = (deltas * deltas.new_tensor(stds)).split(2, dim=1)
    size = reference[:, 2:] - reference[:, :2]
    centre = (reference[:, :2] + reference[:, 2:]) * 0.5 + shift * size
    half = size * growth.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp() * 0.5
    boxes = torch.cat([centre - half, centre + half], dim=1)
    if image_size is None:
        return boxes
    height, width = image_size
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))


def encode_boxes(reference: Tensor, boxes: Tensor, stds: Sequence[float] = UNIT) -> Tensor:
    """The deltas (N, 4) that :func:`decode_boxes` turns into ``boxes`` (N, 4); both sizes must be positive."""
    size = reference[:, 2:] - reference[:, :2]
    new_size = boxes[:, 2:] - boxes[:, :2]
    shift = (boxes[:, :2] + boxes[:, 2:] - reference[:, :2] - reference[:, 2:]) * 0.5 / size
    return torch.cat([shift, (new_size / size).log()], dim=1) / shift.new_tensor(stds)
