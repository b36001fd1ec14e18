"""`nano-adapter`: nano's frozen backbone with an adapter and heads to be trained. No weights are shipped yet.

`configs/nano.py` trains it and says how; README says what came of it so far.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from masa_track.errors import InputError
from masa_track.models.lite0 import CENTRED_CHANNELS, CentredLite0
from masa_track.models.nano_adapter import NanoAdapter
from masa_track.models.rpn import RPNHead

STRIDES = (8, 16, 32, 64)  # of the levels; boxes are read from the first three
GRID = (4, 2)  # rows and columns of cells that a box is read in; things are more often tall than wide
CELLS = GRID[0] * GRID[1]
# Lengths of an embedding. Dot products are its square times a cosine, so it says how sharp a softmax is: in matching
# (14, chosen on the dev clips, where 10 to 20 were within .05 IDF1) and in the contrastive loss (a temperature of .1).
LENGTH, TRAINING_LENGTH = 14.0, 10**0.5
ANCHOR_SCALE = 4  # anchors of 32 to 256 pixels of the input
MAX_DETECTIONS, DETECTION_IOU = 100, 0.5


class NanoTrackHead(nn.Module):
    """Embeddings of boxes: a grid of cells of each level, weighed, corrected by a small network, joined.

    Starts as the plain grid: all it adds starts at zero.

    Args:
        hidden: width of the correction.
    """

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        self.cells = nn.Parameter(torch.zeros(len(CENTRED_CHANNELS), CELLS))
        self.channels = nn.ParameterList(nn.Parameter(torch.zeros(kept)) for kept in CENTRED_CHANNELS)
        self.levels = nn.Parameter(torch.zeros(len(CENTRED_CHANNELS)))
        self.correct = nn.ModuleList(_correction(kept * CELLS, hidden) for kept in CENTRED_CHANNELS)

    def forward(self, levels: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Unit vectors (sum N_b, :attr:`dimension`) of boxes (N_b, 4), xyxy pixels of the input."""
        parts = []
        for i, kept in enumerate(CENTRED_CHANNELS):
            level = levels[i][:, :kept]
            own = [b.to(level.dtype) for b in boxes]
            x = roi_align(level, own, GRID, spatial_scale=1 / STRIDES[i], sampling_ratio=2, aligned=True)
            x = x.flatten(2) * (1 + self.cells[i]) * (1 + self.channels[i])[:, None]  # (N, kept, 8)
            x = F.normalize(x.flatten(1), dim=1) * (kept * CELLS) ** 0.5  # numbers of size one
            parts.append(F.normalize(x + self.correct[i](x), dim=1) * self.levels[i].exp())
        return F.normalize(torch.cat(parts, dim=1), dim=1)

    @property
    def dimension(self) -> int:
        """D, the numbers in an embedding."""
        return sum(CENTRED_CHANNELS) * CELLS


def _correction(numbers: int, hidden: int) -> nn.Sequential:
    """A small network that says zero until it is trained."""
    last = nn.Linear(hidden, numbers)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(numbers, hidden), nn.ReLU(), last)


class NanoRPN(RPNHead):
    """Region proposals from the pyramid, which is the last ``channels`` maps of each level."""

    def __init__(self, channels: int) -> None:
        super().__init__(STRIDES, channels, anchor_scale=ANCHOR_SCALE)
        self.given = channels

    def forward(self, levels: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """As :meth:`RPNHead.forward`."""
        return super().forward([level[:, -self.given :] for level in levels])


class AdaptedNano(nn.Module):
    """Frozen EfficientNet-Lite0, adapter, track head, class-agnostic detection head.

    Attributes:
        mean, std: of the input, RGB, in 0..255.
        size_divisor: the padded input's sides are multiples of it.
        long_side: pixels that the longer side is scaled to; 800 and 1,024 were equally good on the dev clips.
        dimension: of an embedding.

    Args:
        channels: of the pyramid.
        fusion: False leaves the deformable fusion out, an ablation.
    """

    mean = (127.5, 127.5, 127.5)
    std = (127.5, 127.5, 127.5)
    size_divisor = 64
    long_side = 800

    def __init__(self, channels: int = 64, fusion: bool = True) -> None:
        super().__init__()
        self.backbone = CentredLite0()
        self.adapter = NanoAdapter(channels, fusion)
        self.rpn_head = NanoRPN(channels)
        self.track_head = NanoTrackHead()
        self.dimension = self.track_head.dimension

    def backbone_maps(self, images: Tensor) -> list[Tensor]:
        """The backbone's maps of ``images`` (B, 3, H, W), normalised; see :class:`CentredLite0`."""
        return self.backbone(images)

    def adapt(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The levels, strides 8 to 64; see :class:`NanoAdapter`."""
        return self.adapter(maps)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The levels of normalised images (B, 3, H, W), H and W multiples of 64."""
        return self.adapt(self.backbone_maps(images))

    def embed(self, levels: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Embeddings of boxes.

        Args:
            levels: what :meth:`pyramid` gave.
            boxes: for each image (N, 4) xyxy in pixels of the input.

        Returns:
            (sum of N, ``dimension``), all of the same length.
        """
        return self.track_head(levels, boxes) * (TRAINING_LENGTH if self.training else LENGTH)

    def embed_start(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """What :meth:`embed` gave before training: unit vectors of the centred features alone.

        Args:
            maps: of :meth:`backbone_maps`.
            boxes: for each image (N, 4) xyxy in pixels of the input.
        """
        parts = []
        for level, stride in zip(maps[-len(CENTRED_CHANNELS) :], STRIDES, strict=False):
            own = [b.to(level.dtype) for b in boxes]
            x = roi_align(level, own, GRID, spatial_scale=1 / stride, sampling_ratio=2, aligned=True)
            parts.append(F.normalize(x.flatten(1), dim=1) / len(CENTRED_CHANNELS) ** 0.5)
        return torch.cat(parts, dim=1)

    def detect(self, levels: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
        """Class-agnostic detections: the proposals, thinned.

        Args:
            levels: from :meth:`pyramid`.
            image_sizes: (height, width) of each picture inside the padded input.

        Returns:
            For each image boxes (N, 4), xyxy pixels of the input, and scores (N,), best first; N <= 100.
        """
        if len(image_sizes) != len(levels[0]):
            raise InputError(f"image_sizes must name one size an image, {len(levels[0])}, got {len(image_sizes)}")
        found = []
        for boxes, scores in self.rpn_head.propose(levels, image_sizes):
            keep = nms(boxes, scores, DETECTION_IOU)[:MAX_DETECTIONS]
            found.append((boxes[keep], scores[keep]))
        return found
