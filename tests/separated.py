"""Little heads with iron and myelin, and networks that learned next to nothing, for tests."""

from dataclasses import replace

import numpy as np
import torch

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.networks import weights
from napari_qsm.networks.building import built
from napari_qsm.networks.inverter import Design
from napari_qsm.networks.unet import Architecture
from napari_qsm.networks.weights import Card
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.training.population import Population
from napari_qsm.training.separation import RELAXIVITY, Separation

COARSE = Separation(
    population=Population(
        voxel_size=(5.0, 6.0), lesions={"haemorrhage": 1.0, "calcification": 1.0}, slabs=0.0
    )
)
"""Heads that are drawn in a blink."""

RATES = {"sepnet": "r2prime", "sepnet_r2star": "r2star", "unrolled_sepnet": "r2prime"}


def design(family="sepnet", *, iterations=None, widths=(4, 8)):
    """The design of a tiny network of a family."""
    count = (10 if family == "unrolled_sepnet" else 0) if iterations is None else iterations
    inner = Architecture(widths=widths, convolutions=1)
    return Design(("tikhonov", RATES[family], "field"), False, inner, "separation", count)


def network(family="sepnet", *, seed=0, **more):
    """A tiny network whose U-Net does something."""
    torch.manual_seed(seed)
    made = built(design(family, **more))
    with torch.no_grad():
        for values in made.parameters():
            if values.ndim == 5 and values.shape[-1] == 1:
                values.mul_(5)
    return made.eval()


def stored(folder, family, **more):
    """Write a tiny network of a family into a folder."""
    one = network(family, **more)
    card = Card(family, "Tiny", one.design, family, (0.5, 9.0), 3.0, 90.0)
    return weights.write(card, one, folder)


def write_networks(folder):
    """Write tiny networks of every family that separates."""
    for family in RATES:
        stored(folder, family)


def phantom(shape=(20, 22, 18), strength=3.0):
    """An acquisition and both its sources: a ball with iron, myelin and fluid, without noise."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    mask = sum(a**2 for a in axes) < 0.9
    positive, negative = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for volume, level in ((positive, 0.1), (negative, 0.06)):
        for _ in range(4):
            centre = rng.uniform(-0.5, 0.5, 3)
            near = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < 0.08
            volume[near & mask] = level
    grid = Grid(shape, np.diag([1.0, 1.0, 1.2, 1.0]))
    field = DipoleConvolution(grid, padding=2.0)(torch.from_numpy(positive - negative)).numpy()
    rate = RELAXIVITY * strength * (positive + negative)
    volumes = {
        Quantity.LOCAL_FIELD: field * mask,
        Quantity.MASK: mask,
        Quantity.R2PRIME: rate,
        Quantity.R2STAR: (rate + 13) * mask,
    }
    return Acquisition(grid, volumes, field_strength=strength), positive, negative


def scaled(acquisition, factor):
    """The same acquisition with sources `factor` times as strong."""
    volumes = dict(acquisition.volumes)
    for quantity in (Quantity.LOCAL_FIELD, Quantity.R2PRIME):
        volumes[quantity] = volumes[quantity] * np.float32(factor)
    nominal = 13 * acquisition.mask
    volumes[Quantity.R2STAR] = (volumes[Quantity.R2STAR] - nominal) * np.float32(factor) + nominal
    return replace(acquisition, volumes=volumes)
