"""What scanners make of several echoes themselves: complex images, differences, maps in Hz."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import Acquisition, InputError, Quantity, Volume
from napari_qsm.physics.units import FieldUnit, ppm_per_unit
from napari_qsm.preparation.raw import (
    AS_STATED,
    Corrections,
    agreed_strength,
    grid_of,
    mask_on,
    merged_notes,
    sources_of,
)

_LARGEST = 1000.0
"""Field in ppm that no scanner can measure: 128 kHz at 3 T."""


def split_complex(signal: Volume) -> tuple[Volume, Volume]:
    """Return phase (rad) and magnitude of a volume of complex numbers.

    Raises
    ------
    InputError
        If there is no imaginary part.
    """
    if signal.data.dtype.kind != "c":
        raise InputError(
            f"{signal.source or 'The signal'} holds {signal.data.dtype} values where complex "
            "numbers were expected; choose the complex image."
        )
    if not np.any(signal.data.imag):
        raise InputError("The imaginary part is 0 everywhere; export the complex image again.")
    note = "Phase and magnitude were computed from the complex signal."
    return _split(signal, signal.data, note)


def split_parts(real: Volume, imaginary: Volume) -> tuple[Volume, Volume]:
    """Return phase (rad) and magnitude of a real and an imaginary part.

    Raises
    ------
    InputError
        If they do not lie on one grid, or are the same.
    """
    trouble = real.grid.mismatch(imaginary.grid)
    if real.data.shape != imaginary.data.shape and not trouble:
        trouble = f"has shape {imaginary.data.shape} where {real.data.shape} was expected"
    if trouble:
        raise InputError(f"The imaginary part {trouble}; choose both parts of one measurement.")
    if np.array_equal(real.data, imaginary.data):
        raise InputError("Real and imaginary part are the same; choose two different files.")
    values = np.empty(real.data.shape, np.complex64)
    values.real, values.imag = real.data, imaginary.data
    note = "Phase and magnitude were computed from real and imaginary part."
    return _split(real, values, note, imaginary)


def _split(
    first: Volume, values: NDArray[np.complexfloating], note: str, second: Volume | None = None
) -> tuple[Volume, Volume]:
    both = [first] if second is None else [first, second]
    source = ", ".join(volume.source for volume in both if volume.source)

    def made(data: NDArray[np.floating], unit: str | None, notes: tuple[str, ...]) -> Volume:
        return Volume(data, first.grid, unit, first.field_strength, first.echo_times, source, notes)

    notes = (*merged_notes(both), note)
    return made(np.angle(values), "rad", notes), made(np.abs(values), None, ())


def effective_magnitude(first: Volume, second: Volume) -> Volume:
    """Return the magnitude that carries a phase difference of two echoes.

    The variances of the two phases, ``(sigma / m)^2``, add up in their difference, so that
    ``m = 1 / sqrt(1 / m1^2 + 1 / m2^2)``; 0 where either echo has no signal.

    Raises
    ------
    InputError
        If they do not lie on one grid.
    """
    if trouble := first.grid.mismatch(second.grid):
        raise InputError(
            f"The second magnitude {trouble}; choose both magnitudes of one measurement."
        )
    m1, m2 = (np.nan_to_num(v.data.astype(np.float32)) for v in (first, second))
    length = np.hypot(m1, m2)
    data = np.divide(m1 * m2, length, out=np.zeros_like(length), where=length > 0)
    note = "The magnitude of the phase difference is 1 / sqrt(1 / m1^2 + 1 / m2^2) of its echoes."
    return Volume(
        data,
        first.grid,
        field_strength=first.field_strength,
        source=", ".join(v.source for v in (first, second) if v.source),
        notes=(*merged_notes([first, second]), note),
    )


def assemble_total(
    field: Volume,
    magnitude: Volume | None = None,
    mask: Volume | None = None,
    corrections: Corrections = AS_STATED,
) -> Acquisition:
    """Bring a field map that the scanner made to ppm: an acquisition that needs no unwrapping.

    Parameters
    ----------
    field : Volume
        3D; its unit must be stated.
    magnitude, mask : Volume, optional
        On the same grid.
    corrections : Corrections
        B0 and its direction; ``flip_phase`` turns the sign of the field.

    Returns
    -------
    Acquisition
        TOTAL_FIELD in ppm, MAGNITUDE, MASK.

    Raises
    ------
    InputError
        If the unit or B0 is missing, volumes do not fit, or the field is none.
    """
    notes = merged_notes([v for v in (field, magnitude, mask) if v is not None])
    grid = grid_of(field, corrections, notes)
    if field.data.ndim != 3:
        raise InputError(
            f"The field map has shape {field.data.shape} where a 3D volume was expected; choose "
            "one volume."
        )
    found = [field.field_strength, magnitude.field_strength if magnitude else None]
    strength = agreed_strength(found, corrections.field_strength)
    inside = None if mask is None else mask_on(grid, mask, notes)
    volumes: dict[Quantity, NDArray[np.generic]] = {
        Quantity.TOTAL_FIELD: _in_ppm(field, strength, inside, corrections, notes)
    }
    if magnitude is not None:
        if trouble := grid.mismatch(magnitude.grid):
            raise InputError(
                f"The magnitude {trouble}; choose the magnitude of the field map's measurement."
            )
        volumes[Quantity.MAGNITUDE] = np.maximum(np.nan_to_num(magnitude.data), 0)
    if inside is not None:
        volumes[Quantity.MASK] = inside
    named: dict[Quantity, list[Volume]] = {
        Quantity.TOTAL_FIELD: [field],
        Quantity.MAGNITUDE: [magnitude] if magnitude else [],
    }
    return Acquisition(
        grid,
        volumes,
        strength,
        sources=sources_of(named, mask),
        notes=tuple(dict.fromkeys(notes)),
    )


def _in_ppm(
    field: Volume,
    strength: float | None,
    inside: NDArray[np.bool_] | None,
    corrections: Corrections,
    notes: list[str],
) -> NDArray[np.floating]:
    try:
        unit = FieldUnit.parse(field.unit or "")
        if unit is FieldUnit.RAD:
            raise ValueError("A field map in rad is a phase; name its file so.")
        factor = ppm_per_unit(unit, field_strength=strength)
    except ValueError as error:
        text = (
            str(error) if field.unit else "The field map states no unit; state Hz in its sidecar."
        )
        raise InputError(text) from None
    finite = np.isfinite(field.data)
    gaps = ~finite if inside is None else ~finite & inside
    if inside is not None and gaps.any():
        raise InputError(
            f"The field map holds {np.count_nonzero(gaps)} voxels inside the mask that are not "
            "numbers (NaN or Inf); leave them out of the mask."
        )
    if not finite.all():
        notes.append(f"{np.count_nonzero(~finite)} voxels of the field map were no numbers; now 0.")
    ppm = np.where(finite, field.data, 0) * (-factor if corrections.flip_phase else factor)
    highest = float(np.abs(ppm).max())
    if not 0 < highest < _LARGEST:
        raise InputError(
            f"The field map reaches {highest:.3g} ppm, which no field does; check its unit."
        )
    notes.append(f"The scanner's field map was brought from {unit.value} to ppm (x {factor:.6g}).")
    if corrections.flip_phase:
        notes.append("The sign of the field map was turned round as was asked for.")
    return ppm
