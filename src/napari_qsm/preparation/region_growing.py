"""Region growing: one echo unwrapped along its most trustworthy edges, the others following it."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from napari_qsm.acquisition import Acquisition, FloatArray, InputError, Quantity
from napari_qsm.preparation.echo_box import EchoBox
from napari_qsm.preparation.growth import growing, unwrap_volume
from napari_qsm.preparation.mask_parts import TURN, MaskParts
from napari_qsm.preparation.quality import folded, grading_voxels
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.preparation.voxels import sample, steps
from napari_qsm.process import Parameters, Step, Work, parameter

__all__ = ["RegionGrowing", "growing", "region_growing", "unwrap_volume"]

FARTHEST = 3.0
"""The echo after the one that all others follow is at most so many times later."""

TRUSTED = 0.5
"""Voxels of at least this quality decide whether an echo follows the others."""

QUARTER = np.float32(np.pi / 2)

STRAYING = 0.02
"""Part of the trusted voxels that may be off by more than a quarter turn before the echoes count
as not proportional."""

UNSETTLED = np.float32(0.85 * np.pi)
"""Voxels of a proportional echo that are farther off are decided by those around them. With noise
alone the line knows best up to half a turn, with some phase offset the neighbours beyond less; this
loses little in either case (measured at SNR 3 and 5)."""

Voxels = NDArray[np.intp]


class RegionGrowing(Parameters):
    """Parameters of region growing."""

    template: int | None = parameter(
        None,
        "Number of the echo, in order of time, that is unwrapped by its neighbours alone and that "
        "the others follow. By itself the first, unless the next one is over three times later.",
        low=1,
        high=64,
        typical=1,
    )
    others: Literal["auto", "proportional", "neighbours"] = parameter(
        "auto",
        "How the other echoes follow: voxel by voxel in proportion to echo time, by their "
        "neighbours, as a remaining phase offset demands, or whichever the data allow.",
    )


@stage(
    key="region_growing",
    label="Region growing",
    summary="Along the most trustworthy paths in space and time, as ROMEO does; whole turns only.",
    place=Place.UNWRAP,
    parameters=RegionGrowing,
    references=("10.1002/mrm.28563",),
    needs=(Quantity.PHASE,),
    uses=(Quantity.MAGNITUDE, Quantity.MASK, Quantity.OFFSET),
    gives=(Quantity.UNWRAPPED, Quantity.QUALITY),
    cpu_only=True,
)
def region_growing(
    acquisition: Acquisition, parameters: RegionGrowing, device: torch.device
) -> Work:
    """Unwrap one echo in space, and the others by what the unwrapped ones predict of them.

    The prediction is the line through zero ``phi = TE sum(m^2 TE phi) / sum(m^2 TE^2)``; an echo
    is moved to within half a turn of it, and voxels that are nearly that far off are unwrapped
    towards those around them. If many good voxels are off by more than a quarter turn, a phase
    offset spoils the proportion; the difference from the line is then unwrapped in space, which is
    right with any offset smooth enough. Reference: Dymerska et al. 2021; here a maximum spanning
    tree takes the place of growth from a seed.
    """
    box = EchoBox(acquisition)
    yield Step(0.0, "grading the phase")
    template = _template(box, parameters.template)
    quality = yield from steps(_quality(box, template), "grading the phase", 0.0, 0.1)
    notes = [
        f"{box.name(template).capitalize()} was unwrapped by its neighbours, its median brought "
        "closest to zero.",
        *MaskParts.of(box.inside).note(),
    ]
    following = _Following(box, quality, parameters.others)
    order = [*reversed(range(template + 1)), *range(template + 1, box.count)]
    for done, echo in enumerate(order):
        message = f"unwrapping {box.name(echo)}"
        low, high = (0.1 + 0.9 * n / box.count for n in (done, done + 1))
        yield Step(low, message)
        work = following.unwrap(echo) if done else _in_space(box, template)
        unwrapped = yield from steps(work, message, low, high)
        if not done and Quantity.OFFSET in acquisition:
            notes += _lift(box, template, unwrapped, following.trusted)
        yield Step(high, message)
        following.add(echo, unwrapped)
    return box.maps([*notes, *following.notes()], quality)


def _template(box: EchoBox, chosen: int | None) -> int:
    """Return which echo is unwrapped in space."""
    if chosen is None:
        near = [e for e in range(box.count - 1) if box.times[e + 1] <= FARTHEST * box.times[e]]
        return near[0] if near else box.count - 1
    if chosen > box.count:
        raise InputError(
            f"All echoes were to follow echo {chosen} where {box.count} were measured; choose "
            "another."
        )
    return chosen - 1


def _companion(box: EchoBox, template: int) -> int | None:
    """Return the echo to compare with: the next one, the one before the last, or none."""
    if box.count == 1:
        return None
    return template + 1 if template + 1 < box.count else template - 1


def _quality(box: EchoBox, template: int) -> Generator[float, None, FloatArray]:
    """Grade the voxels of the mask by the template and its companion."""
    companion = _companion(box, template)
    pair = [template] if companion is None else [template, companion]
    phases = np.stack([box.phase(echo) for echo in pair], axis=-1)
    magnitude = box.magnitude(template)
    strength = None if magnitude is None else magnitude[..., None]
    quality = yield from grading_voxels(phases, strength, box.times[pair].tolist())
    quality *= box.inside
    return quality


def _in_space(box: EchoBox, template: int) -> Generator[float, None, FloatArray]:
    """Unwrap the template."""
    companion = _companion(box, template)
    other = None
    if companion is not None:
        other = box.phase(companion), float(box.times[companion] / box.times[template])
    work = growing(
        box.phase(template), box.inside, magnitude=box.magnitude(template), companion=other
    )
    return (yield from work)


def _lift(box: EchoBox, template: int, unwrapped: FloatArray, trusted: Voxels) -> list[str]:
    """Add the turns to all of the template by which its companion is in proportion; say so."""
    companion = _companion(box, template)
    if companion is None:
        return []
    ratio = float(box.times[companion] / box.times[template])
    predicted = np.float32(ratio) * unwrapped.ravel()[trusted]
    turns = _missing_turns(box.phase(companion).ravel()[trusted] - predicted, ratio)
    if not turns:
        return []
    unwrapped += TURN * np.float32(turns) * box.inside
    return [
        f"Then {turns:+d} turns were added to all of it, since {box.name(companion)} is in "
        "proportion only so."
    ]


def _missing_turns(difference: FloatArray, ratio: float) -> int:
    """Return the turns of a whole echo without which another differs from proportion to it.

    Parameters
    ----------
    difference : (voxel,) array
        Phase of the other echo less what is predicted of it.
    ratio : float
        Echo time of the other echo over that of the first.
    """
    mean = float(np.angle(np.exp(1j * difference).sum()))
    for turns in (0, 1, -1, 2, -2, 3, -3):
        missed = abs(float(np.angle(np.exp(1j * (mean - 2 * np.pi * ratio * turns)))))
        if missed < (QUARTER if turns == 0 else QUARTER / 4):
            return turns
    return 0


class _Following:
    """Unwraps echoes by the line through zero that the echoes before them define in every voxel."""

    def __init__(self, box: EchoBox, quality: FloatArray, how: str) -> None:
        self._box = box
        self._how = how
        self.trusted = sample(quality >= TRUSTED)
        if not self.trusted.size:  # nothing but noise
            self.trusted = sample(box.inside)
        self._products, self._squares = (np.zeros(box.inside.shape, np.float32) for _ in range(2))
        self._strayed: dict[int, float] = {}
        self._offset: dict[int, float] = {}

    def add(self, echo: int, unwrapped: FloatArray) -> None:
        """Let an unwrapped echo count in the line, by its squared magnitude, and keep it."""
        magnitude = self._box.magnitude(echo)
        weight = np.ones_like(unwrapped) if magnitude is None else np.square(magnitude)
        weight *= np.float32(self._box.times[echo])
        self._squares += np.float32(self._box.times[echo]) * weight
        weight *= unwrapped
        self._products += weight
        self._box.keep(echo, unwrapped)

    def unwrap(self, echo: int) -> Generator[float, None, FloatArray]:
        """Unwrap the next echo."""
        inside, phase = self._box.inside, self._box.phase(echo)
        yield 0.0
        predicted = np.float32(self._box.times[echo]) * self._products
        np.divide(predicted, self._squares, out=predicted, where=self._squares > 0)
        yield 0.0
        difference = folded(phase - predicted)
        yield 0.0
        share = float(np.mean(np.abs(difference.ravel()[self.trusted]) > QUARTER))
        settled = None
        if self._how == "proportional" or (self._how == "auto" and share <= STRAYING):
            settled = inside & (np.abs(difference) <= UNSETTLED)
            self._strayed[echo] = 1 - np.count_nonzero(settled) / np.count_nonzero(inside)
        if settled is None or share > STRAYING:
            self._offset[echo] = share
        grown = yield from growing(
            difference, inside, magnitude=self._box.magnitude(echo), settled=settled
        )
        predicted -= phase
        grown += predicted
        yield 1.0
        phase += TURN * np.rint(grown / TURN)
        phase *= inside
        return phase

    def notes(self) -> list[str]:
        """Say how the echoes followed."""
        notes = []
        if self._strayed:
            notes.append(
                f"{self._names(self._strayed)} followed in proportion to echo time; voxels nearly "
                f"half a turn off it (at most {max(self._strayed.values()):.2%}) were decided by "
                "those around them."
            )
        if self._offset and self._how != "neighbours":
            outcome = {
                "auto": "so these echoes were unwrapped by their neighbours",
                "proportional": "so there may be wrong wraps; let the data decide instead",
            }
            notes.append(
                f"{self._names(self._offset)} missed proportion to echo time in up to "
                f"{max(self._offset.values()):.0%} of the good voxels, as with a phase offset, "
                f"{outcome[self._how]}."
            )
        elif self._offset:
            notes.append(f"{self._names(self._offset)} followed by their neighbours, as chosen.")
        return notes

    def _names(self, echoes: Iterable[int]) -> str:
        return " and ".join(self._box.name(echo) for echo in echoes).capitalize()
