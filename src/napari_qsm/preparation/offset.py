"""MCPC-3D-S: the phase at echo time zero, from the first two echoes, smoothed and taken off."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from napari_qsm.acquisition import (
    Acquisition,
    FloatArray,
    InputError,
    Maps,
    Provenance,
    Quantity,
)
from napari_qsm.preparation.echoes import echoes, magnitude_echoes, wrapped
from napari_qsm.preparation.readout import Ramp, alternating_ramp, evenly_spaced
from napari_qsm.preparation.region_growing import growing
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.preparation.smooth_phase import Blocks
from napari_qsm.preparation.voxels import by_time, magnitude_notes, sample, steps
from napari_qsm.process import Parameters, Step, Work, parameter

LABEL = "MCPC-3D-S"

SUSPICIOUS = 0.5
"""Range in rad of an alternating ramp from which a bipolar readout is suspected."""

SLAB_VOXELS = 2**18


class MCPC3DS(Parameters):
    """Parameters of the phase offset."""

    smoothing: float = parameter(
        5.0,
        "Width (standard deviation) of the Gaussian over which the offset is averaged: wide enough "
        "to leave no anatomy in it, narrow enough to follow the coils.",
        low=2,
        high=30,
        unit="mm",
        log=True,
    )
    readout: Literal["monopolar", "bipolar"] = parameter(
        "monopolar",
        "Whether all echoes were read in the same direction; of bipolar echoes the phase ramp that "
        "alternates between odd and even ones is taken off first.",
    )


@dataclass(frozen=True)
class _Echoes:
    """Phase and magnitude slab by slab, in the order of time and without alternating ramp."""

    phase: FloatArray
    magnitude: FloatArray | None
    order: NDArray[np.intp]
    ramp: Ramp | None = None

    def at(self, planes: slice, echo: int) -> FloatArray:
        """Phase of an echo in rad, not wrapped again."""
        values: FloatArray = self.phase[planes, ..., self.order[echo]]
        if self.ramp is None:
            return values
        theta = self.ramp.at(planes, self.phase.shape[:3])
        return values - theta if echo % 2 else values + theta

    def strength(self, planes: slice) -> FloatArray | None:
        """Geometric mean of the first two magnitudes."""
        if self.magnitude is None:
            return None
        first, second = (self.magnitude[planes, ..., self.order[echo]] for echo in (0, 1))
        return np.asarray(np.sqrt(np.abs(first * second)))

    def slabs(self, unit: int = 1) -> list[slice]:
        """Planes that are worked on at once, in multiples of `unit`."""
        planes, *plane = self.phase.shape[:3]
        thickness = unit * max(1, SLAB_VOXELS // (plane[0] * plane[1] * unit))
        return [slice(s, min(s + thickness, planes)) for s in range(0, planes, thickness)]


@stage(
    key="mcpc3ds",
    label=LABEL,
    summary="From the first two echoes back to echo time zero, smoothed; taken off all echoes.",
    place=Place.OFFSET,
    parameters=MCPC3DS,
    references=("10.1002/mrm.26963",),
    needs=(Quantity.PHASE,),
    uses=(Quantity.MAGNITUDE, Quantity.MASK),
    gives=(Quantity.OFFSET, Quantity.PHASE),
    echoes=2,
    cpu_only=True,
)
def mcpc3ds(acquisition: Acquisition, parameters: MCPC3DS, device: torch.device) -> Work:
    """Estimate ``phi0 = phi1 - TE1 / (TE2 - TE1) unwrap(phi2 - phi1)`` and subtract it.

    The estimate is averaged over a Gaussian as a complex number weighted by the magnitude in the
    mask, with its local slope kept, and goes on smoothly outside. Reference: Eckstein et al. 2018.
    """
    mask, grid = acquisition.mask, acquisition.grid
    order, times = by_time(acquisition.echo_times)
    phase, magnitude = echoes(acquisition, Quantity.PHASE), magnitude_echoes(acquisition)
    yield Step(0.0, "comparing odd and even echoes")
    ramp, notes = yield from _ramp(phase, magnitude, mask, order, times, parameters)
    measured = _Echoes(phase, magnitude, order, ramp)
    difference = yield from _difference(measured, mask)
    gap = float(times[1] - times[0])
    blocks = Blocks(grid.shape, grid.voxel_size, parameters.smoothing)
    yield from _extrapolate(blocks, measured, difference, times[0] / gap, mask)
    median = float(np.median(difference.ravel()[sample(mask)]))
    del difference
    phasors = yield from steps(blocks.smoothed(), "smoothing the offset", 0.7, 0.8)
    offset, cleared = yield from _removed(blocks, phasors, measured)
    notes += [
        f"The phase offset was extrapolated from the echoes at {_ms(times[0])} and "
        f"{_ms(times[1])} ms and averaged over {parameters.smoothing:g} mm.",
        f"The phase between these echoes is taken nearest to zero (median {median:+.2f} rad); a "
        f"turn more would be a constant field of {1 / gap:.0f} Hz.",
    ]
    notes += magnitude_notes(acquisition)
    volumes = {Quantity.OFFSET: offset, Quantity.PHASE: cleared}
    return Maps(grid, volumes, Provenance(notes=tuple(notes)))


def _ms(time: float) -> str:
    return f"{1000 * time:g}"


def _ramp(
    phase: FloatArray,
    magnitude: FloatArray | None,
    mask: NDArray[np.bool_],
    order: NDArray[np.intp],
    times: NDArray[np.float64],
    parameters: MCPC3DS,
) -> Generator[Step, None, tuple[Ramp | None, list[str]]]:
    """Estimate the alternating ramp where three echoes allow it; return it if it shall go."""
    bipolar = parameters.readout == "bipolar"
    if not evenly_spaced(times):
        if bipolar:
            raise InputError(
                f"{LABEL} corrects a bipolar readout from three evenly spaced echoes, which were "
                "not measured here; choose monopolar."
            )
        return None, []
    work = alternating_ramp(phase, magnitude, mask, order)
    ramp = yield from steps(work, "comparing odd and even echoes", 0.0, 0.05)
    if bipolar:
        return ramp, [
            f"A phase ramp that alternates between odd and even echoes, {ramp.span:.2f} rad across "
            "the mask, was taken off; its constant is known up to a quarter turn."
        ]
    if ramp.span > SUSPICIOUS:
        return None, [
            f"Odd and even echoes differ by a phase ramp of {ramp.span:.2f} rad across the mask, "
            "as a bipolar readout makes it; if it was one, choose that."
        ]
    return None, []


def _difference(measured: _Echoes, mask: NDArray[np.bool_]) -> Generator[Step, None, FloatArray]:
    """Unwrap the phase between the first two echoes."""
    difference = np.zeros(mask.shape, dtype=np.float32)
    strength = None if measured.magnitude is None else np.zeros_like(difference)
    for planes in measured.slabs():
        yield Step(0.05 + 0.1 * planes.start / mask.shape[0], "comparing the first two echoes")
        difference[planes] = wrapped(measured.at(planes, 1) - measured.at(planes, 0))
        if strength is not None:
            strength[planes] = measured.strength(planes)
    work = growing(difference, mask, magnitude=strength)
    return (yield from steps(work, "unwrapping their difference", 0.15, 0.6))


def _extrapolate(
    blocks: Blocks,
    measured: _Echoes,
    difference: FloatArray,
    ratio: float,
    mask: NDArray[np.bool_],
) -> Generator[Step, None, None]:
    """Add ``phi1 - ratio difference`` to the blocks, as complex numbers in the mask."""
    for planes in measured.slabs(blocks.factors[0]):
        yield Step(0.6 + 0.1 * planes.start / mask.shape[0], "going back to echo time zero")
        start = measured.at(planes, 0) - np.float32(ratio) * difference[planes]
        strength = measured.strength(planes)
        inside = mask[planes] if strength is None else mask[planes] * strength
        blocks.add(planes.start, np.asarray(inside * np.exp(1j * start), dtype=np.complex64))


def _removed(
    blocks: Blocks, phasors: NDArray[np.complex64], measured: _Echoes
) -> Generator[Step, None, tuple[FloatArray, FloatArray]]:
    """Return the offset at every voxel, and the phase of all echoes without it, wrapped."""
    shape = measured.phase.shape
    offset, cleared = (np.empty(s, dtype=np.float32) for s in (shape[:3], shape))
    for planes in measured.slabs():
        yield Step(0.8 + 0.19 * planes.start / shape[0], "taking the offset off")
        offset[planes] = blocks.spread(phasors, planes)
        for echo, stored in enumerate(measured.order):
            cleared[planes, ..., stored] = wrapped(measured.at(planes, echo) - offset[planes])
    return offset, cleared
