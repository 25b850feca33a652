"""What a piece of work is: data that describes it, and one generator function.

A stage of the preparation and a reconstruction method are the same kind of thing. They declare
what they need, use and give, carry a model of their parameters from which forms, options and tables
are made, and report while they work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_qsm.acquisition import Acquisition, FloatArray, InputError, Quantity


class Parameters(BaseModel):
    """Parameters of a piece of work: immutable, complete, nothing unknown accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


P = TypeVar("P", bound=Parameters)


def parameter(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    log: bool = False,
    alias: str | None = None,
) -> Any:
    """Declare one field of a `Parameters` model.

    Parameters
    ----------
    default : Any
        The shipped value.
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
        What is stored and shown is always the field's own name.
    """
    return Field(
        default,
        ge=low,
        le=high,
        description=help,
        validation_alias=alias,
        json_schema_extra={"unit": unit, "log": log},
    )


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
        Makes the current estimate of chi (ppm, on the acquisition's grid). Call it only before the
        generator is resumed, from the thread that runs the generator.
    values : mapping of str to float
        Figures worth plotting over the run, such as the relative change.
    """

    fraction: float
    message: str
    preview: Callable[[], FloatArray] | None = None
    values: Mapping[str, float] = field(default_factory=dict)


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
    """

    key: str
    label: str
    summary: str
    needs: tuple[Quantity, ...]
    uses: tuple[Quantity, ...]
    gives: tuple[Quantity, ...]
    references: tuple[str, ...]
    parameters: type[P]

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
        """Raise `InputError` if `acquisition` lacks a needed quantity."""
        if missing := self.missing(acquisition):
            names = " and ".join(q.label for q in missing)
            raise InputError(f"{self.label} needs a {names}; choose one.")
