"""The class-agnostic box head: says of each proposal whether it is an object, and moves it.

Source: Ren et al., Faster R-CNN, NeurIPS 2015, as mmdet's ``Shared2FCBBoxHead`` and ``Shared4Conv1FCBBoxHead`` with
one class and one regression for all classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torchvision.ops import nms

from masa_track.models.box_coder import decode_boxes
from masa_track.models.conv_norm import ConvNorm
from masa_track.models.roi import ROI_SIZE, roi_features

STDS = (0.1, 0.1, 0.2, 0.2)  # of the regression's four numbers, from the configurations


class BoxHead(nn.Module):
    """Optional convolutions, then fully connected layers, then two scores and four deltas a region.

    Args:
        convs: 3x3 convolutions with batch norm before the fully connected layers (R50: 4, the others: 0).
        fcs: fully connected layers (R50: 1, the others: 2).
        channels: channels of the pyramid.
        hidden: width of the fully connected layers.
    """

    def __init__(self, convs: int, fcs: int, channels: int = 256, hidden: int = 1024) -> None:
        super().__init__()
        self.shared_convs = nn.ModuleList(ConvNorm(channels, channels, 3, "bn", relu=True) for _ in range(convs))
        widths = [channels * ROI_SIZE**2] + [hidden] * fcs
        self.shared_fcs = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.fc_cls = nn.Linear(hidden, 2)  # object, background
        self.fc_reg = nn.Linear(hidden, 4)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """``features`` (N, C, 7, 7). Returns logits (N, 2), object first, and deltas (N, 4)."""
        x = features
        for conv in self.shared_convs:
            x = conv(x)
        x = x.flatten(1)  # (N, 256 * 7 * 7)
        for fc in self.shared_fcs:
            x = fc(x).relu()
        return self.fc_cls(x), self.fc_reg(x)


class RoIHead(nn.Module):
    """Detections from proposals: RoIAlign, the box head, a threshold and NMS.

    Args:
        strides: of the levels that boxes are read from.
        box_head: the head, kept as ``bbox_head``.
        score_threshold: regions not above it are dropped.
        max_detections: kept an image.
        iou_threshold: of the NMS.
    """

    def __init__(
        self,
        strides: Sequence[int],
        box_head: BoxHead,
        score_threshold: float = 0.02,
        max_detections: int = 50,
        iou_threshold: float = 0.5,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.bbox_head = box_head
        self.score_threshold, self.max_detections = score_threshold, max_detections
        self.iou_threshold = iou_threshold

    def detect(
        self, levels: Sequence[Tensor], proposals: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Class-agnostic detections.

        Args:
            levels: pyramid (B, C, H_i, W_i), finest first.
            proposals: B tensors (N, 4), xyxy pixels of the input.
            image_sizes: (height, width) to clip each image's boxes to.

        Returns:
            For each image boxes (M, 4), xyxy float32 pixels, and scores (M,) in 0..1, best first.
        """
        logits, deltas = self.bbox_head(roi_features(levels, proposals, self.strides))
        scores = logits.float().softmax(dim=1)[:, 0]
        counts = [len(p) for p in proposals]
        results = []
        for boxes, score, delta, size in zip(
            proposals, scores.split(counts), deltas.float().split(counts), image_sizes, strict=True
        ):
            moved = decode_boxes(boxes.float(), delta, STDS, size)
            good = score > self.score_threshold
            moved, score = moved[good], score[good]
            keep = nms(moved, score, self.iou_threshold)[: self.max_detections]
            results.append((moved[keep], score[keep]))
        return results
