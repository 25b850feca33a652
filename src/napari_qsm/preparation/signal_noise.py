"""How noisy a measured signal is, read off what a fit leaves or off the air around the head."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from napari_qsm.acquisition import FloatArray
from napari_qsm.preparation.noise import field_noise
from napari_qsm.preparation.voxels import SAMPLE, at, sample
from napari_qsm.surroundings import bounding_box

CUT = 2.0
"""Air counts up to so many sigma: 86 % of it, and little that is not air."""

ENOUGH = 1000
"""Voxels of air below which nothing is read off them."""

LEVELS = 4
"""Different values that air has at least, else the noise is lost in rounding."""

DARK = 0.3
"""Part of the brain's signal that noise has to stay below."""


def residual_noise(misfit: NDArray[Any], freedom: int) -> float:
    """Estimate sigma of the noise from the sums of squares that a fit leaves in many voxels.

    With k degrees of freedom ``misfit / sigma^2`` follows chi-squared of k, whose median is known;
    the median ignores the voxels in which the model does not hold.

    Parameters
    ----------
    misfit : array
        Sum of squared residuals of each voxel.
    freedom : int
        Measured values less fitted ones, per voxel.

    Returns
    -------
    float
        In the unit of the residuals; 0 if there are no voxels.
    """
    if not misfit.size:
        return 0.0
    expected = 2 * float(gammaincinv(freedom / 2, 0.5))
    return math.sqrt(float(np.median(misfit)) / expected)


def noise_map(
    field: FloatArray,
    gain: FloatArray,
    mask: NDArray[np.bool_],
    misfit: NDArray[Any],
    freedom: int,
    *,
    magnitude: FloatArray | None,
    highest: float,
) -> Generator[float, None, tuple[FloatArray, tuple[str, ...]]]:
    """Make a noise map of what the fit says of each voxel and of one noise level of the signal.

    ``sigma_f = sigma gain``, at most that of a phase of which nothing is known.

    Parameters
    ----------
    field : (X, Y, Z) array
        In ppm.
    gain : (X, Y, Z) array
        Noise of the field over that of the signal; 0 where there is no signal. Overwritten.
    mask : (X, Y, Z) array of bool
        Where there is a field.
    misfit : array
        Sum of squared residuals of each voxel, in units of the signal.
    freedom : int
        Degrees of freedom of the fit; 0 to judge by the air instead or, where none was measured,
        by the finest scale of the field.
    magnitude : (X, Y, Z, E) array or None
        The signal, to look for air in.
    highest : float
        Noise in ppm of an unknown phase.

    Returns
    -------
    (X, Y, Z) array of float32, and notes on how it came about
    """
    dark = mask & (gain == 0)
    lost = int(np.count_nonzero(dark))
    yield 0.1
    some = gain.ravel()[sample(mask)]
    typical = float(np.median(some[some > 0])) if some.any() else 0.0
    yield 0.2
    air = None if freedom or magnitude is None else air_noise(magnitude, 0, mask)
    yield 0.4
    if freedom:
        left = misfit[:: max(1, misfit.size // SAMPLE)]
        sigma, source = residual_noise(left, freedom), "what the fit leaves over the echoes"
    elif air is not None:
        sigma, source = air, "the air around the mask"
    else:
        part = _middle(mask)
        sigma = field_noise(field[part], mask[part]) / typical if typical else 0.0
        source = "the finest scale of the field, where anatomy counts as noise"
    yield 0.8
    noise = np.minimum(np.multiply(gain, np.float32(sigma), out=gain), np.float32(highest))
    noise[dark] = highest
    notes = [
        f"The field's noise is {sigma * typical:.2g} ppm in the median, from a signal noise of "
        f"{sigma:.3g} that was read off {source}."
    ]
    if lost:
        notes.append(
            f"{lost} voxels of the mask have no magnitude; their echoes count the same and their "
            f"noise is that of an unknown phase, {highest:.2g} ppm."
        )
    return noise, tuple(notes)


def _middle(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Return the box around a mask, less the planes on both ends that a median can do without."""
    x, y, z = bounding_box(mask)
    plane = (y.stop - y.start) * (z.stop - z.start)
    surplus = max(0, x.stop - x.start - max(2, 4 * SAMPLE // plane)) // 2
    return slice(x.start + surplus, x.stop - surplus), y, z


def background_noise(around: FloatArray, bright: float) -> float | None:
    """Estimate sigma of real and imaginary noise from the magnitude of the air around a head.

    Air follows Rayleigh's distribution, ``p(m) = m / sigma^2 exp(-m^2 / 2 sigma^2)``. Its second
    moment below ``CUT`` sigma is a known part of sigma^2, which fixes sigma; scalp and neck lie
    beyond. Held to one coil or an adaptive combination: a root of sum of squares of n coils has a
    floor ``sqrt(n)`` times as high.

    Parameters
    ----------
    around : array
        Magnitudes of one echo outside the mask, the darkest echo best.
    bright : float
        Typical magnitude of the brightest echo in the mask.

    Returns
    -------
    float or None
        None if there is no air: zeros are no measured air, what is not far below the signal is
        none, and of a few stored levels nothing can be read.
    """
    around = around[around > 0]
    if around.size < ENOUGH:
        return None
    sigma = _mode(around)
    part = CUT**2 / 2 / math.expm1(CUT**2 / 2)
    for _ in range(50):
        air = around[around < CUT * sigma]
        if air.size < ENOUGH:
            return None
        before = sigma
        sigma = math.sqrt(float(np.square(air, dtype=np.float64).mean()) / (2 * (1 - part)))
        if abs(sigma - before) < 1e-3 * sigma:
            break
    coarse = np.unique(air).size < LEVELS
    return None if coarse or sigma > DARK * bright else sigma


def air_noise(magnitude: FloatArray, echo: int, mask: NDArray[np.bool_]) -> float | None:
    """Estimate sigma from the air around a mask in one echo of (X, Y, Z, E) magnitudes."""
    around, inside = (at(magnitude, sample(part)) for part in (~mask, mask))
    return background_noise(around[echo], float(np.median(inside.max(0))))


def _mode(values: FloatArray) -> float:
    """Return sigma from the most frequent order of magnitude, ``sqrt(2)`` sigma in air."""
    edges = np.geomspace(float(np.quantile(values, 0.01)), float(values.max()) * 1.001, 60)
    counts, _ = np.histogram(values, edges)
    return float(edges[int(counts.argmax())]) / math.sqrt(2)
