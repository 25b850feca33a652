"""Files of known quantities together as one acquisition, for a stage that is run by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_qsm.acquisition import Acquisition, InputError, Quantity, Volume
from napari_qsm.io.nifti import read_volume
from napari_qsm.physics.units import FieldUnit, ppm_per_unit
from napari_qsm.preparation.assemble import binary
from napari_qsm.preparation.phase_scale import decide
from napari_qsm.preparation.rates import RATES, rate_factor

_FIELDS = (Quantity.TOTAL_FIELD, Quantity.LOCAL_FIELD, Quantity.FIELD_NOISE)


def read_quantities(
    files: Mapping[Quantity, Path],
    *,
    echo_times: Sequence[float] | None = None,
    field_strength: float | None = None,
    b0_direction: ArrayLike | None = None,
) -> Acquisition:
    """Read volumes whose meaning is stated and bring them to the units that are used inside.

    Phases become rad in [-pi, pi), fields ppm, rates 1/s and masks boolean, by what the sidecars
    state of their units; every conversion and every assumption leaves a note.

    Parameters
    ----------
    files : mapping of Quantity to Path
        NIfTI files on one grid; at least one.
    echo_times : sequence of float, optional
        In s; goes before what the files state.
    field_strength : float, optional
        B0 in T; goes before what the files state.
    b0_direction : array_like of three numbers, optional
        B0 along the stored voxel axes.

    Raises
    ------
    InputError
        If the files do not lie on one grid, or their numbers or units cannot be what is stated.
    """
    volumes = {quantity: read_volume(path) for quantity, path in files.items()}
    if not volumes:
        raise InputError("There is no input; state one as QUANTITY=FILE.")
    first = next(iter(volumes.values()))
    notes = list(dict.fromkeys(note for volume in volumes.values() for note in volume.notes))
    grid = first.grid
    if b0_direction is not None:
        grid = grid.with_b0(b0_direction)
        stated = ", ".join(f"{b:.3f}" for b in grid.b0_direction)
        notes.append(f"B0 was set to ({stated}) along the stored voxel axes.")
    for quantity, volume in volumes.items():
        if trouble := first.grid.mismatch(volume.grid):
            raise InputError(f"The {quantity.label} {trouble}; choose files of one measurement.")
    known = Acquisition(
        grid,
        {},
        _first(field_strength, *(volume.field_strength for volume in volumes.values())),
        _first(echo_times, *(volume.echo_times or None for volume in volumes.values())) or (),
    )
    values = {q: _converted(q, volume, known, notes) for q, volume in volumes.items()}
    sources = {q: volume.source for q, volume in volumes.items()}
    return replace(known, volumes=values, sources=sources, notes=tuple(notes))


_ECHOES = frozenset({Quantity.PHASE, Quantity.MAGNITUDE, Quantity.UNWRAPPED, Quantity.OFFSET})
"""What may have several echoes; everything else is one volume."""


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _converted(
    quantity: Quantity, volume: Volume, known: Acquisition, notes: list[str]
) -> NDArray[Any]:
    if volume.data.ndim == 4 and quantity not in _ECHOES:
        raise InputError(
            f"The {quantity.label} has shape {volume.data.shape} where one 3D volume was expected; "
            "choose one volume."
        )
    if quantity is Quantity.MASK:
        return binary(volume.data, notes)
    if quantity is Quantity.MAGNITUDE and (lowest := float(np.nanmin(volume.data))) < 0:
        raise InputError(
            f"The magnitude reaches down to {lowest:.3g} where none is negative; check that it is "
            "not the phase or one part of a complex image."
        )
    if quantity is Quantity.PHASE:
        data = volume.data if volume.data.ndim == 4 else volume.data[..., None]
        scaling = decide(list(np.moveaxis(data, -1, 0)), unit=volume.unit)
        notes.append(scaling.note)
        return scaling(volume.data)
    if quantity in _FIELDS:
        return _scaled(quantity, volume, _field_factor(volume, known, quantity), notes)
    if quantity in RATES:
        return _scaled(quantity, volume, rate_factor(quantity, volume.unit), notes)
    return volume.data


def _scaled(quantity: Quantity, volume: Volume, factor: float, notes: list[str]) -> NDArray[Any]:
    if not volume.unit:
        notes.append(f"No unit is stated for the {quantity.label}, so {quantity.unit} was assumed.")
    if factor == 1:
        return volume.data
    notes.append(
        f"The {quantity.label} was multiplied by {factor:.6g} to come from {volume.unit} to "
        f"{quantity.unit}."
    )
    scaled: NDArray[Any] = volume.data * np.float32(factor)
    return scaled


def _field_factor(volume: Volume, known: Acquisition, quantity: Quantity) -> float:
    if not volume.unit:
        return 1.0
    try:
        return ppm_per_unit(
            FieldUnit.parse(volume.unit),
            field_strength=known.field_strength,
            echo_time=known.echo_times[0] if len(known.echo_times) == 1 else None,
        )
    except ValueError as error:
        raise InputError(f"The {quantity.label} cannot be used: {error}") from None
