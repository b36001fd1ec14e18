"""Embeddings of objects under their masks: feature maps in which the surroundings of an object are wiped out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

_COARSEST = 64  # pixels of the input: crops begin and end at multiples of it, which all strides divide
_FINEST = 4  # pixels of the input per cell of the finest mask
_LEAST = 0.5  # cells of a level that a mask must cover, so that the level can be filled


def masked_window(
    mask: np.ndarray, box: np.ndarray, factors: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray] | None:
    """The window of the network's input around a box, and the mask in it.

    Args:
        mask: (H, W) bool, of the picture.
        box: (4,) xyxy pixels of the input.
        factors: (4,) from xyxy pixels of the picture to the input's.
        size: (width, height) of the input.

    Returns:
        The window (4,) int xyxy in pixels of the input, and the covered part (h, w) float32, 0..1, of each 4 x 4 pixels
        of it. None where the mask is empty in it.
    """
    limits = np.array([*size, *size])
    low = np.clip(np.floor(box[:2] / _COARSEST - 1) * _COARSEST, 0, limits[:2] - 1)
    high = np.clip(np.ceil(box[2:] / _COARSEST + 1) * _COARSEST, low + 1, limits[2:])
    window = np.concatenate([low, high]).astype(int)
    cells = tuple(int(side) for side in -(-(window[2:] - window[:2]) // _FINEST))
    scale = _FINEST / factors[:2]  # pixels of the picture per cell
    matrix = np.array([[scale[0], 0, window[0] / factors[0]], [0, scale[1], window[1] / factors[1]]])
    matrix[:, 2] += scale / 2 - 0.5  # centres of cells
    smooth = cv2.blur(mask.astype(np.float32), tuple(max(1, round(float(side))) for side in scale))
    covered = cv2.warpAffine(
        smooth, matrix, cells, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT
    )
    return (window, covered) if covered.sum() >= _LEAST else None


def filled(
    level: Any, window: np.ndarray, covered: np.ndarray, stride: float, as_level: Callable[[np.ndarray], Any]
) -> Any:
    """A window of a level, with the mean of the features under the mask in place of those beside it.

    Args:
        level: (1, C, h, w), of numpy or torch.
        window: of :func:`masked_window`.
        covered: of the same.
        stride: pixels of the input per position.
        as_level: makes an array one of the level's library, type and device.

    Returns:
        (1, C, h', w'); as it is where the mask covers less than half a position.
    """
    left, top, right, bottom = (round(side / stride) for side in window)
    crop = level[:, :, top:bottom, left:right]
    weights = cv2.resize(covered, tuple(crop.shape[:1:-1]), interpolation=cv2.INTER_AREA)
    total = float(weights.sum())
    if total < _LEAST:
        return crop
    inside = as_level(weights)
    mean = (crop * inside).sum((2, 3))[:, :, None, None] / total
    return mean + inside * (crop - mean)
