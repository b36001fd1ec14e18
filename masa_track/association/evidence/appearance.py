"""Appearance log-odds: what the cosine of two embeddings says, learned from the video itself.

The log-odds are log(p(cosine | same object) / p(cosine | different objects)), two normal distributions whose
means and standard deviations are updated online. Where the objects of a video look alike, the two
distributions overlap and the cosines count little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_TRUST = 100.0  # pairs of this video that weigh as much as what is supposed beforehand
_FORGET = 0.98  # a frame; some fifty frames are looked back at
_SMALLEST_STD = 0.03
GAPS = np.array([0.0, 0.1, 0.3, 1.0, 3.0])  # seconds, knots of `AppearancePrior.same`


@dataclass(frozen=True)
class AppearancePrior:
    """What cosines are expected, by gap; fitted by `tools/fit_appearance.py` for a model's embeddings.

    Attributes:
        different: mean and standard deviation of the cosine of two things.
        same: how much more alike a thing is to itself than that mean, and its standard deviation, after each of the
            gaps 0, .1, .3, 1 and 3 or more seconds.
    """

    # Fitted for `nano` (.17 and .58, .47, .38, .32, .23), then chosen near that on the dev clips.
    different: tuple[float, float] = (0.20, 0.13)
    same: tuple[tuple[float, float], ...] = (
        (0.58, 0.14),
        (0.52, 0.12),
        (0.43, 0.13),
        (0.37, 0.14),
        (0.27, 0.14),
    )


class AppearanceEvidence:
    """Log-odds of cosines, learned on from the video itself.

    Detections of one frame are different things, which shows how alike different things are here. Pairs that motion
    is sure of show how alike one thing stays; they correct what was supposed beforehand.
    """

    def __init__(self, prior: AppearancePrior, most: float) -> None:
        self.prior, self.most = prior, most
        self._different = np.zeros(3)  # count, sum, sum of squares
        self._same = np.zeros((len(GAPS), 3))

    def different(self) -> tuple[float, float]:
        """Mean and standard deviation of the cosine of two different things."""
        mean, std = self.prior.different
        return _blend(self._different, mean, std)

    def same(self, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations (M,) for one thing after (M,) seconds."""
        knots = np.array([_blend(seen, *prior) for seen, prior in zip(self._same, self.prior.same, strict=True)])
        place = np.log1p(10 * GAPS)
        at = np.log1p(10 * seconds)
        return np.interp(at, place, knots[:, 0]), np.interp(at, place, knots[:, 1])

    def log_odds(self, cosines: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """(N, M) log-odds of cosines (N, M) to tracks last seen (M,) seconds ago, within +- ``most``."""
        low, low_std = self.different()
        high, high_std = self.same(seconds)
        high = low + np.maximum(high, low_std)
        # Beyond the means the tails say nothing more: what is more alike than the mean of one thing is that thing.
        cosines = np.clip(cosines, low - 2 * low_std, high + high_std)
        odds = (
            ((cosines - low) / low_std) ** 2 / 2 - ((cosines - high) / high_std) ** 2 / 2 + np.log(low_std / high_std)
        )
        return np.clip(odds, -self.most, self.most)

    def learn_different(self, cosines: np.ndarray) -> None:
        """(K,) cosines of different things."""
        self._different = _FORGET * self._different + _sums(cosines)

    def learn_same(self, cosines: np.ndarray, seconds: np.ndarray) -> None:
        """(K,) cosines of one thing and itself (K,) seconds before, known by something else than appearance."""
        self._same = _FORGET * self._same
        low, _ = self.different()
        at = np.abs(np.log1p(10 * seconds)[:, None] - np.log1p(10 * GAPS)).argmin(axis=1)
        for gap in np.unique(at):
            self._same[gap] += _sums(cosines[at == gap] - low)


def _sums(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return np.array([len(values), values.sum(), (values**2).sum()])


def _blend(seen: np.ndarray, mean: float, std: float) -> tuple[float, float]:
    """Mean and standard deviation of what was seen and what was supposed."""
    count = seen[0] + _TRUST
    blended = (seen[1] + _TRUST * mean) / count
    square = (seen[2] + _TRUST * (mean**2 + std**2)) / count
    return blended, float(np.sqrt(max(square - blended**2, _SMALLEST_STD**2)))
