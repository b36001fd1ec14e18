"""Colours of an object and of its surroundings, by position: histograms over (y, x, L, a, b).

Positions are relative to the object's extent, so that they stay the same where it moves or grows. Source of the idea:
Maerki et al., Bilateral Space Video Segmentation, CVPR 2016, who solve a graph cut on such a grid.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

SHAPE = (12, 12, 11, 12, 12)  # cells along y, x, L, a, b; with 10 positions a side J is .01 less on DAVIS
_SPAN = 1.5  # extents on each side of the centre; what is farther falls into the outermost cells
_BLUR = 0.55  # cells, standard deviation
_UNKNOWN = 0.02  # pixels of weight .5 in each cell
_SCALE, _MARGIN = 2.0, 4.0  # an extent is 2 standard deviations of the object's pixels and 4 pixels


def extent(probability: np.ndarray, corner: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Centre and size of an object.

    Args:
        probability: (h, w), that a pixel is the object's.
        corner: x, y of the first pixel.

    Returns:
        (4,) float64 x, y, and the half sizes along x and y, pixels. (-1, -1, 0, 0) where the probabilities sum to
        less than half a pixel, which is less than any mask of probabilities above .5.
    """
    columns, rows = probability.sum(axis=0, dtype=np.float64), probability.sum(axis=1, dtype=np.float64)
    total = columns.sum()
    if total < 0.5:
        return np.array([-1.0, -1.0, 0.0, 0.0])
    x, y = np.arange(len(columns)) + corner[0], np.arange(len(rows)) + corner[1]
    centre = np.array([(columns * x).sum(), (rows * y).sum()]) / total
    spread = np.sqrt([(columns * (x - centre[0]) ** 2).sum() / total, (rows * (y - centre[1]) ** 2).sum() / total])
    return np.concatenate((centre, _SCALE * spread + _MARGIN))


def cells(lab: np.ndarray, around: np.ndarray, corner: tuple[int, int] = (0, 0)) -> np.ndarray:
    """The histogram cell of each pixel.

    Args:
        lab: (h, w, 3) uint8, L, a and b as OpenCV has them.
        around: (4,) an :func:`extent` that is not empty.
        corner: x, y of the first pixel.

    Returns:
        (h, w) int64, an index into a histogram of :data:`SHAPE`, flat.
    """
    height, width = lab.shape[:2]
    position = []
    for count, side, first, axis in ((SHAPE[0], height, corner[1], 1), (SHAPE[1], width, corner[0], 0)):
        relative = (np.arange(side) + first - around[axis]) / around[2 + axis]
        position.append(np.clip((relative + _SPAN) * (count / (2 * _SPAN)), 0, count - 1).astype(np.int64))
    colour = lab.astype(np.int64)
    lightness = np.minimum(colour[..., 0] // 24, SHAPE[2] - 1)
    a, b = (np.clip((colour[..., channel] - 80) // 8, 0, SHAPE[channel + 2] - 1) for channel in (1, 2))
    place = position[0][:, None] * SHAPE[1] + position[1][None, :]
    return ((place * SHAPE[2] + lightness) * SHAPE[3] + a) * SHAPE[4] + b


def histograms(index: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """(2, *SHAPE) float32 pixels of the object and of its surroundings in each cell, blurred.

    Args:
        index: (h, w) of :func:`cells`.
        probability: (h, w), that a pixel is the object's.
    """
    size = int(np.prod(SHAPE))
    counts = [np.bincount(index.ravel(), weights.ravel(), size) for weights in (probability, 1 - probability)]
    made = np.array(counts, np.float32).reshape(2, *SHAPE)
    for count in made:
        gaussian_filter(count, _BLUR, output=count, mode="nearest", truncate=2.5)
    return made


def posterior(histogram: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Probability (h, w) float32 that pixels of these cells are the object's; .5 for colours never seen there."""
    inside, outside = (count.ravel()[index] for count in histogram)
    return (inside + 0.5 * _UNKNOWN) / (inside + outside + _UNKNOWN)


def colour_posterior(histogram: np.ndarray, lab: np.ndarray) -> np.ndarray:
    """:func:`posterior` of (h, w, 3) uint8 L, a, b pixels wherever they are: by their colour alone."""
    index = cells(lab, np.array([0.0, 0.0, 1.0, 1.0])) % int(np.prod(SHAPE[2:]))
    return posterior(histogram.sum(axis=(1, 2), dtype=np.float32), index)


def to_lab(image: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 L, a, b of a BGR picture."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2LAB))
