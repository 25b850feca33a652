"""Nonlinear complex fit: the field from the echoes' complex signals, unwrapped in space."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_qsm.acquisition import Acquisition, FloatArray, Maps, Provenance, Quantity
from napari_qsm.preparation.echoes import echoes, magnitude_echoes, wrapped
from napari_qsm.preparation.region_growing import growing
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.preparation.signal_noise import noise_map
from napari_qsm.preparation.voxels import (
    PIECE,
    UNKNOWN_PHASE,
    at,
    by_time,
    magnitude_notes,
    offset_notes,
    phase_weights,
    pieces,
    ppm_per_slope,
    steps,
)
from napari_qsm.process import Parameters, Step, Work, parameter
from napari_qsm.surroundings import fitting_threads

LABEL = "Complex fit"

EVEN = 1e-3
"""Part of an echo spacing by which spacings may differ and still count as equal."""

ALIKE = 0.02
"""The same for the pairs of echoes over which the first guess is averaged."""

MOVING = 0.01
"""Change of phase in rad over the echoes in the last step that counts as not settled."""


class ComplexFit(Parameters):
    """Parameters of the complex fit."""

    iterations: int = parameter(
        8,
        "Steps from the first guess to the best fit; each lowers the misfit, and three are enough "
        "where there is signal.",
        low=1,
        high=100,
    )


@dataclass(frozen=True)
class _Fit:
    """What was fitted: volumes, zero outside the mask, and what was left.

    Parameters
    ----------
    slope, offset, gain : (X, Y, Z) arrays
        omega in rad/s; phi0 in rad; noise of the slope over that of the signal in 1/s, 0 where
        there is no signal.
    misfit : array
        Sum of squared residuals of each voxel with signal.
    moving : int
        Voxels with signal that had not settled.
    """

    slope: FloatArray
    offset: FloatArray
    gain: FloatArray
    misfit: FloatArray
    moving: int


@stage(
    key="complex_fit",
    label=LABEL,
    summary="A nonlinear fit to the complex echoes: at home in noise, needs no unwrapping before.",
    place=Place.FIELD,
    parameters=ComplexFit,
    references=("10.1002/mrm.24272",),
    needs=(Quantity.PHASE, Quantity.MAGNITUDE),
    uses=(Quantity.MASK,),
    gives=(Quantity.TOTAL_FIELD, Quantity.FIELD_NOISE, Quantity.OFFSET),
    echoes=2,
)
def complex_fit(acquisition: Acquisition, parameters: ComplexFit, device: torch.device) -> Work:
    """Minimise ``sum |s_j - m_j exp(i (phi0 + omega TE_j))|^2`` over phi0 and omega.

    The moduli m_j are the measured ones. With equal echo spacing omega is known up to a turn per
    spacing, and unwrapped in space after the fit; otherwise the phase between the closest echoes
    is unwrapped before it and decides in which minimum the fit settles. The noise is that of the
    Cramer-Rao bound, ``sigma / sqrt(sum(m^2 (TE - mean)^2))`` with the mean weighted by m^2.
    Reference: Liu et al. 2013.
    """
    mask, scale = acquisition.mask, ppm_per_slope(acquisition, LABEL)
    order, times = by_time(acquisition.echo_times)
    signal = _Signal(acquisition, order, times, device)
    gaps = np.diff(times)
    even, gap = bool(np.ptp(gaps) <= EVEN * gaps.min()), float(gaps.min())
    with fitting_threads(device, PIECE):
        if even:
            fit = yield from signal.fitted(None, parameters.iterations, 0.0, 0.4)
            slope = yield from _unwrapped(fit.slope, gap, signal, 0.4, 0.85)
            fit = yield from _lifted(fit, slope, float(times[0]), mask)
        else:
            fit = yield from signal.fitted(None, 0, 0.0, 0.1)
            slope = yield from _unwrapped(fit.slope, gap, signal, 0.1, 0.45)
            fit = yield from signal.fitted(slope, parameters.iterations, 0.45, 0.85)
    field = np.multiply(fit.slope, np.float32(scale), out=fit.slope)
    gain = np.multiply(fit.gain, np.float32(scale), out=fit.gain)
    highest = UNKNOWN_PHASE / gap * scale
    work = noise_map(
        field, gain, mask, fit.misfit, len(times) - 2, magnitude=signal.magnitude, highest=highest
    )
    noise, said = yield from steps(work, "estimating the noise", 0.85, 0.95)
    yield Step(0.95, "done")
    volumes = {
        Quantity.TOTAL_FIELD: field,
        Quantity.FIELD_NOISE: noise,
        Quantity.OFFSET: fit.offset,
    }
    notes = (
        *_notes(gap, even, fit),
        *said,
        *magnitude_notes(acquisition),
        *offset_notes(acquisition),
    )
    return Maps(acquisition.grid, volumes, Provenance(notes=notes))


def _notes(gap: float, even: bool, fit: _Fit) -> list[str]:
    notes = [
        f"The field was unwrapped in space with its median nearest to zero; a turn more would be a "
        f"constant field of {1 / gap:.0f} Hz."
    ]
    if not even:
        notes.append(
            "The echoes are not equally spaced, so the two closest ones decide on whole turns."
        )
    if fit.moving:
        notes.append(
            f"{fit.moving} voxels of the mask had not settled in the steps allowed; their signal "
            "is little more than noise unless the steps were few."
        )
    return notes


def _unwrapped(
    slope: FloatArray, gap: float, signal: _Signal, low: float, high: float
) -> Generator[Step, None, FloatArray]:
    """Unwrap the phase that a slope makes in the time `gap`; return the slope of it."""
    turn = np.zeros_like(slope)
    for _, voxels in pieces(signal.mask):
        yield Step(low, "unwrapping the field")
        turn.ravel()[voxels] = wrapped(slope.ravel()[voxels] * np.float32(gap))
    work = growing(turn, signal.mask, magnitude=signal.brightest())
    unwrapped = yield from steps(work, "unwrapping the field", low, high)
    return np.divide(unwrapped, np.float32(gap), out=unwrapped)


def _lifted(
    fit: _Fit, slope: FloatArray, first: float, mask: NDArray[np.bool_]
) -> Generator[Step, None, _Fit]:
    """Return the fit at another slope with the same phase at the `first` echo time."""
    offset = fit.offset.ravel()
    for _, voxels in pieces(mask):
        yield Step(0.85, "unwrapping the field")
        more = slope.ravel()[voxels] - fit.slope.ravel()[voxels]
        offset[voxels] = wrapped(offset[voxels] - more * np.float32(first))
    return replace(fit, slope=slope)


class _Signal:
    """The measured echoes in the order of time, piece by piece on a device."""

    def __init__(
        self,
        acquisition: Acquisition,
        order: NDArray[np.intp],
        times: NDArray[np.float64],
        device: torch.device,
    ) -> None:
        magnitude = magnitude_echoes(acquisition)
        assert magnitude is not None  # the stage needs it
        self.magnitude = magnitude
        self._phase = echoes(acquisition, Quantity.PHASE)
        self._order, self._times, self._device = order, times, device
        self.mask = acquisition.mask

    def brightest(self) -> FloatArray:
        """Magnitude of the first echo."""
        return self.magnitude[..., self._order[0]]

    def fitted(
        self, slope: FloatArray | None, iterations: int, low: float, high: float
    ) -> Generator[Step, None, _Fit]:
        """Fit every voxel of the mask, from a slope in rad/s or a first guess."""
        slopes, offsets, gains = (np.zeros(self.mask.shape, np.float32) for _ in range(3))
        misfits, moving = [], 0
        times = torch.from_numpy(self._times).to(self._device, torch.float32)
        for part, voxels in pieces(self.mask):
            yield Step(low + (high - low) * part, f"fitting {len(self._times)} complex echoes")
            strength = at(self.magnitude, voxels)[self._order]
            squares, dark = phase_weights(strength)
            phase, weights, magnitude = (
                torch.from_numpy(values).to(self._device, torch.float32)
                for values in (at(self._phase, voxels)[self._order], squares, strength)
            )
            if slope is None:
                start = first_guess(phase, magnitude, self._times)
            else:
                start = torch.from_numpy(slope.ravel()[voxels]).to(self._device)
                start = _grown(phase, weights, times, start)
            made = settle(phase, weights, times, start, iterations)
            found, offset, power, misfit, change = (values.cpu().numpy() for values in made)
            slopes.ravel()[voxels] = found
            offsets.ravel()[voxels] = wrapped(offset)
            gains.ravel()[voxels] = np.where(dark, 0, 1 / np.sqrt(power))
            misfits.append(misfit[~dark])
            moving += int(np.count_nonzero(change[~dark] > MOVING))
        return _Fit(slopes, offsets, gains, np.concatenate(misfits), moving)


def first_guess(phase: Tensor, magnitude: Tensor, times: NDArray[np.float64]) -> Tensor:
    """Return the slope in rad/s from the phase between the closest echoes, within half a turn.

    Pairs that lie equally close are summed as complex numbers, ``sum(s_next conj(s))``: of equally
    spaced echoes all count, which keeps the guess in the right minimum down to low signals.
    """
    gaps = np.diff(times)
    close = np.flatnonzero(gaps <= (1 + ALIKE) * gaps.min())
    turn = phase[close + 1] - phase[close]
    strength = magnitude[close + 1] * magnitude[close]
    angle = torch.atan2((strength * turn.sin()).sum(0), (strength * turn.cos()).sum(0))
    return angle / float(gaps[close].mean())


def _grown(phase: Tensor, weights: Tensor, times: Tensor, slope: Tensor) -> Tensor:
    """Sharpen a guess by fitting more and more echoes, those closest to the closest pair first.

    An uncertain slope predicts a near echo within half a turn where it would miss a far one.
    """
    gaps = times.diff()
    pair = int(gaps.argmin())
    order = (times - times[pair : pair + 2].mean()).abs().argsort(stable=True)
    for count in range(3, len(times)):
        near = order[:count].sort().values
        slope = settle(phase[near], weights[near], times[near], slope, 2)[0]
    return slope


def settle(
    phase: Tensor, weights: Tensor, times: Tensor, slope: Tensor, iterations: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Lower ``sum w (1 - cos(phi - phi0 - omega TE))`` from a first slope.

    Gauss-Newton in time since the weighted mean echo time, where the two unknowns do not touch:
    each step adds a weighted mean of ``sin(residual)``. The matrix it inverts is the Hessian with
    ``cos(residual)`` replaced by 1, never less than the true one, so no step raises the misfit
    and none needs damping.

    Parameters
    ----------
    phase, weights : (E, voxel) tensors
        Measured phase in rad, wrapped or not; squared magnitude.
    times : (E,) tensor
        In s.
    slope : (voxel,) tensor
        Where to start, rad/s.
    iterations : int
        Steps.

    Returns
    -------
    slope, offset, power, misfit, change : (voxel,) tensors
        rad/s; rad at echo time zero; ``sum w (TE - mean)^2``; the sum above, twice; phase in rad
        by which the last step moved the outer echoes.
    """
    total = weights.sum(0)
    middle = (times @ weights) / total
    since = times[:, None] - middle
    leverage = weights * since
    power = (leverage * since).sum(0)
    turned = phase - slope * since
    start = torch.atan2((weights * turned.sin()).sum(0), (weights * turned.cos()).sum(0))
    step = torch.zeros_like(slope)
    for _ in range(iterations):
        pull = (phase - start - slope * since).sin_()
        start = start + (weights * pull).sum(0) / total
        step = (leverage * pull).sum(0) / power
        slope = slope + step
    left = (phase - start - slope * since).div_(2).sin_()
    misfit = (weights * left.square_()).sum(0).mul_(4)
    return slope, start - slope * middle, power, misfit, (step * (times[-1] - times[0])).abs()
