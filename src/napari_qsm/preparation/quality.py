"""How far the phase of two neighbours can be trusted, and how far that of a voxel.

The criteria are those of ROMEO (Dymerska et al. 2021, doi:10.1002/mrm.28563): each lies between 0
and 1, and their product, none of them below a tenth, grades the edge between two neighbours.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import FloatArray

FLOOR = 0.1
"""What is left of an edge when one criterion is 0, so that the others still tell edges apart."""

SLAB_VOXELS = 2**18
"""Voxels graded at once: their buffers stay in the cache, and a pause comes every few ms."""

TURN = np.float32(2 * np.pi)


def edge_quality(
    axis: int,
    phases: Sequence[FloatArray],
    echo_times: Sequence[float],
    magnitude: FloatArray | None = None,
) -> FloatArray:
    """Grade the edges between neighbours along an axis, 0.001 (worthless) to 1.

    With d the wrapped difference of the first phase over an edge, the factors are its spatial
    coherence ``1 - |d| / pi``, for each other echo its temporal coherence
    ``1 - |wrap(d_e - d TE_e / TE)| / pi``, and the likeness of magnitudes ``(min / max)^2``; a
    factor w enters as ``0.1 + 0.9 w``.

    Parameters
    ----------
    axis : int
        0, 1 or 2.
    phases : sequence of (X, Y, Z) arrays
        Phase in rad, wrapped or not: first the one whose edges are graded, then echoes to compare.
    echo_times : sequence of float
        Of the phases, in any unit.
    magnitude : (X, Y, Z) array, optional
        Belongs to the first phase; not negative.

    Returns
    -------
    array of float32
        One shorter than the phase along the axis.
    """
    step = _folded(np.diff(phases[0], axis=axis))
    quality = _factor(np.abs(step))
    for phase, time in zip(phases[1:], echo_times[1:], strict=True):
        other = np.diff(phase, axis=axis)
        other -= np.float32(time / echo_times[0]) * step
        quality *= _factor(np.abs(_folded(other), out=other))
    if magnitude is not None:
        quality *= _likeness(magnitude, axis)
    return quality


def phase_quality(
    phase: FloatArray, magnitude: FloatArray | None, echo_times: Sequence[float]
) -> FloatArray:
    """Grade every voxel by the mean of the up to six edges around it, 0 to 1.

    Parameters
    ----------
    phase : (X, Y, Z, E) array
        In rad; of several echoes the first two are compared.
    magnitude : (X, Y, Z, E) array, optional
        Not negative.
    echo_times : sequence of float
        One for each echo, in any unit.

    Returns
    -------
    (X, Y, Z) array of float32
        Near 1 where the signal is good; in pure noise 0.55 for one echo, 0.30 for two, 0.14 with
        a magnitude besides.
    """
    grading = grading_voxels(phase, magnitude, echo_times)
    while True:
        try:
            next(grading)
        except StopIteration as done:
            quality: FloatArray = done.value
            return quality


def grading_voxels(
    phase: FloatArray, magnitude: FloatArray | None, echo_times: Sequence[float]
) -> Generator[float, None, FloatArray]:
    """Do what `phase_quality` does, handing out the fraction done at every pause."""
    count = min(2, phase.shape[3])
    phases = [np.ascontiguousarray(phase[..., echo]) for echo in range(count)]
    first = None if magnitude is None else np.ascontiguousarray(magnitude[..., 0])
    shape = phases[0].shape
    total, edges = (np.zeros(shape, dtype=np.float32) for _ in range(2))
    yield 0.0
    for axis in range(3):
        for slab in slabs(shape, axis):
            quality = edge_quality(
                axis,
                [values[slab] for values in phases],
                echo_times[:count],
                None if first is None else first[slab],
            )
            for end in ends(axis):
                total[slab][end] += quality
                edges[slab][end] += 1
            yield (axis + slab.stop / shape[0]) / 3
    np.maximum(edges, 1, out=edges)
    total /= edges
    return total


def slabs(shape: tuple[int, ...], axis: int) -> Iterator[slice]:
    """Cut a volume into slabs of planes so that every edge along `axis` lies in just one of them.

    Slabs of the first axis share a plane when it is the axis of the edges.
    """
    thickness = max(1, SLAB_VOXELS // (shape[1] * shape[2]))
    shared = 1 if axis == 0 else 0
    for start in range(0, shape[0] - shared, thickness):
        yield slice(start, min(start + thickness + shared, shape[0]))


def ends(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where the lower and the upper voxels of the edges along `axis` lie."""
    before = [slice(None)] * 3
    after = [slice(None)] * 3
    before[axis], after[axis] = slice(None, -1), slice(1, None)
    return tuple(before), tuple(after)


def _folded(difference: FloatArray) -> FloatArray:
    """Bring a phase difference to [-pi, pi], in place."""
    turns = difference / TURN
    np.rint(turns, out=turns)
    turns *= TURN
    difference -= turns
    return difference


def _factor(distance: FloatArray) -> FloatArray:
    """``FLOOR + (1 - FLOOR) (1 - distance / pi)``, in place."""
    distance *= np.float32(-(1 - FLOOR) / np.pi)
    distance += np.float32(1)
    return distance


def _likeness(magnitude: NDArray[np.float32], axis: int) -> FloatArray:
    before, after = (magnitude[end] for end in ends(axis))
    ratio = np.minimum(before, after)
    larger = np.maximum(before, after)
    np.divide(ratio, larger, out=ratio, where=larger > 0)  # two zeros: the ratio stays 0
    ratio *= ratio
    ratio *= np.float32(1 - FLOOR)
    ratio += np.float32(FLOOR)
    return ratio
