"""Overlaps and distances of boxes."""

from __future__ import annotations

import numpy as np

# Rows handled at a time: 128 rows of 1,000 float32 stay in a core's cache, which makes the whole twice as fast.
_BLOCK = 128


def hidden_by_better(boxes: np.ndarray, limits: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """Which boxes overlap an earlier one (a better one, when sorted by score) by more than their own limit.

    An earlier box counts even where it is hidden itself.

    Args:
        boxes: (N, 4) float32 xyxy.
        limits: (N,) IoU above which a box is hidden; a limit of 1 or more never hides.
        labels: (N,) classes; if given, only boxes of the same class hide each other.

    Returns:
        (N,) bool.
    """
    hidden = np.zeros(len(boxes), bool)
    asked = np.flatnonzero(limits < 1)
    if asked.size == 0:
        return hidden
    x1, y1, x2, y2 = np.ascontiguousarray(boxes.T)
    areas = (x2 - x1) * (y2 - y1)
    for start in range(0, len(asked), _BLOCK):
        rows = asked[start : start + _BLOCK]
        end = rows[-1]  # columns before the last row are enough: only earlier boxes hide
        if end == 0:
            continue
        inter = np.minimum(x2[rows, None], x2[:end])
        inter -= np.maximum(x1[rows, None], x1[:end])
        np.maximum(inter, 0, out=inter)
        height = np.minimum(y2[rows, None], y2[:end])
        height -= np.maximum(y1[rows, None], y1[:end])
        np.maximum(height, 0, out=height)
        inter *= height
        union = np.add.outer(areas[rows], areas[:end])
        union -= inter
        np.maximum(union, 1e-6, out=union)
        inter /= union
        over = inter > limits[rows, None]
        over &= np.arange(end) < rows[:, None]
        if labels is not None:
            over &= labels[rows, None] == labels[:end]
        hidden[rows] = over.any(axis=1)
    return hidden


def distance_weights(
    boxes: np.ndarray, others: np.ndarray, gaps: np.ndarray, max_distance: float, fps: float
) -> np.ndarray:
    """The soft distance gate, for pairs: 1 within a radius that grows with the gap, falling beyond it.

    Args:
        boxes: (K, 4) float32 xyxy, one of each pair.
        others: (K, 4) float32 xyxy, the other.
        gaps: (K,) frames between the two.
        max_distance: the radius in pixels without a gap.
        fps: frames a second.

    Returns:
        (K,) float32: 1 where the centres are within r = ``max_distance`` * exp(gap / (fps / 6)), else
        exp(-(distance - r) / (100 / fps)).

    Source: the authors' `MasaTaoTracker`.
    """
    offset = (boxes[:, :2] + boxes[:, 2:]) / 2 - (others[:, :2] + others[:, 2:]) / 2
    distance = np.sqrt((offset**2).sum(axis=1))
    with np.errstate(over="ignore"):  # a long gap gives an infinite radius, which is meant
        radius = max_distance * np.exp(gaps.astype(np.float32) / np.float32(fps / 6))
    return np.exp(-np.maximum(distance - radius, 0) / np.float32(100 / fps))


def coverage(boxes: np.ndarray) -> np.ndarray:
    """(N,) the largest part of each of (N, 4) xyxy boxes that one other covers, 0..1."""
    if len(boxes) < 2:
        return np.zeros(len(boxes))
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    np.fill_diagonal(shared, 0)
    areas = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-6)
    return np.asarray(np.minimum(shared.max(axis=1) / areas, 1))
