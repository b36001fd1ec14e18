"""Which region each box (an anchor, a proposal) is to learn, by overlap.

Source: Ren et al., Faster R-CNN, NeurIPS 2015, with the rules of mmdet's ``MaxIoUAssigner``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

BACKGROUND, IGNORED = -1, -2
ROWS_AT_ONCE = 1 << 15  # boxes a call of box_iou, whose intermediate tensors are six times its result


@dataclass(frozen=True)
class Overlaps:
    """The thresholds of an assignment, as IoU.

    Attributes:
        positive: a box that overlaps a region by at least this learns it.
        negative: a box that overlaps every region by less is background; between the two it is ignored.
        rescue: a region is also learnt by the boxes nearest to it, below ``positive``, if they overlap it by at
            least this; None switches it off.
    """

    positive: float
    negative: float
    rescue: float | None = None


RPN_OVERLAPS = Overlaps(0.7, 0.3, rescue=0.3)
BOX_OVERLAPS = Overlaps(0.5, 0.5)
TRACK_OVERLAPS = Overlaps(0.7, 0.3)


def assign(boxes: Tensor, regions: Tensor, overlaps: Overlaps) -> Tensor:
    """The region of each box.

    Args:
        boxes: (N, 4) xyxy pixels.
        regions: (M, 4) xyxy pixels of the same picture.
        overlaps: the thresholds.

    Returns:
        (N,) int64: a row of ``regions``, :data:`BACKGROUND` or :data:`IGNORED`.
    """
    result = torch.full((len(boxes),), IGNORED, dtype=torch.long, device=boxes.device)
    if len(boxes) == 0 or len(regions) == 0:
        return result.fill_(BACKGROUND)
    iou = torch.cat([box_iou(part, regions) for part in boxes.split(ROWS_AT_ONCE)])  # (N, M)
    best, region = iou.max(dim=1)
    result[best < overlaps.negative] = BACKGROUND
    result = torch.where(best >= overlaps.positive, region, result)
    if overlaps.rescue is not None:
        nearest = iou.max(dim=0).values  # (M,)
        rescued = (iou == nearest) & (nearest >= overlaps.rescue)  # several boxes may be equally near
        last = (rescued * torch.arange(1, len(regions) + 1, device=boxes.device)).max(dim=1).values  # later rows win
        result = torch.where(last > 0, last - 1, result)
    return result
