"""Batches of blocks: which ones belong to a step follows from the recipe's seed alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_qsm.training.cases import Pool, block
from napari_qsm.training.recipe import Recipe
from napari_qsm.training.streams import Steps

FIRST_CASES = 24
"""Cases that training begins with."""

HELD_OUT = 1_000_000
"""Seed of the first case for validation; no recipe draws that many for training."""

HELD_OUT_CASES = 8
"""Cases for validation."""


class Blocks(Steps[Tensor]):
    """Batches (N, C + 2, side, side, side) of a recipe.

    Parameters
    ----------
    recipe : Recipe
        Names the pool, the size of blocks and the seed.
    folder : Path
        Of the pools.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        super().__init__()
        self._recipe = recipe
        self._pool = Pool(recipe.data.population, recipe.data.channels, folder, recipe.data.known)

    def batch(self, step: int) -> Tensor:
        """Return the blocks of one step."""
        data = self._recipe.data
        rng = np.random.default_rng([self._recipe.seed, step, self.rank])
        known = min(data.cases, FIRST_CASES + step // data.growth)
        seeds = rng.integers(known, size=data.batch)
        return torch.stack([block(self._pool[int(seed)], data.side, rng) for seed in seeds])


def held_out(recipe: Recipe, folder: Path, count: int = 16) -> Tensor:
    """Return blocks of cases that training never sees."""
    pool = Pool(recipe.data.population, recipe.data.channels, folder, recipe.data.known)
    rng = np.random.default_rng([recipe.seed, HELD_OUT])
    seeds = HELD_OUT + rng.integers(HELD_OUT_CASES, size=count)
    return torch.stack([block(pool[int(seed)], recipe.data.side, rng) for seed in seeds])
