"""Motion log-odds: what a detection's position and size say, and the image border."""

from __future__ import annotations

import numpy as np

# IDF1: off -.004/-.011, half -.008/-.013, double +.001/-.009
_FREEDOM = 4.0  # of Student's t: detectors slip more often than a normal distribution would have it
# IDF1: half 0/+.003, double -.003/-.015
_ENTRY = 0.5  # sizes from the border, within which new objects appear


def motion_log_odds(distances: np.ndarray, variances: np.ndarray, track_sizes: np.ndarray, area: float) -> np.ndarray:
    """Log-odds of places and sizes.

    Args:
        distances: (..., M, 4) and
        variances: (M, 4) as of :func:`~masa_track.association.evidence.kalman.innovations`.
        track_sizes: (M, 1) pixels.
        area: pixels² in which something else could have been.

    Returns:
        (..., M): the expectation's density (Student's t) over an even one, which takes any place in the area, any
        width and height within some twice the track's size.
    """
    even = np.log(area) + 2 * np.log(2 * track_sizes[..., 0])
    falling = -(_FREEDOM + 4) / 2 * np.log1p(distances.sum(axis=-1) / _FREEDOM)
    return falling - 0.5 * np.log(2 * np.pi * variances).sum(axis=-1) + even


def entering(boxes: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """(N,) how near (N, 4) xyxy boxes are to the border of the picture ``extent`` (4,) xyxy: 1 at it, 0 far inside."""
    inside = np.minimum(boxes[:, :2] - extent[:2], extent[2:] - boxes[:, 2:]).min(axis=1)
    size = np.sqrt(np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1))
    return np.asarray(np.exp(-np.maximum(inside, 0) / (_ENTRY * size)))
