"""Where the magnitude has edges, so that susceptibility may have them, too."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.generators import relayed
from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics.fourier import AXES
from napari_qsm.physics.gradient import Gradient
from napari_qsm.preparation.strength import total_signal
from napari_qsm.process import Step
from napari_qsm.solvers.admm import Differences, slabs

SAMPLE = 1_000_000
"""Differences a quantile is taken over; more would not change its third digit."""

FLOOR = 1e-4
"""Part of the largest difference up to which one is rounding and no edge."""


def spared(
    acquisition: Acquisition, space: Workspace, gradient: Gradient, share: float
) -> Generator[Step, None, Tensor]:
    """Return M of an acquisition, noted: 0 at the edges of the magnitude, where there is one."""
    if share and Quantity.MAGNITUDE not in acquisition:
        space.notes.append("There is no magnitude, so no edges are spared.")
    if not share or Quantity.MAGNITUDE not in acquisition:
        return torch.ones((3, *space.shape), device=space.device)
    magnitude = space.place(total_signal(acquisition[Quantity.MAGNITUDE]))
    looking = smooth_neighbours(magnitude, space.region(), gradient, share)
    selection, found = yield from relayed(looking, lambda _: space.step(0.0, "looking for edges"))
    if found:
        told = f"{found:.0%} of the pairs of neighbours in the mask are edges of the magnitude and"
        space.notes.append(f"{told} may be edges of the susceptibility.")
    else:
        space.notes.append("The magnitude has no edges, so none are spared.")
    kept: Tensor = selection
    return kept


def smooth_neighbours(
    magnitude: Tensor, region: Tensor, gradient: Differences, share: float
) -> Generator[None, None, tuple[Tensor, float]]:
    """Select the differences between neighbours that are not edges of the magnitude.

    An edge is a pair of neighbours in the region whose difference is among the largest: as many
    pairs as `share` times 3 times the voxels of the region, counted over all three axes, or all
    pairs that differ at all if those are fewer. Pairs that differ as much as the last one belong
    to them. Where a neighbour lies outside the region there are no edges: what is outside has no
    magnitude to tell.

    Parameters
    ----------
    magnitude : (X, Y, Z) tensor
        In any unit.
    region : (X, Y, Z) tensor of bool
        Where it was measured.
    gradient : Differences
        G.
    share : float
        0 for no edges at all.

    Returns
    -------
    selection : (3, X, Y, Z) tensor
        1 where a difference counts, 0 where it is an edge.
    share : float
        Edges there are, as a part of 3 times the voxels of the region.

    Notes
    -----
    Reference: Liu et al. 2011, doi:10.1002/mrm.22816, for the idea. Its usual program spares
    differences until they are 0.9 times as many as there are voxels in the mask, which is a share
    of 0.3 here.
    """
    differences = magnitude.new_zeros((3, *magnitude.shape))
    for axis, component in zip(AXES, differences, strict=True):
        both = region & region.roll(-1, axis)
        for slab in slabs(magnitude):
            gradient.difference(magnitude, axis, slab, component[slab]).abs_().mul_(both[slab])
        yield
    places = 3 * int(torch.count_nonzero(region))
    level = _level(differences, share * places)
    yield
    found = 0
    for component in differences:
        edges = component >= level
        found += int(torch.count_nonzero(edges))
        component.copy_(edges.logical_not_())
        yield
    return differences, found / max(places, 1)


def _level(differences: Tensor, count: float) -> float:
    """Return the size of the `count`-th largest difference, but not one that is rounding."""
    largest = float(differences.max())
    if count < 1 or not largest > 0:
        return float("inf")
    values = differences.flatten()
    stride = max(1, values.numel() // SAMPLE)
    sample = values[::stride]
    rank = min(max(1, round(count / stride)), sample.numel())
    level = float(sample.kthvalue(sample.numel() + 1 - rank).values)
    return max(level, FLOOR * largest)
