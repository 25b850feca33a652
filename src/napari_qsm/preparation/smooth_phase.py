"""A smooth phase from a noisy one: a Gaussian mean of complex numbers that keeps slopes.

Worked out on blocks of voxels, which a smooth phase does not notice, and interpolated back.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import FloatArray

TAIL = 1e-6
"""Part of the kernel that falls off slowly, so that something is left far from the mask."""

REACH = 1.5
"""Widths of the kernel over which a slope is carried on where there is nothing to average."""

ROUNDS = 2
"""Times the mean is taken, each time of what is left; a third would follow the noise."""

TINY = np.finfo(np.float32).tiny

Complex = NDArray[np.complex64]
Number = TypeVar("Number", np.float32, np.complex64)


class Blocks:
    """Sums of complex numbers over blocks of voxels about half as wide as a kernel.

    Parameters
    ----------
    shape : tuple[int, int, int]
        Of the volume.
    voxel_size : sequence of float
        In mm.
    width : float
        Standard deviation of the kernel in mm.
    """

    def __init__(self, shape: Sequence[int], voxel_size: Sequence[float], width: float) -> None:
        self.shape = tuple(shape)
        self.factors = tuple(max(1, int(width / (2 * size))) for size in voxel_size)
        self.size = tuple(f * v for f, v in zip(self.factors, voxel_size, strict=True))
        self.width = width
        count = [-(-n // f) for n, f in zip(self.shape, self.factors, strict=True)]
        self.sums: Complex = np.zeros(count, dtype=np.complex64)

    def add(self, start: int, values: NDArray[np.complex64]) -> None:
        """Add the planes of a slab; `start` is a multiple of the blocks' first side."""
        for axis, factor in enumerate(self.factors):
            edges = np.arange(0, values.shape[axis], factor)
            values = np.add.reduceat(values, edges, axis=axis)
        first = start // self.factors[0]
        self.sums[first : first + values.shape[0]] += values

    def smoothed(self) -> Generator[float, None, Complex]:
        """Return unit complex numbers whose phase is the smooth one, for every block.

        A second round does the same with what the first one left: at the mean of a curved phase
        over a Gaussian, half of the curvature times the width squared is missing.
        """
        estimate: Complex = np.ones_like(self.sums)
        for part in range(ROUNDS):
            step = yield from self._round(self.sums * estimate.conj(), part / ROUNDS)
            estimate *= np.exp(1j * step)
        return estimate

    def _round(self, sums: Complex, done: float) -> Generator[float, None, FloatArray]:
        """Return the smoothed phase of the blocks in rad.

        With K the Gaussian, z the sums and w their moduli, the phase of ``K z`` belongs to the
        centre of mass ``r + K(w d) / K w`` of what was averaged rather than to r. Where the mask
        ends or brightness varies that is another place, so the slope times the distance is taken
        off; the slope is the phase of ``K (z_next conj(z))``.
        """
        weight = np.abs(sums)
        plain = [self._kernel(axis) for axis in range(3)]
        phase = np.angle((yield from _apply(plain, sums, done)))
        total = np.maximum((yield from _apply(plain, weight, done)), TINY)
        for axis in range(3):
            if sums.shape[axis] == 1:
                continue
            after, before = (np.delete(sums, end, axis) for end in (0, -1))
            middles = [self._kernel(a, 0.5) if a == axis else plain[a] for a in range(3)]
            slope = np.angle((yield from _apply(middles, after * before.conj(), done)))
            moments = [self._moment(a) if a == axis else plain[a] for a in range(3)]
            distance = (yield from _apply(moments, weight, done)) / total
            reach = REACH * self.width / self.size[axis]
            phase -= slope * np.clip(distance, -reach, reach)
        return phase

    def spread(self, values: Complex, planes: slice) -> FloatArray:
        """Phase at the voxels of a slab, by interpolation of complex numbers between blocks."""
        rows = [self._between(axis) for axis in range(3)]
        rows[0] = rows[0][planes]
        for axis, matrix in enumerate(rows):
            values = _along(matrix, values, axis)
        phase: FloatArray = np.angle(values)
        return phase

    def _distance(self, axis: int, shift: float = 0.0) -> FloatArray:
        """Distances in blocks from every block (rows) to every block shifted by `shift`."""
        count = self.sums.shape[axis]
        places = np.arange(count - (1 if shift else 0), dtype=np.float32) + np.float32(shift)
        away: FloatArray = places[None, :] - np.arange(count, dtype=np.float32)[:, None]
        return away

    def _kernel(self, axis: int, shift: float = 0.0) -> FloatArray:
        away = self._distance(axis, shift) * np.float32(self.size[axis] / self.width)
        squared = np.square(away)
        kernel: FloatArray = np.exp(-squared / 2) + np.float32(TAIL) / (1 + squared)
        return kernel

    def _moment(self, axis: int) -> FloatArray:
        return self._kernel(axis) * self._distance(axis)

    def _between(self, axis: int) -> FloatArray:
        """Weights of linear interpolation from blocks to voxels, beyond the last centres too."""
        count, factor = self.sums.shape[axis], self.factors[axis]
        rows = np.zeros((self.shape[axis], count), dtype=np.float32)
        if count == 1:
            return rows + 1
        voxel = np.arange(self.shape[axis])
        place = (voxel - (factor - 1) / 2) / factor
        low = np.clip(np.floor(place).astype(int), 0, count - 2)
        rows[voxel, low] = 1 - (place - low)
        rows[voxel, low + 1] = place - low
        return rows


def _apply(
    rows: Sequence[FloatArray], values: NDArray[Number], done: float
) -> Generator[float, None, NDArray[Number]]:
    """Apply a matrix along each axis, pausing between."""
    for axis, matrix in enumerate(rows):
        values = _along(matrix, values, axis)
        yield done
    return values


def _along(matrix: FloatArray, values: NDArray[Number], axis: int) -> NDArray[Number]:
    """Apply a real matrix along an axis of real or complex values of single precision."""
    real = np.ascontiguousarray(values).view(np.float32).reshape(*values.shape, -1)
    made = np.moveaxis(np.tensordot(matrix, real, axes=(1, axis)), 0, axis)
    whole: NDArray[Number] = np.ascontiguousarray(made).view(values.dtype)[..., 0]
    return whole
