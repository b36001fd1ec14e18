"""nano's detection head: class-agnostic boxes, from the frozen backbone's maps by a small pyramid of its own.

Every position of the pyramid says how far the four sides of its thing are, and the overlap that it expects its box to
have with the thing: there is no anchor, and no class. It looks at the backbone alone, so that training the embeddings
anew leaves it as it is.

Source: after Tian et al., FCOS, ICCV 2019, and Zhang et al., ATSS, CVPR 2020; the score is that of Li et al.,
Generalized Focal Loss, NeurIPS 2020, and of Kim et al., OLN, RA-L 2022: localisation quality in place of a class.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms

STRIDES = (8, 16, 32, 64)  # pixels of the input per position of each level
UNIT = 2.0  # strides that a side is away where the network says zero
PER_LEVEL, MAX_DETECTIONS = 1000, 100  # boxes kept a level before, and an image after non-maximum suppression
OVERLAP = 0.6  # IoU above which the worse of two boxes goes; of .5 to .8 it was the best for average recall


class NanoDetector(nn.Module):
    """Boxes and their expected overlaps at every position of four levels.

    Attributes:
        calibration: (2,), what makes scores of expected overlaps.

    Args:
        given: channels of the backbone's maps at strides 4, 8, 16 and 32.
        channels: of the pyramid.
    """

    def __init__(self, given: Sequence[int], channels: int = 64) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(c, affine=False), nn.Conv2d(c, channels, 1)) for c in given[1:]
        )
        self.finest = nn.Sequential(  # what stride 4 knows, at stride 8
            nn.BatchNorm2d(given[0], affine=False), nn.Conv2d(given[0], channels, 3, stride=2, padding=1)
        )
        self.coarsest = _block(channels, stride=2)
        self.smooth = nn.ModuleList(_block(channels) for _ in STRIDES)
        self.scores = nn.Sequential(*_tower(channels), _last(channels, 1, -3.0))  # most positions are of no thing
        self.sides = nn.Sequential(*_tower(channels), _last(channels, 4, 0.0))
        self.scale = nn.Parameter(torch.zeros(len(STRIDES)))  # of a level, a logarithm
        # Slope and offset that make a logit that of the chance that the box is right; by tools/calibrate_detector.py.
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))

    calibration: Tensor

    def inputs(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """The backbone's maps among the network's levels: the last four."""
        return list(levels[-len(STRIDES) :])

    def forward(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Of the backbone's maps (B, C_i, H_i, W_i), strides 4 to 32.

        Returns:
            For each of the levels, strides 8 to 64, logits (B, P) of the expected overlaps and distances (B, P, 4) in
            pixels of the input from a position to its box's left, top, right and bottom; positions row by row.
        """
        levels = [lateral(x) for lateral, x in zip(self.lateral, maps[1:], strict=True)]
        levels.append(self.coarsest(levels[-1]))
        for i in reversed(range(len(levels) - 1)):
            levels[i] = levels[i] + F.interpolate(levels[i + 1], size=levels[i].shape[-2:])
        levels[0] = levels[0] + self.finest(maps[0])
        found = []
        for smooth, stride, scale, x in zip(self.smooth, STRIDES, self.scale, levels, strict=True):
            x = smooth(x)
            logits = self.scores(x).flatten(1)
            sides = (self.sides(x) + scale).float().clamp(-5, 5).exp() * (UNIT * stride)
            found.append((logits.float(), sides.flatten(2).transpose(1, 2)))
        return found

    def candidates(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The box and the calibrated score of every position, before any is suppressed.

        Args:
            maps: as for :meth:`forward`.

        Returns:
            For each level boxes (B, P, 4), xyxy float32 pixels of the input, and scores (B, P) in 0..1.
        """
        levels = self(maps)
        centres = positions([level.shape[-2:] for level in maps[1:]], levels[0][1])
        slope, offset = self.calibration.float().unbind()
        return [
            (to_boxes(centre, sides), (slope * logits + offset).sigmoid())
            for (logits, sides), centre in zip(levels, centres, strict=True)
        ]

    def propose(self, maps: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
        """Detections.

        Args:
            maps: as for :meth:`forward`.
            image_sizes: (height, width) of each picture inside the padded input; boxes are clipped to it.

        Returns:
            For each image boxes (N, 4), xyxy float32 pixels of the input, and scores (N,) in 0..1, best first;
            N <= 100. Calibrated, a score is the chance that the box overlaps a thing by half or more.
        """
        levels = self.candidates(maps)
        found = []
        for image, (height, width) in enumerate(image_sizes):
            boxes, scores = [], []
            for level_boxes, level_scores in levels:
                best, rows = level_scores[image].topk(min(PER_LEVEL, level_scores.shape[1]))
                boxes.append(level_boxes[image, rows])
                scores.append(best)
            all_boxes, all_scores = torch.cat(boxes), torch.cat(scores)
            all_boxes = all_boxes.clamp(min=0).minimum(all_boxes.new_tensor([width, height, width, height]))
            real = (all_boxes[:, 2:] > all_boxes[:, :2]).all(dim=1)
            all_boxes, all_scores = all_boxes[real], all_scores[real]
            keep = nms(all_boxes, all_scores, OVERLAP)[:MAX_DETECTIONS]
            found.append((all_boxes[keep], all_scores[keep]))
        return found


def positions(sizes: Sequence[Sequence[int]], like: Tensor) -> list[Tensor]:
    """(P, 2) x and y, pixels of the input, of the middles of each level's positions, row by row.

    Args:
        sizes: (height, width) of the levels at strides 8, 16 and 32; that at stride 64 is half the last, rounded up.
        like: its type and device are taken.
    """
    rows, columns = sizes[-1]
    found = []
    for (height, width), stride in zip([*sizes, (-(-rows // 2), -(-columns // 2))], STRIDES, strict=True):
        y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * stride
        x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * stride
        grid = torch.meshgrid(y, x, indexing="ij")
        found.append(torch.stack(grid[::-1], dim=-1).reshape(-1, 2))
    return found


def to_boxes(centres: Tensor, sides: Tensor) -> Tensor:
    """(..., 4) xyxy of positions (..., 2) and the distances (..., 4) to their boxes' left, top, right and bottom."""
    return torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], dim=-1)


def _block(channels: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


def _tower(channels: int, layers: int = 2) -> list[nn.Module]:
    """Convolutions that all levels share; their norm is of each picture and level."""
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.GroupNorm(8, channels), nn.ReLU()]
    return parts


def _last(channels: int, numbers: int, start: float) -> nn.Conv2d:
    """A convolution that says about ``start`` everywhere until it is trained."""
    convolution = nn.Conv2d(channels, numbers, 3, padding=1)
    nn.init.normal_(convolution.weight, std=0.01)
    nn.init.constant_(convolution.bias, start)  # type: ignore[arg-type]
    return convolution
