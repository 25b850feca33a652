"""How maps came to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Provenance:
    """How maps came to be, complete enough to make them again.

    Parameters
    ----------
    method : str
        Key of the method or stage in its registry.
    parameters : mapping
        Every parameter, defaults included; None where the method chose for itself.
    chosen : mapping
        What it chose for those, by name. `parameters` updated with these repeat the run exactly.
    inputs : mapping of str to str
        SHA-256 (first 16 hex digits) of each input volume by quantity key; those of the second
        orientation of a head as ``local_field@2`` and so on.
    sources : mapping of str to str
        Where the inputs came from.
    grid : mapping
        Shape, voxel size in mm, B0 direction, and those of other orientations, that were used.
    field_strength, echo_times : optional
        In T and s.
    seconds : float
        Wall time of the reconstruction.
    device : str
        Where it ran.
    software : mapping of str to str
        Versions.
    notes : tuple[str, ...]
        What the user was told: assumptions, the reference of chi, warnings.
    history : tuple[Provenance, ...]
        How the inputs themselves were made, the first stage first.
    """

    method: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    chosen: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    grid: Mapping[str, Any] = field(default_factory=dict)
    field_strength: float | None = None
    echo_times: tuple[float, ...] = ()
    seconds: float = 0.0
    device: str = ""
    software: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    history: tuple[Provenance, ...] = ()
