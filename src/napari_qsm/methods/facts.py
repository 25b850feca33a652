"""Small facts that follow from what was measured, found out once for all runs on it.

A sweep, a warm restart and a live lambda reconstruct from the same volumes again and again, and
spend a good part of their time on finding the same noise, error and weights. Nobody can write to
the volumes of an acquisition, so that whoever has the same volumes has the same facts.
"""

from __future__ import annotations

from typing import Any
from weakref import ReferenceType, ref

from napari_qsm.acquisition import Acquisition, Quantity

MEASURED = (Quantity.LOCAL_FIELD, Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE)
"""What facts may follow from, besides the grid. A susceptibility to start from is none of it."""

_known: list[tuple[list[ReferenceType[Any]], tuple[Any, ...], dict[str, Any]]] = []
"""Facts, beside the volumes they follow from, which are not kept alive here."""


def facts_of(acquisition: Acquisition, place: tuple[Any, ...]) -> dict[str, Any]:
    """Return the facts known so far of just these volumes at one place; new ones may be added.

    Those of volumes that are gone are dropped.

    Parameters
    ----------
    acquisition : Acquisition
        Whose volumes of `MEASURED` count, by identity.
    place : tuple
        On what else they depend, such as a padded shape and a device.
    """
    measured = [acquisition.volumes.get(quantity) for quantity in MEASURED]
    place = (*place, acquisition.grid, *(volume is None for volume in measured))
    volumes = [volume for volume in measured if volume is not None]
    _known[:] = [entry for entry in _known if all(kept() is not None for kept in entry[0])]
    for references, where, facts in _known:
        if where == place and all(
            kept() is volume for kept, volume in zip(references, volumes, strict=True)
        ):
            return facts
    made: dict[str, Any] = {}
    _known.append(([ref(volume) for volume in volumes], place, made))
    return made
