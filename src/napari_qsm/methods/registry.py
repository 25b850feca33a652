"""What a method is, and the one list of all of them.

A method is data plus one function. Its file declares a frozen `Parameters` model and decorates a
generator function with `method(...)`; the window, the command line, the docs table, the tests and
the benchmark iterate `methods()` and know no method by name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, InputError, Quantity
from napari_qsm.process import P, Parameters, Process, Step, Work, parameter

if TYPE_CHECKING:
    from napari_qsm.methods.workspace import Workspace

__all__ = [
    "DEFAULT_METHOD",
    "INVERSION",
    "SEPARATION",
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

INVERSION, SEPARATION = "Inversion", "Separation"
"""Groups of methods."""


@dataclass(frozen=True)
class Method(Process[P]):
    """A reconstruction method: a `Process` from an acquisition to maps of susceptibility.

    Parameters
    ----------
    tuning : str
        Name of the one parameter that trades streaks and noise for blur: what people tune, sweep
        and drag. Empty if there is none.
    symbol : callable, optional
        ``(workspace, parameters) -> Tensor``: for a method that is nothing but a Fourier filter of
        the field, that filter on the half grid. It is what makes a method live.
    odd : bool
        Whether a flipped field flips the map, at every setting. Physics does; networks learn it
        only roughly.
    """

    tuning: str = field(default="", kw_only=True)
    symbol: Callable[[Workspace, P], Tensor] | None = field(default=None, kw_only=True)
    odd: bool = field(default=True, kw_only=True)

    @property
    def group(self) -> str:
        """What kind of maps it makes, in a word, for lists."""
        return SEPARATION if Quantity.CHI_POS in self.gives else INVERSION

    @property
    def wrappable(self) -> bool:
        """Whether something can be put around it: wrappers make one map of one orientation."""
        return self.orientations == 1 and self.group == INVERSION

    def _asides(self, acquisition: Acquisition) -> tuple[str, ...]:
        if not acquisition.others or self.orientations > 1:
            return ()
        return (
            f"{self.label} inverts one orientation of a head: the first of the "
            f"{1 + len(acquisition.others)} that were given.",
        )


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
    tuning: str = "",
    symbol: Callable[[Workspace, P], Tensor] | None = None,
    orientations: int = 1,
    odd: bool = True,
    one_of: tuple[Quantity, ...] = (),
) -> Callable[[Callable[[Acquisition, P, torch.device], Reconstruction]], Method[P]]:
    """Turn a generator function into a registered `Method`.

    Raises
    ------
    ValueError
        If the key is taken, `tuning` names no parameter, or `one_of` something that is not used.
    """
    if not set(one_of) <= set(uses):
        raise ValueError(f"'{key}' does not use all of {[q.key for q in one_of]}.")
    if tuning and tuning not in parameters.model_fields:
        raise ValueError(f"'{tuning}' is no parameter of '{key}'.")

    def register(function: Callable[[Acquisition, P, torch.device], Reconstruction]) -> Method[P]:
        if key in _REGISTRY:
            raise ValueError(f"Two methods are called '{key}'.")
        made = Method(
            key,
            label,
            summary,
            needs,
            uses,
            gives,
            references,
            parameters,
            function,
            tuning=tuning,
            symbol=symbol,
            orientations=orientations,
            odd=odd,
            one_of=one_of,
        )
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
    """Return the method called `key`, such as ``"tv"``, or wrapped, ``"tv+two_pass"``.

    Raises
    ------
    InputError
        If there is none; it names those that exist.
    """
    from napari_qsm.methods.wrapping import JOINT, wrap

    inner, *around = key.split(JOINT)
    known = methods()
    if inner not in known:
        raise InputError(f"There is no method '{inner}'; there are {', '.join(known)}.")
    return wrap(known[inner], tuple(around))
