"""Batches made in a process beside the training, so that it does not wait for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from torch.utils.data import DataLoader, IterableDataset

T = TypeVar("T")


def streamed(batches: IterableDataset[T], *, beside: bool, ahead: int = 4) -> Iterator[T]:
    """Iterate over a data set that makes whole batches itself.

    Parameters
    ----------
    batches : IterableDataset
        What is iterated over; it is pickled into the other process.
    beside : bool
        Whether it runs in a process of its own.
    ahead : int
        Batches that wait at most.
    """
    if not beside:
        return iter(batches)
    loader = DataLoader(
        batches,
        batch_size=None,
        num_workers=1,
        prefetch_factor=ahead,
        multiprocessing_context="spawn",
        collate_fn=_as_it_is,
    )
    return iter(loader)


def _as_it_is(batch: T) -> T:
    return batch
