"""What a method is, and the one list of all of them.

A method is data plus one function. Its file declares a frozen `Parameters` model and decorates a
generator function with `method(...)`; the window, the command line, the docs table, the tests and
the benchmark iterate `methods()` and know no method by name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from napari_qsm.acquisition import Acquisition, InputError, Quantity
from napari_qsm.process import P, Parameters, Process, Step, Work, parameter

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

Reconstruction = Work
"""A running reconstruction."""


@dataclass(frozen=True)
class Method(Process[P]):
    """A reconstruction method: a `Process` from an acquisition to maps of susceptibility."""


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
