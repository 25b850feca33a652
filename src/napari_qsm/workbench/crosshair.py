"""One place in the head that all views show, and what every map says there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import ArrayLike, NDArray
from psygnal import Signal

from napari_qsm.acquisition import Grid, Quantity
from napari_qsm.workbench.layers import facts_of, grid_of, quantity_of
from napari_qsm.workbench.placement import drawn_affine, from_display, locate, place

if TYPE_CHECKING:
    from napari.layers import Layer

Position = tuple[float, float, float]


class Crosshair:
    """A drawn position (S, A, R in mm) that views share; free of Qt.

    Attributes
    ----------
    moved : Signal
        Emitted with the new position after it has changed.
    """

    moved = Signal(tuple)

    def __init__(self, position: Position = (0.0, 0.0, 0.0)) -> None:
        self.position = position

    def move(self, position: ArrayLike) -> None:
        """Go to a drawn position; axes in front of S, A, R do not matter."""
        superior, anterior, right = (float(x) for x in np.asarray(position, float)[-3:])
        if (superior, anterior, right) != self.position:
            self.position = (superior, anterior, right)
            self.moved.emit(self.position)


def voxel_position(voxel: Sequence[int], grid: Grid) -> Position:
    """Drawn position (S, A, R in mm) of the centre of a stored voxel; undoes `locate`."""
    ras = apply_affine(grid.affine, np.asarray(voxel, float))
    index = apply_affine(np.linalg.inv(drawn_affine(grid)), ras)
    placed = place(grid)
    drawn = np.asarray(placed["translate"]) + index * np.asarray(placed["scale"])
    superior, anterior, right = (float(x) for x in drawn)
    return superior, anterior, right


@dataclass(frozen=True)
class Certainty:
    """A map's value at the crosshair with its uncertainty.

    Parameters
    ----------
    name : str
        Layer name.
    value : float
        In `unit`.
    sigma : float or None
        Standard deviation of the same result's sigma map there, if it has one.
    unit : str
        Unit of both.
    """

    name: str
    value: float
    sigma: float | None
    unit: str

    def spoken(self, *, ppb: bool = False) -> str:
        """Value, plus or minus sigma, with its unit; ppm may be said in ppb."""
        scale, unit = (1000.0, "ppb") if ppb and self.unit == "ppm" else (1.0, self.unit)
        text = f"{scale * self.value:.4g}"
        if self.sigma is not None:
            text += f" ± {scale * self.sigma:.2g}"
        return f"{text} {unit}".rstrip()


def values_at(
    layers: Iterable[Layer], position: ArrayLike, steps: Sequence[int] = ()
) -> tuple[Certainty, ...]:
    """Return every map's value at a drawn position, the top layer first.

    Parameters
    ----------
    layers : iterable of Layer
        Those of ours that lie there are read.
    position : array
        S, A, R in mm.
    steps : sequence of int
        Position of the viewer's sliders, for layers with a fourth axis.
    """
    at = np.asarray(position, float)[-3:]
    front = int(steps[-4]) if len(steps) > 3 else 0
    readings = []
    present = list(layers)
    for layer in reversed(present):
        value = _value(layer, at, front)
        if value is not None:
            unit = (facts_of(layer) or {}).get("unit") or ""
            readings.append(Certainty(layer.name, value, _sigma(layer, present, at, front), unit))
    return tuple(readings)


def _value(layer: Layer, at: NDArray[np.float64], front: int) -> float | None:
    grid = grid_of(layer)
    hit = locate(at, grid) if grid is not None else None
    if grid is None or hit is None:
        return None
    values = np.atleast_1d(from_display(layer.data, grid)[hit[0]])
    return float(values[min(max(front, 0), values.size - 1)])


def _sigma(
    layer: Layer, layers: Iterable[Layer], at: NDArray[np.float64], front: int
) -> float | None:
    """Value of the sigma map that the same reconstruction made."""
    maps = (facts_of(layer) or {}).get("maps")
    if maps is None or quantity_of(layer) is not Quantity.CHI:
        return None
    for other in layers:
        mine = (facts_of(other) or {}).get("maps") is maps
        if mine and quantity_of(other) is Quantity.SIGMA:
            return _value(other, at, front)
    return None


def brightest_along(data: NDArray[Any], start: ArrayLike, end: ArrayLike) -> NDArray[np.float64]:
    """Index of the largest value on the straight way from `start` to `end`, both in voxels.

    That is what a maximum projection shows, so a click in one lands where it seems to.
    """
    begin, finish = np.asarray(start, float), np.asarray(end, float)
    count = max(2, round(2 * float(np.abs(finish - begin).max())) + 1)
    way = begin + np.linspace(0, 1, count)[:, None] * (finish - begin)
    index = np.clip(np.rint(way).astype(int), 0, np.array(data.shape) - 1)
    best: NDArray[np.float64] = index[int(np.argmax(data[tuple(index.T)]))].astype(float)
    return best
