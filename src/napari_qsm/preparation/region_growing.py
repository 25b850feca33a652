"""Unwrapping along the most trustworthy paths: every jump is a whole number of turns."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import FloatArray
from napari_qsm.preparation.quality import TURN, edge_quality, ends, slabs
from napari_qsm.surroundings import bounding_box

LEVELS = 256
"""Steps to which edge qualities are rounded; edges of one step are taken together."""

BATCH = 2**17
"""Edges taken at once: many enough for numpy, few enough to pause every few ms."""

Indices = NDArray[np.int32]


class Regions:
    """Voxels united to regions, each voxel with its turns relative to its region's root.

    A forest in two arrays: a voxel's parent, and its turns relative to the parent; roots are their
    own parents. All edges handed to `unite` are worked on at once.

    Parameters
    ----------
    phase : array
        Wrapped phase in rad, flat.
    """

    def __init__(self, phase: FloatArray) -> None:
        self._phase = phase
        self._parent = np.arange(phase.size, dtype=np.int32)
        self._turns = np.zeros(phase.size, dtype=np.int16)
        self._size = np.ones(phase.size, dtype=np.int32)

    def settle(self, voxels: Indices) -> None:
        """Unite `voxels` to one region with the turns they have."""
        if voxels.size:
            self._parent[voxels] = voxels[0]
            self._size[voxels[0]] = voxels.size

    def find(self, voxels: Indices) -> Indices:
        """Return the roots of `voxels` and hang the voxels directly on them."""
        roots = self._parent[voxels]
        above = self._parent[roots]
        deep = np.flatnonzero(above != roots)
        if deep.size:
            lower, upper, top = voxels[deep], roots[deep], above[deep]
            turns = self._turns[lower]
            while not np.array_equal(upper, top):
                turns += self._turns[upper]
                upper, top = top, self._parent[top]
            self._parent[lower] = roots[deep] = top
            self._turns[lower] = turns
        return roots

    def turns(self, voxels: Indices) -> NDArray[np.int16]:
        """Return the turns of `voxels` over their roots, once `find` was asked for these."""
        return self._turns[voxels]

    def unite(self, before: Indices, after: Indices) -> None:
        """Unite the regions joined by edges from voxels `before` to voxels `after`.

        Of edges that join the same two regions any one counts. In each round every root hooks to
        one of the larger regions it has an edge to, so that trees stay flat; the largest around
        waits for the next round.
        """
        difference = self._phase[before] - self._phase[after]
        difference /= TURN
        lift = np.rint(difference, out=difference).astype(np.int16)
        while True:
            first, second = self.find(before), self.find(after)
            apart = np.flatnonzero(first != second)
            if not apart.size:
                return
            # What the second root needs so that its voxel fits the first one's; from here on the
            # edge joins the roots.
            lift = lift[apart] + self._turns[before[apart]] - self._turns[after[apart]]
            before, after = first[apart], second[apart]
            sizes, others = self._size[before], self._size[after]
            down = (sizes > others) | ((sizes == others) & (before < after))
            self._hook(
                np.where(down, after, before),
                np.where(down, before, after),
                np.where(down, lift, -lift),
            )

    def _hook(self, roots: Indices, parents: Indices, turns: NDArray[np.int16]) -> None:
        """Hang every root once below one of its parents; chains of them go to their last root."""
        self._parent[roots] = np.arange(roots.size, dtype=np.int32)
        chosen = np.flatnonzero(self._parent[roots] == np.arange(roots.size))
        roots, top = roots[chosen], parents[chosen]
        self._parent[roots] = top
        self._turns[roots] = turns[chosen]
        while True:  # what is left of a chain halves in every round
            above, top = top, self._parent[top]
            if np.array_equal(above, top):
                break
            self._turns[roots] += self._turns[above]
            self._parent[roots] = top
        np.add.at(self._size, top, self._size[roots])


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
    sorted_edges = yield from _sorted_edges(inside, fixed, [cropped, *others], times, strength)
    yield from _uniting(regions, sorted_edges, inside.shape)
    yield 0.95
    unwrapped[box] = _lifted(regions, cropped, inside, fixed)
    return unwrapped


def unwrap_volume(
    phase: FloatArray, mask: NDArray[np.bool_], *, magnitude: FloatArray | None = None
) -> FloatArray:
    """Unwrap a volume in one go; see `growing`, which this exhausts."""
    work = growing(phase, mask, magnitude=magnitude)
    while True:
        try:
            next(work)
        except StopIteration as done:
            unwrapped: FloatArray = done.value
            return unwrapped


SortedEdges = tuple[Indices, NDArray[np.intp]]
"""Lower voxels of the edges along an axis, best first, and where each level ends."""


def _sorted_edges(
    inside: NDArray[np.bool_],
    settled: NDArray[np.bool_] | None,
    phases: Sequence[FloatArray],
    times: Sequence[float],
    magnitude: FloatArray | None,
) -> Generator[float, None, list[SortedEdges]]:
    found = []
    flat = np.arange(inside.size, dtype=np.int32).reshape(inside.shape)
    for axis in range(3):
        voxels, levels = [], []
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
            voxels.append(flat[slab][before][wanted])
            levels.append((LEVELS * (1 - quality[wanted])).astype(np.uint8))
            yield 0.3 * (axis + fraction) / 3
        level = np.concatenate(levels)
        order = np.argsort(level, kind="stable")
        stops = np.cumsum(np.bincount(level, minlength=LEVELS))
        found.append((np.concatenate(voxels)[order], stops))
        yield 0.3 * (axis + 1) / 3
    return found


def _uniting(
    regions: Regions, edges: Sequence[SortedEdges], shape: tuple[int, ...]
) -> Iterator[float]:
    strides = (shape[1] * shape[2], shape[2], 1)
    count = max(1, sum(voxels.size for voxels, _ in edges))
    done = 0
    for level in range(LEVELS):
        parts = [v[stops[level - 1] if level else 0 : stops[level]] for v, stops in edges]
        before = np.concatenate(parts)
        after = np.concatenate([part + np.int32(s) for part, s in zip(parts, strides, strict=True)])
        for start in range(0, before.size, BATCH):
            batch = slice(start, start + BATCH)
            regions.unite(before[batch], after[batch])
            done += before[batch].size
            yield 0.3 + 0.65 * done / count


def _lifted(
    regions: Regions,
    phase: FloatArray,
    inside: NDArray[np.bool_],
    settled: NDArray[np.bool_] | None,
) -> FloatArray:
    """Add the turns of every voxel and of its region; zero outside."""
    voxels = np.flatnonzero(inside).astype(np.int32)
    root = regions.find(voxels)
    values = phase.ravel()[voxels] + TURN * regions.turns(voxels)
    values += TURN * _region_turns(values, root)
    lifted = np.zeros(phase.shape, dtype=np.float32)
    lifted[inside] = values
    return lifted


def _region_turns(values: FloatArray, root: Indices) -> NDArray[np.float32]:
    """Return, for every voxel, the turns that bring its region closest to the largest one."""
    _, region, sizes = np.unique(root, return_inverse=True, return_counts=True)
    means = np.bincount(region, weights=values) / sizes
    largest = int(sizes.argmax())
    main = -np.rint(np.median(values[region == largest]) / TURN)
    turns = np.rint((means[largest] + TURN * main - means) / TURN)
    turns[largest] = main
    result: NDArray[np.float32] = turns.astype(np.float32)[region]
    return result
