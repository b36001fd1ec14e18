"""Losses, assignment and sampling of training, against the reference's numbers and slow plain loops."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from masa_track.errors import InputError
from masa_track.models.box_coder import decode_boxes
from masa_track.models.box_head import STDS, BoxHead, RoIHead
from masa_track.models.rpn import grid_anchors
from masa_track.training.assignment import BACKGROUND, BOX_OVERLAPS, IGNORED, RPN_OVERLAPS, TRACK_OVERLAPS, assign
from masa_track.training.losses import contrastive_loss, margin_loss, two_way_loss
from masa_track.training.proposal_losses import box_losses, rpn_losses
from masa_track.training.random_boxes import random_pairs
from masa_track.training.sampling import Share, ViewSample, pair_targets, quasi_dense, sample

GOLDEN = Path(__file__).parent / "goldens" / "losses.npz"


def chance(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def example(seed: int = 0, p: int = 7, r: int = 11, d: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    random = np.random.default_rng(seed)
    targets = torch.from_numpy(random.random((p, r)) < 0.25)
    targets[0] = False  # a key without a positive
    return torch.from_numpy(random.normal(size=(p, d))), torch.from_numpy(random.normal(size=(r, d))), targets


def random_regions(seed: int, count: int, side: float = 128.0) -> Tensor:
    random = np.random.default_rng(seed)
    corner = random.uniform(0, side * 0.7, (count, 2))
    return torch.tensor(np.concatenate([corner, corner + random.uniform(8, side * 0.3, (count, 2))], axis=1)).float()


# --- the two losses on embeddings


@pytest.mark.parametrize("case", ["s0", "s1"])
def test_values_and_gradients_of_the_reference(case: str) -> None:
    with np.load(GOLDEN) as file:
        gold = {k.removeprefix(f"{case}_"): torch.from_numpy(file[k]) for k in file.files if k.startswith(case)}
    key, ref = gold["key_embeds"].requires_grad_(), gold["ref_embeds"].requires_grad_()
    track = 0.25 * contrastive_loss(key, ref, gold["targets"])
    aux = margin_loss(key, ref, gold["targets"])
    (track + aux).backward()
    torch.testing.assert_close(track.detach(), gold["loss_track"], rtol=1e-6, atol=0)
    torch.testing.assert_close(aux.detach(), gold["loss_track_aux"], rtol=1e-6, atol=0)
    torch.testing.assert_close(key.grad, gold["grad_key"], rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(ref.grad, gold["grad_ref"], rtol=1e-4, atol=1e-8)


def slow_contrastive(key: Tensor, ref: Tensor, targets: Tensor) -> float:
    rows = []
    for k, row in zip(key.tolist(), targets.tolist(), strict=True):
        dots = [sum(a * b for a, b in zip(k, other, strict=True)) for other in ref.tolist()]
        positive = [s for s, same in zip(dots, row, strict=True) if same]
        negative = [s for s, same in zip(dots, row, strict=True) if not same]
        if positive:
            below = sum(map(math.exp, positive)) / len(positive) + sum(map(math.exp, negative))
            rows.append(sum(-math.log(math.exp(s) / below) for s in positive) / len(positive))
    return sum(rows) / len(rows) if rows else 0.0


def slow_margin(key: Tensor, ref: Tensor, targets: Tensor) -> float:
    positive, negative = [], []
    for k, row in zip(key.tolist(), targets.tolist(), strict=True):
        for other, same in zip(ref.tolist(), row, strict=True):
            dot = sum(a * b for a, b in zip(k, other, strict=True))
            cosine = dot / math.hypot(*k) / math.hypot(*other)
            if same:
                positive.append((min(max(cosine, 0), 1) - 1) ** 2)
            else:
                negative.append(min(max(cosine - 0.1, 0), 1) ** 2)
    if not positive:
        return 0.0
    used = positive + sorted(negative, reverse=True)[: 3 * len(positive)]
    return sum(used) / len(used)


@pytest.mark.parametrize("seed", range(4))
def test_losses_equal_plain_loops(seed: int) -> None:
    key, ref, targets = example(seed)
    assert contrastive_loss(key, ref, targets).item() == pytest.approx(slow_contrastive(key, ref, targets), rel=1e-9)
    assert margin_loss(key, ref, targets).item() == pytest.approx(slow_margin(key, ref, targets), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_two_way_loss_equals_plain_loops(seed: int) -> None:
    """Each embedding of either view against all others of both."""
    first, second, targets = example(seed)
    everything, rows = torch.cat([first, second]), []
    p = len(first)
    for i, one in enumerate(everything):
        same = (
            [p + j for j in range(len(second)) if targets[i, j]]
            if i < p
            else [j for j in range(p) if targets[j, i - p]]
        )
        if not same:
            continue
        dots = [float(one @ other) for other in everything]
        rest = sum(math.exp(dots[j]) for j in range(len(everything)) if j != i and j not in same)
        below = sum(math.exp(dots[j]) for j in same) / len(same) + rest
        rows.append(sum(-math.log(math.exp(dots[j]) / below) for j in same) / len(same))
    assert two_way_loss(first, second, targets).item() == pytest.approx(sum(rows) / len(rows), rel=1e-9)


@pytest.mark.parametrize("loss", [contrastive_loss, margin_loss, two_way_loss])
def test_gradients_are_those_of_the_values(loss) -> None:  # type: ignore[no-untyped-def]
    key, ref, targets = example(3, p=4, r=6, d=3)
    assert torch.autograd.gradcheck(lambda k, r: loss(k, r, targets), (key.requires_grad_(), ref.requires_grad_()))


@pytest.mark.parametrize("loss", [contrastive_loss, margin_loss, two_way_loss])
@pytest.mark.parametrize(("p", "r"), [(0, 5), (5, 0), (0, 0), (4, 6)])
def test_nothing_to_match_is_zero_with_gradients_of_zero(loss, p: int, r: int) -> None:  # type: ignore[no-untyped-def]
    key, ref = torch.randn(p, 3, requires_grad=True), torch.randn(r, 3, requires_grad=True)
    value = loss(key, ref, torch.zeros(p, r))
    value.backward()
    assert value.item() == 0
    assert key.grad.abs().sum() == 0
    assert ref.grad.abs().sum() == 0


def test_without_a_negative() -> None:
    key, ref, _ = example(1)
    targets = torch.ones(len(key), len(ref))
    assert contrastive_loss(key, ref, targets).item() == pytest.approx(slow_contrastive(key, ref, targets))
    assert margin_loss(key, ref, targets).item() == pytest.approx(slow_margin(key, ref, targets))


def test_large_dot_products_stay_finite() -> None:
    key, ref, targets = example(2)
    assert contrastive_loss(key * 1e4, ref, targets).isfinite()


def test_permuting_the_boxes_changes_nothing() -> None:
    key, ref, targets = example(4)
    rows, columns = torch.randperm(len(key), generator=chance()), torch.randperm(len(ref), generator=chance(1))
    for loss in (contrastive_loss, margin_loss):
        torch.testing.assert_close(
            loss(key[rows], ref[columns], targets[rows][:, columns]), loss(key, ref, targets), rtol=1e-9, atol=0
        )


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match=r"\(P, R\) = \(2, 3\), got \(3, 2\)"):
        contrastive_loss(torch.zeros(2, 4), torch.zeros(3, 4), torch.zeros(3, 2))
    with pytest.raises(InputError, match=r"one D, got \(2, 4\) and \(3, 5\)"):
        margin_loss(torch.zeros(2, 4), torch.zeros(3, 5), torch.zeros(2, 3))


# --- assignment


def iou(a: list[float], b: list[float]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, w) * max(0.0, h)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def slow_assign(boxes: Tensor, regions: Tensor, positive: float, negative: float, rescue: float | None) -> list[int]:
    result = []
    table = [[iou(box, region) for region in regions.tolist()] for box in boxes.tolist()]
    for row in table:
        best = max(row) if row else 0.0
        result.append(row.index(best) if row and best >= positive else BACKGROUND if best < negative else IGNORED)
    for m in range(len(regions) if rescue is not None else 0):
        nearest = max((row[m] for row in table), default=0.0)
        if nearest >= rescue:
            for n, row in enumerate(table):
                if row[m] == pytest.approx(nearest, abs=1e-7):
                    result[n] = m
    return result


@pytest.mark.parametrize("overlaps", [RPN_OVERLAPS, BOX_OVERLAPS, TRACK_OVERLAPS], ids=["rpn", "box", "track"])
@pytest.mark.parametrize("seed", range(3))
def test_assignment_equals_a_plain_loop(overlaps, seed: int) -> None:  # type: ignore[no-untyped-def]
    regions = random_regions(seed, 9)
    noise = torch.randn((9 * 12, 4), generator=chance(seed))
    near = regions.repeat(12, 1) + noise * torch.linspace(0, 8, 12).repeat_interleave(9)[:, None]
    boxes = torch.cat([near, random_regions(seed + 50, 30), regions[:3]])
    got = assign(boxes, regions, overlaps).tolist()
    assert got == slow_assign(boxes, regions, overlaps.positive, overlaps.negative, overlaps.rescue)
    kinds = Counter(min(g, 0) for g in got)
    assert kinds[0]
    assert kinds[BACKGROUND]
    assert kinds[IGNORED] or overlaps is BOX_OVERLAPS


def test_all_anchors_equally_near_are_rescued() -> None:
    region = torch.tensor([[4.0, 4, 12, 12]])
    boxes = torch.tensor([[0.0, 4, 8, 12], [8, 4, 16, 12], [30, 30, 40, 40]])  # IoU 1/3 twice
    assert assign(boxes, region, RPN_OVERLAPS).tolist() == [0, 0, BACKGROUND]
    assert assign(boxes, region, TRACK_OVERLAPS).tolist() == [IGNORED, IGNORED, BACKGROUND]


def test_assignment_of_nothing() -> None:
    boxes, none = random_regions(0, 3), torch.zeros(0, 4)
    assert assign(boxes, none, RPN_OVERLAPS).tolist() == [BACKGROUND] * 3
    assert assign(none, boxes, RPN_OVERLAPS).tolist() == []


# --- sampling


def test_a_sample_keeps_its_shares() -> None:
    assigned = torch.tensor([0] * 50 + [BACKGROUND] * 500 + [IGNORED] * 50)
    for share, wanted in (
        (Share(64, 0.5), (32, 32)),
        (Share(200, 0.5), (50, 150)),  # few positives: negatives fill up
        (Share(256, 0.25, 1), (50, 50)),
        (Share(2000, 0.5), (50, 500)),
    ):
        positives, negatives = sample(assigned, share, chance())
        assert (len(positives), len(negatives)) == wanted
        assert (assigned[positives] >= 0).all()
        assert (assigned[negatives] == BACKGROUND).all()
        assert len(torch.cat([positives, negatives]).unique()) == sum(wanted)


def test_without_positives_some_negatives_are_left() -> None:
    positives, negatives = sample(torch.full((20,), BACKGROUND), Share(16, 0.5, 3), chance())
    assert (len(positives), len(negatives)) == (0, 3)


def test_balanced_positives_leave_no_region_out() -> None:
    assigned = torch.cat([torch.zeros(1000), torch.arange(1, 9)]).long()[torch.randperm(1008, generator=chance(5))]
    positives, _ = sample(assigned, Share(64, 0.5), chance(), balanced=True)
    counts = Counter(assigned[positives].tolist())
    assert len(positives) == 32
    assert set(counts) == set(range(9))
    alone, _ = sample(assigned, Share(64, 0.5), chance())
    assert len(set(assigned[alone].tolist())) < 9  # what balancing is for


def test_the_seed_alone_decides() -> None:
    assigned = torch.randint(-2, 4, (300,), generator=chance())
    first, again, other = (torch.cat(sample(assigned, Share(32, 0.5), chance(s), balanced=True)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_quasi_dense_pairs_equal_a_plain_loop() -> None:
    regions = (random_regions(1, 6), random_regions(2, 5))
    ids = (torch.tensor([7, 3, 9, 1, 4, 8]), torch.tensor([3, 7, 5, 8, 2]))
    proposals = [
        torch.cat([r + torch.randn((len(r), 4), generator=chance(i)) for i in range(4)] + [random_regions(9, 40)])
        for r in regions
    ]
    views = [
        quasi_dense(r, i, p, chance(3), Share(60, 0.5, 3)) for r, i, p in zip(regions, ids, proposals, strict=True)
    ]
    for view, own, names in zip(views, regions, ids, strict=True):
        assert set(view.ids.tolist()) == set(names.tolist())  # the regions themselves are among the boxes
        for box, name in zip(view.positives.tolist(), view.ids.tolist(), strict=True):
            overlaps = [iou(box, region) for region in own.tolist()]
            assert max(overlaps) >= 0.7
            assert names[overlaps.index(max(overlaps))] == name
        for box in view.boxes[len(view.ids) :].tolist():
            assert max(iou(box, region) for region in own.tolist()) < 0.3
    targets = pair_targets(*views)
    assert targets.shape == (len(views[0].ids), len(views[1].boxes))
    for i, a in enumerate(views[0].ids.tolist()):
        for j in range(len(views[1].boxes)):
            assert targets[i, j] == (j < len(views[1].ids) and views[1].ids[j] == a)
    assert targets.any()


def test_a_region_is_itself_even_where_two_are_the_same() -> None:
    regions = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    view = quasi_dense(regions, torch.tensor([5, 6]), torch.zeros(0, 4), chance())
    assert sorted(view.ids.tolist()) == [5, 6]


def test_pairs_of_an_empty_view() -> None:
    empty = quasi_dense(torch.zeros(0, 4), torch.zeros(0).long(), random_regions(0, 5), chance())
    full = ViewSample(random_regions(0, 2), torch.tensor([1, 2]))
    assert pair_targets(empty, full).shape == (0, 2)
    assert pair_targets(full, empty).shape == (2, 3)
    assert not pair_targets(full, empty).any()


# --- the detector's losses


def rpn_case() -> tuple[list[tuple[Tensor, Tensor]], list[tuple[int, int]], tuple[int, ...], list[Tensor]]:
    sizes, strides = [(16, 20), (8, 10)], (8, 16)
    outputs = [
        (torch.randn((2, h * w * 3), generator=chance(h)), torch.randn((2, h * w * 3, 4), generator=chance(w)))
        for h, w in sizes
    ]
    regions = [
        torch.tensor([[10.0, 12, 70, 80], [60, 20, 150, 70], [4, 60, 50, 126]]),
        torch.tensor([[20.0, 30, 90, 99]]),
    ]
    return outputs, sizes, strides, regions


def test_rpn_losses_equal_a_plain_loop() -> None:
    """Every anchor is used, so that chance has no part; then with the sample of the same generator."""
    outputs, sizes, strides, regions = rpn_case()
    for share in (Share(10**6, 1.0), Share(40, 0.5)):
        got = rpn_losses(outputs, sizes, strides, regions, chance(7), share)
        generator, scores, deltas, used = chance(7), 0.0, 0.0, 0
        for image, own in enumerate(regions):
            anchors = torch.cat(
                [grid_anchors(*s, stride, outputs[0][1]) for s, stride in zip(sizes, strides, strict=True)]
            )
            assigned = torch.tensor(slow_assign(anchors, own, 0.7, 0.3, 0.3))
            positives, negatives = sample(assigned, share, generator)
            logit = torch.cat([level[image] for level, _ in outputs])
            delta = torch.cat([level[image] for _, level in outputs])
            assert len(positives)
            for n in positives.tolist():
                scores += math.log1p(math.exp(-logit[n]))
                x1, y1, x2, y2 = anchors[n].tolist()
                a, b, c, d = own[assigned[n]].tolist()
                wanted = [((a + c) - (x1 + x2)) / 2 / (x2 - x1), ((b + d) - (y1 + y2)) / 2 / (y2 - y1)]
                wanted += [math.log((c - a) / (x2 - x1)), math.log((d - b) / (y2 - y1))]
                for u, v in zip(delta[n].tolist(), wanted, strict=True):
                    error = abs(u - v)
                    deltas += error**2 / 2 * 9 if error < 1 / 9 else error - 1 / 18
            scores += sum(math.log1p(math.exp(logit[n])) for n in negatives.tolist())
            used += len(positives) + len(negatives)
        assert got[0].item() == pytest.approx(scores / used, rel=1e-4)
        assert got[1].item() == pytest.approx(deltas / used, rel=1e-4)


def test_rpn_losses_without_regions_still_teach_background() -> None:
    outputs, sizes, strides, _ = rpn_case()
    scores, deltas = rpn_losses(outputs, sizes, strides, [torch.zeros(0, 4)] * 2, chance())
    assert scores > 0
    assert deltas == 0


def box_case() -> tuple[RoIHead, list[Tensor], list[Tensor]]:
    torch.manual_seed(0)
    head = RoIHead((4, 8), BoxHead(0, 1, channels=4, hidden=8))
    return head, [torch.randn(2, 4, 32, 32), torch.randn(2, 4, 16, 16)], [random_regions(5, 4), random_regions(6, 3)]


def test_box_losses_of_a_head_that_is_right() -> None:
    """Proposals at a known distance, and a head that is made to answer: the losses follow by hand."""
    head, levels, regions = box_case()
    deltas = torch.tensor([0.3, -0.2, 0.1, 0.4])
    for parameter in head.bbox_head.parameters():
        torch.nn.init.zeros_(parameter)
    head.bbox_head.fc_reg.bias.data = deltas
    head.bbox_head.fc_cls.bias.data = torch.tensor([2.0, 0.0])
    far = torch.tensor([[200.0, 200, 220, 220], [230, 200, 240, 215]])
    scores, boxes = box_losses(head, levels, [far, far], regions, chance())
    objects, background = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    assert scores.item() == pytest.approx((7 * objects + 4 * background) / 11, rel=1e-5)
    assert boxes.item() == pytest.approx(7 * deltas.abs().sum().item() / 11, rel=1e-5)  # each region is its own target


def test_box_targets_move_the_proposal_onto_its_region() -> None:
    head, levels, regions = box_case()
    moved = decode_boxes(regions[0], torch.full((4, 4), 0.05), STDS)
    for parameter in head.bbox_head.parameters():
        torch.nn.init.zeros_(parameter)
    _, still = box_losses(head, levels, regions, regions, chance())
    _, off = box_losses(head, levels, [moved, regions[1]], regions, chance())
    back = 2 * 0.05 * math.exp(-0.05 * STDS[2]) + 2 * 0.05  # seen from the moved box, which is larger
    assert still.item() == pytest.approx(0, abs=1e-5)
    assert off.item() == pytest.approx(4 * back / 14, rel=1e-3)  # four moved, three not, and the regions themselves


def test_box_losses_of_nothing() -> None:
    head, levels, _ = box_case()
    none = [torch.zeros(0, 4)] * 2
    scores, boxes = box_losses(head, levels, none, none, chance())
    (scores + boxes).backward()
    assert scores == 0
    assert boxes == 0
    assert all(p.grad is not None for p in head.bbox_head.parameters())


# --- random boxes


@pytest.mark.parametrize("flip", [False, True])
def test_random_boxes_follow_the_views(flip: bool) -> None:
    key = random_regions(1, 8)
    scale, shift = torch.tensor([-1.5 if flip else 1.5, 0.8]), torch.tensor([190.0 if flip else 6.0, 9.0])
    corners = torch.stack([key[:, :2] * scale + shift, key[:, 2:] * scale + shift])
    ref = torch.cat([corners.min(dim=0).values, corners.max(dim=0).values], dim=1)
    order = torch.randperm(8, generator=chance())
    (a, b), ids = random_pairs((key, ref[order]), (torch.arange(8), order), ((128, 128), (110, 200)), 60, chance(2))
    assert len(a) == len(b) == len(ids) == len(ids.unique()) > 10
    inside = (a[:, :2] > 0).all(1) & (a[:, 2:] < 128).all(1) & (b[:, :2] > 0).all(1)
    inside &= (b[:, 2] < 200) & (b[:, 3] < 110)
    assert inside.any()
    both = torch.stack([a[:, :2] * scale + shift, a[:, 2:] * scale + shift])
    wanted = torch.cat([both.min(dim=0).values, both.max(dim=0).values], dim=1)
    torch.testing.assert_close(b[inside], wanted[inside], rtol=1e-4, atol=1e-2)


def test_no_random_boxes_without_two_regions_in_both_views() -> None:
    boxes, ids = random_regions(1, 2), torch.tensor([1, 2])
    (a, b), shared = random_pairs((boxes, boxes), (ids, ids + 1), ((128, 128), (128, 128)), 20, chance())
    assert a.shape == b.shape == (0, 4)
    assert len(shared) == 0
