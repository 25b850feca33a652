"""The value of every map under the cursor, in its unit, at the true scanner position."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from napari_qsm.workbench.layers import facts_of, grid_of
from napari_qsm.workbench.placement import from_display, locate

if TYPE_CHECKING:
    from napari.layers import Layer


@dataclass(frozen=True)
class Reading:
    """One layer's value at the cursor.

    Parameters
    ----------
    name : str
        Layer name.
    value : float
        In `unit`.
    unit : str
        Unit of the value, empty if it has none.
    """

    name: str
    value: float
    unit: str


@dataclass(frozen=True)
class Readout:
    """Everything under the cursor.

    Parameters
    ----------
    voxel : tuple[int, int, int]
        Stored voxel index of the first layer hit.
    position : tuple[float, float, float]
        Its scanner position R, A, S in mm by the true affine.
    readings : tuple[Reading, ...]
        Top layer first.
    """

    voxel: tuple[int, int, int]
    position: tuple[float, float, float]
    readings: tuple[Reading, ...]


def read_at(layers: Iterable[Layer], position: ArrayLike) -> Readout | None:
    """Read all layers of ours at a drawn position; None where none lies there.

    The position is S, A, R in mm, with the number of the echo in front where layers have several.
    """
    at = np.asarray(position, dtype=float)
    echo = round(float(at[0])) if at.size > 3 else 0
    readings: list[Reading] = []
    where = None
    for layer in reversed(list(layers)):
        facts, grid = facts_of(layer), grid_of(layer)
        if facts is None or grid is None:
            continue
        hit = locate(at, grid)
        if hit is None:
            continue
        where = where or hit
        values = np.atleast_1d(from_display(layer.data, grid)[hit[0]])
        value = float(values[min(max(echo, 0), values.size - 1)])
        readings.append(Reading(layer.name, value, facts.get("unit") or ""))
    return Readout(*where, tuple(readings)) if where else None
