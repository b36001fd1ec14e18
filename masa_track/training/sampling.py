"""Which of the assigned boxes are used in a step, and which pairs of two views are the same instance.

All chance comes from the caller's generator, which lives on the CPU: a seed gives the same choice on every device.

Source: mmdet's ``RandomSampler`` and ``InstanceBalancedPosSampler``; Pang et al., QDTrack, CVPR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from masa_track.training.assignment import BACKGROUND, TRACK_OVERLAPS, assign


@dataclass(frozen=True)
class Share:
    """How many boxes of an image are used.

    Attributes:
        count: at most so many.
        positive: at most this part of them is positive; what they leave is filled with negatives.
        negatives_per_positive: at most so many, a single positive taken for granted; None for any number.
    """

    count: int
    positive: float
    negatives_per_positive: int | None = None


# MASA's published training configurations, the same in all.
RPN_SHARE = Share(256, 0.5)
BOX_SHARE = Share(512, 0.25)
TRACK_SHARE = Share(512, 0.5, negatives_per_positive=3)


def choose(rows: Tensor, count: int, generator: Generator) -> Tensor:
    """``count`` of the rows (N,), or all if there are no more, in an order of chance."""
    if len(rows) <= count:
        return rows
    return rows[torch.randperm(len(rows), generator=generator)[:count].to(rows.device)]


def sample(assigned: Tensor, share: Share, generator: Generator, balanced: bool = False) -> tuple[Tensor, Tensor]:
    """Positives and negatives of an image.

    Args:
        assigned: (N,) from :func:`~masa_track.training.assignment.assign`.
        share: how many.
        generator: on the CPU.
        balanced: whether each region has about the same number of positives, so that large ones, which many
            proposals fall on, do not crowd out the others.

    Returns:
        Rows of the positives (P,) and of the negatives (Q,), ``P + Q <= share.count``.
    """
    positives = (assigned >= 0).nonzero().squeeze(1)
    wanted = int(share.count * share.positive)
    if balanced and len(positives) > wanted:
        positives = _balanced(positives, assigned, wanted, generator)
    else:
        positives = choose(positives, wanted, generator)
    room = share.count - len(positives)
    if share.negatives_per_positive is not None:
        room = min(room, share.negatives_per_positive * max(1, len(positives)))
    return positives, choose((assigned == BACKGROUND).nonzero().squeeze(1), room, generator)


def _balanced(positives: Tensor, assigned: Tensor, wanted: int, generator: Generator) -> Tensor:
    """``wanted`` of the positives: first an equal number of each region's, then of what is left."""
    positives = positives[torch.randperm(len(positives), generator=generator).to(positives.device)]
    owner = assigned[positives]
    order = owner.argsort(stable=True)  # regions together, each in the order of chance
    _, counts = owner[order].unique_consecutive(return_counts=True)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    turn = torch.arange(len(order), device=order.device) - starts  # how many of its region come before it
    each = round(wanted / len(counts)) + 1
    first, rest = positives[order[turn < each]], positives[order[turn >= each]]
    if len(first) >= wanted:
        return choose(first, wanted, generator)
    return torch.cat([first, choose(rest, wanted - len(first), generator)])


@dataclass(frozen=True)
class ViewSample:
    """The boxes of one view in the track loss.

    Attributes:
        boxes: (N, 4) xyxy pixels, the positives first.
        ids: (P,) int64, the instances of the positives; the other ``N - P`` are nobody's.
    """

    boxes: Tensor
    ids: Tensor

    @property
    def positives(self) -> Tensor:
        """(P, 4), the boxes that are somebody's."""
        return self.boxes[: len(self.ids)]


def quasi_dense(
    regions: Tensor, ids: Tensor, proposals: Tensor, generator: Generator, share: Share = TRACK_SHARE
) -> ViewSample:
    """The boxes of a view for the track loss: its regions, and proposals on and beside them.

    Args:
        regions: (M, 4) xyxy pixels.
        ids: (M,) their instances.
        proposals: (N, 4) xyxy pixels.
        generator: on the CPU.
        share: how many.
    """
    boxes = torch.cat([regions, proposals])
    own = torch.arange(len(regions), device=regions.device)  # a region is itself, whatever others overlap it
    assigned = torch.cat([own, assign(proposals, regions, TRACK_OVERLAPS)])
    positives, negatives = sample(assigned, share, generator, balanced=True)
    return ViewSample(torch.cat([boxes[positives], boxes[negatives]]), ids[assigned[positives]])


def pair_targets(key: ViewSample, ref: ViewSample) -> Tensor:
    """(P, R) bool: whether a positive of the key view and a box of the reference view are the same instance."""
    same = key.ids[:, None] == ref.ids[None]
    nobody = same.new_zeros((len(key.ids), len(ref.boxes) - len(ref.ids)))
    return torch.cat([same, nobody], dim=1)
