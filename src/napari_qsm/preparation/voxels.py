"""Work on one voxel at a time: over the voxels of a mask, in pieces short enough to pause between.

Echoes come first in a piece, so that every sum over them runs along contiguous voxels.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import Acquisition, FloatArray, InputError, Quantity
from napari_qsm.generators import relayed
from napari_qsm.physics.units import FieldUnit, ppm_per_unit
from napari_qsm.process import Step

T = TypeVar("T")

PIECE = 2**15
"""Voxels worked on at once: with five echoes a few buffers of them fit the cache, and one thread
is best, since two wait for each other where another program is busy (measured: ARLO in 8 s instead
of 0.1 s)."""

SAMPLE = 100_000
"""Voxels a median over the mask is taken from; more would not change its third digit."""

UNKNOWN_PHASE = float(np.pi / np.sqrt(3))
"""Standard deviation in rad of a phase of which nothing is known."""


def pieces(mask: NDArray[np.bool_]) -> Iterator[tuple[float, NDArray[np.intp]]]:
    """Hand out the voxels of a mask as flat indices, each time with the part that came before."""
    voxels = np.flatnonzero(mask)
    for start in range(0, voxels.size, PIECE):
        yield start / voxels.size, voxels[start : start + PIECE]


def steps(
    work: Generator[float, None, T], message: str, low: float, high: float
) -> Generator[Step, None, T]:
    """Run a part that hands out fractions as steps between `low` and `high` of the whole."""
    return (yield from relayed(work, lambda part: Step(low + (high - low) * part, message)))


def sample(mask: NDArray[np.bool_], count: int = SAMPLE) -> NDArray[np.intp]:
    """Return about `count` voxels of a mask, or all if it has fewer, evenly from first to last."""
    voxels = np.flatnonzero(mask)
    return voxels[:: max(1, voxels.size // count)]


def at(volume: FloatArray, voxels: NDArray[np.intp]) -> FloatArray:
    """Return the values of an (X, Y, Z, E) volume at flat indices, as (E, voxel)."""
    return np.ascontiguousarray(volume.reshape(-1, volume.shape[3])[voxels].T)


def by_time(echo_times: Sequence[float]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the order of the echoes in time, and their times in s in that order.

    Raises
    ------
    InputError
        If two echoes were measured at the same time.
    """
    times = np.asarray(echo_times, dtype=np.float64)
    order = np.argsort(times, kind="stable")
    times = times[order]
    if len(same := np.flatnonzero(np.diff(times) < 1e-6)):
        raise InputError(
            f"Two echoes have the same echo time of {1000 * times[same[0]]:g} ms; state the time "
            "of each echo."
        )
    return order, times


def ppm_per_slope(acquisition: Acquisition, label: str) -> float:
    """Return the factor from rad/s to ppm of an acquisition's B0.

    Raises
    ------
    InputError
        If B0 is not known.
    """
    if acquisition.field_strength is None:
        raise InputError(f"{label} makes ppm of a phase and needs B0 for it; state B0 in tesla.")
    return ppm_per_unit(FieldUnit.RAD_PER_S, field_strength=acquisition.field_strength)


def magnitude_notes(acquisition: Acquisition) -> tuple[str, ...]:
    """Say what stands in for magnitudes that were not given for every echo."""
    echoes = len(acquisition.echo_times)
    if Quantity.MAGNITUDE not in acquisition:
        return ("All voxels and echoes count the same (no magnitude was given).",)
    if echoes > 1 and acquisition[Quantity.MAGNITUDE].size == np.prod(acquisition.grid.shape):
        return (f"One magnitude stands for all {echoes} echoes.",)
    return ()


def offset_notes(acquisition: Acquisition) -> tuple[str, ...]:
    """Say what a fitted phase offset means where one was taken off before."""
    if Quantity.OFFSET not in acquisition:
        return ()
    return ("The phase offset found here is what is left after the one taken off before.",)


def phase_weights(magnitude: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return how much each echo's phase counts, and where there is no signal at all.

    The variance of a phase is ``sigma^2 / m^2``, so it counts ``m^2``. Where all echoes are zero
    they count the same; one that is zero beside others counts a millionth of the best, so that a
    line through few echoes stays defined.

    Parameters
    ----------
    magnitude : (E, voxel) array
        Of any scale.
    """
    weights = np.square(magnitude, dtype=np.float64)
    best = weights.max(0)
    dark = best <= 0
    weights[:, dark] = 1
    np.maximum(weights, 1e-6 * best, out=weights)
    return weights, dark
