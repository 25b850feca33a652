"""How things stand at the places of the preparation, and what their stages have made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import Acquisition, InputError, Maps, Provenance, Quantity, Volume
from napari_qsm.preparation.assemble import binary

Signature = tuple[Any, ...]


class State(Enum):
    """How things stand at one place of the chain."""

    NOT_RUN = "not run"
    WAITING = "waiting"
    LEFT_OUT = "left out"
    STALE = "out of date"
    RUNNING = "running"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True)
class Standing:
    """A state and what is to be said of it.

    Parameters
    ----------
    state : State
        How things stand.
    text : str
        Why a place is left out, waits or has failed; what a finished stage noted.
    seconds : float or None
        How long the present result took.
    """

    state: State
    text: str = ""
    seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Made:
    """What a stage gave, and from what.

    Parameters
    ----------
    maps : Maps
        The volumes.
    signature : tuple
        Stage, parameters and the origin of everything that was taken.
    notes : tuple[str, ...]
        What the stage itself said, without the notes of the measurement.
    """

    maps: Maps
    signature: Signature
    notes: tuple[str, ...]

    @property
    def provenance(self) -> Provenance:
        """How it was made, as one entry of a history."""
        return replace(self.maps.provenance, history=(), notes=self.notes)


def masked(measured: Acquisition, volume: Volume) -> Acquisition:
    """Return the measurement with the user's own mask; slow enough for a thread.

    Raises
    ------
    InputError
        If the volume is no mask, is empty, or lies elsewhere.
    """
    if trouble := measured.grid.mismatch(volume.grid):
        raise InputError(f"The mask {trouble}; choose a mask of this measurement or resample it.")
    notes = list(volume.notes)
    inside: NDArray[np.bool_] = binary(volume.data, notes)
    if inside.ndim == 4:
        count, inside = inside.shape[3], np.logical_or.reduce(inside, axis=3)
        notes.append(f"The mask has {count} echoes; what is inside in any of them counts.")
    return replace(
        measured,
        volumes={**measured.volumes, Quantity.MASK: inside},
        sources={**measured.sources, Quantity.MASK: volume.source},
        notes=(*measured.notes, *notes),
    )


def following(measured: Acquisition, made: Iterable[Made]) -> Acquisition:
    """Return the measurement with what was made of it; all voxels are looked over once."""
    volumes, sources, history = dict(measured.volumes), dict(measured.sources), measured.history
    for one in made:
        volumes |= one.maps.volumes
        sources = {q: s for q, s in sources.items() if q not in one.maps.volumes}
        history = (*history, one.provenance)
    return replace(measured, volumes=volumes, sources=sources, history=history)
