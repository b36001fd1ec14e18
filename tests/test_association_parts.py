"""The parts of the association engine, each against a slow plain implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from masa_track.association import matching
from masa_track.association.memory import Backdrops, TrackMemory, lengths
from masa_track.association.reference import distance_weights
from masa_track.association.similarity import METRICS, Scratch, dot_products, similar_pairs
from masa_track.boxes import hidden_by_better


@np.errstate(over="ignore")
def plain_similarity(metric: str, detections: np.ndarray, tracks: np.ndarray) -> np.ndarray:
    """(N, M) float64, one pair at a time."""
    products = [[sum(a * b for a, b in zip(d, t, strict=True)) for t in tracks] for d in detections]
    scores = np.zeros((len(detections), len(tracks)))
    for i in range(len(detections)):
        for j in range(len(tracks)):
            row = sum(np.exp(p - products[i][j]) for p in products[i])
            column = sum(np.exp(products[k][j] - products[i][j]) for k in range(len(detections)))
            cosine = products[i][j] / (math.hypot(*detections[i]) * math.hypot(*tracks[j]))
            scores[i, j] = {
                "softmax": 1 / row,
                "bisoftmax": (1 / row + 1 / column) / 2,
                "cosine": cosine,
                "bisoftmax_cosine": ((1 / row + 1 / column) / 2 + cosine) / 2,
            }[metric]
    return scores


@pytest.mark.parametrize("spread", [0.1, 1.0, 9.0])  # the last leaves the range of one shared exponential
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (23, 31)])
@pytest.mark.parametrize("metric", METRICS)
def test_similarity(metric: str, shape: tuple[int, int], spread: float) -> None:
    rng = np.random.default_rng(0)
    detections, tracks = (rng.standard_normal((n, 6)).astype(np.float32) * spread for n in shape)
    expected = plain_similarity(metric, detections.astype(float), tracks.astype(float))
    found = np.full(shape, np.nan)
    products, long = detections @ tracks.T, (lengths(detections), lengths(tracks))
    np.testing.assert_array_equal(dot_products(detections, tracks, Scratch()), products)
    rows, columns, values = similar_pairs(metric, products, *long, -2.0, Scratch())
    found[rows, columns] = values
    np.testing.assert_allclose(found, expected, atol=2e-5)
    threshold = float(np.median(expected))
    rows, columns, _ = similar_pairs(metric, products, *long, threshold, Scratch())
    near = np.abs(expected - threshold) < 1e-4
    above = np.zeros(shape, bool)
    above[rows, columns] = True
    assert (above == (expected > threshold))[~near].all()


def test_similarity_does_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    detections, tracks = (rng.standard_normal((n, 16)).astype(np.float32) for n in (50, 40))
    arguments = "bisoftmax_cosine", detections @ tracks.T, lengths(detections), lengths(tracks), 0.1, Scratch()
    whole = similar_pairs(*arguments)
    monkeypatch.setattr("masa_track.association.similarity._BLOCK_NUMBERS", 120)
    for one, other in zip(whole, similar_pairs(*arguments), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_scratch_reuses_grows_and_lets_go() -> None:
    scratch = Scratch()
    first = scratch.take("a", 400, 400)
    assert np.shares_memory(first, scratch.take("a", 10, 10_000))
    assert scratch.take("a", 600, 600).shape == (600, 600)
    scratch.take("a", 2, 2)  # after a crowd its megabytes are not kept for good
    assert scratch._flat["a"].size < 600 * 600 / 8


def plain_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / max(union, 1e-6)


@pytest.mark.parametrize("with_labels", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_hidden_by_better(count: int, with_labels: bool) -> None:
    rng = np.random.default_rng(count)
    corner = rng.uniform(0, 200, (count, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(0, 60, (count, 2))), axis=1).astype(np.float32)
    limits = rng.choice([0.2, 0.5, 2.0], count)
    labels = rng.integers(0, 2, count)
    expected = [
        any(
            plain_iou(boxes[i].astype(float), boxes[j].astype(float)) > limits[i]
            and (not with_labels or labels[i] == labels[j])
            for j in range(i)
        )
        for i in range(count)
    ]
    assert hidden_by_better(boxes, limits, labels if with_labels else None).tolist() == expected
    assert count < 300 or 20 < sum(expected) < 280


def test_distance_weights() -> None:
    rng = np.random.default_rng(0)
    boxes, others = rng.uniform(0, 900, (2, 50, 4)).astype(np.float32)
    gaps = rng.integers(0, 40, 50)
    for fps in (1.0, 30.0):
        got = distance_weights(boxes, others, gaps, 100.0, fps)
        for box, other, gap, weight in zip(boxes, others, gaps, got, strict=True):
            distance = math.hypot(*((box[:2] + box[2:]) / 2 - (other[:2] + other[2:]) / 2))
            radius = 100 * math.exp(min(gap / (fps / 6), 700))
            expected = 1.0 if distance <= radius else math.exp(-(distance - radius) / (100 / fps))
            assert weight == pytest.approx(expected, abs=1e-4)


def candidates(scores: np.ndarray, threshold: float) -> matching.Candidates:
    rows, columns = np.nonzero(scores > threshold)
    return matching.sort_candidates(rows, columns, scores[rows, columns], len(scores))


def plain_greedy(scores: np.ndarray, threshold: float, shared: np.ndarray, takes: np.ndarray) -> list[int]:
    """Row by row as the reference does it."""
    scores, taken = scores.copy(), []
    for row in range(len(scores)):
        column = int(scores[row].argmax())
        taken.append(-1)
        if scores[row, column] > threshold and takes[row] and not shared[column]:
            taken[row] = column
            scores[:, column] = 0
    return taken


@pytest.mark.parametrize("levels", [4, 1000])  # few levels make many ties
@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (9, 4), (30, 40), (60, 20)])
def test_greedy(shape: tuple[int, int], levels: int) -> None:
    rng = np.random.default_rng(levels)
    for _ in range(30):
        scores = rng.integers(0, levels, shape) / levels
        shared, takes = rng.random(shape[1]) < 0.2, rng.random(shape[0]) < 0.8
        got = matching.greedy(candidates(scores, 0.3), shared, takes)
        assert got.tolist() == plain_greedy(scores, 0.3, shared, takes)


def test_hungarian_finds_the_largest_sum() -> None:
    from itertools import permutations

    rng = np.random.default_rng(0)
    for _ in range(30):
        scores = rng.random((4, 5))
        kept = np.where(scores > 0.4, scores, 0)
        taken = matching.hungarian(candidates(scores, 0.4), np.zeros(5, bool), np.ones(4, bool))
        best = max(sum(kept[i, j] for i, j in enumerate(p)) for p in permutations(range(5), 4))
        assert sum(kept[i, j] for i, j in enumerate(taken) if j >= 0) == pytest.approx(best)
        assert (kept[np.arange(4), taken][taken >= 0] > 0).all()


def test_hungarian_leaves_rows_that_are_nearest_to_a_shared_column() -> None:
    scores = np.array([[0.8, 0.9], [0.7, 0.1]])
    shared = np.array([False, True])
    assert matching.hungarian(candidates(scores, 0.4), shared, np.ones(2, bool)).tolist() == [-1, 0]
    assert matching.hungarian(candidates(scores, 0.4), shared, np.array([True, False])).tolist() == [-1, -1]


def test_best_left() -> None:
    scores = np.array([[0.9, 0.5, 0.6], [0.8, 0.7, 0.1], [0.2, 0.2, 0.2]])
    columns, values = matching.best_left(candidates(scores, 0.3), np.array([0, -1, -1]), 3)
    assert columns.tolist() == [2, 1, -1]
    np.testing.assert_allclose(values, [0.6, 0.7, 0], atol=1e-6)


def test_memory_grows_blends_and_prunes_in_order() -> None:
    memory = TrackMemory(3)
    for index in range(100):
        row = np.full((1, 3), index, np.float32)
        memory.add(np.array([index]), np.zeros((1, 4)), np.array([index % 5]), row, index)
    assert len(memory) == 100
    memory.update(np.array([7, 3]), np.ones((2, 4)), np.array([9, 8]), np.zeros((2, 3), np.float32), 200, 0.8)
    np.testing.assert_allclose(memory.embeddings[[3, 7]], [[0.6] * 3, [1.4] * 3], rtol=1e-5)
    np.testing.assert_allclose(memory.norms[[3, 7]], np.sqrt(3) * np.array([0.6, 1.4]), rtol=1e-5)
    assert memory.labels[[3, 7]].tolist() == [8, 9]
    memory.prune(98)
    assert memory.ids.tolist() == [3, 7, 98, 99]
    assert memory.boxes.shape == (4, 4)
    np.testing.assert_allclose(memory.embeddings[2], 98)


def test_backdrops_keep_the_newest_frames() -> None:
    backdrops = Backdrops(2)
    for index in range(3):
        backdrops.add(np.full(2, index), np.full((2, 4), index, np.float32))
    assert backdrops.all(4)[0].tolist() == [2, 2, 1, 1]
    backdrops.add(np.empty(0, int), np.empty((0, 4), np.float32))
    assert backdrops.all(4)[0].tolist() == [2, 2]
    assert Backdrops(0).all(4)[1].shape == (0, 4)
