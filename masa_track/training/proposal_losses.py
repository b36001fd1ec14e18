"""The regions taught to the detector: losses of the proposals and of the box head ("distillation").

The regions have no classes, so neither has the detector.

Source: Ren et al., Faster R-CNN, NeurIPS 2015, reduced as mmdet does; smooth L1 as in MASA's configurations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from masa_track.models.box_coder import encode_boxes
from masa_track.models.box_head import STDS, RoIHead
from masa_track.models.roi import roi_features
from masa_track.models.rpn import grid_anchors
from masa_track.training.assignment import BOX_OVERLAPS, RPN_OVERLAPS, assign
from masa_track.training.losses import nothing
from masa_track.training.sampling import BOX_SHARE, RPN_SHARE, Share, sample

RPN_BETA = 1 / 9  # where the proposals' smooth L1 turns from square to straight
OBJECT, NO_OBJECT = 0, 1  # columns of the box head's logits


def rpn_losses(
    outputs: Sequence[tuple[Tensor, Tensor]],
    level_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    regions: Sequence[Tensor],
    generator: Generator,
    share: Share = RPN_SHARE,
) -> tuple[Tensor, Tensor]:
    """Cross entropy of the anchors' scores and smooth L1 of their deltas.

    Args:
        outputs: of the RPN head, a level: logits (B, A_i) and deltas (B, A_i, 4).
        level_sizes: (height, width) of each level.
        strides: pixels of the input per pixel of each level.
        regions: B tensors (M, 4), xyxy pixels of the input.
        generator: on the CPU, chooses the anchors.
        share: how many an image.

    Returns:
        Both sums, each over the number of anchors used in all images.
    """
    logits = torch.cat([level.float() for level, _ in outputs], dim=1)  # (B, A)
    deltas = torch.cat([level.float() for _, level in outputs], dim=1)  # (B, A, 4)
    anchors = torch.cat(
        [grid_anchors(h, w, stride, deltas) for (h, w), stride in zip(level_sizes, strides, strict=True)]
    )
    classification, regression, used = [nothing(logits)], [nothing(deltas)], 0
    for image, own in enumerate(regions):
        assigned = assign(anchors, own, RPN_OVERLAPS)
        positives, negatives = sample(assigned, share, generator)
        picked = torch.cat([positives, negatives])
        labels = (torch.arange(len(picked), device=picked.device) < len(positives)).float()
        classification.append(F.binary_cross_entropy_with_logits(logits[image, picked], labels, reduction="sum"))
        wanted = encode_boxes(anchors[positives], own[assigned[positives]])
        regression.append(F.smooth_l1_loss(deltas[image, positives], wanted, reduction="sum", beta=RPN_BETA))
        used += len(picked)
    return torch.stack(classification).sum() / max(1, used), torch.stack(regression).sum() / max(1, used)


def box_losses(
    head: RoIHead,
    levels: Sequence[Tensor],
    proposals: Sequence[Tensor],
    regions: Sequence[Tensor],
    generator: Generator,
    share: Share = BOX_SHARE,
) -> tuple[Tensor, Tensor]:
    """Cross entropy of the box head's scores and L1 of its deltas.

    Args:
        head: with ``strides`` and ``bbox_head``.
        levels: pyramid (B, C, H_i, W_i), finest first.
        proposals: B tensors (N, 4), xyxy pixels of the input; the regions are added to them.
        regions: B tensors (M, 4).
        generator: on the CPU, chooses the boxes.
        share: how many an image.

    Returns:
        Both sums, each over the number of boxes used in all images.
    """
    chosen, labels, wanted = [], [], []
    for boxes, own in zip(proposals, regions, strict=True):
        candidates = torch.cat([own, boxes.to(own.dtype)])
        assigned = assign(candidates, own, BOX_OVERLAPS)
        assigned[: len(own)] = torch.arange(len(own), device=own.device)
        positives, negatives = sample(assigned, share, generator)
        chosen.append(candidates[torch.cat([positives, negatives])])
        label = torch.full((len(chosen[-1]),), NO_OBJECT, device=own.device)
        label[: len(positives)] = OBJECT
        labels.append(label)
        wanted.append(encode_boxes(candidates[positives], own[assigned[positives]], STDS))
    label = torch.cat(labels)
    if len(label) == 0:
        return nothing(*head.bbox_head.parameters()), nothing(*head.bbox_head.parameters())
    logits, deltas = head.bbox_head(roi_features(levels, chosen, head.strides))
    classification = F.cross_entropy(logits.float(), label)
    regression = F.l1_loss(deltas[label == OBJECT].float(), torch.cat(wanted), reduction="sum")
    return classification, regression / len(label)
