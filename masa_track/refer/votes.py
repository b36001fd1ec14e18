"""Scores of tracks collected over frames or windows: the votes of a referrer. numpy only."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from masa_track.errors import InputError
from masa_track.refer.answers import MODEL_THRESHOLD


class Votes:
    """Weighted means of the scores of tracks, for some sentences; the memory is a sum for each track.

    Args:
        sentences: S, how many.
        threshold: score below which no track is meant.
        shortest: frames; a track with less scores less, so that a blink does not win. None: a tenth of the longest.
    """

    def __init__(self, sentences: int, threshold: float = MODEL_THRESHOLD, shortest: float | None = None) -> None:
        self.count, self.threshold, self.shortest = sentences, threshold, shortest
        self._sums: dict[int, np.ndarray] = {}
        self._weights: dict[int, float] = {}
        self._most = 0.0

    def add(self, scores: Mapping[int, np.ndarray], frames: Mapping[int, float] | None = None) -> None:
        """Adds the scores of a window.

        Args:
            scores: (S,) of each track that lives in it, 0..1.
            frames: in how many of its frames each track lives; None: 1.

        Raises:
            InputError: scores of another form.
        """
        checked = {identity: np.asarray(values, np.float64) for identity, values in scores.items()}
        for identity, values in checked.items():
            if values.shape != (self.count,) or not np.isfinite(values).all():
                raise InputError(f"scores of track {identity} must be {self.count} finite numbers, got {values}")
        for identity, values in checked.items():
            weight = 1.0 if frames is None else float(frames[identity])
            self._sums[identity] = self._sums.get(identity, np.zeros(self.count)) + weight * values
            self._weights[identity] = self._weights.get(identity, 0.0) + weight
        self._most = max(self._weights.values(), default=0.0)

    def scores(self) -> dict[int, np.ndarray]:
        """(S,) mean score of each track."""
        shortest = self._most / 10 if self.shortest is None else self.shortest
        return {
            identity: total / self._weights[identity] * min(1.0, self._weights[identity] / shortest)
            for identity, total in self._sums.items()
            if self._weights[identity] > 0
        }

    def answer(self, sentence: int) -> tuple[int | None, float]:
        """The track that a sentence means, None below the threshold; and its score less that of the second track."""
        ranked = sorted(
            ((float(values[sentence]), -identity) for identity, values in self.scores().items()), reverse=True
        )
        if not ranked:
            return None, 0.0
        margin = ranked[0][0] - (ranked[1][0] if len(ranked) > 1 else 0.0)
        return (-ranked[0][1] if ranked[0][0] >= self.threshold else None), margin
