"""How well one can do: yardsticks that know the truth.

Much of the error of a table may be the field's. The best linear, shift-invariant filter for a case,
Wiener's with the spectra of its very truth and error, says how much: a method beats it only by what
it knows of anatomy beyond spectra. MEDI that reads its edges off the truth knows where every jump
of the susceptibility may be, which no anatomical image tells as well.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.methods import Case
from napari_qsm.acquisition import Quantity
from napari_qsm.physics import fourier
from napari_qsm.physics.dipole import DipoleConvolution

LEAST = 0.01
"""ppm; the magnitude made of a susceptibility is nowhere zero in the mask."""

SHELLS, CONES = 40, 24
"""Bins of frequency and of |D|, within which power is taken to be the same."""


def best_linear_filter(case: Case) -> tuple[NDArray[Any], float]:
    """Return ``F^-1 [D S / (D^2 S + N)] F f`` in ppm, and seconds.

    S and N are the power of the true susceptibility and of what the field f has beyond its field,
    each the mean over bins of frequency and |D|; both volumes are zero outside the mask.
    """
    begun = time.perf_counter()
    mask = torch.tensor(case.measured.mask)
    truth, field = (
        torch.from_numpy(np.where(case.measured.mask, values, 0).astype(np.float32))
        for values in (case.reference, case.measured[Quantity.LOCAL_FIELD])
    )
    truth = (truth - truth[mask].mean()) * mask
    dipole = DipoleConvolution(case.measured.grid, padding=2)
    error = (field - dipole(truth)) * mask
    shape, symbol = dipole.padded_shape, dipole.spectrum
    bins = _bins(dipole, case.measured.grid.voxel_size)
    signal, noise = (
        _averaged(fourier.spectrum(v, shape).abs().square(), bins) for v in (truth, error)
    )
    response = symbol * signal / (symbol.square() * signal + noise).clamp(min=1e-20)
    found = fourier.volume(fourier.spectrum(field, shape) * response, shape)
    chi: NDArray[Any] = (fourier.crop(found, dipole.shape) * mask).numpy()
    return chi, time.perf_counter() - begun


def with_true_edges(case: Case) -> Case:
    """Return a case whose magnitude is its true susceptibility, all above zero."""
    mask, truth = case.measured.mask, case.reference
    shown = np.where(mask, truth - truth[mask].min() + LEAST, 0).astype(np.float32)
    volumes = {**case.measured.volumes, Quantity.MAGNITUDE: shown}
    return Case(
        f"{case.name} edges", replace(case.measured, volumes=volumes), case.reference, case.scored
    )


def _bins(dipole: DipoleConvolution, voxel_size: tuple[float, float, float]) -> Tensor:
    """Return the bin of every frequency of the half grid."""
    axes = fourier.frequencies(dipole.padded_shape, voxel_size)
    radius = torch.sqrt(axes[0].square() + axes[1].square() + axes[2].square())
    shell = (radius * (SHELLS / radius.max())).long().clamp(max=SHELLS - 1)
    cone = (dipole.spectrum.abs() * (1.5 * CONES)).long().clamp(max=CONES - 1)
    return shell * CONES + cone


def _averaged(power: Tensor, bins: Tensor) -> Tensor:
    """Return the mean over every value's bin."""
    index, count = bins.flatten(), SHELLS * CONES
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, index, power.flatten().double())
    return (sums / torch.bincount(index, minlength=count).clamp(min=1))[bins].float()
