"""J and F of masks: region similarity and boundary accuracy, as DAVIS defines them.

Source: Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation, CVPR 2016.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from masa_track.errors import InputError

_TOLERANCE = 0.008  # of the picture's diagonal


def region_similarity(mask: np.ndarray, truth: np.ndarray) -> float:
    """J of two (H, W) bool masks: intersection over union, 1 where both are empty.

    Raises:
        InputError: the shapes differ.
    """
    _check(mask, truth)
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def boundary_accuracy(mask: np.ndarray, truth: np.ndarray) -> float:
    """F of two (H, W) bool masks: 2pr / (p + r) of their boundaries.

    Precision p is the share of the mask's boundary within ceil(.008 x diagonal) pixels of the truth's, recall r the
    reverse. 1 where neither has a boundary, 0 where one has none.

    Raises:
        InputError: the shapes differ.
    """
    _check(mask, truth)
    ours, theirs = _boundary(mask), _boundary(truth)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    radius = math.ceil(_TOLERANCE * math.hypot(*mask.shape))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = (x**2 + y**2 <= radius**2).astype(np.uint8)
    precision = np.count_nonzero(ours & (cv2.dilate(theirs.astype(np.uint8), disc) > 0)) / np.count_nonzero(ours)
    recall = np.count_nonzero(theirs & (cv2.dilate(ours.astype(np.uint8), disc) > 0)) / np.count_nonzero(theirs)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _boundary(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels unlike their right, lower or lower right neighbour; at the last row and column, less."""
    padded = np.pad(mask.astype(bool), ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    found = (here != padded[:-1, 1:]) | (here != padded[1:, :-1])
    found[:-1, :-1] |= here[:-1, :-1] != here[1:, 1:]
    return np.asarray(found)


def _check(mask: np.ndarray, truth: np.ndarray) -> None:
    if mask.shape != truth.shape or mask.ndim != 2:
        raise InputError(f"mask and truth must be (H, W) of one shape, got {mask.shape} and {truth.shape}")
