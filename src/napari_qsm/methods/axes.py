"""The order in which networks read voxel axes: B0 along the third, changed without a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import Acquisition, FloatArray, Grid, Maps
from napari_qsm.generators import relayed
from napari_qsm.methods.registry import Reconstruction, Step


@dataclass(frozen=True)
class Axes:
    """An order of the voxel axes, and which of them run backwards.

    Parameters
    ----------
    order : tuple[int, int, int]
        Stored axes in their new order.
    flips : tuple of int
        New axes that are reversed.
    """

    order: tuple[int, ...] = (0, 1, 2)
    flips: tuple[int, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Whether everything stays where it is."""
        return self.order == (0, 1, 2) and not self.flips

    def turn(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Return a volume, with echoes last if it has any, in the new order."""
        return np.flip(volume.transpose(*self.order, *range(3, volume.ndim)), self.flips)

    def restore(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Return a volume, with further axes last if it has any, in the stored order again."""
        back = (*np.argsort(self.order), *range(3, volume.ndim))
        return np.ascontiguousarray(np.flip(volume, self.flips).transpose(back))

    def grid(self, stored: Grid) -> Grid:
        """Return the grid in the new order: the same voxels at the same places."""
        affine = np.array(stored.affine)
        affine[:3, :3] = affine[:3, self.order]
        b0 = np.array(stored.b0_direction)[list(self.order)]
        shape = tuple(stored.shape[axis] for axis in self.order)
        for axis in self.flips:
            affine[:3, 3] += (shape[axis] - 1) * affine[:3, axis]
            affine[:3, axis] *= -1
            b0[axis] *= -1
        x, y, z = shape
        return Grid((x, y, z), affine, tuple(b0))


def axes(grid: Grid) -> Axes:
    """Return the order with B0 closest to the third axis, and the others as the scanner's x, y."""
    b0 = np.abs(grid.b0_direction)
    third = int(np.argmax(np.round(b0, 6)))
    others = [axis for axis in range(3) if axis != third]
    columns = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    along_x = np.abs(columns[0, others])
    if along_x[1] > along_x[0] + 1e-6:
        others.reverse()
    order = (*others, third)
    signs = (columns[0, others[0]], columns[1, others[1]], grid.b0_direction[third])
    return Axes(order, tuple(axis for axis, sign in enumerate(signs) if sign < -1e-6))


def in_order(
    acquisition: Acquisition, reconstruct: Callable[[Acquisition], Reconstruction]
) -> Reconstruction:
    """Reconstruct with the axes in the order of `axes`, and bring the maps back; no value changes.

    A network knows left from right and up from down: so data that are only stored in another order
    give the same map.
    """
    acquisition = replace(acquisition, others=())
    order = axes(acquisition.grid)
    if order.unchanged:
        return (yield from reconstruct(acquisition))
    turned = replace(
        acquisition,
        grid=order.grid(acquisition.grid),
        volumes={quantity: order.turn(v) for quantity, v in acquisition.volumes.items()},
    )
    maps = yield from passed_on(reconstruct(turned), order.restore)
    volumes = {quantity: order.restore(volume) for quantity, volume in maps.volumes.items()}
    return Maps(acquisition.grid, volumes, maps.provenance)


def passed_on(
    running: Reconstruction,
    view: Callable[[FloatArray], FloatArray],
    begin: float = 0.0,
    end: float = 1.0,
) -> Reconstruction:
    """Run a reconstruction on another grid as a part of the work, its previews brought back."""

    def back(step: Step) -> Step:
        look = step.preview
        preview = None if look is None else lambda: view(look())
        return replace(step, fraction=begin + (end - begin) * step.fraction, preview=preview)

    return (yield from relayed(running, back))
