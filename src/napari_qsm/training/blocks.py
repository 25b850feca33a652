"""Batches of blocks: which ones belong to a step follows from the recipe's seed alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from napari_qsm.training.cases import Pool, block
from napari_qsm.training.recipe import Recipe
from napari_qsm.training.streams import streamed

FIRST_CASES = 24
"""Cases that training begins with."""

HELD_OUT = 1_000_000
"""Seed of the first case for validation; no recipe draws that many for training."""

HELD_OUT_CASES = 8
"""Cases for validation."""


class Blocks(IterableDataset[Tensor]):
    """Batches (N, C + 2, side, side, side) of a recipe from a step on, without end.

    Step t of process r is the same whether training ran through or was resumed: its blocks are
    drawn with the seed (recipe, t, r).

    Parameters
    ----------
    recipe : Recipe
        Names the pool, the size of blocks and the seed.
    folder : Path
        Of the pools.
    first : int
        Step to begin with.
    rank : int
        Number of this process among those that train together.
    """

    def __init__(self, recipe: Recipe, folder: Path, first: int = 0, rank: int = 0) -> None:
        super().__init__()
        self._recipe, self._first, self._rank = recipe, first, rank
        self._pool = Pool(recipe.data.population, recipe.data.channels, folder, recipe.data.known)

    def __iter__(self) -> Iterator[Tensor]:
        if get_worker_info() is not None:
            torch.set_num_threads(1)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training, not for this
        step = self._first
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> Tensor:
        """Return the blocks of one step."""
        data = self._recipe.data
        rng = np.random.default_rng([self._recipe.seed, step, self._rank])
        known = min(data.cases, FIRST_CASES + step // data.growth)
        seeds = rng.integers(known, size=data.batch)
        return torch.stack([block(self._pool[int(seed)], data.side, rng) for seed in seeds])


def batches(
    recipe: Recipe, folder: Path, first: int, rank: int, *, beside: bool
) -> Iterator[Tensor]:
    """Return the batches from step `first` on, drawn in a process beside this one if wanted."""
    return streamed(Blocks(recipe, folder, first, rank), beside=beside)


def held_out(recipe: Recipe, folder: Path, count: int = 16) -> Tensor:
    """Return blocks of cases that training never sees."""
    pool = Pool(recipe.data.population, recipe.data.channels, folder, recipe.data.known)
    rng = np.random.default_rng([recipe.seed, HELD_OUT])
    seeds = HELD_OUT + rng.integers(HELD_OUT_CASES, size=count)
    return torch.stack([block(pool[int(seed)], recipe.data.side, rng) for seed in seeds])
