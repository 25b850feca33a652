"""How much of a field is noise and how much is susceptibility, read off its power spectrum.

A susceptibility without preferred direction, seen through the dipole kernel D, leaves a field of
power ``D^2 S(|k|)``, and errors of the field add ``N(|k|)``. On the magic-angle cone, where D
vanishes, all power is error: noise, but also remnants of the background, anisotropy and what the
mask cut off, which no measure of the finest scale sees. So N is read off there and S elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics import fourier
from napari_qsm.process import Step
from napari_qsm.solvers.admm import slabs

CONE = 0.03
"""|D| below which the field is taken for error alone."""

OUTSIDE = 0.15
"""|D| above which the field is taken for susceptibility and error."""

SHELLS_PER_OCTAVE = 1.5
"""Shells of |k|, spaced as logarithms."""

KERNEL_BINS = 96
"""Bins of |D| from 0 to 2/3, for predictions."""

RATIOS = (1e-5, 10.0)
"""Range of N / S; beyond it nothing can be read off a spectrum."""

CAUTION = 0.3
"""Which share of the power on the cone counts as error of the field.

The rim of the mask, where fields are least certain and maps are hardly looked at, holds much of
it. Between 0.2 and 0.5 the digital heads and the two measured slabs are near their best."""

UNKNOWN = 1e-2
"""N / S where a field has no power to read it off."""


@dataclass(frozen=True)
class Power:
    """Power of susceptibility and error in shells of |k|.

    Parameters
    ----------
    ratio : (shells,) tensor
        N / S, the ratio of error to susceptibility.
    expected : (shells, bins) tensor
        Sum of S over the frequencies of each shell and bin of |D|.
    frequency : (shells,) tensor
        ``2 pi |k|`` of the shells in 1/mm.
    place : callable
        ``(slab) -> Tensor``: on which shell, as a real number, the frequencies of a slab of the
        half grid lie.
    """

    ratio: Tensor
    expected: Tensor
    frequency: Tensor
    place: Callable[[slice], Tensor]

    @property
    def gram(self) -> Tensor:
        """``D^2`` of the bins."""
        width = 2 / 3 / KERNEL_BINS
        return ((torch.arange(KERNEL_BINS, dtype=torch.float64) + 0.5) * width).square()

    def prior(self, symbol: Tensor) -> Tensor:
        """N / S on the half grid, with logarithms interpolated between shells."""
        result = torch.empty_like(symbol)
        logarithm = self.ratio.log().to(symbol)
        last = len(logarithm) - 1
        for slab in slabs(symbol):
            place = self.place(slab)
            below = place.floor().clamp_(0, max(last - 1, 0))
            lower = logarithm[below.long()]
            upper = logarithm[(below.long() + 1).clamp_(max=last)]
            result[slab] = torch.lerp(lower, upper, (place - below).clamp_(0, 1)).exp_()
        return result

    def error(self, passed: Tensor, *, caution: float = CAUTION) -> float:
        """Predict the squared error of a filter of the field, relative to the susceptibility.

        A filter that passes the part p of the susceptibility, ``p / D`` of the field, misses
        ``(1 - p)^2 S`` and adds ``p^2 N / D^2``.

        Parameters
        ----------
        passed : (shells, bins) tensor
            p for every shell and bin of |D|; it may broadcast.
        caution : float
            See `CAUTION`.
        """
        noise = caution * self.ratio[:, None] * passed.square() / self.gram
        return float(((1 - passed).square() + noise).mul(self.expected).sum() / self.expected.sum())


def measured_power(space: Workspace, spectrum: Tensor) -> Generator[Step, None, Power]:
    """Read the power of susceptibility and error off the field's `spectrum`, pausing on the way."""
    place, frequency = _shells(space)
    count = len(frequency)
    symbol = space.dipole.spectrum
    sums = torch.zeros((5, count), dtype=torch.float64)
    table = torch.zeros(count * KERNEL_BINS, dtype=torch.float64)
    for slab in slabs(symbol):
        kernel = symbol[slab].abs()
        twice = fourier.multiplicity(space.shape, kernel.device).expand_as(kernel)
        power = torch.view_as_real(spectrum[slab]).square().sum(-1)
        shell = place(slab).round_().clamp_(0, count - 1).long()
        bins = (kernel * (1.5 * KERNEL_BINS)).long().clamp_(max=KERNEL_BINS - 1)
        table += _counted((shell * KERNEL_BINS + bins), twice, len(table))
        cone, outside = twice * (kernel < CONE), twice * (kernel > OUTSIDE)
        if slab.start == 0:
            cone[0, 0, 0] = 0
        for row, values in enumerate(
            (cone, cone * power, outside, outside * power, outside * kernel.square())
        ):
            sums[row] += _counted(shell, values, count)
        yield space.step(0.0, "reading the noise off the spectrum")
    noise, signal = sums[1] / sums[0], (sums[3] - sums[1] / sums[0] * sums[2]) / sums[4]
    ratio = _filled((noise / signal).where(signal > 0, torch.nan))
    level = _filled(signal.where(signal > 0, torch.nan), otherwise=1.0)
    expected = table.reshape(count, -1) * level[:, None]
    return Power(ratio.clamp(*RATIOS), expected, frequency, place)


def best_count(responses: Iterator[Tensor], power: Power, *, limit: int) -> int:
    """Return after how many iterations the predicted error is smallest.

    Parameters
    ----------
    responses : iterator of (shells, bins) tensors
        What part of the susceptibility has come after 1, 2, ... iterations.
    power : Power
        Of the field.
    limit : int
        No more than so many.
    """
    best, least = 1, math.inf
    for count, passed in zip(range(1, limit + 1), responses, strict=False):
        if (error := power.error(passed)) < least:
            best, least = count, error
        elif count > 2 * best + 4:
            break
    return best


def _shells(space: Workspace) -> tuple[Callable[[slice], Tensor], Tensor]:
    """Return on which shell a frequency lies, and the shells' own frequencies."""
    k = fourier.frequencies(space.shape, space.voxel_size, device=space.device)
    extent = max(n * size for n, size in zip(space.shape, space.voxel_size, strict=True))
    lowest, highest = 2 / extent, 0.5 / min(space.voxel_size)
    count = max(2, 1 + round(SHELLS_PER_OCTAVE * math.log2(max(highest / lowest, 1))))

    def place(slab: slice) -> Tensor:
        squared = k[0][slab].square() + k[1].square() + k[2].square()
        return (
            squared.clamp_(min=lowest**2)
            .log2_()
            .div_(2)
            .sub_(math.log2(lowest))
            .mul_(SHELLS_PER_OCTAVE)
        )

    octaves = torch.arange(count, dtype=torch.float64) / SHELLS_PER_OCTAVE
    return place, 2 * math.pi * lowest * octaves.exp2()


def _counted(places: Tensor, values: Tensor, count: int) -> Tensor:
    total = torch.bincount(places.flatten(), values.double().flatten(), minlength=count)
    return total.cpu()


def _filled(values: Tensor, *, otherwise: float = UNKNOWN) -> Tensor:
    """Replace what is not finite by the nearest that is, the larger shell's first."""
    known = [i for i, v in enumerate(values.tolist()) if math.isfinite(v)]
    if not known:
        return torch.full_like(values, otherwise)
    nearest = [min(known, key=lambda i, n=n: (abs(i - n), -i)) for n in range(len(values))]  # type: ignore[misc]
    return values[nearest]
