"""Uncertainty: how far the noise of the field moves the map."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray

from napari_qsm.acquisition import Acquisition, FloatArray, Maps, Provenance, Quantity
from napari_qsm.methods.workspace import Workspace
from napari_qsm.methods.wrapping import Inner, wrapper
from napari_qsm.physics import fourier
from napari_qsm.preparation.noise import field_noise
from napari_qsm.process import Parameters, Step, Work, parameter

DISCLAIMER = (
    "The uncertainty is that of noise alone: what regularisation blurs, flattens or leaves of "
    "streaks is not in it."
)

OF = {
    Quantity.CHI: Quantity.SIGMA,
    Quantity.CHI_POS: Quantity.SIGMA_POS,
    Quantity.CHI_NEG: Quantity.SIGMA_NEG,
}
"""Which deviation is that of which map."""

WARM = 0.5
"""About the part of a reconstruction that one takes which starts from the solution; for the
fraction shown alone."""


class Sigma(Parameters):
    """Parameters of the uncertainty."""

    draws: int = parameter(
        8,
        "How many reconstructions with new noise the uncertainty is made of. Methods that are a "
        "Fourier filter need none.",
        low=2,
        high=200,
    )
    noise_seed: int = parameter(
        0, "Of the random noise: the same one gives the same map.", low=0, high=999_999
    )


@wrapper(
    key="sigma",
    label="uncertainty",
    summary="Standard deviation that the field's noise gives the map; the bias is not in it.",
    parameters=Sigma,
    references=("10.1002/mrm.21728",),
    uses=(Quantity.FIELD_NOISE,),
    gives=(Quantity.SIGMA,),
    of_sources=(Quantity.SIGMA_POS, Quantity.SIGMA_NEG),
)
def sigma(inner: Inner, acquisition: Acquisition, parameters: Sigma, device: torch.device) -> Work:
    """Reconstruct, and estimate the standard deviation that noise in the field gives the map.

    With R the method and ``n_k`` noise of the field's deviation ``sigma_f``, drawn anew in every
    voxel, the map is ``R(f)`` and its uncertainty the standard deviation of ``R(f + n_k)`` over K
    draws. Its variance has ``K - 1`` in the denominator and is averaged over the neighbours of each
    voxel in the mask, since by itself a deviation of 8 draws is 27 % off and 2 of them cover 91 %
    of the errors instead of 95 % (measured: 92 % without the average, 95 % with it). R keeps what
    it chose for f and, where it takes a susceptibility, starts from R(f). A method that is a
    Fourier filter with the point response h needs no draws: there, exactly,
    ``sigma^2 = h^2 * sigma_f^2`` (a convolution).
    ``sigma_f`` is the field noise, or where there is none one number read off the field. Where R
    separates sources, R2' or the R2* it is made of is drawn as well, with one deviation read off
    its neighbours, and chi+ and chi- have an uncertainty each.
    Reference: Robson et al. 2008, for uncertainty by reconstructing with noise added.
    """
    first = 0.8 if inner.method.symbol else 1 / (1 + WARM * parameters.draws)
    maps = yield from inner.part(acquisition, 0.0, first, "the map")
    with Workspace(acquisition, device, inner.label) as space:
        noise, told = _field_noise(acquisition, space)
        yield inner.step(first, "uncertainty", lambda: maps[Quantity.CHI])
        if inner.method.symbol is not None:
            filtered = yield from _filtered(inner.repeating(maps), space, noise)
            spreads = {Quantity.SIGMA: filtered}
            how = "in closed form, since the method is a Fourier filter"
    if inner.method.symbol is None:
        rate, more = _rate_noise(inner, acquisition)
        told += more
        spreads = yield from _sampled(inner, acquisition, parameters, maps, noise, rate, first)
        how = (
            f"as the standard deviation of {parameters.draws} reconstructions with noise added, "
            "its variance averaged over neighbouring voxels"
        )
    volumes = {**maps.volumes, **spreads}
    notes = (*maps.provenance.notes, f"The uncertainty was found {how}; {told}.", DISCLAIMER)
    return Maps(maps.grid, volumes, Provenance(notes=notes, chosen=maps.provenance.chosen))


def _field_noise(acquisition: Acquisition, space: Workspace) -> tuple[FloatArray, str]:
    """Return the standard deviation of the field in ppm, zero outside the mask, and its origin."""
    if Quantity.FIELD_NOISE in acquisition:
        known = np.where(acquisition.mask, acquisition[Quantity.FIELD_NOISE], np.float32(0))
        return known, "the noise of the field is that of its map"
    value = space.noise()
    told = f"no map of the field's noise is known, so {value:.2g} ppm was taken everywhere"
    return acquisition.mask * np.float32(value), told


def _rate_noise(
    inner: Inner, acquisition: Acquisition
) -> tuple[tuple[Quantity, float] | None, str]:
    """Return the rate a separation separates by, and its deviation in 1/s; none otherwise."""
    if Quantity.CHI_POS not in inner.method.gives:
        return None, ""
    rate = next(q for q in inner.method.one_of if q in acquisition)
    values = acquisition[rate]
    noise = field_noise(values, acquisition.mask & (values > 0))
    return (rate, noise), f", and that of the {rate.label} {noise:.2g} 1/s everywhere"


def _filtered(
    inner: Inner, space: Workspace, noise: FloatArray
) -> Generator[Step, None, FloatArray]:
    """Return ``sqrt(h^2 * noise^2)`` with h what the method makes of one voxel."""
    symbol = inner.method.symbol
    assert symbol is not None
    yield inner.step(0.84, "uncertainty in closed form")
    response = fourier.volume(symbol(space, inner.parameters).to(torch.complex64), space.shape)
    yield inner.step(0.88, "uncertainty in closed form")
    transform = fourier.spectrum(response.square_())
    yield inner.step(0.92, "uncertainty in closed form")
    transform.mul_(fourier.spectrum(space.place(noise).square_()))
    yield inner.step(0.96, "uncertainty in closed form")
    return space.restore(fourier.volume(transform, space.shape).clamp_(min=0).sqrt_())


def _sampled(
    inner: Inner,
    acquisition: Acquisition,
    parameters: Sigma,
    maps: Maps,
    noise: FloatArray,
    rate: tuple[Quantity, float] | None,
    low: float,
) -> Generator[Step, None, dict[Quantity, FloatArray]]:
    """Return standard deviations over draws; only sums are kept, never the draws."""
    again, chi = inner.repeating(maps), maps[Quantity.CHI]
    start = {Quantity.CHI: chi} if Quantity.CHI in inner.method.uses else {}
    moments = {of: Moments(chi.shape) for of in OF if of in maps}
    share = (1 - low) / parameters.draws
    for number in range(parameters.draws):
        rng = np.random.default_rng([parameters.noise_seed, number])
        given = {Quantity.LOCAL_FIELD: _drawn(rng, acquisition[Quantity.LOCAL_FIELD], noise)}
        if rate is not None:
            given[rate[0]] = _drawn(rng, acquisition[rate[0]], np.float32(rate[1]))
        began = low + share * number
        stage = f"draw {number + 1} of {parameters.draws}"
        measured = acquisition.with_volumes({**given, **start})
        made = yield from again.part(measured, began, began + share, stage, lambda _: chi)
        for of, moment in moments.items():
            moment.add(made[of])
        yield inner.step(began + share, stage, lambda: chi)
    spreads = {}
    for of, moment in moments.items():
        yield inner.step(1.0, "averaging the variance over neighbours", lambda: chi)
        spreads[OF[of]] = np.sqrt(_averaged(moment.variance, acquisition.mask))
    return spreads


def _drawn(
    rng: np.random.Generator, values: FloatArray, noise: FloatArray | np.float32
) -> FloatArray:
    """Return values with noise of a deviation."""
    drawn: FloatArray = rng.standard_normal(values.shape, dtype=np.float32)
    drawn *= noise
    drawn += values
    return drawn


def _averaged(values: FloatArray, mask: NDArray[np.bool_]) -> FloatArray:
    """Mean over each voxel and its 26 neighbours in the mask, zero outside it."""
    inside = mask.astype(np.float32)
    count = np.maximum(_summed(inside), 1)
    averaged = _summed(values * inside)
    averaged /= count
    averaged *= inside
    return averaged


def _summed(values: FloatArray) -> FloatArray:
    """Sum over the 3 x 3 x 3 voxels around each one."""
    for axis in range(3):
        total = values.copy()
        own, around = np.moveaxis(total, axis, 0), np.moveaxis(values, axis, 0)
        own[1:] += around[:-1]
        own[:-1] += around[1:]
        values = total
    return values


class Moments:
    """Mean and variance of arrays that come one after the other (Welford 1962).

    Parameters
    ----------
    shape : tuple of int
        Of the arrays.

    Notes
    -----
    Reference: Welford 1962, doi:10.1080/00401706.1962.10490022.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = 0
        self._mean = np.zeros(shape, np.float32)
        self._squares = np.zeros(shape, np.float32)

    def add(self, values: FloatArray) -> None:
        """Take another array into account."""
        self.count += 1
        before = values - self._mean
        self._mean += before / np.float32(self.count)
        before *= values - self._mean
        self._squares += before

    @property
    def variance(self) -> FloatArray:
        """Unbiased variance; needs two arrays."""
        variance: FloatArray = self._squares / np.float32(self.count - 1)
        return variance
