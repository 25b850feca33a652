"""What a stage is, the places of the chain, and the one list of all stages.

A stage is the same kind of thing as a method: a `Process` whose generator returns `Maps`. Its
`Place` says where in the chain from raw phase to local field it belongs; the window, the command
line, the presets and the docs iterate `places` and `stages` and know no stage by name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch

from napari_qsm.acquisition import Acquisition, InputError, Quantity
from napari_qsm.process import P, Process, Work


class Place(Enum):
    """A place in the chain, in the order in which it is run.

    Attributes
    ----------
    key : str
        Name in presets, options and file names.
    label, help : str
        What people read.
    gives : Quantity
        What the chain lacks without it.
    optional : bool
        Whether a measurement for which no stage fits here may still go on.
    """

    def __init__(self, key: str, label: str, help: str, gives: Quantity, optional: bool) -> None:
        self.key = key
        self.label = label
        self.help = help
        self.gives = gives
        self.optional = optional

    # fmt: off
    MASK = ("mask", "Mask", "Where there is brain; your own mask is taken as it is.", Quantity.MASK, False)
    OFFSET = ("offset", "Phase offset", "The phase that is there at echo time zero, from coils and receiver.", Quantity.OFFSET, True)
    UNWRAP = ("unwrap", "Unwrapping", "The phase without its jumps of a full turn.", Quantity.UNWRAPPED, False)
    FIELD = ("field", "Echo combination", "All echoes become one field map with its noise.", Quantity.TOTAL_FIELD, False)
    RELAXATION = ("relaxation", "R2*", "How fast the signal decays over the echoes.", Quantity.R2STAR, True)
    BACKGROUND = ("background", "Background removal", "The field of sources inside the mask alone.", Quantity.LOCAL_FIELD, False)
    # fmt: on

    @classmethod
    def named(cls, key: str) -> Place:
        """Return the place whose `key` is `key`, or raise `InputError`."""
        for place in cls:
            if place.key == key:
                return place
        raise InputError(
            f"'{key}' is no place of the chain; they are {', '.join(p.key for p in cls)}."
        )


@dataclass(frozen=True)
class Stage(Process[P]):
    """A stage of the preparation: a `Process` with its place in the chain.

    Parameters
    ----------
    place : Place or None
        Where in the chain it belongs; None for one that is run by itself.
    echoes : int
        How many echoes it needs at least.
    """

    place: Place | None
    echoes: int = 1

    def obstacle(self, acquisition: Acquisition, coming: Collection[Quantity] = ()) -> str:
        """Say in a clause why this stage cannot run on `acquisition`; empty if it can.

        What is `coming` from stages before it counts as there.
        """
        if missing := [q for q in self.missing(acquisition) if q not in coming]:
            return f"needs a {' and a '.join(q.label for q in missing)}"
        # A field or a mask may come without echo times; who needs one says so at work.
        if self.echoes > 1 and (count := len(acquisition.echo_times)) < self.echoes:
            verb = "was" if count == 1 else "were"
            return f"needs {self.echoes} echoes or more where {count} {verb} measured"
        return ""

    def check(self, acquisition: Acquisition) -> None:
        """Raise `InputError` if `acquisition` lacks a needed quantity or echoes."""
        if obstacle := self.obstacle(acquisition):
            raise InputError(f"{self.label} {obstacle}; choose another stage or measurement.")


_REGISTRY: dict[str, Stage[Any]] = {}


def stage(
    *,
    key: str,
    label: str,
    summary: str,
    place: Place | None,
    parameters: type[P],
    references: tuple[str, ...],
    needs: tuple[Quantity, ...],
    gives: tuple[Quantity, ...],
    uses: tuple[Quantity, ...] = (),
    echoes: int = 1,
    cpu_only: bool = False,
) -> Callable[[Callable[[Acquisition, P, torch.device], Work]], Stage[P]]:
    """Turn a generator function into a registered `Stage`.

    Raises
    ------
    ValueError
        If the key is taken.
    """

    def register(function: Callable[[Acquisition, P, torch.device], Work]) -> Stage[P]:
        if key in _REGISTRY:
            raise ValueError(f"Two stages are called '{key}'.")
        made = Stage(
            key, label, summary, needs, uses, gives, references, parameters, function, place,
            echoes, cpu_only=cpu_only,
        )  # fmt: skip
        _REGISTRY[key] = made
        return made

    return register


def unregister(key: str) -> None:
    """Take a stage out of the registry again (tests and plugins that unload)."""
    _REGISTRY.pop(key, None)


def stages(place: Place | None = None) -> Mapping[str, Stage[Any]]:
    """Return all stages by key, or those of one place, in the order files and declarations sort."""
    import napari_qsm.preparation as package

    for module in sorted(
        m.name for m in pkgutil.walk_packages(package.__path__, "napari_qsm.preparation.")
    ):
        importlib.import_module(module)
    # Whoever imported a file first must not decide where it stands in menus and tables.
    known = sorted(_REGISTRY.items(), key=lambda item: _declared(item[1]))
    return {key: made for key, made in known if place is None or made.place is place}


def _declared(stage: Stage[Any]) -> tuple[str, int]:
    """File and line of a declaration."""
    code = getattr(stage.function, "__code__", None)
    return stage.function.__module__, code.co_firstlineno if code else 0


def find(key: str) -> Stage[Any]:
    """Return the stage called `key`, or raise `InputError` naming those that exist."""
    known = stages()
    if key not in known:
        raise InputError(f"There is no stage '{key}'; there are {', '.join(known)}.")
    return known[key]
