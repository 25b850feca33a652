"""Relaxation rates as they come from files and layers, in 1/s, and a map to start from, in ppm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import Acquisition, InputError, Quantity, Volume

RATES = (Quantity.R2STAR, Quantity.R2, Quantity.R2PRIME)

SLOWEST = 0.2
"""Median rate in 1/s below which nothing in a head lies: fluid has 0.5, and in 1/ms all of it lies
below."""

UNFIT = 0.05
"""Part of the mask in which a fit may have failed."""

_PER_MS = ("1/ms", "ms^-1", "ms-1", "khz")
_PER_S = ("1/s", "s^-1", "s-1", "hz")


def rate_factor(quantity: Quantity, unit: str | None) -> float:
    """Return what a rate in `unit` is multiplied by to be in 1/s, where none means 1/s.

    Raises
    ------
    InputError
        If that is no unit of a rate.
    """
    stated = (unit or "1/s").strip().lower().replace(" ", "")
    if stated in _PER_S:
        return 1.0
    if stated in _PER_MS:
        return 1000.0
    raise InputError(
        f"The {quantity.label} is said to be in '{unit}' where 1/s or 1/ms was expected; "
        "correct its sidecar."
    )


def with_rates(acquisition: Acquisition, rates: Mapping[Quantity, Volume]) -> Acquisition:
    """Return a measurement with rates that were measured beside it, in 1/s; see `rate`.

    Raises
    ------
    InputError
        If one lies on another grid, or is no map of a rate.
    """
    for quantity, volume in rates.items():
        if mismatch := acquisition.grid.mismatch(volume.grid):
            name = Path(volume.source).name
            raise InputError(f"The {quantity.label} in {name} {mismatch}; resample it.")
        notes: list[str] = []
        known = np.isfinite(volume.data) & (volume.data != 0)  # there is no mask yet
        acquisition = replace(
            acquisition,
            volumes={**acquisition.volumes, quantity: rate(quantity, volume, known, notes)},
            sources={**acquisition.sources, quantity: volume.source},
            notes=(*acquisition.notes, *notes),
        )
    return acquisition


def beside(
    quantity: Quantity, volume: Volume, inside: NDArray[np.bool_], notes: list[str]
) -> NDArray[np.floating]:
    """Return a `rate` in 1/s, or the `start` of an iteration in ppm, whichever the quantity is."""
    if quantity is Quantity.CHI:
        return start(volume, inside, notes)
    return rate(quantity, volume, inside, notes)


def start(volume: Volume, inside: NDArray[np.bool_], notes: list[str]) -> NDArray[np.floating]:
    """Return a susceptibility to start from, in ppm and zero outside the mask.

    Raises
    ------
    InputError
        If it is not one 3D volume of finite numbers in the mask, in ppm or ppb.
    """
    unit = (volume.unit or "ppm").strip().lower()
    if volume.data.ndim != 3 or unit not in ("ppm", "ppb"):
        raise InputError(
            f"The susceptibility to start from has shape {volume.data.shape} and is in {unit} "
            "where one 3D volume in ppm or ppb was expected; choose another map."
        )
    values = np.where(inside, volume.data, 0).astype(np.float64)
    if count := int(np.count_nonzero(~np.isfinite(values))):
        raise InputError(
            f"The susceptibility to start from holds {count} voxels inside the mask that are not "
            "numbers (NaN or Inf); choose another map."
        )
    if unit == "ppb":
        notes.append("The susceptibility to start from was divided by 1000 to be in ppm.")
        return values / 1000
    return values


def rate(
    quantity: Quantity, volume: Volume, inside: NDArray[np.bool_], notes: list[str]
) -> NDArray[np.floating]:
    """Return a relaxation rate in 1/s; every assumption and conversion leaves a note.

    A layer or file that says 1/s, or nothing, and whose median in the mask is below `SLOWEST` is
    in 1/ms and is converted: no head is that slow.

    Parameters
    ----------
    quantity : Quantity
        One of `RATES`.
    volume : Volume
        3D.
    inside : (X, Y, Z) array of bool
        The mask.
    notes : list of str
        Where notes go.

    Raises
    ------
    InputError
        If it is not one 3D volume of real numbers, is zero throughout the mask, is no number in
        more than `UNFIT` of it, or is said to be in a unit of something else.
    """
    name = quantity.label
    if volume.data.ndim != 3 or volume.data.dtype.kind not in "iuf":
        raise InputError(
            f"The {name} holds {volume.data.dtype} values of shape {volume.data.shape} where one "
            "3D volume of real numbers was expected; choose one volume."
        )
    values = volume.data.astype(np.float64)
    unfit = ~np.isfinite(values)
    values[unfit] = 0
    if (part := np.count_nonzero(unfit & inside) / max(1, int(np.count_nonzero(inside)))) > UNFIT:
        raise InputError(
            f"The {name} is no number (NaN or Inf) in {part:.0%} of the mask where at most "
            f"{UNFIT:.0%} was expected; choose another map or another mask."
        )
    if part:
        notes.append(f"The {name} is no number in {part:.2%} of the mask; it was set to 0 there.")
    factor = rate_factor(quantity, volume.unit)
    positive = values[inside & (values > 0)]
    if not positive.size:
        raise InputError(f"The {name} is not positive anywhere in the mask; choose another map.")
    middle = float(np.median(positive)) * factor
    if factor == 1 and middle < SLOWEST:
        notes.append(
            f"The {name} has a median of {middle:.3g} in the mask, which is too slow for 1/s, so "
            "it was taken to be in 1/ms and multiplied by 1000."
        )
        return values * 1000
    why = "as stated" if volume.unit else "since no unit is stated"
    told = "in 1/ms, as stated, and multiplied by 1000" if factor != 1 else f"in 1/s, {why}"
    notes.append(f"The {name} was taken {told} (median {middle:.3g} 1/s in the mask).")
    return values * factor
