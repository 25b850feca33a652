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
    outside, shell, reference = _regions(chi, lesion, mask, grid, reach)
    power = np.square(_in_cone(_referenced(chi, outside), grid))
    around, far = (float(np.sqrt(power[part].mean())) for part in (shell, reference))
    return Streaks(around, far)


def streak_share(
    chi: NDArray[Any],
    lesion: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    grid: Grid,
    *,
    reach: float = REACH,
) -> float:
    """Measure how much of the lesion's own streaks a map has: about 1 where the cone is left empty.

    What a map holds in the cone around a lesion is mostly anatomy and noise, which grow with
    everything that a method explains. The lesion's streaks have a shape that is known: with L the
    lesion, P what `streak_energy` keeps of k-space, c, O and S as there, and a the mean in O::

        t = P O (-P L (chi - a))
        share = sum_S c t / sum_S t^2

    is the part of c that looks like what is missing of the lesion where its part in the cone is
    lost, 0 where nothing is. The lesion is the map's own, so that no scale matters; where the cone
    is empty it is faint, and the share somewhat above 1. Noise and anatomy count only as far as
    they look like t by chance: compare maps of one case.

    Parameters
    ----------
    chi, lesion, mask, grid, reach
        As for `streak_energy`.

    Raises
    ------
    InputError
        As `streak_energy`, and if the lesion is as its surroundings.
    """
    outside, shell, _ = _regions(chi, lesion, mask, grid, reach)
    inside = lesion & mask
    made = -_in_cone(np.where(inside, chi - chi[outside].mean(dtype=np.float64), 0), grid)
    template = _in_cone(np.where(outside, made, 0), grid)[shell].astype(np.float64)
    if not template.any():
        raise InputError("The lesion is as its surroundings; choose a mask that covers one.")
    found = _in_cone(_referenced(chi, outside), grid)[shell]
    return float(found @ template / (template @ template))


def _regions(
    chi: NDArray[Any],
    lesion: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    grid: Grid,
    reach: float,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the mask without the lesion, what is near the lesion of it, and what is far."""
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
    return outside, shell, reference


def _referenced(chi: NDArray[Any], part: NDArray[np.bool_]) -> NDArray[Any]:
    """Return a map less its mean in a part of it, and 0 elsewhere."""
    return np.where(part, chi - chi[part].mean(dtype=np.float64), 0)


def _in_cone(values: NDArray[Any], grid: Grid) -> FloatArray:
    """Return what a volume holds where the dipole kernel vanishes."""
    dipole = DipoleConvolution(grid, padding=1.25)
    volume = torch.from_numpy(values.astype(np.float32))
    transform = fourier.spectrum(volume, dipole.padded_shape)
    transform.masked_fill_(dipole.spectrum.abs() >= CONE, 0)
    made: FloatArray = fourier.crop(
        fourier.volume(transform, dipole.padded_shape), dipole.shape
    ).numpy()
    return made
