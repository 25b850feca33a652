"""What is measured of a susceptibility map to judge how strongly it was regularised."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_qsm.acquisition import Acquisition, FloatArray, Maps, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.evaluation.similarity import XSIM_WINDOW, xsim
from napari_qsm.methods.workspace import Weighting, Workspace
from napari_qsm.physics import fourier
from napari_qsm.process import Step
from napari_qsm.surroundings import bounding_box

CONE = 0.1
"""Below this |D| a frequency belongs to the cone that the field hardly knows."""

SHELL = (0.65, 0.95)
"""Frequencies that are compared, as parts of the coarsest axis' Nyquist frequency."""

REGIONS = ((0.0, 0.08), (0.1, 0.2), (0.22, 0.32))
"""Ranges of |D| whose amplitudes are compared: in the cone, close to it, far from it. These and
`SHELL` are what Milovic et al. 2021 use, doi:10.1002/mrm.28435."""

SLAB_VOXELS = 2**19
"""Voxels whose similarity is computed between two pauses, a tenth of a second."""


@dataclass(frozen=True)
class Measures:
    """One map in figures.

    Parameters
    ----------
    residual : float
        Root mean square of ``W (D chi - f)`` in the mask, ppm, W^2 having a mean of 1 there.
    variation : float
        Mean of ``|G chi|_1`` over the mask, ppm/mm; pairs of voxels across its edge do not count.
    roughness : float
        Root mean square of ``|G chi|_2``, likewise.
    cone : float
        Energy of chi where ``|D| < 0.1`` relative to that of its shell, averaged over shells: far
        below 1 the cone was left empty, far above 1 it is full of streaks.
    amplitudes : tuple[float, float, float]
        Mean ``|F chi|`` in the regions of `REGIONS`, relative to that of the shell.
    nrmse, xsim : float, optional
        Distance from the reference in percent, and likeness to it, where there is one.
    """

    residual: float
    variation: float
    roughness: float
    cone: float
    amplitudes: tuple[float, float, float]
    nrmse: float | None = None
    xsim: float | None = None


class Yardstick:
    """Measures maps made from one acquisition; a context manager, as its workspace is.

    Parameters
    ----------
    acquisition : Acquisition
        What the maps are made from.
    weighting : Weighting
        W of the residual.
    device : torch.device
        Where to work.
    reference : array, optional
        A susceptibility map in ppm on the same grid.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        weighting: Weighting,
        device: torch.device,
        reference: NDArray[Any] | None = None,
    ) -> None:
        self.space = Workspace(acquisition, device, "Measuring")
        self._acquisition, self._reference = acquisition, reference
        self._weighting = weighting
        self._count = int(np.count_nonzero(acquisition.mask))
        x, y, z = (side.stop - side.start for side in bounding_box(acquisition.mask))
        self._extent = (x, y, z)
        self.noise = math.nan
        """Root mean square of ``W n`` expected of the field's noise n, ppm."""
        self.field_variation = math.nan
        """`Measures.variation` of the field itself, ppm/mm."""
        self.field_residual = math.nan
        """`Measures.residual` of a map that is zero, ppm."""

    def __enter__(self) -> Self:
        self.space.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.space.__exit__(kind, error, trace)
        for name in ("_weights", "_inside", "_spectrum"):
            self.__dict__.pop(name, None)

    def prepare(self) -> Generator[Step, None, None]:
        """Compute what all maps are measured with."""
        space = self.space
        yield space.step(0.0, "preparing")
        self._weights = self._cut(space.weights(space.weighting(self._weighting)))
        yield space.step(0.0, "preparing")
        self._inside = self._cut(space.region()).float()  # sooner multiplied than bools
        field = self._cut(space.field())
        self.noise = self._expected_noise()
        yield space.step(0.0, "preparing")
        self.field_residual = self._weighted(field.clone())
        self.field_variation, _ = yield from self._gradients(field)
        self._spectrum = _Spectrum(space)
        yield space.step(0.0, "preparing")

    def _cut(self, padded: Tensor) -> Tensor:
        """Take the mask's box out of a padded volume."""
        return fourier.crop(padded, self._extent).contiguous()

    def _expected_noise(self) -> float:
        known = self._acquisition
        if Quantity.FIELD_NOISE not in known:
            return self.space.noise()
        return self._weighted(self._cut(self.space.place(known[Quantity.FIELD_NOISE])))

    def measure(self, maps: Maps) -> Generator[Step, None, Measures]:
        """Measure maps, pausing on the way."""
        space, chi = self.space, maps[Quantity.CHI]
        placed = space.place(chi)
        yield space.step(0.0, "residual")
        residual = self._weighted(self._misfit(maps, placed))
        yield space.step(0.0, "roughness")
        variation, roughness = yield from self._gradients(self._cut(placed))
        transform = fourier.spectrum(placed)
        del placed
        yield space.step(0.0, "spectrum")
        cone, amplitudes = self._spectrum.measure(transform)
        del transform
        error, likeness = yield from self._compare(chi)
        return Measures(residual, variation, roughness, cone, amplitudes, error, likeness)

    def _misfit(self, maps: Maps, chi: Tensor) -> Tensor:
        """``D chi - f`` in the mask's box: the method's own, else that of the map as it is."""
        if Quantity.RESIDUAL in maps:
            return self._cut(self.space.place(maps[Quantity.RESIDUAL]))
        return self._cut(self.space.dipole(chi).sub_(self.space.field()))

    def _weighted(self, values: Tensor) -> float:
        """Root mean square of ``W x`` in the mask; overwrites x."""
        return math.sqrt(total_of(values.square_().mul_(self._weights)) / self._count)

    def _gradients(self, values: Tensor) -> Generator[Step, None, tuple[float, float]]:
        """Mean ``|G x|_1`` and root mean square ``|G x|_2`` over pairs inside the mask."""
        first, second = 0.0, 0.0
        for axis, size in enumerate(self.space.voxel_size):
            pairs = values.shape[axis] - 1
            low, high = (_planes(axis, start, pairs) for start in (0, 1))
            step = (values[high] - values[low]).mul_(self._inside[low]).mul_(self._inside[high])
            first += float(torch.linalg.vector_norm(step, ord=1)) / size
            second += float(torch.linalg.vector_norm(step)) ** 2 / size**2
            yield self.space.step(0.0, "roughness")
        return first / self._count, math.sqrt(second / self._count)

    def _compare(self, chi: FloatArray) -> Generator[Step, None, tuple[float | None, float | None]]:
        """NRMSE and XSIM to the reference: the latter slab by slab, as long as it takes."""
        if self._reference is None:
            return None, None
        mask = self._acquisition.mask
        box = bounding_box(mask, XSIM_WINDOW // 2)
        x, r, m = chi[box], np.asarray(self._reference)[box], mask[box]
        # As everywhere: the reference of susceptibility is no error.
        x, r = (np.where(m, v - v[m].mean(dtype=np.float64), 0) for v in (x, r))
        yield self.space.step(0.0, "comparing")
        error = nrmse(x, r, m)
        total, margin = 0.0, XSIM_WINDOW // 2
        thickness = max(1, SLAB_VOXELS // (m.shape[1] * m.shape[2]))
        for start in range(0, len(m), thickness):
            yield self.space.step(0.0, "comparing")
            part = slice(max(0, start - margin), start + thickness + margin)
            own = np.zeros(m[part].shape, bool)
            inner = slice(start - part.start, start - part.start + thickness)
            own[inner] = m[start : start + thickness]
            if own.any():
                total += xsim(x[part], r[part], own) * np.count_nonzero(own)
        return error, float(total / np.count_nonzero(m))


class _Spectrum:
    """How the energy of a map is spread over k-space, relative to its distance from the origin."""

    def __init__(self, space: Workspace) -> None:
        shape, size = space.shape, space.voxel_size
        width = max(1 / (n * v) for n, v in zip(shape, size, strict=True))
        kx, ky, kz = fourier.frequencies(shape, size, device=space.device)
        shells = (kx.square() + ky.square() + kz.square()).sqrt_().div_(width).round_().flatten()
        symbol = space.dipole.spectrum.abs().flatten()
        nyquist = round(0.5 / max(size) / width)
        # The mean of a map, shell 0, is a matter of its reference.
        self._places = torch.nonzero((shells >= 1) & (shells <= nyquist)).flatten()
        self._shells = shells[self._places].long()
        symbol = symbol[self._places]
        self._cone = torch.nonzero(symbol < CONE).flatten()
        self._in_cone = self._shells[self._cone]
        self._sizes, self._cone_sizes = (
            torch.bincount(numbers, minlength=nyquist + 1)
            for numbers in (self._shells, self._in_cone)
        )
        low, high = (part * nyquist for part in SHELL)
        band = (self._shells >= low) & (self._shells <= high)
        self._band = torch.nonzero(band).flatten()
        self._regions = [
            torch.nonzero(band & (symbol >= least) & (symbol <= most)).flatten()
            for least, most in REGIONS
        ]

    def measure(self, transform: Tensor) -> tuple[float, tuple[float, float, float]]:
        """Return `Measures.cone` and `Measures.amplitudes` of a half spectrum."""
        energy = transform.flatten()[self._places].abs().square_()
        cone = energy[self._cone]
        totals, cone_totals = (
            torch.zeros(len(self._sizes), device=energy.device).index_add_(0, numbers, values)
            for numbers, values in ((self._shells, energy), (self._in_cone, cone))
        )
        there = (self._cone_sizes > 0) & (totals > 0)
        mean, mean_cone = totals / self._sizes, cone_totals / self._cone_sizes
        share = float((mean_cone[there] / mean[there]).mean())
        typical = float(energy[self._band].sqrt_().mean())
        in_cone, near, far = (
            float(energy[region].sqrt_().mean()) / typical if typical else math.nan
            for region in self._regions
        )
        return share, (in_cone, near, far)


def _planes(axis: int, start: int, length: int) -> tuple[slice, ...]:
    """Return the index that takes `length` planes along an axis of a volume, from `start` on."""
    index = [slice(None)] * 3
    index[axis] = slice(start, start + length)
    return tuple(index)


def total_of(values: Tensor) -> float:
    """Sum in double precision, where the device has it."""
    precise = torch.float32 if values.device.type == "mps" else torch.float64
    return float(values.sum(dtype=precise))
