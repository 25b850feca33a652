"""How much of a susceptibility map around a lesion is streaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from napari_qsm.acquisition import FloatArray, Grid, InputError
from napari_qsm.physics import fourier
from napari_qsm.physics.dipole import DipoleConvolution

CONE = 0.1
"""Frequencies with ``|D|`` below this hardly make a field: there a map is what the method made."""

REACH = 12.0
"""Thickness in mm of the shell around the lesion; streaks are strongest close to it."""


@dataclass(frozen=True)
class Streaks:
    """What a map holds of frequencies that make no field.

    Parameters
    ----------
    shell, reference : float
        Root mean square in ppm around the lesion, and far away from it.
    """

    shell: float
    reference: float

    @property
    def energy(self) -> float:
        """Energy around the lesion relative to that far away."""
        return (self.shell / self.reference) ** 2


def streak_energy(
    chi: NDArray[Any],
    lesion: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    grid: Grid,
    *,
    reach: float = REACH,
) -> Streaks:
    """Measure the streaks of a lesion: what a map has around it where the dipole kernel vanishes.

    With O the mask without the lesion, S its voxels up to `reach` mm from the lesion and R those
    farther than twice that::

        c = F^-1 [|D| < 0.1] F O (chi - mean_O chi)
        energy = mean_S c^2 / mean_R c^2

    The lesion itself does not count, so a method cannot win by changing its value, and R says how
    much of c is anatomy and noise. Compare methods by `Streaks.shell`, too: one that smooths
    everything has a small reference. Anatomy alone is not 1: the true susceptibility of the digital
    head has an energy of 2.1 to 2.4 around its haemorrhage. The lesion's mask must hold its blurred
    border, so widen it by a voxel.

    Parameters
    ----------
    chi : (X, Y, Z) array
        Susceptibility in ppm.
    lesion, mask : (X, Y, Z) array of bool
        The lesion, the same one for all maps that are compared, and the brain.
    grid : Grid
        Voxel size and B0 direction.
    reach : float
        In mm.

    Raises
    ------
    InputError
        If shapes differ, or shell or reference region have no voxel.
    """
    if not chi.shape == lesion.shape == mask.shape == grid.shape:
        raise InputError(
            f"The map has shape {chi.shape}, the lesion {lesion.shape}, the mask {mask.shape} and "
            f"the grid {grid.shape}; bring them to one grid."
        )
    if not lesion.any():
        raise InputError("The lesion is empty; choose a mask that covers one.")
    outside = mask & ~lesion
    away = ndimage.distance_transform_edt(~lesion, sampling=grid.voxel_size)
    shell, reference = outside & (away <= reach), outside & (away > 2 * reach)
    if not shell.any() or not reference.any():
        raise InputError(
            f"The mask holds nothing within {reach:g} mm of the lesion or nothing farther than "
            f"{2 * reach:g} mm; state another reach."
        )
    power = np.square(_in_cone(chi, outside, grid))
    around, far = (float(np.sqrt(power[part].mean())) for part in (shell, reference))
    return Streaks(around, far)


def _in_cone(chi: NDArray[Any], outside: NDArray[np.bool_], grid: Grid) -> FloatArray:
    values = np.where(outside, chi - chi[outside].mean(dtype=np.float64), 0).astype(np.float32)
    dipole = DipoleConvolution(grid, padding=1.25)
    transform = fourier.spectrum(torch.from_numpy(values), dipole.padded_shape)
    transform.masked_fill_(dipole.spectrum.abs() >= CONE, 0)
    made: FloatArray = fourier.crop(
        fourier.volume(transform, dipole.padded_shape), dipole.shape
    ).numpy()
    return made
