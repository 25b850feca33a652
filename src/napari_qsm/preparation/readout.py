"""A bipolar readout: odd and even echoes are read in opposite directions and differ in phase."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import FloatArray
from napari_qsm.preparation.voxels import at, sample
from napari_qsm.surroundings import bounding_box

EVEN = 0.02
"""Part of an echo spacing by which the first two may differ for the comparison to hold."""

PLANES = 64
"""Pairs of planes that a slope is taken from."""


@dataclass(frozen=True)
class Ramp:
    """A phase that is linear in space: added to even echoes, subtracted from odd ones.

    Parameters
    ----------
    constant : float
        In rad, at `centre`.
    slopes : tuple[float, float, float]
        In rad per voxel.
    centre : tuple[float, float, float]
        In voxels.
    span : float
        Range in rad over the mask.
    """

    constant: float
    slopes: tuple[float, float, float]
    centre: tuple[float, float, float]
    span: float

    def at(self, planes: slice, shape: tuple[int, int, int]) -> NDArray[np.float32]:
        """Return the phase at the planes of a slab of a volume."""
        along = [
            slope * (np.arange(n, dtype=np.float32) - centre)
            for n, slope, centre in zip(shape, self.slopes, self.centre, strict=True)
        ]
        x, y, z = along
        total = x[planes, None, None] + y[:, None] + z + np.float32(self.constant)
        return np.asarray(total, dtype=np.float32)


def evenly_spaced(times: NDArray[np.float64]) -> bool:
    """Whether there are three echoes and the first two spacings agree."""
    if len(times) < 3:
        return False
    first, second = np.diff(times)[:2]
    return bool(abs(second - first) <= EVEN * first)


def alternating_ramp(
    phase: FloatArray,
    magnitude: FloatArray | None,
    mask: NDArray[np.bool_],
    order: NDArray[np.intp],
) -> Generator[float, None, Ramp]:
    """Estimate how odd and even echoes differ, from the first three evenly spaced ones.

    The field and the phase offset leave nothing of ``phi1 - 2 phi2 + phi3``; with theta added to
    even echoes and subtracted from odd ones it is -4 theta. Its slope along an axis is the phase
    of ``sum(z_next conj(z))`` over neighbours, exact for a linear theta; pairs of planes all over
    the volume are enough for it. The constant is known up to a quarter turn of theta; the one
    closest to zero is taken.

    Parameters
    ----------
    phase, magnitude : (X, Y, Z, E) arrays
        Three echoes or more.
    mask : (X, Y, Z) array of bool
        Where to look.
    order : (E,) array
        Of the echoes in time.
    """
    pairs = np.zeros(3, dtype=np.complex128)
    last = max(1, mask.shape[0] - 1)
    for start in range(0, last, max(1, last // PLANES)):
        planes = slice(start, start + 2)
        strength = None if magnitude is None else magnitude[planes]
        z = _second_difference(phase[planes], strength, order) * mask[planes]
        for axis in range(3):
            after, before = (np.delete(z, end, axis) for end in (0, -1))
            pairs[axis] += np.vdot(before, after)
        yield start / last
    box = bounding_box(mask)
    slopes = np.angle(pairs) * (np.abs(pairs) > 0)
    centre = np.array([(side.start + side.stop - 1) / 2 for side in box])
    voxels = sample(mask)
    places = np.stack(np.unravel_index(voxels, mask.shape), axis=1) - centre
    strength = None if magnitude is None else at(magnitude, voxels).T
    z = _second_difference(at(phase, voxels).T, strength, order)
    constant = float(np.angle(np.sum(z * np.exp(-1j * (places @ slopes)))))
    lengths = np.array([side.stop - side.start - 1 for side in box])
    span = float(np.abs(slopes) @ lengths / 4)
    return Ramp(-constant / 4, _triple(-slopes / 4), _triple(centre), span)


def _second_difference(
    phase: NDArray[np.float32], magnitude: NDArray[np.float32] | None, order: NDArray[np.intp]
) -> NDArray[np.complex64]:
    """``exp(i (phi1 - 2 phi2 + phi3))``, weighted by the darkest of the three (last axis)."""
    first, second, third = (phase[..., echo] for echo in order[:3])
    z = np.exp(1j * (first - 2 * second + third))
    if magnitude is not None:
        z *= magnitude[..., order[:3]].min(-1)
    return np.asarray(z, dtype=np.complex64)


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
