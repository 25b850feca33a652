"""Where a stored volume lies on the screen, and which voxel lies under the cursor.

napari draws layer axes in the order (S, A, R) with positive mm scales; a layer never gets the
oblique affine of the scanner (napari turns it into a wrong or singular picture, napari#3410,
napari#2616). Arrays are therefore turned, without copying, to the closest S, A, R order, and the
true affine answers every question about mm.
"""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
from nibabel.affines import apply_affine
from nibabel.orientations import (
    aff2axcodes,
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import ArrayLike, NDArray

from napari_qsm.acquisition import Grid

DISPLAY_AXES = ("S", "A", "R")

ECHO_AXIS = "echo"
"""Label of the axis in front of the others where a volume has several echoes."""


class Placement(TypedDict):
    """Layer keywords that put an (S, A, R) array at its place in mm."""

    scale: tuple[float, ...]
    translate: tuple[float, ...]
    units: tuple[str, ...]
    axis_labels: tuple[str, ...]


def _turn(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orientation transform from stored voxel axes to (S, A, R)."""
    turn: NDArray[np.float64] = ornt_transform(
        io_orientation(affine), axcodes2ornt("".join(DISPLAY_AXES))
    )
    return turn


def to_display(data: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """View of `data` (stored voxel order, echoes last if any) along S, A, R, echoes first."""
    turned: NDArray[Any] = apply_orientation(data, _turn(grid.affine))
    return turned if turned.ndim == 3 else np.moveaxis(turned, -1, 0)


def from_display(data: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """View of `data` (S, A, R) along the stored voxel axes of `grid`; undoes `to_display`."""
    back = ornt_transform(axcodes2ornt("".join(DISPLAY_AXES)), io_orientation(grid.affine))
    last = data if data.ndim == 3 else np.moveaxis(data, 0, -1)
    stored: NDArray[Any] = apply_orientation(last, back)
    return stored


def display_shape(grid: Grid) -> tuple[int, ...]:
    """Shape of a volume on `grid` once turned to (S, A, R)."""
    turn = _turn(grid.affine)
    return tuple(grid.shape[int(np.flatnonzero(turn[:, 0] == axis)[0])] for axis in range(3))


def drawn_affine(grid: Grid) -> NDArray[np.float64]:
    """Affine from index along (S, A, R) to true scanner position in RAS mm."""
    affine: NDArray[np.float64] = grid.affine @ inv_ornt_aff(_turn(grid.affine), grid.shape)
    return affine


def place(grid: Grid, *, echoes: bool = False) -> Placement:
    """Return scale, translation, units and axis labels of a layer that shows a volume on `grid`.

    With `echoes`, an axis that counts them comes in front.

    An oblique grid is drawn de-obliqued about its centre: mm read off the drawing are right at the
    centre and off by up to sin(angle) times the distance from it elsewhere, which is why
    `locate` never uses them.
    """
    affine = drawn_affine(grid)
    scale = np.linalg.norm(affine[:3, :3], axis=0)
    centre = (np.array(display_shape(grid)) - 1) / 2
    world = apply_affine(affine, centre)[::-1]  # (R, A, S) -> (S, A, R)
    translate = world - scale * centre
    front = 1 if echoes else 0
    return Placement(
        scale=(1.0,) * front + tuple(float(s) for s in scale),
        translate=(0.0,) * front + tuple(float(t) for t in translate),
        units=("pixel",) * front + ("mm",) * 3,
        axis_labels=(ECHO_AXIS,) * front + DISPLAY_AXES,
    )


def locate(
    position: ArrayLike, grid: Grid
) -> tuple[tuple[int, int, int], tuple[float, float, float]] | None:
    """Return the stored voxel and its true RAS mm under a drawn position, or None outside.

    Parameters
    ----------
    position : (3,) array
        Drawn coordinates along S, A, R in mm, as the cursor reports them; axes in front of these,
        such as that of the echoes, do not matter.
    grid : Grid
        Grid of the volume in question.
    """
    placed = place(grid)
    index = np.rint((np.asarray(position, float)[-3:] - placed["translate"]) / placed["scale"])
    if (index < 0).any() or (index >= display_shape(grid)).any():
        return None
    voxel = np.rint(apply_affine(inv_ornt_aff(_turn(grid.affine), grid.shape), index)).astype(int)
    i, j, k = (int(n) for n in voxel)
    right, anterior, superior = (float(x) for x in apply_affine(grid.affine, voxel))
    return (i, j, k), (right, anterior, superior)


def stored_codes(grid: Grid) -> str:
    """Direction in which each stored voxel axis grows, for example ``LPS``."""
    return "".join(str(code) for code in aff2axcodes(grid.affine))
