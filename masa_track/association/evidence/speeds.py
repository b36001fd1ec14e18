"""How fast the objects of a video move: the weights of each track's filters.

A filter that supposes walkers loses players who sprint, and one that supposes players confuses walkers. So each track
has a filter for each of ``FACTORS``, and their weights follow from how well each predicted the detections so far, of
this track and of all tracks of the video.

Source: Magill, Optimal adaptive estimation of sampled stochastic processes, 1965 (several models, weighed by their
predictions); with forgetting, as an object may start to run.
"""

from __future__ import annotations

import numpy as np

# IDF1, FACTORS[1]: half -.001/0, double 0/0 (fast -.100)
# IDF1, FACTORS[2]: half 0/0 (fast -.111), double 0/0 (fast +.015)
FACTORS = (1.0, 3.0, 9.0)  # of the option motion_speed
# IDF1: half 0/-.001, double -.001/0 (fast -.001)
_PRIOR = np.log([0.98, 0.015, 0.005])
# IDF1: off -.002/0, half 0/0, double -.001/0
_FREEDOM = 4.0  # of Student's t, as in the log-odds of places
# IDF1, _TRACK_FORGETS: off 0/0, half 0/0 (fast -.001), double 0/0
# IDF1, _VIDEO_FORGETS: off 0/0, half 0/0 (fast -.111), double -.001/0
_TRACK_FORGETS, _VIDEO_FORGETS = 0.9, 0.99  # factor of what earlier frames said
# IDF1, _TRACK: off 0/0 (fast -.001), half 0/0, double -.001/0
# IDF1, _VIDEO: off 0/-.001 (fast -.111), half 0/0, double 0/0
_TRACK, _VIDEO = 0.5, 0.05  # weight of what they say: frames of one track, and tracks of one frame, err alike
# IDF1: half 0/0, double 0/0
_LEAST = np.log(1e-4)


def weights(of_tracks: np.ndarray, of_video: np.ndarray) -> np.ndarray:
    """(M, B) log weights of the filters, whose exponentials add up to 1; -inf for those that hardly matter.

    Args:
        of_tracks: (M, B) sums of :func:`predictions` of each track.
        of_video: (B,) the same of the video.
    """
    logs = _PRIOR + _VIDEO * of_video + _TRACK * of_tracks
    logs = logs - logs.max(axis=-1, keepdims=True)
    logs[logs < _LEAST] = -np.inf
    return np.asarray(logs - np.log(np.exp(logs).sum(axis=-1, keepdims=True)))


def predictions(distances: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """How well each filter predicted the centres of detections, (K, B) nats, 0 for the best.

    Args:
        distances: (K, B, 4) of each track to its detection and
        variances: (K, B, 4) as of :func:`~masa_track.association.evidence.kalman.innovations`.
    """
    falling = (_FREEDOM + 2) / 2 * np.log1p(distances[..., :2].sum(axis=-1) / _FREEDOM)
    logs = -falling - 0.5 * np.log(variances[..., :2]).sum(axis=-1)
    return np.asarray(logs - logs.max(axis=-1, keepdims=True))


def learned(
    of_tracks: np.ndarray, of_video: np.ndarray, rows: np.ndarray, new: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums (M, B) and (B,) after one more frame, in which tracks ``rows`` (K,) had :func:`predictions` (K, B)."""
    of_tracks = of_tracks.copy()
    of_tracks[rows] = _TRACK_FORGETS * of_tracks[rows] + new
    return of_tracks, _VIDEO_FORGETS * of_video + new.sum(axis=0)
