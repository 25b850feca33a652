"""What numbers look like, whatever a file says: phase or magnitude, slices that alternate.

A wrapped phase jumps by more than half its range wherever it wraps and everywhere in air; a
magnitude does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import InputError

_VOXELS = 2_000_000
"""About as many voxels are looked at."""


def refuse_exchanged(phase: NDArray[Any], magnitude: NDArray[Any] | None) -> None:
    """Refuse a magnitude where the phase should be, and the other way round.

    Parameters
    ----------
    phase, magnitude : (X, Y, Z) array
        As stored, in any scale.

    Raises
    ------
    InputError
        If they are exchanged, or one is there twice.
    """
    if magnitude is not None:
        _refuse_pair(thinned(phase), thinned(magnitude))
    _refuse_magnitude(thinned(phase))


def _refuse_pair(phase: NDArray[Any], magnitude: NDArray[Any]) -> None:
    if np.array_equal(phase, magnitude):
        raise InputError("Phase and magnitude hold the same numbers; choose two different files.")
    signal = magnitude[np.isfinite(magnitude) & (magnitude != 0)]
    # Resampling leaves small negative numbers in a magnitude, a phase has large ones.
    negative = float((signal < -0.1 * np.abs(signal).max()).mean()) if signal.size else 0.0
    restless, jumps = noisy_part(magnitude), jumping_part(magnitude)
    as_noise = restless > 0.003 and noisy_part(phase) < restless / 5
    as_wraps = jumps > 0.02 and jumping_part(phase) < jumps / 3 and _fills_its_range(magnitude)
    if as_noise or as_wraps:
        raise InputError(
            "The magnitude jumps between neighbours as a wrapped phase does and the phase does "
            "not; exchange the two."
        )
    if negative > 0.01:
        raise InputError(
            f"The magnitude is negative in {negative:.0%} of its voxels, as a phase is; choose the "
            "magnitude, or exchange the two."
        )


def _refuse_magnitude(phase: NDArray[Any]) -> None:
    """Refuse what is never negative, holds no noise of a phase, and is mostly dark."""
    numbers = phase[np.isfinite(phase) & (phase != 0)]
    if not numbers.size or numbers.min() < 0 or numbers.max() < 7:  # 0 to 2 pi is a phase
        return
    middle = float(np.median(numbers)) / float(numbers.max())
    if middle < 0.25 and noisy_part(phase) < 1e-3:
        raise InputError(
            "The phase is never negative, mostly dark and without the jumps of a wrapped phase, as "
            "a magnitude is; choose the volume that holds the phase."
        )


def _fills_its_range(values: NDArray[Any]) -> bool:
    """Whether every eighth of the range is well populated, as in a phase."""
    numbers = values[np.isfinite(values) & (values != 0)]
    counts, _ = np.histogram(numbers, 8)
    return bool(counts.min() > 0.02 * numbers.size)


def jumping_part(values: NDArray[Any]) -> float:
    """Part of the pairs of neighbours that differ by more than half the range; 0 has no phase."""
    counts = np.array([_jumps(values, axis)[:2] for axis in range(3)]).sum(axis=0)
    return float(counts[0] / max(1, counts[1]))


def noisy_part(values: NDArray[Any]) -> float:
    """Part of the pairs along the first axis that jump twice: a twelfth in noise, none at edges."""
    _, pairs, twice = _jumps(values, 0)
    return twice / max(1, pairs)


def _jumps(values: NDArray[Any], axis: int) -> tuple[int, int, int]:
    """Count the pairs along an axis that jump, all pairs, and the jumps that follow a jump."""
    there = np.isfinite(values) & (values != 0)
    if not there.any():
        return 0, 0, 0
    numbers = np.where(there, values, 0).astype(np.float32)
    span = float(numbers[there].max()) - float(numbers[there].min())
    low, high = _neighbours(numbers, axis)
    both = np.logical_and(*_neighbours(there, axis))
    jumps = both & (np.abs(high - low) > span / 2)
    twice = np.logical_and(*_neighbours(jumps, axis)) if jumps.shape[axis] > 1 else jumps[:0]
    return int(jumps.sum()), int(both.sum()), int(twice.sum())


def alternates(phase: NDArray[np.floating], magnitude: NDArray[np.floating] | None) -> bool:
    """Whether every other slice along the third axis is half a turn off.

    Scanners of one manufacturer leave out a shift between two Fourier transforms. Then the cosine
    of the difference between slices is negative throughout, and positive within slices.

    Parameters
    ----------
    phase : (X, Y, Z) array
        In rad.
    magnitude : (X, Y, Z) array, optional
        Weights.
    """
    if phase.shape[2] < 4 or (magnitude is not None and not magnitude.any()):
        return False
    step = max(1, round(phase.size / _VOXELS))
    turns = np.exp(1j * phase[:, ::step].astype(np.float32)).astype(np.complex64)
    if magnitude is not None:
        turns *= magnitude[:, ::step]
    low, high = _neighbours(turns, 0)
    within = float((high * low.conj()).real.sum()) / float(np.abs(high * low).sum() or 1)
    low, high = _neighbours(turns, 2)
    between = (high * low.conj()).real.sum(axis=(0, 1))
    weight = np.abs(high * low).sum(axis=(0, 1))
    telling = weight > 0.1 * weight.max()
    parts = between[telling] / weight[telling]
    return bool(within > 0.3 and parts.mean() < -0.3 and (parts < 0).mean() > 0.9)


def thinned(values: NDArray[Any]) -> NDArray[Any]:
    """Return the middle slices of a volume, about `_VOXELS` voxels of it."""
    slices = values.shape[2]
    count = min(slices, max(2, round(slices * _VOXELS / max(1, values.size))))
    start = (slices - count) // 2
    return values[..., start : start + count]


def _neighbours(values: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    count = values.shape[axis]
    lower = tuple(slice(0, count - 1) if a == axis else slice(None) for a in range(3))
    upper = tuple(slice(1, count) if a == axis else slice(None) for a in range(3))
    return values[lower], values[upper]
