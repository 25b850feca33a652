"""Unwrapping a volume along its most trustworthy edges: every jump is a whole number of turns."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import FloatArray
from napari_qsm.generators import finished
from napari_qsm.preparation.mask_parts import TURN
from napari_qsm.preparation.quality import edge_quality, ends, slabs
from napari_qsm.preparation.regions import Indices, Regions
from napari_qsm.surroundings import bounding_box

LEVELS = 256
"""Steps to which edge qualities are rounded; edges of one step are taken together."""

BATCH = 2**17
"""Edges taken at once: many enough for numpy, few enough to pause every few ms."""

GRADED, UNITED = 0.3, 0.95
"""Fractions of the work that are done with the edges graded, and with the regions united."""


def growing(
    phase: FloatArray,
    mask: NDArray[np.bool_],
    *,
    magnitude: FloatArray | None = None,
    companion: tuple[FloatArray, float] | None = None,
    settled: NDArray[np.bool_] | None = None,
) -> Generator[float, None, FloatArray]:
    """Unwrap a volume along the maximum spanning tree of its edge qualities, with pauses.

    Neighbours are united from the best edge to the worst, each union adding the whole turns that
    leave less than half a turn between the two voxels of its edge: region growing from every voxel
    at once. Parts of the mask that do not touch get the turns that bring their means closest to
    that of the largest part, whose median is brought closest to zero.

    Parameters
    ----------
    phase : (X, Y, Z) array
        In rad; finite.
    mask : (X, Y, Z) array of bool
        Where to unwrap; may be empty.
    magnitude : (X, Y, Z) array, optional
        Grades edges, see `napari_qsm.preparation.quality.edge_quality`.
    companion : (array, float), optional
        The phase of another echo and its echo time over that of this one; grades edges.
    settled : (X, Y, Z) array of bool, optional
        Voxels that keep their turns; everything else is unwrapped towards them.

    Yields
    ------
    float
        The fraction done, every few ms.

    Returns
    -------
    (X, Y, Z) array of float32
        ``phase + 2 pi n`` in the mask, n whole; zero outside.
    """
    unwrapped = np.zeros(phase.shape, dtype=np.float32)
    if not mask.any():
        return unwrapped
    box = bounding_box(mask)
    inside = np.ascontiguousarray(mask[box])
    cropped = np.ascontiguousarray(phase[box], dtype=np.float32)
    others = [] if companion is None else [np.ascontiguousarray(companion[0][box])]
    times = [1.0] if companion is None else [1.0, companion[1]]
    strength = None if magnitude is None else np.ascontiguousarray(magnitude[box])
    fixed = None if settled is None else settled[box] & inside
    regions = Regions(cropped.ravel())
    if fixed is not None:
        regions.settle(np.flatnonzero(fixed).astype(np.int32))
    yield 0.0
    edges = yield from _graded(inside, fixed, [cropped, *others], times, strength)
    yield from _uniting(regions, edges)
    unwrapped[box] = yield from _lifted(regions, cropped, inside, fixed)
    return unwrapped


def unwrap_volume(
    phase: FloatArray, mask: NDArray[np.bool_], *, magnitude: FloatArray | None = None
) -> FloatArray:
    """Unwrap a volume in one go; see `growing`, which this exhausts."""
    return finished(growing(phase, mask, magnitude=magnitude))


@dataclass(frozen=True)
class _Edges:
    """Edges of a slab along an axis: their lower voxels, best first, and where each level ends."""

    voxels: Indices
    stops: NDArray[np.intp]
    stride: int

    def level(self, level: int) -> Indices:
        """Return the lower voxels of the edges of a level."""
        return self.voxels[self.stops[level - 1] if level else 0 : self.stops[level]]


def _graded(
    inside: NDArray[np.bool_],
    settled: NDArray[np.bool_] | None,
    phases: Sequence[FloatArray],
    times: Sequence[float],
    magnitude: FloatArray | None,
) -> Generator[float, None, list[_Edges]]:
    """Sort the edges inside the mask by quality, slab by slab; those between settled voxels go."""
    found = []
    flat = np.arange(inside.size, dtype=np.int32).reshape(inside.shape)
    for axis in range(3):
        before, after = ends(axis)
        for slab, fraction in slabs(inside.shape, axis):
            quality = edge_quality(
                axis,
                [values[slab] for values in phases],
                times,
                None if magnitude is None else magnitude[slab],
            )
            wanted = inside[slab][before] & inside[slab][after]
            if settled is not None:
                wanted &= ~(settled[slab][before] & settled[slab][after])
            level = (LEVELS * (1 - quality[wanted])).astype(np.uint8)
            voxels = flat[slab][before][wanted][np.argsort(level, kind="stable")]
            stops = np.cumsum(np.bincount(level, minlength=LEVELS))
            found.append(_Edges(voxels, stops, int(np.prod(inside.shape[axis + 1 :]))))
            yield GRADED * (axis + fraction) / 3
    return found


def _uniting(regions: Regions, slabs_of_edges: Sequence[_Edges]) -> Iterator[float]:
    """Unite regions from the best level to the worst."""
    count = max(1, sum(edges.voxels.size for edges in slabs_of_edges))
    done = 0
    for level in range(LEVELS):
        lower = [edges.level(level) for edges in slabs_of_edges]
        strides = [np.int32(edges.stride) for edges in slabs_of_edges]
        before = np.concatenate(lower)
        after = np.concatenate([v + s for v, s in zip(lower, strides, strict=True)])
        for start in range(0, before.size, BATCH):
            batch = slice(start, start + BATCH)
            regions.unite(before[batch], after[batch])
            done += before[batch].size
            yield GRADED + (UNITED - GRADED) * done / count


def _lifted(
    regions: Regions,
    phase: FloatArray,
    inside: NDArray[np.bool_],
    settled: NDArray[np.bool_] | None,
) -> Generator[float, None, FloatArray]:
    """Add the turns of every voxel and of its part of the mask; zero outside."""
    voxels = np.flatnonzero(inside).astype(np.int32)
    values = phase.ravel()[voxels]
    for start in range(0, voxels.size, 4 * BATCH):
        piece = slice(start, start + 4 * BATCH)
        regions.find(voxels[piece])
        values[piece] += TURN * regions.turns(voxels[piece])
        yield UNITED + (1 - UNITED) * start / voxels.size
    parts = regions.parts(voxels)
    yield 1.0
    values += TURN * parts.turns(values, None if settled is None else settled[inside])
    lifted = np.zeros(phase.shape, dtype=np.float32)
    lifted[inside] = values
    return lifted
