"""Voxels united to regions along edges, many edges at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import FloatArray
from napari_qsm.preparation.mask_parts import TURN, MaskParts

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

    def parts(self, voxels: Indices) -> MaskParts:
        """Return which of `voxels` belong together, once `find` was asked for all of these."""
        roots = self._parent[voxels]
        tops = voxels[roots == voxels]
        number = np.zeros_like(self._parent)
        number[tops] = np.arange(tops.size, dtype=np.int32)
        return MaskParts(number[roots])

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
            lift = lift[apart] + self.turns(before[apart]) - self.turns(after[apart])
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
