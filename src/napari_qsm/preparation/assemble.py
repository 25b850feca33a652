"""From loaded volumes to a checked `Acquisition` whose field is in ppm.

The command line and the window both come through `assemble`; it is the only place where units are
decided, masks are made boolean, magnitudes combined and noise maps looked over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity, Volume
from napari_qsm.physics.units import FieldUnit, ppm_per_unit
from napari_qsm.preparation.rates import RATES, beside

T = TypeVar("T")

TYPICAL_SPREAD = 0.015
"""Robust standard deviation of the local field of a brain in ppm (0.01 to 0.02 at 3 T)."""


def assemble(
    field: Volume,
    mask: Volume | None = None,
    magnitude: Volume | None = None,
    noise: Volume | None = None,
    *,
    r2star: Volume | None = None,
    r2: Volume | None = None,
    r2prime: Volume | None = None,
    start: Volume | None = None,
    unit: FieldUnit | None = None,
    field_strength: float | None = None,
    echo_time: float | None = None,
    b0_direction: ArrayLike | None = None,
) -> Acquisition:
    """Bring a local field and what was measured beside it together on the field's grid.

    What the caller states goes before what the files state; without either, ppm is assumed and
    noted. Every conversion leaves a sentence in `Acquisition.notes`.

    Parameters
    ----------
    field : Volume
        3D local field in any `FieldUnit`.
    mask : Volume, optional
        3D; probabilities are cut at 0.5, labels count as inside. Without it, the mask is where the
        field is finite and not zero.
    magnitude : Volume, optional
        3D, or 4D with echoes last: then the root of the sum of squares is taken.
    noise : Volume, optional
        3D standard deviation of the field, as the preparation makes it; in ppm unless its file
        states another `FieldUnit`. 0 says that nothing is known of a voxel.
    r2star, r2, r2prime, start : Volume, optional
        3D relaxation rates, and a susceptibility that methods start from; see `rates.beside`.
    unit, field_strength, echo_time : optional
        Unit of the field, B0 in tesla, echo time in seconds.
    b0_direction : array_like of three numbers, optional
        B0 along the stored voxel axes.

    Returns
    -------
    Acquisition
        In ppm and 1/s; the field is zero where it was not finite outside the mask. Its history is
        that of the field.

    Raises
    ------
    InputError
        If volumes do not lie on one grid, the mask is empty or no mask, the field holds NaN inside
        it or zeros only, a constant that the conversion needs is missing, the numbers cannot be in
        the unit that was assumed or read from a file, or the noise is negative, or not a number or
        zero throughout inside the mask.
    """
    kinds = zip((*RATES, Quantity.CHI), (r2star, r2, r2prime, start), strict=True)
    more = {quantity: volume for quantity, volume in kinds if volume is not None}
    others = [v for v in (mask, magnitude, noise, *more.values()) if v is not None]
    # Where B0 lies is decided by the field alone, so doubts about it elsewhere do not matter.
    notes = [*field.notes, *(n for v in others for n in v.notes if not about_b0(n))]
    volumes = [field, *others]
    grid = _grid(field, b0_direction, notes)
    # Those of a rate are of the echoes it was fitted to, which need not be the field's.
    times = [v.echo_times or None for v in volumes if v not in more.values()]
    constants = Acquisition(
        grid,
        {},
        _first([field_strength, *(v.field_strength for v in volumes)]),
        _first([None if echo_time is None else (echo_time,), *times]) or (),
    )
    inside = _mask(field, mask, notes)
    filled = _filled(field, inside, notes)
    ppm = _in_ppm(filled, inside, field, unit, constants, notes)
    made: dict[Quantity, NDArray[np.generic]] = {Quantity.LOCAL_FIELD: ppm, Quantity.MASK: inside}
    named = {Quantity.LOCAL_FIELD: field, Quantity.MASK: mask}
    if magnitude is not None:
        made[Quantity.MAGNITUDE] = _magnitude(field, magnitude, notes)
        named[Quantity.MAGNITUDE] = magnitude
    if noise is not None:
        made[Quantity.FIELD_NOISE] = _noise(field, noise, inside, constants, notes)
        named[Quantity.FIELD_NOISE] = noise
    for quantity, volume in more.items():
        _refuse_misfit(f"{quantity.label} map", field, volume)
        made[quantity] = beside(quantity, volume, inside, notes)
        named[quantity] = volume
    return Acquisition(
        grid,
        made,
        constants.field_strength,
        constants.echo_times,
        sources={q: v.source for q, v in named.items() if v is not None and v.source},
        notes=tuple(dict.fromkeys(notes)),
        history=field.history,
    )


def about_b0(note: str) -> bool:
    """Whether what a note says of a file (not the file's name) is about the direction of B0."""
    return "B0" in note.partition(": ")[2]


def spread(values: NDArray[np.floating]) -> float:
    """Robust standard deviation: half the distance of the 16th and 84th percentile."""
    low, high = np.percentile(values, (15.866, 84.134))
    return float(high - low) / 2


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)


def _grid(field: Volume, b0_direction: ArrayLike | None, notes: list[str]) -> Grid:
    if field.data.ndim != 3:
        raise InputError(
            f"The field has shape {field.data.shape} where one 3D local field was expected; "
            "combine the echoes and remove the background first."
        )
    if field.data.dtype.kind not in "iufb":
        raise InputError(
            f"The field holds {field.data.dtype} values where real numbers were expected; choose "
            "a local field."
        )
    if b0_direction is None:
        return field.grid
    grid = field.grid.with_b0(b0_direction)
    stated = ", ".join(f"{b:.3f}" for b in grid.b0_direction)
    notes.append(f"B0 was set to ({stated}) along the stored voxel axes.")
    return grid


def _refuse_misfit(name: str, field: Volume, other: Volume) -> None:
    if trouble := field.grid.mismatch(other.grid):
        raise InputError(
            f"The {name} {trouble}; choose one of the field's acquisition or resample it."
        )


def _mask(field: Volume, mask: Volume | None, notes: list[str]) -> NDArray[np.bool_]:
    if mask is None:
        inside: NDArray[np.bool_] = np.isfinite(field.data) & (field.data != 0)
        if not inside.any():
            raise InputError(
                "The field holds no number other than zero; choose the volume with the local field."
            )
        notes.append(
            f"No mask was given, so the {np.count_nonzero(inside)} voxels in which the field is "
            "not zero were taken as the mask."
        )
        return inside
    if mask.data.ndim != 3:
        raise InputError(
            f"The mask has shape {mask.data.shape} where a 3D volume was expected; choose one "
            "volume."
        )
    _refuse_misfit("mask", field, mask)
    inside = binary(mask.data, notes)
    if not inside.any():
        raise InputError("The mask is empty; paint or choose one that covers the brain.")
    return inside


def binary(values: NDArray[np.generic], notes: list[str]) -> NDArray[np.bool_]:
    """Make a mask of ones and zeros, probabilities or labels boolean; say in `notes` how.

    Raises
    ------
    InputError
        If the values are none of these.
    """
    if values.dtype == bool:
        return values.astype(np.bool_)
    numbers: NDArray[np.float64] = np.nan_to_num(
        values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0
    )
    if unfit := int(np.count_nonzero(~np.isfinite(values))):
        notes.append(f"{unfit} voxels of the mask are no numbers and count as outside.")
    low, high = float(numbers.min()), float(numbers.max())
    whole = bool((numbers == np.rint(numbers)).all())
    if low < 0 or (high > 1 and not whole):
        raise InputError(
            f"The mask holds values from {low:.4g} to {high:.4g} where 0 and 1, probabilities or "
            "labels were expected; choose another volume."
        )
    if high > 1:
        notes.append(f"The mask holds labels up to {high:g}; all but 0 count as inside.")
    elif not whole:
        notes.append("The mask holds probabilities; those from 0.5 count as inside.")
    return np.asarray(numbers >= 0.5)


def _filled(field: Volume, inside: NDArray[np.bool_], notes: list[str]) -> NDArray[np.floating]:
    """Return the field with zeros where it is not finite outside the mask."""
    values = field.data.astype(np.float64)
    unfit = ~np.isfinite(values)
    if count := int(np.count_nonzero(unfit & inside)):
        raise InputError(
            f"The field holds {count} voxels inside the mask that are not numbers (NaN or Inf); "
            "leave them out of the mask."
        )
    if count := int(np.count_nonzero(unfit)):
        values[unfit] = 0
        notes.append(f"{count} voxels of the field outside the mask were no numbers; set to 0.")
    if not values[inside].any():
        raise InputError(
            "The field is zero everywhere inside the mask; choose the volume with the local field."
        )
    return values


def _in_ppm(
    values: NDArray[np.floating],
    inside: NDArray[np.bool_],
    field: Volume,
    unit: FieldUnit | None,
    constants: Acquisition,
    notes: list[str],
) -> NDArray[np.floating]:
    chosen = unit or _stated_unit("field", field)
    if chosen is None:
        notes.append("No unit is stated for the field, so ppm was assumed.")
    taken = chosen or FieldUnit.PPM
    factor = _factor(taken, constants)
    with np.errstate(over="ignore"):
        ppm = values * factor
    if (highest := float(np.abs(ppm).max())) > 1e6:
        raise InputError(
            f"The field reaches {highest:.3g} ppm, which no field does; state its unit or repair "
            "the file."
        )
    if unit is None:
        _refuse_unit(ppm[inside], taken, factor, constants)
    if factor != 1:
        notes.append(f"The field was multiplied by {factor:.6g} to come from {taken.value} to ppm.")
    return ppm


def _stated_unit(name: str, volume: Volume) -> FieldUnit | None:
    if not volume.unit:
        return None
    try:
        return FieldUnit.parse(volume.unit)
    except ValueError:
        known = ", ".join(unit.value for unit in FieldUnit)
        raise InputError(
            f"The {name} is said to be in '{volume.unit}', which is no unit of a field; state one "
            f"of {known}."
        ) from None


def _factor(unit: FieldUnit, constants: Acquisition) -> float:
    times = constants.echo_times
    if unit is FieldUnit.RAD and len(times) > 1:
        raise InputError(
            f"A field in rad needs the one echo time (or echo spacing) that it belongs to, but "
            f"{len(times)} are known; state it in seconds."
        )
    try:
        return ppm_per_unit(
            unit,
            field_strength=constants.field_strength,
            echo_time=times[0] if times else None,
        )
    except ValueError as error:
        raise InputError(str(error)) from None


def _refuse_unit(
    ppm: NDArray[np.floating], unit: FieldUnit, factor: float, constants: Acquisition
) -> None:
    """Refuse numbers whose spread is far from that of any local field in ``unit``.

    A robust spread above 1 ppm is too large. Too small is a standard deviation below 0.001 ppm for
    a unit that had to be converted (0.13 Hz at 3 T), and below 1e-5 ppm for ppm itself; strong
    sources in a wide empty mask (peaks of 100 times that) are not meant.
    """
    width, deviation = spread(ppm), float(ppm.std())
    floor = 1e-5 if unit is FieldUnit.PPM else 1e-3
    if width <= 1 and max(deviation, float(np.abs(ppm).max()) / 100) >= floor:
        return
    found = (width if width > 1 else deviation) / factor
    guess = _likely_unit(found, constants)
    hint = "" if guess is unit else f" and the numbers look like {guess.value}"
    raise InputError(
        f"Inside the mask the field varies by {found:.3g} {unit.value} where about "
        f"{TYPICAL_SPREAD / factor:.2g} {unit.value} was expected of a local field{hint}; state "
        "the unit."
    )


def _likely_unit(width: float, constants: Acquisition) -> FieldUnit:
    """Return the unit in which a spread of ``width`` comes closest to that of a brain."""
    strength = constants.field_strength or 3.0
    time = constants.echo_times[0] if constants.echo_times else 0.02

    def distance(unit: FieldUnit) -> float:
        factor = ppm_per_unit(unit, field_strength=strength, echo_time=time)
        return abs(math.log(max(width, 1e-30) * factor / TYPICAL_SPREAD))

    return min(FieldUnit, key=distance)


def _magnitude(field: Volume, magnitude: Volume, notes: list[str]) -> NDArray[np.floating]:
    _refuse_misfit("magnitude", field, magnitude)
    given = magnitude.data if magnitude.data.ndim == 4 else magnitude.data[..., None]
    combined, unfit, highest = np.zeros(given.shape[:3]), 0, 0.0
    for echo in range(given.shape[3]):  # one at a time: five echoes of a head fill gigabytes
        values = given[..., echo].astype(np.float64)
        if count := int(np.count_nonzero(~np.isfinite(values))):
            values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
            unfit += count
        highest = max(highest, float(values.max()))
        combined += np.square(values) if magnitude.data.ndim == 4 else values
    if unfit:
        notes.append(f"{unfit} voxels of the magnitude were no numbers; set to 0.")
    if highest <= 0 or highest > 1e15:
        raise InputError(
            f"The magnitude reaches {highest:.3g} where a positive signal was expected; choose "
            "another volume."
        )
    if magnitude.data.ndim == 3:
        return combined
    notes.append(
        f"The {given.shape[3]} echoes of the magnitude were combined (root of the sum of squares)."
    )
    return np.sqrt(combined)


def _noise(
    field: Volume,
    noise: Volume,
    inside: NDArray[np.bool_],
    constants: Acquisition,
    notes: list[str],
) -> NDArray[np.floating]:
    """Return the standard deviation of the field in ppm, zero where it is unknown."""
    if noise.data.ndim != 3 or noise.data.dtype.kind not in "iuf":
        raise InputError(
            f"The noise map holds {noise.data.dtype} values of shape {noise.data.shape} where one "
            "3D volume of real numbers was expected; choose one volume."
        )
    _refuse_misfit("noise map", field, noise)
    unit = _stated_unit("noise map", noise)
    if unit is None:
        notes.append("No unit is stated for the noise map, so ppm was assumed.")
    factor = _factor(unit or FieldUnit.PPM, constants)
    values = noise.data.astype(np.float64) * factor
    if factor != 1:
        notes.append(f"The noise map was multiplied by {factor:.6g} to be in ppm.")
    unfit = ~np.isfinite(values)
    if count := int(np.count_nonzero(unfit & inside)):
        raise InputError(
            f"The noise map holds {count} voxels inside the mask that are not numbers (NaN or "
            "Inf); set them to 0, which gives them no weight, or choose another volume."
        )
    if count := int(np.count_nonzero(unfit)):
        values[unfit] = 0
        notes.append(f"{count} voxels of the noise map outside the mask were no numbers; set to 0.")
    _refuse_noise(values, inside)
    return values


def _refuse_noise(ppm: NDArray[np.floating], inside: NDArray[np.bool_]) -> None:
    """Refuse what is no standard deviation of any field that was measured."""
    if (lowest := float(ppm.min())) < 0:
        raise InputError(
            f"The noise map goes down to {lowest:.3g} ppm where a standard deviation, which is "
            "never negative, was expected; choose another volume."
        )
    if not (middle := float(np.median(ppm[inside]))) <= 1:
        raise InputError(
            f"The noise map has a median of {middle:.3g} ppm inside the mask where far less than 1 "
            "ppm was expected; state its unit in its sidecar or choose another volume."
        )
    if not ppm[inside].any():
        raise InputError(
            "The noise map is zero everywhere inside the mask; choose another volume or none."
        )
