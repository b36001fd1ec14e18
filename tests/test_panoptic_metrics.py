"""PQ, VPQ, STQ and mIoU against the official numbers (`goldens/hipie`) and against plain loops."""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from masa_track.errors import InputError
from masa_track.evaluation.panoptic import (
    Confusion,
    PanopticTally,
    SegmentedFrame,
    Shared,
    StqTally,
    panoptic_quality,
    shared_pixels,
)
from masa_track.formats.panoptic import Segment

FOLDER = Path(os.environ.get("MASA_GOLDENS", Path(__file__).parent / "goldens")) / "hipie"
THINGS, STUFF = (1, 2), (3, 4)


@functools.cache
def official() -> dict[str, Any]:
    return json.loads((FOLDER / "panoptic_metrics_official.json").read_text())


@functools.cache
def frames(name: str) -> tuple[SegmentedFrame, ...]:
    with np.load(FOLDER / "panoptic_metrics_inputs.npz") as file:
        maps, crowd = file[name].astype(np.int32), set(file["crowd"].tolist()) if name == "gt" else set()
    return tuple(framed(one, crowd) for one in maps)


def framed(numbers: np.ndarray, crowd: set[int] | None = None) -> SegmentedFrame:
    found = {int(n): Segment(int(n) // 100, int(n) in (crowd or ())) for n in np.unique(numbers) if n}
    return SegmentedFrame(numbers, found)


def shared(truth: Sequence[SegmentedFrame], found: Sequence[SegmentedFrame]) -> list[Shared]:
    return [shared_pixels(*pair) for pair in zip(truth, found, strict=True)]


@pytest.mark.parametrize("window", [1, 2, 3, 4, 8])
def test_vpq(window: int) -> None:
    tally = panoptic_quality(shared(frames("gt"), frames("pred")), window)
    expected = official()[f"vpq_{window}"]
    for key, labels in (("All", None), ("Things", THINGS), ("Stuff", STUFF)):
        wanted = [expected[key][name] for name in ("pq", "sq", "rq")]
        np.testing.assert_allclose(tally.mean(labels), wanted, rtol=0, atol=1e-12)
    for label, wanted in expected["per_class"].items():
        one = tally.classes[int(label)]
        assert (one.tp, one.fp, one.fn) == (wanted["tp"], wanted["fp"], wanted["fn"])
        assert one.iou == pytest.approx(wanted["iou"], abs=1e-9)


def sequences(found: str) -> StqTally:
    """The clip, and its first three frames mirrored."""
    tally = StqTally((1, 2, 3, 4), THINGS)
    for truth, other in ((frames("gt"), frames(found)), (mirrored("gt"), mirrored(found))):
        tally.add(shared(truth, other))
    return tally


def mirrored(name: str) -> list[SegmentedFrame]:
    return [SegmentedFrame(one.numbers[:, ::-1], one.segments) for one in frames(name)[:3]]


def test_stq() -> None:
    found, expected = sequences("pred").result(), official()["stq"]
    assert (found.stq, found.aq, found.sq) == pytest.approx(
        (expected["STQ"], expected["AQ"], expected["IoU"]), abs=1e-7
    )


def test_stq_of_each_sequence() -> None:
    for i, (truth, other) in enumerate([(frames("gt"), frames("pred")), (mirrored("gt"), mirrored("pred"))]):
        tally = StqTally((1, 2, 3, 4), THINGS)
        tally.add(shared(truth, other))
        assert tally.result().stq == pytest.approx(official()["stq"]["STQ_per_seq"][i], abs=1e-7)


def test_mean_iou() -> None:
    """The official numbers count void as a class, in percent."""
    confusion = Confusion((0, 1, 2, 3, 4))
    for truth, found in zip(frames("gt"), frames("pred"), strict=True):
        confusion.add(truth.numbers // 100, found.numbers // 100)
    expected = official()["semseg_confusion_pred_by_gt"]
    pixels = confusion.pixels[1:, :-1].T  # void truth is left out there
    np.testing.assert_array_equal(pixels, np.array(expected)[:5, 1:5])
    confusion = Confusion((1, 2, 3, 4))
    for truth, found in zip(frames("gt"), frames("pred"), strict=True):
        confusion.add(truth.numbers // 100, found.numbers // 100)
    ious = [100 * value for value in confusion.ious().tolist()]
    assert ious[:3] == pytest.approx([official()["semseg"][f"IoU-{name}"] for name in ("person", "dog", "road")])
    assert 100 * confusion.mean_iou(with_void=True) == pytest.approx(official()["semseg"]["mIoU"])


def random_clip(seed: int, count: int = 5) -> tuple[list[SegmentedFrame], list[SegmentedFrame]]:
    """Blocks of segments that shift, with void and a crowd."""
    rng = np.random.default_rng(seed)
    ids = np.array([0, 101, 102, 105, 201, 301, 401])
    truth = rng.choice(ids, (6, 8))
    clips: tuple[list[SegmentedFrame], list[SegmentedFrame]] = ([], [])
    for _ in range(count):
        change = rng.random(truth.shape) < 0.1
        truth = np.where(change, rng.choice(ids, truth.shape), truth)
        wrong = rng.random(truth.shape) < 0.2
        found = np.where(wrong, rng.choice([0, 101, 103, 201, 202, 301, 401], truth.shape), truth)
        found[found == 105] = 104
        clips[0].append(framed(truth, {105}))
        clips[1].append(framed(found))
    return clips


def slow_vpq(truth: list[SegmentedFrame], found: list[SegmentedFrame], window: int) -> dict[int, list[float]]:
    """Masks of whole tubes, pair by pair."""
    counts: dict[int, list[float]] = {label: [0.0, 0, 0, 0] for label in (1, 2, 3, 4)}
    for start in range(len(truth) - window + 1):
        t = np.stack([one.numbers for one in truth[start : start + window]])
        p = np.stack([one.numbers for one in found[start : start + window]])
        matched = set()
        for g in set(t.flat) - {0, 105}:
            hit = False
            for q in set(p.flat) - {0}:
                if g // 100 != q // 100:
                    continue
                inter = ((t == g) & (p == q)).sum()
                union = (((t == g) | (p == q)) & ~((t == 0) & (p == q))).sum()
                if inter / union > 0.5:
                    counts[g // 100][0] += inter / union
                    counts[g // 100][1] += 1
                    matched.add(q)
                    hit = True
            counts[g // 100][3] += not hit
        for q in set(p.flat) - {0} - matched:
            ignored = ((t == 0) | ((t == 105) & (q // 100 == 1)))[p == q].mean()
            counts[q // 100][2] += ignored <= 0.5
    return counts


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("window", [1, 3])
def test_vpq_of_random_clips_is_that_of_a_plain_loop(seed: int, window: int) -> None:
    truth, found = random_clip(seed)
    tally = panoptic_quality(shared(truth, found), window)
    for label, wanted in slow_vpq(truth, found, window).items():
        one = tally.of(label)
        assert [one.iou, one.tp, one.fp, one.fn] == pytest.approx(wanted)


def slow_stq(truth: list[SegmentedFrame], found: list[SegmentedFrame]) -> tuple[float, float]:
    t, p = (np.stack([one.numbers for one in clip]) for clip in (truth, found))
    valid = t != 105
    parts = []
    for g in {int(n) for n in t.flat if n // 100 in THINGS} - {105}:
        total = 0.0
        for q in {int(n) for n in p.flat if n // 100 in THINGS}:
            inter = ((t == g) & (p == q)).sum()
            total += inter**2 / (((t == g) | (p == q)) & valid).sum()
        parts.append(total / (t == g).sum())
    ious = []
    for label in (0, 1, 2, 3, 4):
        known = t != 0
        union = (((t // 100 == label) | (p // 100 == label)) & known).sum()
        if union:
            ious.append(((t // 100 == label) & (p // 100 == label) & known).sum() / union)
    return float(np.mean(parts)), float(np.mean(ious))


@pytest.mark.parametrize("seed", range(4))
def test_stq_of_random_clips_is_that_of_a_plain_loop(seed: int) -> None:
    truth, found = random_clip(seed)
    tally = StqTally((1, 2, 3, 4), THINGS)
    tally.add(shared(truth, found))
    aq, sq = slow_stq(truth, found)
    result = tally.result()
    assert (result.aq, result.sq) == pytest.approx((aq, sq))
    assert result.stq == pytest.approx(math.sqrt(aq * sq))


def test_the_truth_itself_has_full_scores() -> None:
    truth = frames("gt")
    clean = [SegmentedFrame(np.where(one.numbers == 105, 0, one.numbers), one.segments) for one in truth]
    assert panoptic_quality(shared(truth, clean), 2).mean()[0] == 1
    assert sequences("gt").result().stq == pytest.approx(official()["stq_perfect"]["STQ"])
    assert math.isnan(PanopticTally().mean()[0])


def test_what_does_not_fit_is_refused() -> None:
    one = framed(np.full((4, 4), 101))
    with pytest.raises(InputError, match="of one size"):
        shared_pixels(one, framed(np.full((4, 5), 101)))
    with pytest.raises(InputError, match="segment 7, which has no class"):
        shared_pixels(one, SegmentedFrame(np.full((4, 4), 7), {}))
    with pytest.raises(InputError, match="window must be"):
        panoptic_quality([shared_pixels(one, one)], 0)
    with pytest.raises(InputError, match="of one size"):
        Confusion((1,)).add(np.ones((2, 2)), np.ones((2, 3)))
