"""nano's detection head: which position finds which region, its losses, and what comes out of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from masa_track.models.nano_detector import MAX_DETECTIONS, OVERLAP, STRIDES, NanoDetector, positions, to_boxes
from masa_track.training.point_losses import ANCHOR, CANDIDATES, assign_positions, point_losses

GIVEN = (6, 8, 10, 12)
SIZES = ((24, 32), (12, 16), (6, 8))  # of levels at strides 8 to 32, of a picture of 192 x 256


def slow_assignment(centres: list[torch.Tensor], regions: torch.Tensor) -> list[int]:
    """ATSS as the paper's algorithm 1 has it, a region at a time."""
    points = torch.cat(centres)
    sides = torch.cat([torch.full((len(c),), float(s * ANCHOR)) for c, s in zip(centres, STRIDES, strict=True)])
    squares = torch.stack([points[:, 0], points[:, 1], points[:, 0], points[:, 1]], 1)
    squares += sides[:, None] / 2 * torch.tensor([-1, -1, 1, 1])
    owner, best = [-1] * len(points), [-1.0] * len(points)
    for number, region in enumerate(regions):
        middle = (region[:2] + region[2:]) / 2
        candidates, start = [], 0
        for level in centres:
            order = ((level - middle) ** 2).sum(1).argsort(stable=True)[:CANDIDATES]
            candidates += [start + int(i) for i in order]
            start += len(level)
        overlaps = [float(box_iou(squares[i][None], region[None])) for i in candidates]
        threshold = np.mean(overlaps) + np.std(overlaps, ddof=1)
        for i, overlap in zip(candidates, overlaps, strict=True):
            (x, y), (x1, y1, x2, y2) = points[i].tolist(), region.tolist()
            if overlap >= threshold - 1e-6 and x1 < x < x2 and y1 < y < y2 and overlap > best[i]:
                owner[i], best[i] = number, overlap
    return owner


def some_regions(seed: int, count: int = 12) -> torch.Tensor:
    random = np.random.default_rng(seed)
    corners, sides = random.uniform(0, (200, 140), (count, 2)), random.uniform(12, 120, (count, 2))
    boxes = np.hstack([corners, corners + sides]).clip(0, (256, 192, 256, 192))
    return torch.from_numpy(boxes.astype(np.float32))


@pytest.mark.parametrize("seed", range(4))
def test_positions_are_assigned_as_the_paper_says(seed: int) -> None:
    centres, regions = positions(SIZES, torch.zeros(())), some_regions(seed)
    found = assign_positions(centres, regions).tolist()
    assert found == slow_assignment(centres, regions)
    assert len(set(found) - {-1}) >= 8  # nearly every region has a position that looks for it


def test_without_regions_nobody_is_assigned() -> None:
    centres = positions(SIZES, torch.zeros(()))
    assert (assign_positions(centres, torch.zeros((0, 4))) == -1).all()


def right_answers(regions: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What a detector says that has learnt everything: the region's sides and an overlap of one."""
    centres = positions(SIZES, torch.zeros(()))
    owner, outputs = assign_positions(centres, regions), []
    for centre, own in zip(centres, owner.split([len(c) for c in centres]), strict=True):
        box = regions[own.clamp(min=0)]
        sides = torch.cat([centre - box[:, :2], box[:, 2:] - centre], dim=1)
        sides = torch.where(own[:, None] >= 0, sides, 1.0)
        outputs.append((torch.where(own >= 0, 12.0, -12.0)[None], sides[None]))
    return outputs


def test_losses_are_nothing_when_all_is_right_and_more_when_it_is_not() -> None:
    regions = some_regions(1)
    outputs = right_answers(regions)
    scores, boxes = point_losses(outputs, SIZES, [regions], [(192, 256)])
    assert scores < 1e-6
    assert boxes.abs() < 1e-6
    moved = [(logits, sides * 1.5) for logits, sides in outputs]
    assert point_losses(moved, SIZES, [regions], [(192, 256)])[1] > 0.1
    blind = [(-logits, sides) for logits, sides in outputs]
    assert point_losses(blind, SIZES, [regions], [(192, 256)])[0] > 1


def test_padding_and_pictures_without_regions_teach_what_they_may() -> None:
    regions = torch.tensor([[10.0, 10, 90, 90]])
    outputs = [(torch.zeros(1, h * w), torch.ones(1, h * w, 4)) for h, w in (*SIZES, (3, 4))]
    whole = point_losses(outputs, SIZES, [regions], [(192, 256)])[0]
    part = point_losses(outputs, SIZES, [regions], [(100, 100)])[0]
    assert part < whole / 2  # the zeros beyond the picture are no lesson
    scores, boxes = point_losses(outputs, SIZES, [regions[:0]], [(192, 256)])
    assert scores > 0
    assert boxes == 0


def test_boxes_are_what_their_positions_say() -> None:
    torch.manual_seed(0)
    head = NanoDetector(GIVEN, 16).eval()
    with torch.no_grad():  # an untrained head says the same everywhere; this one does not
        head.scores[-1].weight.normal_(std=0.5)
        head.sides[-1].weight.normal_(std=0.5)
    maps = [torch.randn(2, c, 192 // s, 256 // s) for c, s in zip(GIVEN, (4, 8, 16, 32), strict=True)]
    with torch.no_grad():
        outputs = head(maps)
        found = head.propose(maps, [(192, 256), (150, 101)])
    assert [logits.shape[1] for logits, _ in outputs] == [768, 192, 48, 12]
    for image, (height, width) in enumerate([(192, 256), (150, 101)]):
        boxes, scores = found[image]
        assert 5 < len(boxes) <= MAX_DETECTIONS
        assert (scores[:-1] >= scores[1:]).all()
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] <= torch.tensor([width, height])).all()
        assert box_iou(boxes, boxes).fill_diagonal_(0).max() <= OVERLAP
        centres = positions(SIZES, boxes)
        everything = torch.cat(
            [to_boxes(c, sides[image]) for c, (_, sides) in zip(centres, outputs, strict=True)]
        ).clamp(min=0)
        everything = everything.minimum(torch.tensor([width, height] * 2))
        logits = torch.cat([level[image] for level, _ in outputs])
        best = int(logits.argmax())
        torch.testing.assert_close(boxes[0], everything[best])
        torch.testing.assert_close(scores[0], logits[best].sigmoid())


@pytest.mark.slow
def test_a_head_learns_where_two_objects_are() -> None:
    """Two bright rectangles in the backbone's maps: within some steps both are found, and nothing else comes first."""
    torch.manual_seed(0)
    regions = torch.tensor([[24.0, 40, 104, 120], [150, 30, 230, 170]])
    maps = [torch.zeros(1, c, 192 // s, 256 // s) for c, s in zip(GIVEN, (4, 8, 16, 32), strict=True)]
    for level, stride in zip(maps, (4, 8, 16, 32), strict=True):
        level += 0.1 * torch.randn_like(level)
        for number, (x1, y1, x2, y2) in enumerate((regions / stride).round().int().tolist()):
            level[:, number, y1:y2, x1:x2] += 1
    head = NanoDetector(GIVEN, 16)
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-3)
    losses = []
    for _ in range(80):
        scores, boxes = point_losses(head(maps), SIZES, [regions], [(192, 256)])
        optimizer.zero_grad()
        (scores + boxes).backward()
        optimizer.step()
        losses.append(float((scores + boxes).detach()))
    assert losses[-1] < losses[0] / 4
    with torch.no_grad():
        ((found, _),) = head.eval().propose(maps, [(192, 256)])
    overlaps = box_iou(regions, found[:2])
    assert overlaps.max(dim=1).values.min() > 0.8
