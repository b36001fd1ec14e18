"""In which order photographs are seen: a function of the seed and of how far training has come, of nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import torch
from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from masa_track.errors import InputError


@DATA_SAMPLERS.register_module()
class PhotoSampler(Sampler[int]):
    """Passes over the data set, each in an order of its own, one after the other, cut into epochs.

    A data set with ``set_epoch`` is told the epoch, so that its views are new in each.

    Args:
        dataset: its length is taken.
        seed: of the orders.
        samples: items an epoch, all processes together; None is one pass.

    Raises:
        InputError: if the data set is empty, or an epoch would show an item twice, as the same views.
    """

    def __init__(self, dataset: Sized, seed: int | None = 0, samples: int | None = None) -> None:
        self.items = len(dataset)
        if self.items == 0:
            raise InputError("the data set must hold at least one item, got none")
        if samples is not None and not 1 <= samples <= self.items:
            raise InputError(
                f"samples an epoch must be 1 to the {self.items} items of the data set, got {samples}: "
                "set train_dataloader.sampler.samples=None, or let each photograph come more often by "
                "train_dataloader.dataset.repeats"
            )
        self.rank, self.processes = get_dist_info()
        self.each = -(-(samples or self.items) // self.processes)  # items an epoch and process
        self.dataset, self.seed = dataset, seed or 0
        self.start = 0
        self.set_epoch(0)

    def __len__(self) -> int:
        return self.each

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration is of."""
        self.epoch = epoch
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def skip(self, items: int) -> None:
        """Leaves out the first items of the next iteration, which were seen before an interruption."""
        self.start = items

    def __iter__(self) -> Iterator[int]:
        start, self.start = self.start, 0
        first = self.epoch * self.each * self.processes
        passed, order = -1, torch.empty(0, dtype=torch.long)
        for item in range(start, self.each):
            position = first + item * self.processes + self.rank
            if position // self.items != passed:
                passed = position // self.items
                generator = torch.Generator().manual_seed((self.seed << 32) + passed)
                order = torch.randperm(self.items, generator=generator)
            yield int(order[position % self.items])
