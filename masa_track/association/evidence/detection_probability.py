"""The probability that a track is detected in a frame, learned from the video.

Where two tracks could take a detection, the one that was detected in the frame before is more probable, the more so the
fewer detections the detector misses; a track that has been missing may have left, or may be a false detection. These
probabilities differ between videos (people whom a camera drives past do not return), so they are counted.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

SAME_TIME = 1e-6  # seconds
_LONGEST = np.array([0.0, 0.3, 1.0, 3.0])  # seconds missing, ends of the groups that are counted; the last is open
# IDF1: half -.002/-.027, double 0/0
_REDETECTION = 0.9  # of the tracks seen in the frame before, supposed to be seen again
# IDF1: half -.002/+.001, double 0/-.004
_RETURNS = np.array([6.0, 2.0, 0.5, 0.1])  # the same of missing ones, a second, by how long they have been missing
# IDF1: off +.001/+.002, half -.001/-.007, double +.001/+.004
_TRUST = 50.0  # tracks that weigh as much as what is supposed beforehand
# IDF1: off -.001/0, half 0/+.002, double 0/0
_FORGET = 0.99  # factor of earlier counts, for each frame; the last 100 frames or so count
_RARE = 1e-4
# Chosen on the clips of MOT15, with and without pictures: a detector that misses little shall not outweigh a position
# that does not fit, and frames far apart say little about each other.
# IDF1, _MOST: off +.002/-.006, half +.001/+.001, double +.001/-.001
# IDF1, _LEAST: off +.004/+.001, half 0/0, double 0/0
_MOST, _LEAST = 1.0, -4.0
# IDF1: half +.002/-.003, double -.002/-.002
_APART = 1 / 1.5  # seconds between frames after which the whole counts 1 / e


class DetectionProbability:
    """Counts how often tracks are seen again, by how long they have been missing."""

    def __init__(self) -> None:
        self._trials, self._hits = np.zeros(len(_LONGEST) + 1), np.zeros(len(_LONGEST) + 1)

    def redetection_probability(self) -> float:
        """How likely a track is seen again that was seen in the frame before."""
        return float(self._rates(0.0)[0])

    def log_odds(self, missing: np.ndarray, passed: float, memory: float) -> np.ndarray:
        """Log-odds of being seen in this frame.

        Args:
            missing: (M,) seconds in which each track should have been seen, and was not.
            passed: seconds since the frame before.
            memory: after missing for so many seconds they count 1 / e.

        Returns:
            (M,), between -4 and 1.
        """
        rate = self._rates(passed)
        odds = np.log(rate / (1 - rate))[_group(missing)]
        return np.asarray(np.clip(odds * np.exp(-missing / memory - passed / _APART), _LEAST, _MOST))

    def _rates(self, passed: float) -> np.ndarray:
        """How likely a track is seen, by group; the first does not depend on the seconds since the frame before."""
        supposed = np.concatenate(([_REDETECTION], np.minimum(1 - np.exp(-_RETURNS * passed), _REDETECTION)))
        return np.clip((self._hits + _TRUST * supposed) / (self._trials + _TRUST), _RARE, 1 - _RARE)

    def learn(self, missing: np.ndarray, seen_again: np.ndarray) -> None:
        """Tracks missing for (M,) seconds were seen again or not, (M,) bool."""
        groups = len(self._trials)
        self._trials = _FORGET * self._trials + np.bincount(_group(missing), minlength=groups)
        self._hits = _FORGET * self._hits + np.bincount(_group(missing), seen_again, groups)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The counts as arrays."""
        return {"trials": self._trials, "hits": self._hits}

    @classmethod
    def of_state(cls, state: Mapping[str, np.ndarray]) -> DetectionProbability:
        """That of :meth:`state_dict`; raises LookupError or ValueError where that does not fit."""
        counted = cls()
        counted._trials = np.array(state["trials"], np.float64).reshape(counted._trials.shape)
        counted._hits = np.array(state["hits"], np.float64).reshape(counted._hits.shape)
        return counted


def _group(missing: np.ndarray) -> np.ndarray:
    return np.searchsorted(_LONGEST + SAME_TIME, missing)
