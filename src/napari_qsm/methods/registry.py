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
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from napari_qsm import __version__
from napari_qsm.acquisition import (
    Acquisition,
    InputError,
    Maps,
    Provenance,
    Quantity,
    fingerprint,
)
from napari_qsm.process import P, Parameters, Process, Step, parameter

__all__ = [
    "DEFAULT_METHOD",
    "Method",
    "Parameters",
    "Reconstruction",
    "Step",
    "find",
    "method",
    "methods",
    "parameter",
    "unregister",
]

Reconstruction = Generator[Step, None, Maps]


@dataclass(frozen=True)
class Method(Process[P]):
    """A reconstruction method: a `Process` from an acquisition to maps.

    Parameters
    ----------
    function : callable
        ``(acquisition, parameters, device) -> Generator[Step, None, Maps]``.
    """

    function: Callable[[Acquisition, P, torch.device], Reconstruction]

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
        self.check(acquisition)
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
