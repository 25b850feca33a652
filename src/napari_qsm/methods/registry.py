"""What a method is, and the one list of all of them.

A method is data plus one function. Its file declares a frozen `Parameters` model and decorates a
generator function with `method(...)`; the window, the command line, the docs table, the tests and
the benchmark iterate `methods()` and know no method by name.
"""

from __future__ import annotations

import importlib
import pkgutil
import platform
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_qsm import __version__
from napari_qsm.acquisition import (
    Acquisition,
    FloatArray,
    InputError,
    Maps,
    Provenance,
    Quantity,
    fingerprint,
)


class Parameters(BaseModel):
    """Base of every method's parameters: immutable, complete, nothing unknown accepted."""

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


Reconstruction = Generator[Step, None, Maps]


@dataclass(frozen=True)
class Method(Generic[P]):
    """A reconstruction method: what it is called, what it takes and gives, and how to run it.

    Parameters
    ----------
    key, label, summary : str
        Name for machines, name for people, one line of explanation.
    needs, uses : tuple[Quantity, ...]
        Volumes it cannot run without, and volumes it takes into account when present.
    gives : tuple[Quantity, ...]
        Quantities of the maps it returns.
    references : tuple[str, ...]
        DOIs, the founding one first.
    parameters : type[Parameters]
        Model of its parameters.
    function : callable
        ``(acquisition, parameters, device) -> Generator[Step, None, Maps]``.
    """

    key: str
    label: str
    summary: str
    needs: tuple[Quantity, ...]
    uses: tuple[Quantity, ...]
    gives: tuple[Quantity, ...]
    references: tuple[str, ...]
    parameters: type[P]
    function: Callable[[Acquisition, P, torch.device], Reconstruction]

    def missing(self, acquisition: Acquisition) -> tuple[Quantity, ...]:
        """Quantities this method needs and `acquisition` lacks."""
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

    def __call__(
        self,
        acquisition: Acquisition,
        parameters: P | None = None,
        device: torch.device | str = "cpu",
    ) -> Reconstruction:
        """Run the method; iterate for `Step`s, the generator's return value is the `Maps`.

        Raises
        ------
        InputError
            If the acquisition lacks a needed quantity.
        """
        if missing := self.missing(acquisition):
            names = " and ".join(q.label for q in missing)
            raise InputError(f"{self.label} needs a {names}; choose one.")
        chosen = self.parameters() if parameters is None else parameters
        target = torch.device(device)
        began = time.perf_counter()
        maps = yield from self.function(acquisition, chosen, target)
        return self._signed(maps, acquisition, chosen, target, time.perf_counter() - began)

    def _signed(
        self,
        maps: Maps,
        acquisition: Acquisition,
        parameters: P,
        device: torch.device,
        seconds: float,
    ) -> Maps:
        taken = [q for q in (*self.needs, *self.uses) if q in acquisition]
        grid = acquisition.grid
        provenance = Provenance(
            method=self.key,
            parameters=parameters.model_dump(mode="json"),
            inputs={q.key: fingerprint(acquisition[q]) for q in taken},
            sources={q.key: acquisition.sources[q] for q in taken if q in acquisition.sources},
            grid={
                "shape": list(grid.shape),
                "voxel_size_mm": list(grid.voxel_size),
                "b0_direction": list(grid.b0_direction),
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
            notes=(*acquisition.notes, *maps.provenance.notes),
        )
        return replace(maps, provenance=provenance)


DEFAULT_METHOD = "tv"
"""What the window opens with: the best of the fast ones on the digital head."""

_REGISTRY: dict[str, Method[Any]] = {}


def method(
    *,
    key: str,
    label: str,
    summary: str,
    parameters: type[P],
    references: tuple[str, ...],
    needs: tuple[Quantity, ...] = (Quantity.LOCAL_FIELD,),
    uses: tuple[Quantity, ...] = (Quantity.MASK,),
    gives: tuple[Quantity, ...] = (Quantity.CHI, Quantity.RESIDUAL),
) -> Callable[[Callable[[Acquisition, P, torch.device], Reconstruction]], Method[P]]:
    """Turn a generator function into a registered `Method`.

    Raises
    ------
    ValueError
        If the key is taken.
    """

    def register(function: Callable[[Acquisition, P, torch.device], Reconstruction]) -> Method[P]:
        if key in _REGISTRY:
            raise ValueError(f"Two methods are called '{key}'.")
        made = Method(key, label, summary, needs, uses, gives, references, parameters, function)
        _REGISTRY[key] = made
        return made

    return register


def unregister(key: str) -> None:
    """Take a method out of the registry again (tests and plugins that unload)."""
    _REGISTRY.pop(key, None)


def methods() -> Mapping[str, Method[Any]]:
    """Return all methods by key, in the order in which files and declarations sort."""
    import napari_qsm.methods as package

    for module in sorted(
        m.name for m in pkgutil.walk_packages(package.__path__, "napari_qsm.methods.")
    ):
        importlib.import_module(module)
    return dict(_REGISTRY)


def find(key: str) -> Method[Any]:
    """Return the method called `key`, or raise `InputError` naming those that exist."""
    known = methods()
    if key not in known:
        raise InputError(f"There is no method '{key}'; there are {', '.join(known)}.")
    return known[key]
