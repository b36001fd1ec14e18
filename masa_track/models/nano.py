"""`nano`: the small model that the package ships. A frozen EfficientNet-Lite0, a small adapter, two small heads.

What it was trained on and how is in the card beside its weights, ``weights/nano.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masa_track.errors import InputError
from masa_track.models.fuse import fold_batch_norms
from masa_track.models.lite0 import CENTRED_CHANNELS, CHANNELS, CentredLite0
from masa_track.models.nano_adapter import NanoAdapter
from masa_track.models.nano_detector import NanoDetector
from masa_track.models.roi import align

STRIDES = (4, 8, 16, 32)  # of the levels that boxes are read from
# Rows and columns of cells that a box is read in at each level; things are more often tall than wide, and their colours
# change from top to bottom.
GRIDS = ((6, 1), (4, 2), (4, 2), (4, 2))
SAMPLES = (0, 2, 2, 2)  # points a cell's side; 0: as many as there are positions, to count all colours
NUMBERS = tuple(kept * rows * columns for kept, (rows, columns) in zip(CENTRED_CHANNELS, GRIDS, strict=True))
# Lengths of an embedding. Dot products are its square times a cosine: it says how sharp a softmax is, in matching (8,
# chosen on the dev clips, where 7 to 10 were within .01 IDF1) and in the contrastive loss (a temperature of .1).
LENGTH, TRAINING_LENGTH = 8.0, 10**0.5


def read_boxes(levels: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[Tensor]:
    """The centred features under boxes.

    Args:
        levels: at least four, the first of them the centred ones, strides 4 to 32.
        boxes: for each image (N_b, 4), xyxy pixels of the input.

    Returns:
        For each level (sum N_b, ``NUMBERS[i]``), channels first, then rows, then columns.
    """
    found = []
    for level, stride, grid, samples in zip(levels, STRIDES, GRIDS, SAMPLES, strict=False):
        found.append(align(level, list(boxes), grid, stride, samples).flatten(1))
    return found


class NanoTrackHead(nn.Module):
    """Embeddings of boxes: a grid of cells of each level, weighed, corrected by a small network, joined.

    Starts as the plain grid: all it adds starts at zero.

    Args:
        hidden: width of the correction.
    """

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(numbers)) for numbers in NUMBERS)
        self.correct = nn.ModuleList(_correction(numbers, hidden) for numbers in NUMBERS)
        self.levels = nn.Parameter(torch.zeros(len(NUMBERS)))

    def forward(self, levels: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Unit vectors (sum N_b, :attr:`dimension`) of boxes (N_b, 4), xyxy pixels of the input."""
        parts = []
        for i, x in enumerate(read_boxes(levels, boxes)):
            x = F.normalize(x * (1 + self.weights[i]), dim=1) * NUMBERS[i] ** 0.5  # numbers of size one
            parts.append(F.normalize(x + self.correct[i](x), dim=1) * self.levels[i].exp())
        return F.normalize(torch.cat(parts, dim=1), dim=1)

    @property
    def dimension(self) -> int:
        """D, the numbers in an embedding."""
        return sum(NUMBERS)


def _correction(numbers: int, hidden: int) -> nn.Sequential:
    """A small network that says zero until it is trained."""
    last = nn.Linear(hidden, numbers)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(numbers, hidden), nn.ReLU(), last)


class Nano(nn.Module):
    """Frozen EfficientNet-Lite0, adapter, track head, class-agnostic detection head.

    Attributes:
        mean, std, long_side, short_side, size_divisor: of the input, set by :func:`~masa_track.registry.build_model`;
            see :class:`~masa_track.registry.Preprocessing`.
        dimension: of an embedding.

    Args:
        channels: of the pyramid.
        fusion: False leaves the deformable fusion out, an ablation; the weights shipped need it.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    long_side: int
    short_side: int | None
    size_divisor: int

    def __init__(self, channels: int = 64, fusion: bool = True) -> None:
        super().__init__()
        self.backbone = CentredLite0()
        self.adapter = NanoAdapter(channels, fusion)
        self.track_head = NanoTrackHead()
        self.rpn_head = NanoDetector(CHANNELS)  # last: what chance the others start from does not depend on it
        self.dimension = self.track_head.dimension

    def backbone_maps(self, images: Tensor) -> list[Tensor]:
        """The backbone's maps of ``images`` (B, 3, H, W), normalised; see :class:`CentredLite0`."""
        return self.backbone(images)

    def frozen_maps(self) -> Callable[[Tensor], list[Tensor]]:
        """What :meth:`backbone_maps` gives, from a copy of the backbone as it now is, twice as fast: for training."""
        copy = cast(Any, deepcopy(self.backbone).eval())
        fold_batch_norms(copy)
        copy.to(memory_format=torch.channels_last)
        return lambda images: copy(images.contiguous(memory_format=torch.channels_last))

    def adapt(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Eight levels: four for the embeddings, strides 4 to 32; and the backbone's own, for the detection head.

        See :class:`NanoAdapter`.
        """
        return [*self.adapter(maps), *maps[: len(CHANNELS)]]

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
        parts = read_boxes(maps[-len(CENTRED_CHANNELS) :], boxes)
        return torch.cat([F.normalize(x, dim=1) for x in parts], dim=1) / len(parts) ** 0.5

    def candidates(self, levels: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """What :meth:`detect` chooses from; see :meth:`NanoDetector.candidates`."""
        return self.rpn_head.candidates(self.rpn_head.inputs(levels))

    def detect(self, levels: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
        """Class-agnostic detections.

        Args:
            levels: from :meth:`pyramid`.
            image_sizes: (height, width) of each picture inside the padded input.

        Returns:
            For each image boxes (N, 4), xyxy pixels of the input, and scores (N,), best first; N <= 100. A score is the
            chance that the box overlaps a thing by half or more.
        """
        if len(image_sizes) != len(levels[0]):
            raise InputError(f"image_sizes must name one size an image, {len(levels[0])}, got {len(image_sizes)}")
        return self.rpn_head.propose(self.rpn_head.inputs(levels), image_sizes)
