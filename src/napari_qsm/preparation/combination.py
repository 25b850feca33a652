"""One field of all echoes: a line through the unwrapped phases of every voxel.

The two stages are one weighted least-squares fit, without and with a phase at echo time zero.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from napari_qsm.acquisition import Acquisition, Maps, Provenance, Quantity
from napari_qsm.preparation.echo_turns import TURN, Alignment, align
from napari_qsm.preparation.echoes import echoes, magnitude_echoes, wrapped
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.preparation.signal_noise import noise_map
from napari_qsm.preparation.voxels import (
    SAMPLE,
    UNKNOWN_PHASE,
    at,
    by_time,
    magnitude_notes,
    offset_notes,
    phase_weights,
    pieces,
    ppm_per_slope,
    sample,
    steps,
)
from napari_qsm.process import Parameters, Step, Work

Array = NDArray[np.float64]


class Weighted(Parameters):
    """Weighted combination has no parameters."""


class Linear(Parameters):
    """The linear fit has no parameters."""


@stage(
    key="weighted",
    label="Weighted combination",
    summary="Echoes weighted by squared magnitude and time: the best where no offset is left.",
    place=Place.FIELD,
    parameters=Weighted,
    references=("10.1002/mrm.30006",),
    needs=(Quantity.UNWRAPPED,),
    uses=(Quantity.MAGNITUDE, Quantity.MASK),
    gives=(Quantity.TOTAL_FIELD, Quantity.FIELD_NOISE),
    cpu_only=True,
)
def weighted(acquisition: Acquisition, parameters: Weighted, device: torch.device) -> Work:
    """Fit ``phi_j = 2 pi gamma_bar B0 f TE_j`` by least squares with weights ``m_j^2``.

    ``f = sum(m^2 TE phi) / sum(m^2 TE^2) / (2 pi gamma_bar B0)`` in ppm, its noise
    ``sigma / sqrt(sum(m^2 TE^2))`` in the same unit. One echo is a special case.
    """
    return (yield from _combined(acquisition, "Weighted combination", through_zero=True))


@stage(
    key="linear",
    label="Linear fit",
    summary="A line through all echoes with the phase at echo time zero left free.",
    place=Place.FIELD,
    parameters=Linear,
    references=("10.1002/mrm.30006",),
    needs=(Quantity.UNWRAPPED,),
    uses=(Quantity.MAGNITUDE, Quantity.MASK),
    gives=(Quantity.TOTAL_FIELD, Quantity.FIELD_NOISE, Quantity.OFFSET),
    echoes=2,
    cpu_only=True,
)
def linear(acquisition: Acquisition, parameters: Linear, device: torch.device) -> Work:
    """Fit ``phi_j = phi0 + 2 pi gamma_bar B0 f TE_j`` by least squares with weights ``m_j^2``.

    With ``S_n = sum(m^2 TE^n)`` the noise of the field is ``sigma sqrt(S_0 / (S_0 S_2 - S_1^2))``.
    A free phi0 costs noise: for two echoes at TE and 2 TE, more than twice that of `weighted`.
    """
    return (yield from _combined(acquisition, "Linear fit", through_zero=False))


def fit_lines(
    phase: Array, weights: Array, times: Array, *, through_zero: bool
) -> tuple[Array, Array, Array, Array]:
    """Fit a weighted line to the echoes of every voxel.

    Parameters
    ----------
    phase, weights : (E, voxel) array
        In rad; positive.
    times : (E,) array
        In s.
    through_zero : bool
        Whether the line passes through the origin.

    Returns
    -------
    slope, offset : (voxel,) arrays
        In rad/s and rad.
    gain : (voxel,) array
        Standard deviation of the slope over that of a phase of unit weight, 1/s.
    misfit : (voxel,) array
        ``sum(weights residual^2)``.
    """
    if through_zero:
        middle = np.zeros_like(phase[0])
        offset = middle
    else:
        total = weights.sum(0)
        middle = (times @ weights) / total
        offset = np.einsum("ev,ev->v", weights, phase) / total
    since = times[:, None] - middle
    leverage = weights * since
    power = np.einsum("ev,ev->v", leverage, since)
    slope = np.einsum("ev,ev->v", leverage, phase - offset) / power
    residual = phase - offset - slope * since
    misfit = np.einsum("ev,ev,ev->v", weights, residual, residual)
    return slope, offset - slope * middle, 1 / np.sqrt(power), misfit


def _combined(acquisition: Acquisition, label: str, *, through_zero: bool) -> Work:
    """Fit a line to every voxel's echoes and make maps in ppm of it."""
    scale = ppm_per_slope(acquisition, label)
    order, times = by_time(acquisition.echo_times)
    phase, magnitude = echoes(acquisition, Quantity.UNWRAPPED), magnitude_echoes(acquisition)
    mask = acquisition.mask
    yield Step(0.0, "comparing the echoes")
    alignment, notes = _alignment(acquisition, order, times, through_zero)
    lift = TURN * np.array(alignment.turns)[:, None]
    field, gain, offset = (np.zeros(mask.shape, dtype=np.float32) for _ in range(3))
    misfits = []
    for part, voxels in pieces(mask):
        yield Step(0.05 + 0.75 * part, f"combining {len(times)} echoes")
        values = at(phase, voxels)[order] + lift
        strength = np.ones_like(values) if magnitude is None else at(magnitude, voxels)[order]
        weights, dark = phase_weights(strength)
        slope, start, gains, misfit = fit_lines(values, weights, times, through_zero=through_zero)
        field.ravel()[voxels] = slope * scale
        offset.ravel()[voxels] = wrapped(start)
        gain.ravel()[voxels] = np.where(dark, 0, gains * scale)
        misfits.append(misfit[~dark].astype(np.float32))
    freedom = len(times) - (1 if through_zero else 2)
    shortest = times[0] if through_zero else np.diff(times).min()
    work = noise_map(
        field, gain, mask, np.concatenate(misfits), freedom if len(times) > 2 else 0,
        magnitude=magnitude, highest=UNKNOWN_PHASE / shortest * scale,
    )  # fmt: skip
    noise, said = yield from steps(work, "estimating the noise", 0.8, 0.95)
    notes += magnitude_notes(acquisition)
    if len(times) == 1:
        notes.append("One echo cannot tell a phase offset from field; what there is stays in it.")
    yield Step(0.95, "done")
    volumes = {Quantity.TOTAL_FIELD: field, Quantity.FIELD_NOISE: noise}
    if not through_zero:
        volumes[Quantity.OFFSET] = offset
        notes += offset_notes(acquisition)
    return Maps(acquisition.grid, volumes, Provenance(notes=(*notes, *said)))


def _alignment(
    acquisition: Acquisition, order: NDArray[np.intp], times: Array, through_zero: bool
) -> tuple[Alignment, list[str]]:
    """Say by which turns the echoes must be shifted, judged by the brighter half of the mask."""
    voxels = _bright(acquisition)
    phase = at(echoes(acquisition, Quantity.UNWRAPPED), voxels)[order].astype(np.float64)
    found, notes = align(phase, times, through_zero=through_zero), []
    if through_zero and not found.straight:
        notes.append(
            f"The echoes miss zero phase at echo time zero by {found.misfit:.2f} turns in most "
            "voxels; remove the phase offset first, or use the linear fit."
        )
        found = align(phase, times, through_zero=False)
    if not found.straight:
        notes.append(
            f"The phase does not grow evenly with echo time: one echo is off by "
            f"{found.misfit:.2f} turns in most voxels; check the echo times and the unwrapping."
        )
        found = Alignment((0,) * len(times), found.misfit)
    if shifted := [
        f"echo {order[j] + 1} by {turns:+d}" for j, turns in enumerate(found.turns) if turns
    ]:
        notes.append(f"Whole turns were added to fit the other echoes: {', '.join(shifted)}.")
    return found, notes


def _bright(acquisition: Acquisition) -> NDArray[np.intp]:
    """Return some voxels of the mask, none darker than half of them in the last echo."""
    voxels = sample(acquisition.mask, SAMPLE // 2)
    magnitude = magnitude_echoes(acquisition)
    if magnitude is None:
        return voxels
    darkest = at(magnitude, voxels).min(0)
    bright: NDArray[np.intp] = voxels[darkest >= np.median(darkest)]
    return bright
