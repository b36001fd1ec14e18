"""Several data sets of pairs of views in one training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from masa_track.errors import InputError


class JoinedViews(Dataset[dict[str, Any]]):
    """Items of several data sets, the data set of each item drawn at random.

    An item depends on nothing but (seed, epoch, index). Within an epoch, the items of a data set come in random order,
    each once before any comes again; what comes again from :class:`~masa_track.training.dataset.TwoViews` has new
    views.

    Args:
        datasets: data sets of pairs of views, or their configurations (``type`` and arguments).
        sampling_probs: the probability of each data set, in sum 1; None: by their lengths.
        fixed_length: items an epoch; None: of all data sets together.
        seed: of the draws.

    Raises:
        InputError: there is no data set, or an argument is out of its range.
    """

    def __init__(
        self,
        datasets: Sequence[Any],
        sampling_probs: Sequence[float] | None = None,
        fixed_length: int | None = None,
        seed: int = 0,
    ) -> None:
        if not datasets:
            raise InputError("datasets must name at least one data set, got none")
        self.datasets = [DATASETS.build(one) if isinstance(one, Mapping) else one for one in datasets]
        lengths = np.array([len(one) for one in self.datasets])
        shares = lengths / lengths.sum() if sampling_probs is None else np.asarray(sampling_probs, np.float64)
        if shares.shape != lengths.shape or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
            raise InputError(
                f"sampling_probs must be a probability of at least 0 for each of {len(lengths)} datasets, in sum 1, "
                f"got {sampling_probs}"
            )
        if fixed_length is not None and fixed_length < 1:
            raise InputError(f"fixed_length must be at least 1, got {fixed_length}")
        self.shares = shares / shares.sum()
        self.samples = int(lengths.sum()) if fixed_length is None else int(fixed_length)
        self.lengths, self.seed = lengths.tolist(), seed
        self.renewed = [hasattr(one, "repeats") for one in self.datasets]
        for one, length, renewed in zip(self.datasets, self.lengths, self.renewed, strict=True):
            if renewed:
                one.repeats *= -(-self.samples // length)
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # workers that live on see it, too
        self._drawn: tuple[int, np.ndarray, np.ndarray] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Items are others in another epoch; to be called between epochs."""
        self._epoch[0] = epoch
        for one in self.datasets:
            one.set_epoch(epoch)

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        which, item = self.draw(index)
        found: dict[str, Any] = self.datasets[which][item]
        return found

    def draw(self, index: int) -> tuple[int, int]:
        """The data set of an item of this epoch, and the item's index in it."""
        if not 0 <= index < len(self):
            raise IndexError(f"index must be 0 to {len(self) - 1}, got {index}")
        epoch = int(self._epoch)
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = (epoch, *self._draw(np.random.default_rng((self.seed, epoch))))
        return int(self._drawn[1][index]), int(self._drawn[2][index])

    def _draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Data sets and items (samples,) of an epoch."""
        which = rng.choice(len(self.datasets), self.samples, p=self.shares)
        items = np.zeros(self.samples, np.int64)
        for number, (length, renewed) in enumerate(zip(self.lengths, self.renewed, strict=True)):
            places = np.flatnonzero(which == number)
            for start in range(0, len(places), length):
                now = places[start : start + length]
                items[now] = rng.permutation(length)[: len(now)] + (start if renewed else 0)
        return which, items
