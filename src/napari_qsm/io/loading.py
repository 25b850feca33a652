"""Reading one measurement: its files become volumes, the volumes a raw acquisition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from napari_qsm.acquisition import Acquisition, InputError, Quantity, Volume
from napari_qsm.io.nifti import read_volume
from napari_qsm.io.parts import Part, Role
from napari_qsm.io.series import Kind, Measurement, manufacturer
from napari_qsm.physics.units import GAMMA_BAR_MHZ_PER_T
from napari_qsm.preparation.field_maps import (
    assemble_total,
    effective_magnitude,
    split_complex,
    split_parts,
)
from napari_qsm.preparation.raw import Corrections, assemble_raw


def load(measurement: Measurement, mask: Path | None, corrections: Corrections) -> Acquisition:
    """Read all files of a measurement and bring them together.

    Raises
    ------
    InputError
        If files are damaged, do not fit together, or state too little.
    """
    for part in measurement.parts:
        if part.problem:
            raise InputError(part.problem)
    notes: list[str] = []
    _judge_sequence(measurement.parts, notes)
    drawn = None if mask is None else read_volume(mask)
    strength = _strength(measurement.parts, corrections, notes)
    stated = replace(corrections, field_strength=strength)
    if measurement.kind is Kind.FIELD:
        made = _field_map(measurement, drawn, stated)
    elif measurement.kind is Kind.DIFFERENCE:
        made = _difference(measurement, drawn, stated, notes)
    else:
        made = _echoes(measurement, drawn, stated, notes)
    return replace(made, sources=_sources(made, measurement), notes=(*notes, *made.notes))


def _read(part: Part) -> Volume:
    return read_volume(part.path, part.sidecar, complex_too=part.role is Role.COMPLEX)


def _echoes(
    measurement: Measurement, mask: Volume | None, stated: Corrections, notes: list[str]
) -> Acquisition:
    phases, reals = measurement.having(Role.PHASE), measurement.having(Role.REAL)
    magnitude = [_read(part) for part in measurement.having(Role.MAGNITUDE) if phases]
    if phases:
        phase = [_read(part) for part in phases]
        if reals:
            notes.append("Real and imaginary parts were left aside, since there is a phase.")
    else:
        wholes = measurement.having(Role.COMPLEX)
        pairs = [split_complex(_read(part)) for part in wholes]
        pairs += [split_parts(*pair) for pair in _paired(measurement, reals)]
        phase, magnitude = [p for p, _ in pairs], [m for _, m in pairs]
    _note_gaps(measurement, notes)
    return assemble_raw(
        phase, magnitude, mask, stated, manufacturer=manufacturer(measurement.parts)
    )


def _paired(measurement: Measurement, reals: Sequence[Part]) -> list[tuple[Volume, Volume]]:
    imaginary = measurement.having(Role.IMAGINARY)
    if len(reals) != len(imaginary):
        raise InputError(
            f"There are {len(reals)} real and {len(imaginary)} imaginary parts; choose both parts "
            "of every echo."
        )
    for real, other in zip(reals, imaginary, strict=True):
        if real.time is not None and other.time is not None and real.time != other.time:
            raise InputError(
                f"The real part at {1000 * real.time:.4g} ms and the imaginary part at "
                f"{1000 * other.time:.4g} ms belong to different echoes; choose both of each echo."
            )
    return [(_read(a), _read(b)) for a, b in zip(reals, imaginary, strict=True)]


def _difference(
    measurement: Measurement, mask: Volume | None, stated: Corrections, notes: list[str]
) -> Acquisition:
    differences = measurement.having(Role.DIFFERENCE)
    if len(differences) > 1:
        raise InputError(
            f"There are {len(differences)} phase differences where one was expected; choose one "
            "run."
        )
    part, magnitudes = differences[0], measurement.having(Role.MAGNITUDE)
    times = part.sidecar.difference
    if times is None and len(magnitudes) == 2:
        found = [magnitude.time for magnitude in magnitudes]
        times = (found[0], found[1]) if found[0] and found[1] else None
    if stated.echo_times is not None:
        if len(stated.echo_times) == 2:
            first, second = sorted(stated.echo_times)
            stated = replace(stated, echo_times=(round(second - first, 9),))
    elif times is None:
        raise InputError(
            "The files do not state the two echo times of the phase difference; state them in "
            "seconds."
        )
    else:
        first, second = sorted(times)
        notes.append(
            f"The phase is the difference of the echoes at {1000 * first:.4g} and "
            f"{1000 * second:.4g} ms, so it counts as one echo at {1000 * (second - first):.4g} ms."
        )
        stated = replace(stated, echo_times=(round(second - first, 9),))
    volumes = [_read(magnitude) for magnitude in magnitudes]
    if len(volumes) == 2:
        volumes = [effective_magnitude(*volumes)]
    phase = replace(_read(part), echo_times=())
    volumes = [replace(volume, echo_times=()) for volume in volumes]
    return assemble_raw(
        [phase], volumes, mask, stated, manufacturer=manufacturer(measurement.parts)
    )


def _field_map(measurement: Measurement, mask: Volume | None, stated: Corrections) -> Acquisition:
    maps = measurement.having(Role.FIELD)
    if len(maps) > 1:
        raise InputError(
            f"There are {len(maps)} field maps where one was expected; choose one run."
        )
    field = _read(maps[0])
    if field.unit is None and "FIELDMAPHZ" in maps[0].text("ImageType").upper():
        field = replace(field, unit="Hz")
    magnitudes = measurement.having(Role.MAGNITUDE)
    return assemble_total(field, _read(magnitudes[0]) if magnitudes else None, mask, stated)


def _judge_sequence(parts: Sequence[Part], notes: list[str]) -> None:
    """Refuse sequences that refocus the phase which the field leaves; note what distorts it."""
    for part in parts:
        kinds = part.text("ScanningSequence").upper().replace("\\", " ").split()
        if "SE" in kinds and "GR" not in kinds:
            raise InputError(
                f"{part.path.name} was measured with a spin echo, which refocuses the phase that "
                "susceptibility leaves; choose a gradient-echo measurement."
            )
        if "EP" in kinds:
            notes.append(
                "The images were measured by echo planar imaging; its distortions go into the map."
            )
            return


def _strength(parts: Sequence[Part], corrections: Corrections, notes: list[str]) -> float | None:
    """Return B0 from the imaging frequency where that differs from the nominal strength.

    Scanners are named by rounded numbers: what is called 3 T is 2.89 T on many, which makes 4 % of
    every susceptibility.
    """
    if corrections.field_strength is not None:
        return corrections.field_strength
    frequency = next((f for part in parts if (f := part.number("ImagingFrequency"))), None)
    stated = {p.sidecar.field_strength for p in parts} - {None}
    if not frequency or len(stated) > 1:
        return None  # what the volumes state is compared where they come together
    actual, nominal = frequency / GAMMA_BAR_MHZ_PER_T, next(iter(stated), None)
    if nominal is None:
        notes.append(f"B0 is {actual:.4g} T by the imaging frequency of {frequency:.6g} MHz.")
        return actual
    if abs(actual / nominal - 1) > 0.1:
        raise InputError(
            f"The sidecar states {nominal:g} T but an imaging frequency of {frequency:.6g} MHz, "
            f"which is {actual:.3g} T; correct it or state B0."
        )
    if abs(actual / nominal - 1) > 0.005:
        notes.append(
            f"B0 is {actual:.4g} T by the imaging frequency of {frequency:.6g} MHz, so that was "
            f"taken instead of the nominal {nominal:g} T."
        )
        return actual
    return None


def _note_gaps(measurement: Measurement, notes: list[str]) -> None:
    numbers = sorted({part.echo for part in measurement.parts if part.echo is not None})
    if numbers and (missing := sorted(set(range(1, numbers[-1])) - set(numbers))):
        shown = ", ".join(map(str, missing))
        notes.append(
            f"Of the echoes up to number {numbers[-1]}, {shown} is missing; the others were taken."
        )


def _sources(made: Acquisition, measurement: Measurement) -> dict[Quantity, str]:
    """Name the folder that DICOM came from instead of the temporary files it became."""
    if not measurement.origin:
        return dict(made.sources)
    origin = f"{measurement.origin} ({measurement.name})"
    return {q: s if q is Quantity.MASK else origin for q, s in made.sources.items()}
