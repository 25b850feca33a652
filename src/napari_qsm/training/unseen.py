"""The population that nothing is trained on: another head, other lesions, another kind of error.

A test on draws of the training population asks whether a network has learned; this one asks
whether it learned more than that population. Its fields come from a grid twice as fine as the one
they are inverted on, so no method meets the very operator that made its data.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import Acquisition, FloatArray, Grid, Quantity
from napari_qsm.training.population import Case, Population, draw

FINER: Final = 2
"""Parts along each axis that a measured voxel is made of."""

FIRST_SEED: Final = 2_000_000
"""Of the unseen cases; trainings and their validation stay far below."""

UNSEEN: Final = Population(
    anatomy="icbm",
    geometry=0.0,
    lesions={"microbleeds": 0.4, "haemorrhage": 0.25, "calcification": 0.3},
    voxel_size=(0.7, 0.8),
    anisotropy=1.12,
    tilt=12.0,
    deformation=(2.0, 6.0),
    spread=(0.5, 2.5),
    texture=(0.004, 0.024),
    contrast=(0.5, 1.2),
    vessels=(100, 900),
    error=(0.12, 0.9),
    rim=1.5,
    slabs=0.2,
    erosion=5,
    field_strength=(2.9, 3.1),
    echo_time=(0.018, 0.026),
    inverted=0.0,
)
"""On its fine grid; measured voxels are 1.4 to 1.6 mm wide and up to 1.8 mm thick.

White noise shrinks by the square root of eight as voxels are put together and other errors do not,
so what is left is mostly structured: another mix than in training.
"""


def draw_unseen(number: int, population: Population = UNSEEN) -> Case:
    """Return an unseen case by number, 0, 1, ...; the same number gives the same case."""
    return coarser(draw(population, FIRST_SEED + number))


def coarser(case: Case, factor: int = FINER) -> Case:
    """Put `factor`^3 voxels of a case together, as a scanner of lower resolution does.

    With w the magnitude inside the mask, the field of a large voxel is ``sum w f / sum w`` (the
    phase of a sum of spins, for small differences of phase) and its noise
    ``sqrt(sum w^2 s^2) / sum w``; its susceptibility is the mean over the part inside the mask. The
    new mask has the voxels that were inside it by half or more. What is left over at the far end of
    an axis is cut off.

    Parameters
    ----------
    case : Case
        On the fine grid.
    factor : int
        Voxels to put together along each axis.
    """
    old = case.acquisition
    fine = old.mask.astype(np.float32)
    share = block_mean(fine, factor)
    mask = share >= 0.5
    weight = old[Quantity.MAGNITUDE] * fine
    total = np.maximum(block_mean(weight, factor), 1e-12)
    field = block_mean(weight * old[Quantity.LOCAL_FIELD], factor) / total
    square = block_mean(np.square(weight * old[Quantity.FIELD_NOISE]), factor)
    noise = np.sqrt(square / factor**3) / total
    chi = block_mean(case.chi * fine, factor) / np.maximum(share, 1e-6)
    chi = (chi - chi[mask].mean(dtype=np.float64)).astype(np.float32) * mask
    volumes = {
        Quantity.LOCAL_FIELD: field * mask,
        Quantity.MASK: mask,
        Quantity.MAGNITUDE: block_mean(old[Quantity.MAGNITUDE], factor) * mask,
        Quantity.FIELD_NOISE: noise * mask,
    }
    lesions = (block_mean(case.lesions.astype(np.float32), factor) >= 0.5) & mask
    acquisition = Acquisition(_coarse_grid(old.grid, mask, factor), volumes)
    return replace(case, acquisition=acquisition, chi=chi, lesions=lesions)


def block_mean(volume: NDArray[np.float32], factor: int) -> FloatArray:
    """Mean over cubes of `factor` voxels; what is left over at the far ends is cut off."""
    x, y, z = (n // factor for n in volume.shape)
    cut = volume[: x * factor, : y * factor, : z * factor]
    parts = cut.reshape(x, factor, y, factor, z, factor)
    means: FloatArray = parts.mean(axis=(1, 3, 5), dtype=np.float32)
    return means


def _coarse_grid(grid: Grid, mask: NDArray[np.bool_], factor: int) -> Grid:
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, :3].sum(axis=1) * (factor - 1) / 2  # centre of the first cube
    affine[:3, :3] *= factor
    x, y, z = mask.shape
    return Grid((x, y, z), affine, grid.b0_direction)
