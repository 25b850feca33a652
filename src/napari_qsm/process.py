"""What a piece of work is: data that describes it, and one generator function.

A stage of the preparation and a reconstruction method are the same kind of thing. They declare
what they need, use and give, carry a model of their parameters from which forms, options and tables
are made, and report while they work.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args, get_origin

import numpy as np
from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from napari_qsm import __version__
from napari_qsm.acquisition import (
    Acquisition,
    FloatArray,
    InputError,
    Maps,
    Provenance,
    Quantity,
)
from napari_qsm.fingerprint import fingerprinting
from napari_qsm.generators import relayed

if TYPE_CHECKING:
    import torch


class Parameters(BaseModel):
    """Parameters of a piece of work: immutable, complete, nothing unknown accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


P = TypeVar("P", bound=Parameters)
T = TypeVar("T")


def parameter(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    log: bool = False,
    alias: str | None = None,
    typical: float | None = None,
    choices: Callable[[], Sequence[str]] | None = None,
) -> Any:
    """Declare one field of a `Parameters` model.

    Parameters
    ----------
    default : Any
        The shipped value; None for a number the work chooses by itself from the data.
    help : str
        One sentence for tooltips and ``--help``.
    low, high : float, optional
        Inclusive range; required for numbers.
    unit : str
        Unit of the value, empty if it has none.
    log : bool
        Whether a control should move on a logarithmic scale.
    alias : str, optional
        A second name the value may be set by, such as ``lambda``, which no Python field can have.
        What is stored is always the field's own name.
    typical : float, optional
        Where a control starts when the user takes over a number that is chosen from the data.
    choices : callable, optional
        Returns the names a text may be set to where they are known only when the program runs.
    """
    told: dict[str, Any] = {"unit": unit, "log": log, "typical": typical, "choices": choices}
    return Field(
        default,
        ge=low,
        le=high,
        description=help,
        validation_alias=alias,
        json_schema_extra=told,
    )


@dataclass(frozen=True)
class Number:
    """What a control, a table or a sweep must know of a numeric parameter.

    Parameters
    ----------
    low, high : float
        Inclusive range.
    log, whole, optional : bool
        Whether it moves in decades, is an integer, and may be left to the work (None).
    typical : float
        The shipped value, or where to start if that is None.
    """

    low: float
    high: float
    log: bool
    whole: bool
    optional: bool
    typical: float


def number(field: FieldInfo) -> Number | None:
    """Return the numeric side of a field of a `Parameters` model, or None if it has none.

    Raises
    ------
    TypeError
        If it is a number without a range or without a typical value.
    """
    kinds = set(get_args(field.annotation)) or {field.annotation}
    optional = NoneType in kinds
    if kinds - {NoneType} not in ({int}, {float}):
        return None
    ends = {type(bound): bound for bound in field.metadata}
    extra = _extra(field)
    typical = extra.get("typical") if field.default is None else field.default
    if Ge not in ends or Le not in ends or not isinstance(typical, int | float):
        raise TypeError("A numeric parameter needs a lowest, a highest and a typical value.")
    return Number(
        low=float(ends[Ge].ge),
        high=float(ends[Le].le),
        log=bool(extra.get("log")),
        whole=int in kinds,
        optional=optional,
        typical=float(typical),
    )


def spoken(name: str, field: FieldInfo) -> str:
    """Return a parameter's name as researchers say it: its alias, and lambda as λ."""
    alias = field.validation_alias
    said = alias if isinstance(alias, str) else name
    return {"lambda": "λ"}.get(said, said)


def unit(field: FieldInfo) -> str:
    """Return the unit of a field, empty if it has none."""
    return str(_extra(field).get("unit") or "")


def choices(field: FieldInfo) -> tuple[str, ...] | None:
    """Return what a field may be set to, looked up now, or None if that is no list of names."""
    if get_origin(field.annotation) is Literal:
        return tuple(str(choice) for choice in get_args(field.annotation))
    offered = _extra(field).get("choices")
    return None if offered is None else tuple(offered())


def _extra(field: FieldInfo) -> dict[str, Any]:
    """Return what `parameter` told of a field."""
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


@dataclass(frozen=True)
class Step:
    """One sign of life of a running reconstruction.

    Parameters
    ----------
    fraction : float
        Part of the work that is done, 0 to 1.
    message : str
        Stage and iteration in words.
    preview : callable, optional
        Makes the current estimate of what is computed (chi in ppm, on the acquisition's grid). Call
        it only before the generator is resumed, from the thread that runs the generator.
    values : mapping of str to float
        Figures worth plotting over the run, such as the relative change.
    """

    fraction: float
    message: str
    preview: Callable[[], FloatArray] | None = None
    values: Mapping[str, float] = field(default_factory=dict)


Work = Generator[Step, None, Maps]
"""A running piece of work: iterate for `Step`s, the generator's return value is the `Maps`."""


@dataclass(frozen=True)
class Process(Generic[P]):
    """A piece of work: what it is called, what it takes and gives, and what can be set.

    Parameters
    ----------
    key, label, summary : str
        Name for machines, name for people, one line of explanation.
    needs, uses : tuple[Quantity, ...]
        Volumes it cannot run without, and volumes it takes into account when present.
    gives : tuple[Quantity, ...]
        Quantities of what it makes.
    references : tuple[str, ...]
        DOIs, the founding one first.
    parameters : type[Parameters]
        Model of its parameters.
    function : callable
        ``(acquisition, parameters, device) -> Generator[Step, None, Maps]``.
    cpu_only : bool
        Whether it runs on the CPU whatever device was asked for (provenance says so).
    orientations : int
        Of how many orientations of a head it makes one map, at least.
    one_of : tuple[Quantity, ...]
        Those of what it `uses` of which one at least must be there, the best one first.
    """

    key: str
    label: str
    summary: str
    needs: tuple[Quantity, ...]
    uses: tuple[Quantity, ...]
    gives: tuple[Quantity, ...]
    references: tuple[str, ...]
    parameters: type[P]
    function: Callable[[Acquisition, P, torch.device], Work]
    cpu_only: bool = field(default=False, kw_only=True)
    orientations: int = field(default=1, kw_only=True)
    one_of: tuple[Quantity, ...] = field(default=(), kw_only=True)

    def __call__(
        self,
        acquisition: Acquisition,
        parameters: P | None = None,
        device: torch.device | str = "cpu",
    ) -> Work:
        """Run the work; iterate for `Step`s, the generator's return value is the `Maps`.

        Raises
        ------
        InputError
            If the acquisition lacks what is needed.

        Notes
        -----
        Work on one orientation takes the first of several, and nothing else of them.
        """
        import torch

        self.check(acquisition)
        chosen = self.parameters() if parameters is None else parameters
        target = torch.device("cpu" if self.cpu_only else device)
        began = time.perf_counter()
        maps = yield from self.function(acquisition, chosen, target)
        seconds = time.perf_counter() - began
        inputs: dict[str, str] = {}
        for name, array in self._inputs(acquisition, lambda one: one.volumes).items():
            inputs[name] = yield from relayed(
                fingerprinting(array),
                lambda _: Step(1.0, f"{self.label}: recording how it was made"),
            )
        return self._signed(maps, acquisition, chosen, target, seconds, inputs)

    def _inputs(
        self, acquisition: Acquisition, look: Callable[[Acquisition], Mapping[Quantity, T]]
    ) -> dict[str, T]:
        """Return something of every input by name: ``local_field``, ``local_field@2`` ..."""
        used = (acquisition, *self._others(acquisition))
        taken = dict.fromkeys((*self.needs, *self.uses))
        return {
            f"{quantity.key}@{number}" if number > 1 else quantity.key: look(one)[quantity]
            for number, one in enumerate(used, start=1)
            for quantity in taken
            if quantity in look(one)
        }

    def _others(self, acquisition: Acquisition) -> tuple[Acquisition, ...]:
        """Further orientations it takes into account."""
        return acquisition.others if self.orientations > 1 else ()

    def _asides(self, acquisition: Acquisition) -> tuple[str, ...]:
        """Sentences for the notes about what was left aside."""
        return ()

    def _signed(
        self,
        maps: Maps,
        acquisition: Acquisition,
        parameters: P,
        device: torch.device,
        seconds: float,
        inputs: Mapping[str, str],
    ) -> Maps:
        import torch

        grid = acquisition.grid
        directions = [list(other.grid.b0_direction) for other in self._others(acquisition)]
        sources = self._inputs(acquisition, lambda one: one.sources)
        provenance = Provenance(
            method=self.key,
            parameters=parameters.model_dump(mode="json"),
            chosen=maps.provenance.chosen,
            inputs=inputs,
            sources={key: sources[key] for key in inputs if key in sources},
            grid={
                "shape": list(grid.shape),
                "voxel_size_mm": list(grid.voxel_size),
                "b0_direction": list(grid.b0_direction),
                **({"other_b0_directions": directions} if directions else {}),
            },
            field_strength=acquisition.field_strength,
            echo_times=acquisition.echo_times,
            seconds=round(seconds, 3),
            device=str(device),
            software={
                "napari-qsm": __version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            notes=(*acquisition.notes, *maps.provenance.notes, *self._asides(acquisition)),
            history=acquisition.history,
        )
        return replace(maps, provenance=provenance)

    def missing(self, acquisition: Acquisition) -> tuple[Quantity, ...]:
        """Quantities this work needs and `acquisition` lacks."""
        return tuple(q for q in self.needs if q not in acquisition)

    def with_settings(self, settings: Mapping[str, Any]) -> P:
        """Parameters with `settings` in place of defaults.

        Raises
        ------
        InputError
            If a name is unknown or a value out of range.
        """
        try:
            return self.parameters.model_validate(dict(settings))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                known = ", ".join(self.parameters.model_fields) or "none"
                raise InputError(
                    f"{self.label} has no parameter '{name}'; its parameters are {known}."
                ) from None
            raise InputError(
                f"{self.label} cannot use {name}={first['input']!r}: {first['msg'].lower()}."
            ) from None

    def check(self, acquisition: Acquisition) -> None:
        """Raise `InputError` if `acquisition` lacks a needed quantity or orientations."""
        if missing := self.missing(acquisition):
            names = " and ".join(q.label for q in missing)
            raise InputError(f"{self.label} needs a {names}; choose one.")
        self.check_choice(acquisition.volumes)
        self.check_orientations(acquisition)

    def check_choice(self, there: Collection[Quantity], instead: str = "") -> None:
        """Raise `InputError` if nothing of `one_of` is there; it ends in what else can be done."""
        if self.one_of and not any(quantity in there for quantity in self.one_of):
            names = " or ".join(quantity.label for quantity in self.one_of)
            told = f"{self.label} needs a map of {names} beside the field"
            raise InputError(f"{told}; choose one{instead}.")

    def check_orientations(self, acquisition: Acquisition) -> None:
        """Raise `InputError` if there are too few orientations, or one lacks what is needed."""
        there = 1 + len(acquisition.others)
        if there < self.orientations:
            raise InputError(
                f"{self.label} needs a head in {self.orientations} orientations at least and "
                f"there is {there}; add the fields of others, or choose another method."
            )
        for number, other in enumerate(self._others(acquisition), start=2):
            if missing := self.missing(other):
                raise InputError(
                    f"Orientation {number} has no {missing[0].label}, which {self.label} needs of "
                    "each; add it or leave that orientation out."
                )
