"""Cuts that were none: what tracks were before a cut, kept for two seconds, in case that the old view is back.

One frame of false detections is like a cut where boxes are all that is known. In the frames after it, the objects are
where they were.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from masa_track.association.evidence import kalman

# IDF1: off 0, half 0, double 0
SECONDS = 2.0  # for which a cut can be undone
# IDF1: off 0, half 0, double 0
BETTER = 5.0  # nats by which the old places must explain a frame better
# IDF1: off 0, half 0, double 0
FOUND = 0.5  # of these, seen since the cut: then it was one, after which the same objects were elsewhere
# IDF1: half 0, double 0
FEWEST = 2  # tracks of the old view that must be remembered


@dataclass(frozen=True)
class BeforeCut:
    """The confirmed tracks as they were when a cut was found, predicted to the present.

    Attributes:
        at: time of the cut, seconds.
        cut_at: time of the cut before it, seconds.
        ids: (K,) identities.
        filters: (K, B, 8) and
        covariances: (K, B, 3, 4) as in :class:`~masa_track.association.evidence.memory.FusedMemory`.
        predictions: (K, B) the same.
    """

    at: float
    cut_at: float
    ids: np.ndarray
    filters: np.ndarray
    covariances: np.ndarray
    predictions: np.ndarray

    def moved_on(self, seconds: float, noise: kalman.MotionNoise) -> BeforeCut:
        """The same, ``seconds`` later."""
        filters, covariances = kalman.predict(self.filters, self.covariances, seconds, noise)
        return replace(self, filters=filters, covariances=covariances)

    def scaled(self, factors: np.ndarray) -> BeforeCut:
        """The same in pictures whose width and height are larger by ``factors`` (2,)."""
        filters, covariances = kalman.scale(self.filters, self.covariances, factors)
        return replace(self, filters=filters, covariances=covariances)

    def warped(self, camera: np.ndarray) -> BeforeCut:
        """The same after the camera has moved by the (2, 3) affine."""
        filters, covariances = kalman.warp(self.filters, self.covariances, camera)
        return replace(self, filters=filters, covariances=covariances)
