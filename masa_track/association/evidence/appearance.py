"""Appearance log-odds: what the cosine of two embeddings says, learned from the video itself.

The log-odds are log(p(cosine | same object) / p(cosine | different objects)), two normal distributions whose
means and standard deviations are updated online. Where the objects of a video have a similar appearance, the two
distributions overlap, and the log-odds are near 0.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.errors import InputError

# IDF1: off -.049, half -.003, double -.026
_TRUST = 100.0  # pairs of this video that weigh as much as what is supposed beforehand
# IDF1: off -.007, half -.029, double -.011
_FORGET = 0.98  # factor of earlier counts, for each frame; the last 50 frames or so count
# IDF1: half 0, double 0
_SMALLEST_STD = 0.03
GAPS = np.array([0.0, 0.1, 0.3, 1.0, 3.0])  # seconds, knots of `AppearancePrior.same`

# What `LearnedEvidence` supposes of a model of which nothing is known. Chosen by tools/bench_calibration.py.
# Mean of the cosines, its standard deviation over models, and standard deviation around it within a model:
_WIDE_DIFFERENT = (0.35, 0.20, 0.10)
_WIDE_SAME = (0.75, 0.20, 0.06)
_SPREAD_TRUST = 4.0  # weight of the last of these, in samples
_PER_PAIR = 5.0  # samples that a pair of objects gives in 100 frames; they share the pair's own deviation
_PER_OBJECT = 2.0  # the same of one object, whose cosines are less bound to it
_KEPT, _KEPT_STD = 0.98, 0.03  # from each of GAPS to the next, part of `same - different` that is left, and its std
_REMEMBERED = 256  # tracks whose ages are kept


@dataclass(frozen=True)
class AppearancePrior:
    """The cosines to expect of one model's embeddings; fitted by `tools/fit_appearance.py`.

    Attributes:
        different: mean and standard deviation of the cosine of two objects.
        same: for each gap of 0, .1, .3, 1 and 3 or more seconds, the mean cosine of an object with itself minus the
            mean of ``different``, and the standard deviation of that cosine.
        model: name of the model that it was fitted for; None where that is not known.
        dimension: D of its embeddings; None where that is not known.

    Raises:
        InputError: a mean is outside -2..2, a standard deviation is not above 0, or a gap is missing.
    """

    different: tuple[float, float]
    same: tuple[tuple[float, float], ...]
    model: str | None = None
    dimension: int | None = None

    def __post_init__(self) -> None:
        if len(self.same) != len(GAPS):
            raise InputError(f"same of a prior must be {len(GAPS)} pairs of mean and std, got {self.same!r}")
        for pair in (self.different, *self.same):
            if not (isinstance(pair, tuple) and len(pair) == 2 and all(map(_is_number, pair))):
                raise InputError(f"different and same of a prior must hold pairs of mean and std, got {pair!r}")
            if not (-2 <= pair[0] <= 2 and 0 < pair[1] <= 2):
                raise InputError(f"a mean of a prior must be in -2..2 and its std in 0..2, above 0, got {pair!r}")

    def check(self, model: str | None, dimension: int | None) -> None:
        """Raises InputError if the prior is of another model, or of embeddings of another length."""
        for what, own, other in (("model", self.model, model), ("dimension", self.dimension, dimension)):
            if own is not None and other is not None and own != other:
                raise InputError(
                    f"prior must be fitted for this model, got one for {what} {own!r} and a model of {what} {other!r}: "
                    "fit one with tools/fit_appearance.py, or leave it out"
                )

    def save(self, path: str | Path) -> None:
        """Writes a json file for :meth:`load`.

        Raises:
            InputError: the file cannot be written.
        """
        try:
            Path(path).write_text(json.dumps(asdict(self), indent=2) + "\n")
        except OSError as error:
            raise InputError(f"prior {path} cannot be written: {error.strerror}") from error

    @classmethod
    def load(cls, path: str | Path) -> AppearancePrior:
        """Reads a json file of :meth:`save`.

        Raises:
            InputError: there is no such file, or it holds no prior.
        """
        try:
            content = json.loads(Path(path).read_text())
        except OSError as error:
            raise InputError(f"prior {path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise InputError(f"prior {path} must be a json file, got {error}") from error
        return cls.of(content, str(path))

    @classmethod
    def of(cls, content: Any, path: str) -> AppearancePrior:
        """A prior of what a json file of :meth:`save` holds; ``path`` is for errors.

        Raises:
            InputError: it is no prior.
        """
        names = {"different", "same", "model", "dimension"}
        if not isinstance(content, dict) or not {"different", "same"} <= content.keys() <= names:
            raise InputError(f"prior {path} must be an object with {', '.join(sorted(names))}, got {content!r:.200}")
        try:
            pairs = tuple(_pair(pair) for pair in content["same"])
            return cls(_pair(content["different"]), pairs, content.get("model"), content.get("dimension"))
        except (TypeError, InputError) as error:
            raise InputError(f"prior {path}: {error}") from error


def _pair(values: Any) -> Any:
    return tuple(values) if isinstance(values, list) else values


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


@dataclass(frozen=True)
class Observed:
    """What one frame shows of cosines, K detections that have taken tracks among all M tracks.

    Attributes:
        cosines: (K, M) of the detections to the tracks.
        rows: (K,) the track that each detection took.
        sure: (K,) bool, whether motion alone is certain of that.
        gaps: (M,) seconds since each track was seen before.
        ids: (M,) identities of the tracks, which increase in the order of confirmation; -1 for tentative tracks.
        now: seconds.
    """

    cosines: np.ndarray
    rows: np.ndarray
    sure: np.ndarray
    gaps: np.ndarray
    ids: np.ndarray
    now: float


def appearance_evidence(prior: AppearancePrior | None, most: float) -> FittedEvidence | LearnedEvidence:
    """The evidence of cosines by a prior, or learned from the video where there is none; within +- ``most``."""
    return LearnedEvidence(most) if prior is None else FittedEvidence(prior, most)


@dataclass(frozen=True)
class FittedEvidence:
    """Log-odds of cosines by a model's prior, corrected by what the video shows.

    Detections of one frame are different objects: their cosines update ``different``. Pairs of which motion alone is
    certain are the same object: their cosines update ``same``.

    Attributes:
        prior: of the model.
        most: the largest log-odds, either way.
        different_sums: (3,) count, sum and sum of squares of cosines of different objects.
        same_sums: (5, 3) the same of one object, minus the mean of different ones, for each of ``GAPS``.
    """

    prior: AppearancePrior
    most: float
    different_sums: np.ndarray = field(default_factory=lambda: np.zeros(3))
    same_sums: np.ndarray = field(default_factory=lambda: np.zeros((len(GAPS), 3)))

    def different(self) -> tuple[float, float]:
        """Mean and standard deviation of the cosine of two different objects."""
        return _blend(self.different_sums, *self.prior.different, _TRUST)

    def same(self, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations (M,) for one object after (M,) seconds."""
        knots = [_blend(seen, *prior, _TRUST) for seen, prior in zip(self.same_sums, self.prior.same, strict=True)]
        return _at(seconds, np.array(knots))

    def log_odds(self, cosines: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """(N, M) log-odds of cosines (N, M) to tracks last seen (M,) seconds ago, within +- ``most``."""
        low, low_std = self.different()
        high, high_std = self.same(seconds)
        return _log_odds(cosines, low, low_std, low + np.maximum(high, low_std), high_std, self.most)

    def learned(self, frame: Observed) -> FittedEvidence:
        """The evidence after one more frame."""
        among = frame.cosines[:, frame.rows]
        others = among[~np.eye(len(frame.rows), dtype=bool)]
        more = replace(self, different_sums=self.different_sums * _FORGET + _sums(others))
        same, at = self.same_sums * _FORGET, nearest_gap(frame.gaps[frame.rows])
        values = among.diagonal() - more.different()[0]
        for gap in np.unique(at[frame.sure]):
            same[gap] += _sums(values[frame.sure & (at == gap)])
        return replace(more, same_sums=same)

    def began(self, cosines: np.ndarray) -> FittedEvidence:
        """The evidence after the (K, K) cosines of a frame's new tracks: unchanged, as the prior suffices."""
        return self


@dataclass(frozen=True)
class LearnedEvidence:
    """Log-odds of cosines of a model of which nothing is known, learned from the video alone.

    It starts wide, and narrows with the number of *objects* seen, not of frames: a hundred frames of two objects show
    one pair of objects. A pair's n-th frame together weighs 1 / n, so that the frames of a pair weigh 1 + ln(n)
    together; what is known of pairs is not forgotten.

    - ``different``: detections of one frame. Boxes of one frame share the light, so it is also learned by gap: a
      detection of a track that was there before another one was lost is not that other one.
    - ``same``: detections that motion is sure of, by gap, as what is kept of the distance to ``different``.

    Attributes:
        most: the largest log-odds, either way.
        different_sums: (5, 3) weight, sum and sum of squares of cosines of two objects, for each of ``GAPS``.
        same_sums: (5, 3) the same of one object.
        ids: (T,) rising identities of the newest tracks that were seen, at most 256 of them.
        ages: (T,) in how many frames each was seen.
        since: (T,) seconds, when each was seen first.
    """

    most: float
    different_sums: np.ndarray = field(default_factory=lambda: np.zeros((len(GAPS), 3)))
    same_sums: np.ndarray = field(default_factory=lambda: np.zeros((len(GAPS), 3)))
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ages: np.ndarray = field(default_factory=lambda: np.zeros(0))
    since: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def knots(self) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations of the cosine of two objects (5, 2), and of one object (5, 2), by gap."""
        low = [_posterior(self.different_sums[0], *_WIDE_DIFFERENT, _PER_PAIR)]
        high = [_posterior(self.same_sums[0], *_WIDE_SAME, _PER_OBJECT)]
        for gap in range(1, len(GAPS)):  # what a gap does is supposed from the one before, until it is seen
            apart = max(high[-1][0] - low[-1][0], 0.0)
            low.append(_posterior(self.different_sums[gap], *low[-1], _PER_PAIR))
            _, unsure, spread = high[-1]
            unsure = float(np.hypot(unsure, _KEPT_STD * apart))
            high.append(_posterior(self.same_sums[gap], low[-1][0] + _KEPT * apart, unsure, spread, _PER_OBJECT))
        return _predicted(low), _predicted(high)

    def log_odds(self, cosines: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """(N, M) log-odds of cosines (N, M) to tracks last seen (M,) seconds ago, within +- ``most``."""
        different, same = self.knots()
        low, low_std = _at(seconds, different)
        high, high_std = _at(seconds, same)
        return _log_odds(cosines, low, low_std, np.maximum(high, low + low_std / 2), high_std, self.most)

    def began(self, cosines: np.ndarray) -> LearnedEvidence:
        """The evidence after K tracks began in one frame: they are different objects, with (K, K) cosines."""
        others = cosines[~np.eye(len(cosines), dtype=bool)]
        different = self.different_sums.copy()
        different[0] += _sums(others, np.full(len(others), 0.5))  # each pair is there twice
        return replace(self, different_sums=different)

    def learned(self, frame: Observed) -> LearnedEvidence:
        """The evidence after one more frame."""
        confirmed = frame.ids[frame.rows] >= 0
        if not confirmed.any():
            return self
        frame = replace(frame, cosines=frame.cosines[confirmed], rows=frame.rows[confirmed], sure=frame.sure[confirmed])
        count, own = len(frame.rows), frame.ids[frame.rows]
        ids, places = np.unique(np.concatenate((self.ids, own)), return_index=True)
        ages = np.concatenate((self.ages, np.zeros(count)))[places]
        since = np.concatenate((self.since, np.full(count, frame.now)))[places]
        here = np.searchsorted(ids, own)
        ages[here] += 1
        # Two objects of one frame.
        one, two = np.nonzero(~np.eye(count, dtype=bool))
        together = np.minimum(ages[here[one]], ages[here[two]])
        different = self.different_sums.copy()
        different[0] += _sums(frame.cosines[one, frame.rows[two]], 0.5 / together)  # each pair is there twice
        # One that was here before another was lost, and the other.
        gaps, passed = frame.gaps[frame.rows], frame.gaps[frame.rows].min()
        lost = np.isin(np.arange(len(frame.ids)), frame.rows, invert=True) & (frame.ids >= 0)
        one, two = np.nonzero((since[here][:, None] <= frame.now - frame.gaps) & lost & frame.sure[:, None])
        at, weights = np.maximum(nearest_gap(frame.gaps[two]), 1), passed / np.maximum(frame.gaps[two], passed)
        for gap in np.unique(at):
            different[gap] += _sums(frame.cosines[one, two][at == gap], weights[at == gap])
        # One object; each gap that is longer than from frame to frame is a sample of its own.
        same, at = self.same_sums.copy(), nearest_gap(gaps)
        values, weights = frame.cosines[np.arange(count), frame.rows], np.where(gaps > 1.5 * passed, 1, 1 / ages[here])
        for gap in np.unique(at[frame.sure]):
            chosen = frame.sure & (at == gap)
            same[gap] += _sums(values[chosen], weights[chosen])
        return LearnedEvidence(
            self.most, different, same, ids[-_REMEMBERED:], ages[-_REMEMBERED:], since[-_REMEMBERED:]
        )


def _log_odds(cosines: np.ndarray, low: Any, low_std: Any, high: Any, high_std: Any, most: float) -> np.ndarray:
    """(N, M) log-odds of cosines (N, M) between two normal distributions, each number or (M,), within +- ``most``."""
    # Beyond the means the tails contribute nothing more: a cosine above the mean of one object is that object.
    cosines = np.clip(cosines, low - 2 * low_std, high + high_std)
    odds = ((cosines - low) / low_std) ** 2 / 2 - ((cosines - high) / high_std) ** 2 / 2 + np.log(low_std / high_std)
    return np.asarray(np.clip(odds, -most, most))


def _at(seconds: np.ndarray, knots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations (M,) after (M,) seconds, between the ``knots`` (5, 2) at ``GAPS``."""
    place, at = np.log1p(10 * GAPS), np.log1p(10 * seconds)
    return np.interp(at, place, knots[:, 0]), np.interp(at, place, knots[:, 1])


def nearest_gap(seconds: np.ndarray) -> np.ndarray:
    """(K,) which of ``GAPS`` is nearest to each of (K,) seconds."""
    return np.asarray(np.abs(np.log1p(10 * seconds)[:, None] - np.log1p(10 * GAPS)).argmin(axis=1))


def _sums(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(3,) weight, sum and sum of squares of (K,) values; each weighs 1 where no (K,) weights are given."""
    values = np.asarray(values, np.float64)
    weighted = values if weights is None else values * weights
    total = len(values) if weights is None else weights.sum()
    return np.array([total, weighted.sum(), (weighted * values).sum()])


def _blend(seen: np.ndarray, mean: float, std: float, trust: float) -> tuple[float, float]:
    """Mean and standard deviation of what was seen (3,) and what was supposed, which weighs ``trust`` samples."""
    count = seen[0] + trust
    blended = (seen[1] + trust * mean) / count
    square = (seen[2] + trust * (mean**2 + std**2)) / count
    return blended, float(np.sqrt(max(square - blended**2, _SMALLEST_STD**2)))


def _predicted(knots: list[tuple[float, float, float]]) -> np.ndarray:
    """(K, 2) means and standard deviations of the next sample, of K results of :func:`_posterior`."""
    return np.array([(mean, np.hypot(unsure, spread)) for mean, unsure, spread in knots])


def _posterior(seen: np.ndarray, mean: float, unsure: float, spread: float, share: float) -> tuple[float, float, float]:
    """A normal distribution's mean, how unsure that is, and its standard deviation, after samples.

    Args:
        seen: (3,) weight, sum and sum of squares.
        mean, unsure, spread: the same three before.
        share: weight of samples that deviate together, so count as one for the mean.

    Source: Murphy, Conjugate Bayesian analysis of the Gaussian distribution, 2007 (normal-inverse-gamma).
    """
    trust = share * (spread / unsure) ** 2
    weight = seen[0] + trust
    after = (seen[1] + trust * mean) / weight
    scatter = max(seen[2] + trust * mean**2 - weight * after**2, 0.0)
    variance = max((_SPREAD_TRUST * spread**2 + scatter) / (_SPREAD_TRUST + seen[0]), _SMALLEST_STD**2)
    return float(after), float(np.sqrt(variance * share / weight)), float(np.sqrt(variance))
