"""Dense optical flow, the background's motion in it, and which pixels move as an object does."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

_STEP = 4  # every 4th pixel along x and y is used for the background's motion
_ROUNDS = 4  # of reweighting
_BINS, _LARGEST = 13, 4.0  # bins a side; asinh of 3 x the residual in pixels, +-9 pixels
_BLUR = 0.8  # bins, standard deviation
_UNKNOWN = 20.0  # pixels of weight .5 in each bin
_CONSISTENT = 1.0  # pixels between a point and where flow there and back leads: weight exp(-1)


class DenseFlow:
    """Dense inverse search optical flow between two pictures (Kroeger et al., ECCV 2016), by OpenCV."""

    def __init__(self) -> None:
        self._flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._flow.setFinestScale(0)  # the preset stops at half the picture's size: J .69 instead of .71 on DAVIS

    def between(self, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How pixels of ``after`` moved.

        Args:
            before: (h, w) uint8 grey.
            after: (h, w) uint8 grey.

        Returns:
            (h, w, 2) float32 x, y from each pixel of ``after`` to where it was in ``before``; and (h, w) float32 in
            0..1, how far the flow in the other direction agrees.
        """
        if min(before.shape) < 16:  # the search patches do not fit
            return np.zeros((*before.shape, 2), np.float32), np.ones(before.shape, np.float32)
        back, forth = self._flow.calc(after, before, None), self._flow.calc(before, after, None)
        error = ((back + warped(forth, back)) ** 2).sum(axis=-1)
        return np.asarray(back), cv2.blur(np.exp(-error / _CONSISTENT**2), (3, 3))


def warped(values: np.ndarray, back: np.ndarray) -> np.ndarray:
    """(h, w, ...) values of the earlier picture at where the pixels of the later one were, ``back`` (h, w, 2)."""
    y, x = np.mgrid[: back.shape[0], : back.shape[1]].astype(np.float32)
    return cv2.remap(values, x + back[..., 0], y + back[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def background_residual(back: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(h, w, 2) flow less the background's motion.

    The motion is a quadratic function of the position, fitted by least squares that are reweighted for outliers.

    Args:
        back: (h, w, 2) flow, pixels.
        weight: (h, w), probability that a pixel is background.
    """
    height, width = weight.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = (x - width / 2) / width, (y - height / 2) / width
    terms = np.stack((np.ones_like(x), x, y, x * x, x * y, y * y), axis=-1)
    sample = np.s_[::_STEP, ::_STEP]
    a, b, given = terms[sample].reshape(-1, 6), back[sample].reshape(-1, 2), weight[sample].reshape(-1)
    weights = given
    for k in range(_ROUNDS):
        left = (a * weights[:, None]).T
        solution = np.linalg.solve(left @ a + 1e-3 * np.eye(6, dtype=np.float32), left @ b)
        error = np.linalg.norm(b - a @ solution, axis=1)
        weights = given / (1 + (error / max(4.0 / 2**k, 0.7)) ** 2) ** 2
    return np.asarray(back - terms @ solution, np.float32)


def motion_posterior(residual: np.ndarray, probability: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Probability (h, w) float32 that pixels of this motion are the object's.

    Args:
        residual: (h, w, 2) of :func:`background_residual`.
        probability: (h, w), that a pixel is the object's, as far as it is known without motion.
        used: (h, w) bool, pixels that are counted: the object and a ring around it.
    """
    scaled = np.arcsinh(3 * residual) * ((_BINS - 1) / (2 * _LARGEST)) + (_BINS - 1) / 2
    bins = np.clip(np.round(scaled), 0, _BINS - 1).astype(np.int64)
    index = bins[..., 0] * _BINS + bins[..., 1]
    inside, outside = (
        gaussian_filter(
            np.bincount(index[used], weights[used], _BINS**2).reshape(_BINS, _BINS), _BLUR, mode="constant"
        ).ravel()
        for weights in (probability, 1 - probability)
    )
    return np.asarray(((inside + 0.5 * _UNKNOWN) / (inside + outside + _UNKNOWN))[index], np.float32)
