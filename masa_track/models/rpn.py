"""Region proposals: three anchors a pixel on every pyramid level, scored, moved, and thinned by NMS.

In the official models this head was trained on SAM's regions, so its proposals are class-agnostic.

Source: Ren et al., Faster R-CNN, NeurIPS 2015, with the anchors and the NMS of mmdet's ``RPNHead``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import nms

from masa_track.models.box_coder import decode_boxes

ANCHOR_SCALE = 8  # side of the square anchor in strides
ASPECT_RATIOS = (0.5, 1.0, 2.0)  # height over width


def grid_anchors(height: int, width: int, stride: int, like: Tensor) -> Tensor:
    """Anchors of one level, pixel by pixel, row by row.

    Args:
        height: rows of the level.
        width: columns of the level.
        stride: pixels of the input per pixel of the level.
        like: its type and device are taken.

    Returns:
        (height * width * 3, 4) xyxy pixels; the first pixel's anchors are centred on the input's corner.
    """
    ratios = like.new_tensor(ASPECT_RATIOS).sqrt()
    half = torch.stack([1 / ratios, ratios], dim=1) * (stride * ANCHOR_SCALE / 2)  # (3, 2) width, height
    shapes = torch.cat([-half, half], dim=1)
    ys = torch.arange(height, device=like.device, dtype=like.dtype) * stride
    xs = torch.arange(width, device=like.device, dtype=like.dtype) * stride
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    centres = torch.stack([x, y, x, y], dim=-1)  # (height, width, 4)
    return (centres[:, :, None] + shapes).reshape(-1, 4)


def grouped_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression within each group.

    The boxes of each group are shifted so far that boxes of different groups do not overlap. The shift is in the dtype
    of the boxes, as in the reference.

    Args:
        boxes: (N, 4) xyxy, not negative.
        scores: (N,).
        groups: (N,) small integers.
        iou_threshold: a box goes when it overlaps a better one of its group by more.

    Returns:
        (M,) int64, the rows kept, best score first.
    """
    if len(boxes) == 0:
        return boxes.new_zeros((0,), dtype=torch.long)
    shift = groups.to(boxes.dtype) * (boxes.max() + 1)
    return nms(boxes + shift[:, None], scores, iou_threshold)


class RPNHead(nn.Module):
    """Region proposal network over all pyramid levels.

    Args:
        strides: pixels of the input per pixel of each level.
        channels: channels of the levels.
        per_level: proposals kept a level before NMS.
        max_proposals: proposals kept an image after NMS.
        iou_threshold: of the NMS, within a level.
    """

    def __init__(
        self,
        strides: Sequence[int],
        channels: int = 256,
        per_level: int = 1000,
        max_proposals: int = 1000,
        iou_threshold: float = 0.7,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.per_level, self.max_proposals, self.iou_threshold = per_level, max_proposals, iou_threshold
        self.rpn_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(channels, len(ASPECT_RATIOS), 1)
        self.rpn_reg = nn.Conv2d(channels, len(ASPECT_RATIOS) * 4, 1)

    def forward(self, levels: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """For each level (B, C, H, W): logits (B, H * W * 3) and deltas (B, H * W * 3, 4), anchor by anchor."""
        outputs = []
        for level in levels:
            x = self.rpn_conv(level).relu()
            logits = self.rpn_cls(x).permute(0, 2, 3, 1).flatten(1)
            deltas = self.rpn_reg(x).permute(0, 2, 3, 1).reshape(len(x), -1, 4)
            outputs.append((logits, deltas))
        return outputs

    def inputs(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """What of a network's levels this head looks at: here, all."""
        return list(levels)

    def propose(self, levels: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
        """Class-agnostic regions.

        Args:
            levels: one map a stride, (B, C, H_i, W_i), finest first.
            image_sizes: (height, width) of each image inside the padded input; proposals are clipped to it.

        Returns:
            For each image boxes (N, 4), xyxy float32 pixels of the input, and scores (N,) in 0..1, best first.
        """
        outputs = [(logits.float(), deltas.float()) for logits, deltas in self(levels)]
        anchors = [
            grid_anchors(level.shape[-2], level.shape[-1], stride, outputs[0][1])
            for level, stride in zip(levels, self.strides, strict=True)
        ]
        return [self._select(outputs, anchors, image, size) for image, size in enumerate(image_sizes)]

    def _select(
        self, outputs: list[tuple[Tensor, Tensor]], anchors: list[Tensor], image: int, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        boxes, scores, groups = [], [], []
        for group, ((logits, deltas), level_anchors) in enumerate(zip(outputs, anchors, strict=True)):
            best, rows = logits[image].sigmoid().sort(descending=True)
            best, rows = best[: self.per_level], rows[: self.per_level]
            boxes.append(decode_boxes(level_anchors[rows], deltas[image, rows], image_size=size))
            scores.append(best)
            groups.append(rows.new_full(rows.shape, group))
        all_boxes, all_scores, all_groups = torch.cat(boxes), torch.cat(scores), torch.cat(groups)
        real = (all_boxes[:, 2:] > all_boxes[:, :2]).all(dim=1)
        all_boxes, all_scores, all_groups = all_boxes[real], all_scores[real], all_groups[real]
        keep = grouped_nms(all_boxes, all_scores, all_groups, self.iou_threshold)[: self.max_proposals]
        return all_boxes[keep], all_scores[keep]
