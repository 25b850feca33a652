"""A training so small that it takes a second: a pool of one little case, and a recipe for it."""

from dataclasses import dataclass

import numpy as np
import torch

from napari_qsm.acquisition import Grid
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.training.blocks import HELD_OUT
from napari_qsm.training.cases import Pool
from napari_qsm.training.recipe import load_recipe

SIDE = 20

RECIPE = """
title = "Tiny"
seed = 3
margin = 2

[loss]
{loss}

[network]
channels = ["field", "tikhonov"]
widths = [4, 8]
convolutions = 1
{network}

[data]
channels = ["field", "tikhonov"]
side = 16
batch = 2
cases = 1

[optimisation]
steps = {steps}
rate = 5e-3
average = 0.9
precision = "float32"
"""


def case(seed):
    """A stacked case: a ball with some sources, its field, a poor inversion, truth and mask."""
    rng = np.random.default_rng(seed)
    axis = np.linspace(-1, 1, SIDE)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    mask = x**2 + y**2 + z**2 < 0.9
    chi = np.zeros(mask.shape, np.float32)
    for _ in range(4):
        a, b, c = rng.uniform(-0.5, 0.5, 3)
        chi[(x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 < 0.1] = rng.uniform(-0.1, 0.2)
    chi = (chi - chi[mask].mean()) * mask
    field = DipoleConvolution(Grid(mask.shape, np.eye(4)), padding=2.0)(torch.from_numpy(chi))
    poor = 0.6 * chi + 0.02 * rng.standard_normal(mask.shape)
    return np.stack([field.numpy() * mask, poor * mask, chi, mask]).astype(np.float16)


@dataclass(frozen=True)
class Tiny:
    """A recipe of these tests and where it finds its cases."""

    path: object
    pool: object

    @property
    def recipe(self):
        return load_recipe(self.path)


def tiny(folder, *, loss="absolute = 1.0", network="", steps=60):
    """Write the recipe and its pool into a folder."""
    made = Tiny(folder / "tiny.toml", folder / "pool")
    made.path.write_text(RECIPE.format(loss=loss, network=network, steps=steps))
    data = made.recipe.data
    pool = Pool(data.population, data.channels, made.pool)
    for seed in (0, *range(HELD_OUT, HELD_OUT + 8)):
        np.save(pool.path(seed), case(seed))
    return made
