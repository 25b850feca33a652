"""From loaded phase and magnitude to a raw `Acquisition`: wrapped phase in rad, echoes in order.

What `napari_qsm.preparation.assemble` is for a finished local field, this is for what a scanner
stores. Files, layers and arrays all come through here, so the rules are the same for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import Acquisition, FloatArray, Grid, InputError, Quantity, Volume
from napari_qsm.preparation import likeness
from napari_qsm.preparation.assemble import about_b0, binary
from napari_qsm.preparation.echo_order import Echo, in_order, split
from napari_qsm.preparation.phase_scale import PhaseScale, decide


@dataclass(frozen=True)
class Corrections:
    """What the user states instead of the files; None keeps what the files say.

    Parameters
    ----------
    echo_times : tuple[float, ...], optional
        In s, one for each echo in the order in which they are stored; for a phase difference the
        difference of its times.
    field_strength : float, optional
        B0 in T.
    b0_direction : tuple[float, float, float], optional
        B0 along the stored voxel axes.
    flip_phase : bool
        Whether the phase (or the field map) has the other sign.
    phase_scale : {"auto", "rad", "range"}
        As in `napari_qsm.preparation.phase_scale.decide`.
    """

    echo_times: tuple[float, ...] | None = None
    field_strength: float | None = None
    b0_direction: tuple[float, float, float] | None = None
    flip_phase: bool = False
    phase_scale: PhaseScale = "auto"


AS_STATED = Corrections()
"""Nothing is stated instead of the files."""


def assemble_raw(
    phase: Sequence[Volume],
    magnitude: Sequence[Volume] = (),
    mask: Volume | None = None,
    corrections: Corrections = AS_STATED,
    *,
    manufacturer: str = "",
) -> Acquisition:
    """Bring the echoes of a measurement together on the grid of the first phase.

    Parameters
    ----------
    phase : sequence of Volume
        One 3D volume for each echo, or 4D volumes with echoes last; any scale that
        `napari_qsm.preparation.phase_scale` knows.
    magnitude : sequence of Volume
        The same echoes, or one volume that stands for all of them.
    mask : Volume, optional
        3D; probabilities are cut at 0.5, labels count as inside.
    corrections : Corrections
        What goes before the volumes' own statements.
    manufacturer : str
        Of the scanner; settles what its numbers mean where they leave a doubt.

    Returns
    -------
    Acquisition
        PHASE in rad in [-pi, pi), 3D for one echo, else 4D with echoes last in the order of their
        times; MAGNITUDE and MASK as far as given; a note for every decision. Voxels without a
        number become 0 in both.

    Raises
    ------
    InputError
        If volumes do not lie on one grid, echo times are missing, equal or contradictory, an echo
        is missing or there twice, magnitude and phase are exchanged, the scale of the phase cannot
        be told, or the mask does not fit.
    """
    notes = merged_notes([*phase, *magnitude, *([mask] if mask else [])])
    grid = grid_of(phase[0], corrections, notes)
    phases = split("phase", phase, grid)
    magnitudes = split("magnitude", magnitude, grid)
    likeness.refuse_exchanged(phases[0].values, magnitudes[0].values if magnitudes else None)
    times, phases, magnitudes = in_order(phases, magnitudes, corrections.echo_times, notes)
    inside = None if mask is None else mask_on(grid, mask, notes)
    strengths = [v.field_strength for v in (*phase, *magnitude)]
    volumes = _filled(phases, magnitudes, inside, corrections, manufacturer, phase[0].unit, notes)
    return Acquisition(
        grid,
        volumes,
        agreed_strength(strengths, corrections.field_strength),
        times,
        sources=sources_of({Quantity.PHASE: phase, Quantity.MAGNITUDE: magnitude}, mask),
        notes=tuple(dict.fromkeys(notes)),
    )


def merged_notes(volumes: Iterable[Volume]) -> list[str]:
    """Return the notes of volumes; what is noted of several files is said once."""
    files: dict[str, list[str]] = {}
    for volume in volumes:
        begin = f"{Path(volume.source).name}: "
        for note in volume.notes:
            named = note.startswith(begin)
            names = files.setdefault(note.removeprefix(begin), [])
            names += [begin.removesuffix(": ")] if named else []
    said = []
    for text, names in files.items():
        others = len(set(names)) - 1
        who = (
            f"{names[0]} and {others} more: "
            if others > 0
            else "".join(f"{n}: " for n in names[:1])
        )
        said.append(who + text)
    return said


def mask_on(grid: Grid, mask: Volume, notes: list[str]) -> NDArray[np.bool_]:
    """Return a boolean mask that lies on `grid`.

    Raises
    ------
    InputError
        If it lies elsewhere, is no mask, or is empty.
    """
    if mask.data.ndim != 3:
        raise InputError(
            f"The mask has shape {mask.data.shape} where a 3D volume was expected; choose one "
            "volume."
        )
    if trouble := grid.mismatch(mask.grid):
        raise InputError(
            f"The mask {trouble}; choose a mask of the same measurement or resample it."
        )
    return binary(mask.data, notes)


def agreed_strength(found: Iterable[float | None], stated: float | None) -> float | None:
    """Return B0 in T: what is stated goes before what the files say, and they must agree.

    Raises
    ------
    InputError
        If files contradict each other.
    """
    if stated is not None:
        return stated
    known = sorted({strength for strength in found if strength is not None})
    if known and known[-1] > 1.01 * known[0]:
        raise InputError(
            f"The files state B0 as {known[0]:g} T and as {known[-1]:g} T; choose files of one "
            "measurement or state B0."
        )
    return known[0] if known else None


def grid_of(first: Volume, corrections: Corrections, notes: list[str]) -> Grid:
    """Return the grid of a volume with B0 as it was stated."""
    if corrections.b0_direction is None:
        return first.grid
    grid = first.grid.with_b0(corrections.b0_direction)
    stated = ", ".join(f"{b:.3f}" for b in grid.b0_direction)
    notes[:] = [note for note in notes if not about_b0(note)]
    notes.append(f"B0 was set to ({stated}) along the stored voxel axes.")
    return grid


def _filled(
    phases: list[Echo],
    magnitudes: list[Echo],
    inside: NDArray[np.bool_] | None,
    corrections: Corrections,
    manufacturer: str,
    unit: str | None,
    notes: list[str],
) -> dict[Quantity, NDArray[Any]]:
    """Return the arrays of an acquisition; whatever changes a number is noted."""
    scaling = decide(
        [_numbers(echo.values) for echo in phases],
        corrections.phase_scale,
        manufacturer=manufacturer,
        unit=unit,
    )
    notes.append(scaling.note)
    signal = None if not magnitudes else _magnitude(magnitudes, notes)
    made = np.empty((*phases[0].values.shape, len(phases)), np.float32)
    for index, echo in enumerate(phases):
        made[..., index] = scaling(_numbers(echo.values))
    _flip(made, corrections, manufacturer, notes)
    _fill_gaps(made, signal, inside, notes)
    _refuse_repeated(made)
    _even_out_slices(made, signal, notes)
    volumes: dict[Quantity, NDArray[Any]] = {Quantity.PHASE: _squeezed(made)}
    if signal is not None:
        volumes[Quantity.MAGNITUDE] = _squeezed(signal)
    if inside is not None:
        volumes[Quantity.MASK] = inside
    return volumes


def _squeezed(values: FloatArray) -> FloatArray:
    return values[..., 0] if values.shape[3] == 1 else values


def _numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values with NaN for everything that is no number."""
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return values
    return np.where(np.isfinite(values), values, np.nan)


def _magnitude(echoes: list[Echo], notes: list[str]) -> FloatArray:
    made = np.empty((*echoes[0].values.shape, len(echoes)), np.float32)
    gaps = 0
    for index, echo in enumerate(echoes):
        # What float32 cannot hold becomes Inf and is counted as no number.
        with np.errstate(over="ignore"):
            values = echo.values.astype(np.float32)
        finite = np.isfinite(values)
        gaps += values.size - int(np.count_nonzero(finite))
        made[..., index] = np.where(finite, values, 0)
        if not (highest := float(made[..., index].max())) > 0:
            raise InputError(
                f"The magnitude of echo {index + 1} reaches {highest:.3g} where a positive signal "
                "was expected; choose another volume."
            )
    if gaps:
        notes.append(f"{gaps} voxels of the magnitude were no numbers; set to 0.")
    if below := int(np.count_nonzero(made < 0)):
        np.maximum(made, 0, out=made)
        notes.append(f"{below} voxels of the magnitude were negative; set to 0.")
    return made


def _flip(phase: FloatArray, corrections: Corrections, manufacturer: str, notes: list[str]) -> None:
    if corrections.flip_phase:
        half = np.float32(math.pi)
        np.negative(phase, out=phase)
        phase[phase >= half] = -half
        notes.append("The sign of the phase was turned round as was asked for.")
    elif manufacturer.upper().startswith("GE"):
        notes.append(
            "GE scanners often store phase with the other sign; flip it if veins come out dark."
        )


def _fill_gaps(
    phase: FloatArray,
    signal: FloatArray | None,
    inside: NDArray[np.bool_] | None,
    notes: list[str],
) -> None:
    """Set voxels in which any echo has no phase to 0, in the magnitude, too."""
    gaps = np.isnan(phase).any(axis=3)
    if not (count := int(np.count_nonzero(gaps))):
        return
    if inside is not None and (hit := int(np.count_nonzero(gaps & inside))):
        raise InputError(
            f"The phase holds {hit} voxels inside the mask that are not numbers (NaN or Inf); "
            "leave them out of the mask."
        )
    phase[gaps] = 0
    if signal is not None:
        signal[gaps] = 0
    notes.append(
        f"{count} voxels of the phase were no numbers (NaN or Inf); they were set to 0 in all "
        "volumes."
    )


def _refuse_repeated(phase: FloatArray) -> None:
    for index in range(phase.shape[3] - 1):
        if np.array_equal(phase[..., index], phase[..., index + 1]):
            raise InputError(
                f"Echoes {index + 1} and {index + 2} hold the same phase; a file was exported or "
                "chosen twice."
            )


def _even_out_slices(phase: FloatArray, signal: FloatArray | None, notes: list[str]) -> None:
    if not likeness.alternates(phase[..., 0], None if signal is None else signal[..., 0]):
        return
    half = np.float32(math.pi)
    every_other = phase[:, :, 1::2]
    every_other += np.where(every_other < 0, half, -half)
    notes.append("Every other slice was turned by half a turn, which the scanner had left out.")


def sources_of(
    named: Mapping[Quantity, Sequence[Volume]], mask: Volume | None
) -> dict[Quantity, str]:
    """Return where the volumes of each quantity came from."""
    volumes: dict[Quantity, Sequence[Volume]] = {**named, Quantity.MASK: [mask] if mask else []}
    joined = {q: ", ".join(dict.fromkeys(v.source for v in vs)) for q, vs in volumes.items()}
    return {quantity: source for quantity, source in joined.items() if source}
