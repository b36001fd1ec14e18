"""What teaches :class:`~masa_track.models.nano_detector.NanoDetector`: which positions are of which region, and losses.

Source: Zhang et al., ATSS, CVPR 2020, for the assignment; Li et al., Generalized Focal Loss, NeurIPS 2020, for the
scores, of one class; Rezatofighi et al., GIoU, CVPR 2019, for the boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou_loss

from masa_track.models.nano_detector import STRIDES, positions, to_boxes
from masa_track.training.losses import nothing

CANDIDATES = 9  # positions a level that a region may get
ANCHOR = 8  # strides that the square around a position has, by whose overlap it is chosen
BOX_WEIGHT = 2.0
NOBODY = -1


def assign_positions(centres: Sequence[Tensor], regions: Tensor) -> Tensor:
    """Which region each position shall find.

    On every level the nearest positions to a region's middle are its candidates; those whose squares overlap it by more
    than the candidates' mean and deviation together, and which lie inside, are its own. A position that two regions
    want is of the one that its square overlaps more.

    Args:
        centres: of each level, (P_i, 2).
        regions: (M, 4) xyxy.

    Returns:
        (P,) int64, the region's row, or -1.
    """
    points = torch.cat(list(centres))
    owner = torch.full((len(points),), NOBODY, device=points.device)
    if not len(regions):
        return owner
    half = torch.cat([c.new_full((len(c), 1), s * ANCHOR / 2) for c, s in zip(centres, STRIDES, strict=True)])
    overlaps = box_iou(torch.cat([points - half, points + half], dim=1), regions)  # (P, M)
    distances = torch.cdist(points, (regions[:, :2] + regions[:, 2:]) / 2)
    candidates, start = [], 0
    for level in centres:
        own = distances[start : start + len(level)]
        candidates.append(own.topk(min(CANDIDATES, len(level)), dim=0, largest=False).indices + start)
        start += len(level)
    rows = torch.cat(candidates)  # (K, M)
    theirs = overlaps.gather(0, rows)
    good = theirs >= theirs.mean(dim=0) + theirs.std(dim=0)
    inside = (points[rows] > regions[:, :2]) & (points[rows] < regions[:, 2:])
    good &= inside.all(dim=-1)
    wanted = torch.full_like(overlaps, NOBODY)
    wanted.scatter_(0, rows, torch.where(good, theirs, NOBODY))
    best, region = wanted.max(dim=1)
    return torch.where(best > NOBODY, region, owner)


def point_losses(
    outputs: Sequence[tuple[Tensor, Tensor]],
    level_sizes: Sequence[tuple[int, int]],
    regions: Sequence[Tensor],
    image_sizes: Sequence[tuple[int, int]],
) -> tuple[Tensor, Tensor]:
    """Quality focal loss of the scores and GIoU loss of the boxes.

    Args:
        outputs: of the detector, a level: logits (B, P_i) and distances (B, P_i, 4).
        level_sizes: (height, width) of the levels at strides 8, 16 and 32.
        regions: B tensors (M, 4), xyxy pixels of the input.
        image_sizes: B times (height, width) of the picture inside the padded input; beyond it nothing is taught.

    Returns:
        Both sums, each over the number of positions that have a region.
    """
    logits = torch.cat([level.float() for level, _ in outputs], dim=1)  # (B, P)
    sides = torch.cat([level.float() for _, level in outputs], dim=1)  # (B, P, 4)
    centres = positions(level_sizes, sides)
    points = torch.cat(centres)
    classification, regression, used = [nothing(logits)], [nothing(sides)], 0
    for image, (own, (height, width)) in enumerate(zip(regions, image_sizes, strict=True)):
        owner = assign_positions(centres, own)
        mine = owner >= 0
        boxes, wanted = to_boxes(points[mine], sides[image, mine]), own[owner[mine]]
        regression.append(generalized_box_iou_loss(boxes, wanted, reduction="sum"))
        target = torch.zeros_like(logits[image])
        target[mine] = _pairwise_iou(boxes.detach(), wanted)
        seen = (points < points.new_tensor([width, height])).all(dim=1)
        far = (logits[image].sigmoid() - target).abs().square()
        loss = F.binary_cross_entropy_with_logits(logits[image], target, reduction="none") * far
        classification.append(loss[seen].sum())
        used += int(mine.sum())
    return torch.stack(classification).sum() / max(1, used), BOX_WEIGHT * torch.stack(regression).sum() / max(1, used)


def _pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """(N,) of boxes (N, 4) with others (N, 4), row by row."""
    shared = torch.minimum(boxes[:, 2:], others[:, 2:]) - torch.maximum(boxes[:, :2], others[:, :2])
    area = shared.clamp(min=0).prod(dim=1)
    both = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) + (others[:, 2:] - others[:, :2]).prod(dim=1)
    return area / (both - area).clamp(min=1e-6)
