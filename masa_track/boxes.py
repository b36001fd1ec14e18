"""Boxes as (N, 4) xyxy pixels: checks, overlaps and suppression. The only place with IoU."""

from __future__ import annotations

import numpy as np

from masa_track.checks import as_floats
from masa_track.errors import InputError

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


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float, most: int) -> np.ndarray:
    """Non-maximum suppression: rows of the boxes that no better kept box overlaps too much, best first.

    Args:
        boxes: (N, 4) float32 xyxy, each with an area.
        scores: (N,).
        overlap: IoU above which the worse of two boxes is dropped.
        most: rows to keep at most.

    Returns:
        (K,) int64, K <= ``most``.
    """
    left = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(left) and len(kept) < most:
        kept.append(int(left[0]))
        left = left[1:][box_iou(boxes[left[:1]], boxes[left[1:]])[0] <= overlap]
    return np.array(kept, np.int64)


def coverage(boxes: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """(N,) the largest part of each of (N, 4) xyxy boxes that one other, of the same of (N,) groups, covers, 0..1."""
    if len(boxes) < 2:
        return np.zeros(len(boxes))
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    np.fill_diagonal(shared, 0)
    if groups is not None:  # those of different groups are not in one picture
        shared[groups[:, None] != groups] = 0
    areas = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-6)
    return np.asarray(np.minimum(shared.max(axis=1) / areas, 1))


def check_boxes(boxes: np.ndarray) -> np.ndarray:
    """``boxes`` as (N, 4) float32.

    Raises:
        InputError: if they are of another shape, not finite, or inverted.
    """
    boxes = as_floats("boxes", boxes)
    if boxes.size == 0:
        return boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"boxes must be (N, 4) xyxy pixels, got {boxes.shape}")
    wrong = ~np.isfinite(boxes).all(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"boxes must be finite, got {boxes[row].tolist()} in row {row}: leave that detection out")
    wrong = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"boxes must be xyxy with x1 <= x2 and y1 <= y2, got {boxes[row].tolist()} in row {row}")
    return boxes


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair, (N, 4) and (M, 4) xyxy to (N, M); 0 where both are empty."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    overlap = np.maximum(high - low, 0).prod(axis=2)  # (N, M)
    areas = [np.maximum(side[:, 2:] - side[:, :2], 0).prod(axis=1) for side in (boxes, others)]
    union = areas[0][:, None] + areas[1][None] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def box_iou_xywh(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair.

    Its own, because ``motmetrics.distances.iou_matrix`` (1.4.0) calls ``np.asfarray``, which numpy 2 has no more.

    Args:
        boxes: (N, 4) float64 left, top, width, height; sizes above 0.
        others: (M, 4) likewise.

    Returns:
        (N, M) float64, 0 to 1.
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (others[:, :2] + others[:, 2:])[None])
    overlap = np.maximum(high - low, 0).prod(axis=2)  # (N, M)
    areas = boxes[:, 2:].prod(axis=1)[:, None] + others[:, 2:].prod(axis=1)[None]
    return np.clip(overlap / (areas - overlap), 0, 1)
