"""How far the phase of two neighbours can be trusted, and how far that of a voxel.

The criteria are those of ROMEO (Dymerska et al. 2021, doi:10.1002/mrm.28563): each lies between 0
and 1, and their product, none of them below a tenth, grades the edge between two neighbours.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np

from napari_qsm.acquisition import FloatArray
from napari_qsm.generators import finished
from napari_qsm.preparation.mask_parts import TURN

FLOOR = np.float32(0.1)
"""What is left of an edge when one criterion is 0, so that the others still tell edges apart."""

SLAB_VOXELS = 2**18
"""Voxels graded at once: their buffers stay in the cache, and a pause comes every few ms."""

PI = np.float32(np.pi)

Box = tuple[slice, ...]


def edge_quality(
    axis: int,
    phases: Sequence[FloatArray],
    echo_times: Sequence[float],
    magnitude: FloatArray | None = None,
) -> FloatArray:
    """Grade the edges between neighbours along an axis, 0.0001 (worthless) to 1.

    With d the wrapped difference of the first phase over an edge, the factors are

    - spatial coherence, ``1 - |d| / pi``;
    - linearity, ``1 - |wrap(d' - d)| / pi`` with d' of the edge before, times that after;
    - for each other echo e temporal coherence, ``1 - |wrap(d_e - d TE_e / TE)| / pi``;
    - likeness of the magnitudes, ``(smaller / larger)^2``;

    and a factor w enters as ``0.1 + 0.9 w``.

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
    steps = folded(np.diff(phases[0], axis=axis))
    quality = _factor(_coherence(np.abs(steps)))
    if steps.shape[axis] > 1:
        quality *= _linearity(steps, axis)
    for phase, time in zip(phases[1:], echo_times[1:], strict=True):
        other = np.diff(phase, axis=axis)
        other -= np.float32(time / echo_times[0]) * steps
        quality *= _factor(_coherence(np.abs(folded(other), out=other)))
    if magnitude is not None:
        quality *= _factor(_likeness(magnitude, axis))
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
        Not negative; the first echo counts.
    echo_times : sequence of float
        One for each echo, in any unit.

    Returns
    -------
    (X, Y, Z) array of float32
        Above 0.8 where the signal is good; in pure noise 0.2 for one echo, 0.1 for two.
    """
    return finished(grading_voxels(phase, magnitude, echo_times))


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
        for slab, fraction in slabs(shape, axis):
            quality = edge_quality(
                axis,
                [values[slab] for values in phases],
                echo_times[:count],
                None if first is None else first[slab],
            )
            for end in ends(axis):
                total[slab][end] += quality
                edges[slab][end] += 1
            yield (axis + fraction) / 3
    np.maximum(edges, 1, out=edges)
    total /= edges
    return total


def slabs(shape: tuple[int, ...], axis: int) -> Iterator[tuple[Box, float]]:
    """Cut a volume into slabs that keep `axis` whole; with each the fraction of all so far."""
    across = 1 if axis == 0 else 0
    planes = shape[across]
    thickness = max(1, SLAB_VOXELS * planes // max(1, shape[0] * shape[1] * shape[2]))
    for start in range(0, planes, thickness):
        stop = min(start + thickness, planes)
        yield (slice(None),) * across + (slice(start, stop),), stop / planes


def ends(axis: int) -> tuple[Box, Box]:
    """Where the lower and the upper voxels of the edges along `axis` lie."""
    whole = (slice(None),) * axis
    return (*whole, slice(None, -1)), (*whole, slice(1, None))


def folded(difference: FloatArray) -> FloatArray:
    """Bring a phase difference to [-pi, pi], in place."""
    turns = difference / TURN
    np.rint(turns, out=turns)
    turns *= TURN
    difference -= turns
    return difference


def _coherence(distance: FloatArray) -> FloatArray:
    """``1 - distance / pi``, in place."""
    distance /= -PI
    distance += np.float32(1)
    return distance


def _factor(criterion: FloatArray) -> FloatArray:
    """``FLOOR + (1 - FLOOR) criterion``, in place."""
    criterion *= 1 - FLOOR
    criterion += FLOOR
    return criterion


def _linearity(steps: FloatArray, axis: int) -> FloatArray:
    """Compare every edge with those before and after it; at an end with the one there, twice."""
    bends = np.diff(steps, axis=axis)
    straight = _coherence(np.abs(folded(bends), out=bends))
    linearity = np.empty_like(steps)
    before, after = ends(axis)
    first = (*after[:-1], slice(None, 1))
    last = (*after[:-1], slice(-1, None))
    linearity[after] = straight
    linearity[first] = straight[first]
    linearity[before] *= straight
    linearity[last] *= straight[last]
    return _factor(linearity)


def _likeness(magnitude: FloatArray, axis: int) -> FloatArray:
    one, other = (magnitude[end] for end in ends(axis))
    ratio = np.minimum(one, other)
    larger = np.maximum(one, other)
    np.divide(ratio, larger, out=ratio, where=larger > 0)  # of two zeros the ratio stays 0
    ratio *= ratio
    return ratio
