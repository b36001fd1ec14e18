"""A Kalman filter of many boxes at once, in real time: where each track should be after any gap, and how surely.

The state is the field's usual one, centre x, centre y, width and height and their velocities (BoT-SORT's). Two things
differ from the common implementations. Time is in seconds, so a gap of twenty frames is one step with twenty frames'
uncertainty. And velocities die out with a time constant (an integrated Ornstein-Uhlenbeck process): nobody walks
straight on for ever, so after a long gap a track is expected around the place it could have reached, not far outside.

As process and measurement noise do not couple the four numbers, each is a filter of two states with closed-form sums:
no matrix is inverted. Every track has B filters, which suppose objects of different speeds; :mod:`speeds` weighs them.
A thousand tracks cost some arrays of (1000, B, 4).

Sources: Kalman, 1960; Uhlenbeck and Ornstein, 1930; Aharon et al., BoT-SORT, 2022 (the state).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# All noises are in units of sqrt(width * height) of the box, so that they mean the same near and far.
_SMALLEST = 1.0  # pixel that a box's width and height are taken for at least


@dataclass(frozen=True, kw_only=True)
class MotionNoise:
    """What the filter assumes about objects that move. Lengths are in sizes, sqrt(width * height), of the box.

    The values without a default here are options of ``FusedOptions``, which has their only defaults.

    Attributes:
        speeds: (B,) standard deviations of the centre's velocity along x and along y, sizes a second; one a filter.
        persistence: seconds after which a velocity is forgotten (to 1 / e).
        growth: the standard deviation of the velocities of width and height.
        growth_persistence: the same as ``persistence``.
        position: standard deviation of a detection's centre, sizes.
        extent: standard deviation of a detection's width and height, sizes.
    """

    speeds: tuple[float, ...]
    persistence: float
    growth: float = 0.25
    growth_persistence: float = 0.7
    position: float
    extent: float


def to_centres(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) xyxy as (N, 4) float64 centre x, centre y, width, height, both of a pixel at least."""
    boxes = np.asarray(boxes, np.float64)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.concatenate((centres, np.maximum(boxes[:, 2:] - boxes[:, :2], _SMALLEST)), axis=1)


def to_boxes(states: np.ndarray) -> np.ndarray:
    """(N, >= 4) centre x, centre y, width, height, ... as (N, 4) xyxy."""
    half = np.maximum(states[:, 2:4], _SMALLEST) / 2
    return np.concatenate((states[:, :2] - half, states[:, :2] + half), axis=1)


def sizes(states: np.ndarray) -> np.ndarray:
    """(..., 1) sqrt(width * height) of states (..., >= 4)."""
    return np.sqrt(np.maximum(states[..., 2:3], _SMALLEST) * np.maximum(states[..., 3:4], _SMALLEST))


def _per_number(first: float, second: float) -> np.ndarray:
    return np.array([first, first, second, second])


def _velocity_std(noise: MotionNoise) -> np.ndarray:
    """(B, 4) standard deviations of the velocities, sizes a second."""
    return np.array([_per_number(speed, noise.growth) for speed in noise.speeds])


def _detection_variance(states: np.ndarray, noise: MotionNoise) -> np.ndarray:
    """(..., 4) pixels², of detections of tracks in states (..., 8)."""
    return np.asarray((sizes(states) * _per_number(noise.position, noise.extent)) ** 2)


def start(boxes: np.ndarray, noise: MotionNoise) -> tuple[np.ndarray, np.ndarray]:
    """States of objects detected once.

    Args:
        boxes: (N, 4) xyxy.
        noise: what is supposed.

    Returns:
        ``states`` (N, B, 8): centre x, centre y, width, height and their velocities a second, which are 0;
        ``covariances`` (N, B, 3, 4): variances, covariances with the own velocity, variances of the velocity.
    """
    centres = to_centres(boxes)[:, None]
    states = np.zeros((len(centres), len(noise.speeds), 8))
    states[..., :4] = centres
    covariances = np.zeros((*states.shape[:2], 3, 4))
    covariances[..., 0, :] = _detection_variance(centres, noise)
    covariances[..., 2, :] = (sizes(centres) * _velocity_std(noise)) ** 2
    return states, covariances


def predict(
    states: np.ndarray, covariances: np.ndarray, seconds: float, noise: MotionNoise
) -> tuple[np.ndarray, np.ndarray]:
    """States ``seconds`` later. One step of a second and ten of a tenth give the same."""
    tau = _per_number(noise.persistence, noise.growth_persistence)
    left = np.exp(-seconds / tau)  # of a velocity
    reach = tau * (1 - left)  # seconds that a velocity of now still carries
    variance = (sizes(states) * _velocity_std(noise)) ** 2  # (M, B, 4), of velocities in the long run
    later = states.copy()
    later[..., :4] += reach * states[..., 4:]
    later[..., 4:] *= left
    place, cross, velocity = covariances[..., 0, :], covariances[..., 1, :], covariances[..., 2, :]
    grown = np.empty_like(covariances)
    own = tau**2 * np.maximum(2 * seconds / tau - 3 + 4 * left - left**2, 0)
    grown[..., 0, :] = place + 2 * reach * cross + reach**2 * velocity + variance * own
    grown[..., 1, :] = left * (cross + reach * velocity) + variance * (reach**2 / tau)
    grown[..., 2, :] = left**2 * velocity + variance * (1 - left**2)
    return later, grown


def innovations(
    states: np.ndarray, covariances: np.ndarray, boxes: np.ndarray, noise: MotionNoise
) -> tuple[np.ndarray, np.ndarray]:
    """How far boxes are from where tracks are expected.

    Args:
        states: (M, 8) of one filter.
        covariances: (M, 3, 4).
        boxes: (N, 4) xyxy.
        noise: what is supposed.

    Returns:
        ``distances`` (N, M, 4): squared, in standard deviations, of centre x, centre y, width and height; their sum is
        the squared Mahalanobis distance. ``variances`` (M, 4) of the expectation, the detector's included, pixels².
    """
    variances = innovation_variances(states, covariances, noise)
    offsets = to_centres(boxes)[:, None] - states[:, :4]
    return offsets**2 / variances, variances


def innovation_variances(states: np.ndarray, covariances: np.ndarray, noise: MotionNoise) -> np.ndarray:
    """(..., 4) variances of where tracks are expected to be detected, the detector's included, pixels²."""
    return np.asarray(covariances[..., 0, :] + _detection_variance(states, noise))


def correct(
    states: np.ndarray, covariances: np.ndarray, boxes: np.ndarray, noise: MotionNoise
) -> tuple[np.ndarray, np.ndarray]:
    """States after box i of (M, 4) xyxy was seen of track i."""
    measured = _detection_variance(states, noise)
    place, cross = covariances[..., 0, :], covariances[..., 1, :]
    total = place + measured
    gain, velocity_gain = place / total, cross / total
    offset = to_centres(boxes)[:, None] - states[..., :4]
    better = np.concatenate((states[..., :4] + gain * offset, states[..., 4:] + velocity_gain * offset), axis=-1)
    surer = np.empty_like(covariances)
    surer[..., 0, :] = gain * measured
    surer[..., 1, :] = velocity_gain * measured
    surer[..., 2, :] = covariances[..., 2, :] - velocity_gain * cross
    return better, surer


def warp(states: np.ndarray, covariances: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """States as a camera that moved sees them.

    Args:
        states: (M, B, 8).
        covariances: (M, B, 3, 4).
        affine: (2, 3), pixels of the frame before to pixels of this one.

    Returns:
        States and covariances; a turn moves and turns, sizes only scale.
    """
    turn, shift = np.asarray(affine, np.float64)[:, :2], np.asarray(affine, np.float64)[:, 2]
    scale = np.sqrt(abs(np.linalg.det(turn)))
    moved = states * scale
    moved[..., :2] = states[..., :2] @ turn.T + shift
    moved[..., 4:6] = states[..., 4:6] @ turn.T
    return moved, covariances * scale**2


def scale(states: np.ndarray, covariances: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """States in the pixels of a picture of another size.

    Args:
        states: (M, B, 8).
        covariances: (M, B, 3, 4).
        factors: (2,) by which the picture's width and height have grown.

    Returns:
        States and covariances.
    """
    each = np.tile(np.asarray(factors, np.float64), 2)  # centre x, centre y, width, height
    return states * np.tile(each, 2), covariances * each**2
