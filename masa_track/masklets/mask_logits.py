"""Masks as logits (h, w) at the resolution of a network, above 0 on the object: overlaps, small pieces, scaling.

Functions on many masks work on their bounding boxes only, so the cost grows with the masks' areas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from masa_track.masks import mask_box

if TYPE_CHECKING:
    from supervision.detection.compact_mask import CompactMask

EMPTY = -10.0  # logit of all pixels of an emptied mask
_FILLED, _REMOVED = 0.1, -0.1  # logits of small pieces that were filled or removed
_LEFT = 0.3  # part of its area that a mask must keep beside the others to enter the memory


def mask_iou(masks: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, K) float32 intersection over union of (N, h, w) and (K, h, w) bool masks; 0 where both are empty."""
    pixels = masks.shape[1] * masks.shape[2]
    flat, other = (side.reshape(len(side), pixels).astype(np.float32) for side in (masks, others))
    shared = flat @ other.T
    union = flat.sum(axis=1)[:, None] + other.sum(axis=1)[None] - shared
    return np.asarray(shared / np.maximum(union, 1), np.float32)


def mask_nms(masks: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Greedy suppression of masks by better ones.

    Args:
        masks: (N, h, w) bool.
        scores: (N,); of equal ones the first is better.
        overlap: IoU with a better kept mask above which a mask is dropped.

    Returns:
        (M,) int64 rows that are kept, ascending.
    """
    iou = mask_iou(masks, masks)
    free = np.ones(len(masks), bool)
    kept = []
    for row in np.argsort(-scores, kind="stable").tolist():
        if free[row]:
            kept.append(row)
            free &= iou[row] <= overlap
    return np.array(sorted(kept), np.int64)


def without_specks(logits: np.ndarray, area: int) -> np.ndarray:
    """Fills small holes and removes small pieces of one mask.

    Args:
        logits: (h, w) float32.
        area: connected background of at most as many pixels becomes +.1. After that, connected foreground of at most
            as many, and at most half of the mask, becomes -.1. Pixels are connected to all eight neighbours.

    Returns:
        (h, w) float32; ``logits`` itself where nothing changes.
    """
    if area <= 0:
        return logits
    holes = _small(logits <= 0, area)
    if holes is not None:
        logits = np.where(holes, np.float32(_FILLED), logits)
    mask = logits > 0
    pieces = _small(mask, min(area, int(mask.sum()) // 2))
    return logits if pieces is None else np.where(pieces, np.float32(_REMOVED), logits)


def _small(mask: np.ndarray, area: int) -> np.ndarray | None:
    """(h, w) bool, connected parts of a mask with at most ``area`` pixels; None where there are none."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    small = statistics[:, cv2.CC_STAT_AREA] <= area
    small[0] = False  # what is not in the mask
    return small[labels] if small.any() else None


class Patch(NamedTuple):
    """The part of a scaled mask around its pixels above 0; all others are 0 or less.

    Attributes:
        place: index of the part in the scaled picture, rows and columns.
        logits: (h, w) float32 of it.
    """

    place: tuple[slice, slice]
    logits: np.ndarray


def scaled_patch(logits: np.ndarray, size: tuple[int, int]) -> Patch | None:
    """Scales one mask's logits bilinearly, the corners of pixels kept in place.

    The arithmetic is that of ``torch.nn.functional.interpolate(..., mode="bilinear")`` in float32, so masks are equal
    to those of the network's own code bit for bit.

    Args:
        logits: (h, w) float32.
        size: (width, height) to scale to.

    Returns:
        None where no pixel is above 0.
    """
    box = mask_box(logits > 0)
    if box is None:
        return None
    x, columns = _weights(logits.shape[1], size[0], int(box[0]), int(box[2]))
    y, rows = _weights(logits.shape[0], size[1], int(box[1]), int(box[3]))
    left, right = x.first, x.second
    wide = x.weights[0] * logits[:, left] + x.weights[1] * logits[:, right]
    tall = y.weights[0][:, None] * wide[y.first] + y.weights[1][:, None] * wide[y.second]
    return Patch((rows, columns), tall)


class _Axis(NamedTuple):
    """Along one axis: for each scaled pixel, two pixels and their weights (2, n) float32."""

    first: np.ndarray
    second: np.ndarray
    weights: np.ndarray


def _weights(side: int, scaled: int, low: int, high: int) -> tuple[_Axis, slice]:
    """The axis for the scaled pixels that the pixels ``low`` to ``high`` (exclusive) have a part in, and which."""
    scale = np.float32(side) / np.float32(scaled)
    place = np.maximum(scale * (np.arange(scaled, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), 0)
    first = np.minimum(place.astype(np.int64), side - 1)
    second = np.minimum(first + 1, side - 1)
    touched = np.flatnonzero((second >= low) & (first < high))
    part = slice(int(touched[0]), int(touched[-1]) + 1) if len(touched) else slice(0, 0)
    upper = (place - first).astype(np.float32)[part]
    return _Axis(first[part], second[part], np.stack((np.float32(1) - upper, upper))), part


def scaled_mask(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width) bool: pixels of scaled (h, w) logits that are above 0."""
    mask = np.zeros(size[::-1], bool)
    patch = scaled_patch(logits, size)
    if patch is not None:
        mask[patch.place] = patch.logits > 0
    return mask


def prompt_mask(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """:func:`scaled_mask`; where that is empty, the pixel of the largest logit, as a prompt must show one."""
    mask = scaled_mask(logits, size)
    if not mask.any():
        y, x = np.unravel_index(int(logits.argmax()), logits.shape)
        mask[int((y + 0.5) * size[1] / logits.shape[0]), int((x + 0.5) * size[0] / logits.shape[1])] = True
    return mask


def crowded_out(logits: np.ndarray, factor: int = 4) -> np.ndarray:
    """Which masks keep less than 30 % of their area where each pixel belongs to the largest logit.

    Args:
        logits: (K, h, w) float32.
        factor: by which they are scaled first.

    Returns:
        (K,) bool; False for masks that are empty already.
    """
    size = logits.shape[2] * factor, logits.shape[1] * factor
    patches = [scaled_patch(mask, size) for mask in logits]
    best = np.zeros(size[::-1], np.float32)
    owner = np.full(size[::-1], -1, np.int32)
    for row, patch in enumerate(patches):
        if patch is not None:
            better = patch.logits > best[patch.place]
            best[patch.place][better] = patch.logits[better]
            owner[patch.place][better] = row
    out = np.zeros(len(logits), bool)
    for row, patch in enumerate(patches):
        if patch is not None:
            area = np.count_nonzero(patch.logits > 0)
            out[row] = area > 0 and np.count_nonzero(owner[patch.place] == row) / area < _LEFT
    return out


def owned(patches: Sequence[Patch], probabilities: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    """Masks without overlap: each pixel belongs to the mask of the highest probability, of equal ones to the first.

    Args:
        patches: of K masks.
        probabilities: (K,).
        size: (width, height) of the picture.

    Returns:
        K bool arrays, the masks at the places of the patches.
    """
    owner = np.full(size[::-1], -1, np.int32)
    for row in np.argsort(-probabilities, kind="stable")[::-1].tolist():
        owner[patches[row].place][patches[row].logits > 0] = row
    return [owner[patch.place] == row for row, patch in enumerate(patches)]


def cropped_masks(patches: Sequence[Patch], size: tuple[int, int]) -> CompactMask:
    """The pixels above 0 as supervision's ``CompactMask``, without dense pictures."""
    from supervision.detection.compact_mask import CompactMask

    made = []
    for place, logits in patches:
        rows, columns = place
        box = np.array([[0, 0, logits.shape[1] - 1, logits.shape[0] - 1]])
        crop = CompactMask.from_dense((logits > 0)[None], box, logits.shape)
        made.append(crop.with_offset(columns.start, rows.start, size[::-1]))
    if not made:
        return CompactMask.from_dense(np.zeros((0, *size[::-1]), bool), np.zeros((0, 4)), size[::-1])
    return CompactMask.merge(made)
