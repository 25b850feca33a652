"""Batches made in a process beside the training, so that it does not wait for them."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

T = TypeVar("T")


class Steps(IterableDataset[T], ABC):
    """Batches of a training, one a step, without end.

    Step t of process r is the same whether training ran through or was resumed: what belongs to it
    follows from the recipe's seed, t and r.
    """

    AHEAD = 4
    """Batches that wait at most."""

    first = rank = 0

    @abstractmethod
    def batch(self, step: int) -> T:
        """Return the batch of one step."""

    def batches(self, first: int, rank: int, *, beside: bool) -> Iterator[T]:
        """Return the batches from step `first` on; what they need is drawn beside if wanted.

        Parameters
        ----------
        first : int
            Step to begin with.
        rank : int
            Number of this process among those that train together.
        beside : bool
            Whether that runs in a process of its own, into which this is pickled.
        """
        self.first, self.rank = first, rank
        if not beside:
            return iter(self)
        loader = DataLoader(
            self,
            batch_size=None,
            num_workers=1,
            prefetch_factor=self.AHEAD,
            multiprocessing_context="spawn",
            collate_fn=_as_it_is,
        )
        return iter(loader)

    def __iter__(self) -> Iterator[T]:
        if get_worker_info() is not None:
            torch.set_num_threads(1)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training, not for this
        step = self.first
        while True:
            yield self.batch(step)
            step += 1


def _as_it_is(batch: T) -> T:
    return batch
