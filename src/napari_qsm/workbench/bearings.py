"""Which way the patient lies on the screen: letters for the borders of a view.

A letter names the direction in which the patient's body continues beyond that border, by the true
affine: on an oblique scan two letters, the nearer one first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_qsm.acquisition import Grid
from napari_qsm.workbench.placement import drawn_affine

_PAIRS = (("L", "R"), ("P", "A"), ("I", "S"))
_NEGLIGIBLE = np.sin(np.radians(15))

UPRIGHT: NDArray[np.float64] = np.eye(3)[::-1]
"""Directions in RAS of the drawn axes S, A, R where nothing better is known."""


class Letters(NamedTuple):
    """What stands at the four borders of a view."""

    left: str
    right: str
    top: str
    bottom: str


def drawn_directions(grid: Grid | None) -> NDArray[np.float64]:
    """Return unit vectors in RAS, one a row, along which the drawn axes S, A, R truly run."""
    if grid is None:
        return UPRIGHT
    columns = drawn_affine(grid)[:3, :3]
    directions: NDArray[np.float64] = (columns / np.linalg.norm(columns, axis=0)).T
    return directions


def letters(direction: ArrayLike) -> str:
    """Name a direction in RAS, such as ``R`` or, 30 degrees off it, ``RA``."""
    v = np.asarray(direction, float)
    v = v / (np.linalg.norm(v) or 1)
    order = np.argsort(-np.abs(v), kind="stable")
    return "".join(_PAIRS[axis][int(v[axis] > 0)] for axis in order if abs(v[axis]) > _NEGLIGIBLE)


def screen_directions(
    displayed: Sequence[int],
    orientation: Sequence[str],
    view: Sequence[float] = (),
    up: Sequence[float] = (),
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Drawn (S, A, R) vectors that point right and up on the screen.

    Parameters
    ----------
    displayed : sequence of int
        Drawn axes on show, the horizontal one last.
    orientation : sequence of str
        Where depth, vertical and horizontal axis grow: towards or away, up or down, left or right.
    view, up : sequence of float
        Directions of the camera among three displayed axes; not needed for two.
    """
    if len(displayed) == 2:
        right, top = np.zeros(3), np.zeros(3)
        right[displayed[1]] = 1.0 if orientation[2] == "right" else -1.0
        top[displayed[0]] = 1.0 if orientation[1] == "up" else -1.0
        return right, top
    usual = ("towards", "down", "right")  # in which the three axes are right-handed
    turned = sum(is_ != was for is_, was in zip(orientation, usual, strict=True))
    across = np.cross(view, up) * (-1.0) ** turned
    right, top = np.zeros(3), np.zeros(3)
    right[list(displayed)], top[list(displayed)] = across, up
    return right, top


def border_letters(
    right: NDArray[np.float64], up: NDArray[np.float64], grid: Grid | None
) -> Letters:
    """Letters of a view whose right and up are these drawn vectors, on the true grid."""
    directions = drawn_directions(grid)
    across, along = right @ directions, up @ directions
    return Letters(letters(-across), letters(across), letters(along), letters(-along))
