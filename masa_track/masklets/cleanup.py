"""Clean-up of probability maps of masks: borders along edges of the picture, no small pieces, one owner a pixel."""

from __future__ import annotations

import cv2
import numpy as np

_SMALL = 0.05  # of the area of the largest piece
_WEAK = 0.3  # probability left to pieces that are removed


def guided_filter(image: np.ndarray, values: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """Smooths values, but not across edges of the picture.

    Source: He, Sun and Tang, Guided Image Filtering, ECCV 2010, with a colour picture as guide.

    Args:
        image: (h, w, 3) float32, 0..1.
        values: (h, w) float32.
        radius: of the windows, pixels.
        epsilon: variance of colours (0..1) below which a window is smoothed.

    Returns:
        (h, w) float32.
    """

    def mean(array: np.ndarray) -> np.ndarray:
        return cv2.blur(array, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REPLICATE)

    pairs = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    centre, level = mean(image), mean(values)
    products = [mean(image[..., i] * image[..., j]) - centre[..., i] * centre[..., j] for i, j in pairs]
    rr, rg, rb, gg, gb, bb = (v + epsilon * (i == j) for v, (i, j) in zip(products, pairs, strict=True))
    right = mean(image * values[..., None]) - centre * level[..., None]
    # The inverse of the symmetric 3 x 3 matrix by its cofactors: np.linalg.solve takes six times as long.
    rows = (
        (gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb),
        (gb * rb - rg * bb, rr * bb - rb * rb, rb * rg - rr * gb),
        (rg * gb - gg * rb, rb * rg - rr * gb, rr * gg - rg * rg),
    )
    determinant = rr * rows[0][0] + rg * rows[0][1] + rb * rows[0][2]
    slope = np.stack([sum(row[i] * right[..., i] for i in range(3)) / determinant for row in rows], axis=-1)
    offset = level - (slope * centre).sum(axis=-1)
    return np.asarray((mean(slope) * image).sum(axis=-1) + mean(offset), np.float32)


def without_small_pieces(probability: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Lowers connected pieces that are small and not expected.

    Args:
        probability: (h, w), that a pixel is the object's.
        expected: (h, w) bool, where the object was expected.

    Returns:
        (h, w); at most .3 in pieces of less than 5 % of the largest one's area, of which less than half is expected.
    """
    mask = probability > 0.5
    count, pieces, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return probability
    area = statistics[:, cv2.CC_STAT_AREA]
    hit = np.bincount(pieces[expected], minlength=count)
    kept = (area >= _SMALL * area[1:].max()) | (hit > 0.5 * area)
    kept[0] = True
    return np.where(kept[pieces], probability, np.minimum(probability, _WEAK))


def exclusive(probabilities: np.ndarray) -> np.ndarray:
    """Lets several objects compete for pixels. The most probable one keeps its probability, of equals the first one.

    The others' become o_k / (1 + sum of all o), with odds o = p / (1 - p), which is below .5.

    Args:
        probabilities: (K, h, w), of each object alone against the background.

    Returns:
        (K, h, w); at most one object of a pixel has more than .5.
    """
    if len(probabilities) < 2:
        return probabilities
    clipped = np.clip(probabilities, 0, 0.999)
    odds = clipped / (1 - clipped)
    best = probabilities.argmax(axis=0) == np.arange(len(probabilities))[:, None, None]
    return np.asarray(np.where(best, probabilities, odds / (1 + odds.sum(axis=0))), np.float32)


def owned_masks(probabilities: np.ndarray) -> np.ndarray:
    """(K, h, w) bool masks without overlap: a pixel is the most probable object's where that has more than .5.

    Args:
        probabilities: (K, h, w) of :func:`exclusive`, also after scaling, which may blur borders between objects.
    """
    if not len(probabilities):
        return np.zeros(probabilities.shape, bool)
    owner = np.where(probabilities.max(axis=0) > 0.5, probabilities.argmax(axis=0), -1)
    return np.asarray(owner == np.arange(len(probabilities))[:, None, None])
