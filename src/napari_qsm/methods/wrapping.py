"""Wrappers: what can be done around any method, and is a method again.

``find("tv+two_pass")`` is TV in two passes, ``find("tv+two_pass+sigma")`` has an uncertainty, too.
A wrapped method has the parameters of both, needs and uses what the inner one does, and is run,
shown, stored and repeated like any other.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Generic

import torch
from pydantic import create_model

from napari_qsm.acquisition import Acquisition, FloatArray, InputError, Maps, Quantity
from napari_qsm.generators import relayed
from napari_qsm.methods.registry import Method
from napari_qsm.process import P, Parameters, Step, Work

JOINT = "+"
"""Stands between a method's key and its wrappers' keys."""


@dataclass(frozen=True)
class Inner:
    """The inner method, ready to run on any acquisition.

    Parameters
    ----------
    method : Method
        What is wrapped.
    label : str
        Name of the whole, for messages.
    parameters : Parameters
        Of the inner method.
    device : torch.device
        Where it works.
    """

    method: Method[Any]
    label: str
    parameters: Parameters
    device: torch.device

    def __call__(self, acquisition: Acquisition) -> Work:
        """Run the inner method."""
        return self.method.function(acquisition, self.parameters, self.device)

    def repeating(self, maps: Maps) -> Inner:
        """Return the same with what the method chose for `maps`, so that it does not choose anew.

        What it would choose for a changed field, such as lambda by its noise, is another method.
        """
        own = type(self.parameters).model_fields
        chosen = {name: value for name, value in maps.provenance.chosen.items() if name in own}
        return replace(self, parameters=self.parameters.model_copy(update=chosen))

    def part(
        self,
        acquisition: Acquisition,
        low: float,
        high: float,
        stage: str,
        view: Callable[[FloatArray], FloatArray] = lambda chi: chi,
    ) -> Work:
        """Run the inner method as the part of a whole from the fraction `low` to `high`.

        Parameters
        ----------
        acquisition : Acquisition
            What it is given.
        low, high : float
            Fractions of the whole at which the part begins and ends.
        stage : str
            Name of the part, for messages.
        view : callable
            Turns the inner method's preview into that of the whole.
        """

        def outward(step: Step) -> Step:
            return self._outward(step, low + (high - low) * step.fraction, stage, view)

        return (yield from relayed(self(acquisition), outward))

    def _outward(
        self, step: Step, fraction: float, stage: str, view: Callable[[FloatArray], FloatArray]
    ) -> Step:
        told = step.message.removeprefix(f"{self.method.label}: ")
        preview = step.preview
        shown = None if preview is None else lambda: view(preview())
        return replace(
            step, fraction=fraction, message=f"{self.label}: {stage}, {told}", preview=shown
        )

    def step(
        self, fraction: float, told: str, preview: Callable[[], FloatArray] | None = None
    ) -> Step:
        """Return a sign of life of the whole."""
        return Step(fraction, f"{self.label}: {told}", preview)


@dataclass(frozen=True)
class Wrapper(Generic[P]):
    """Something that runs a method, perhaps more than once, and makes more of what comes out.

    Parameters
    ----------
    key, label, summary : str
        As those of a method; the label reads well after a method's: "TV, two passes".
    uses, gives : tuple[Quantity, ...]
        Volumes it takes into account, and what it makes, both beyond the method's own.
    references : tuple[str, ...]
        DOIs.
    parameters : type[Parameters]
        Its own parameters; no name of theirs may be a method's.
    function : callable
        ``(inner, acquisition, parameters, device) -> Generator[Step, None, Maps]``.
    of_sources : tuple[Quantity, ...]
        What it makes beyond that of a method that separates sources; without any it cannot be put
        around one.
    """

    key: str
    label: str
    summary: str
    uses: tuple[Quantity, ...]
    gives: tuple[Quantity, ...]
    references: tuple[str, ...]
    parameters: type[P]
    function: Callable[[Inner, Acquisition, P, torch.device], Work]
    of_sources: tuple[Quantity, ...] = ()

    def fits(self, method: Method[Any]) -> bool:
        """Whether it can be put around a method."""
        return method.orientations == 1 and (method.wrappable or bool(self.of_sources))

    def __call__(self, method: Method[Any]) -> Method[Any]:
        """Wrap a method.

        Raises
        ------
        ValueError
            If a parameter of the wrapper is called like one of the method.
        """
        return _wrapped(self, method)


_WRAPPERS: dict[str, Wrapper[Any]] = {}


def wrapper(
    *,
    key: str,
    label: str,
    summary: str,
    parameters: type[P],
    references: tuple[str, ...],
    uses: tuple[Quantity, ...] = (),
    gives: tuple[Quantity, ...] = (),
    of_sources: tuple[Quantity, ...] = (),
) -> Callable[[Callable[[Inner, Acquisition, P, torch.device], Work]], Wrapper[P]]:
    """Turn a generator function into a registered `Wrapper`.

    Raises
    ------
    ValueError
        If the key is taken.
    """

    def register(function: Callable[[Inner, Acquisition, P, torch.device], Work]) -> Wrapper[P]:
        if key in _WRAPPERS:
            raise ValueError(f"Two wrappers are called '{key}'.")
        made = Wrapper(
            key, label, summary, uses, gives, references, parameters, function, of_sources
        )
        _WRAPPERS[key] = made
        return made

    return register


def wrappers() -> Mapping[str, Wrapper[Any]]:
    """Return all wrappers by key, in alphabetical order whatever was imported first."""
    import napari_qsm.methods.wrappers as package

    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{module}")
    return dict(sorted(_WRAPPERS.items()))


def wrap(method: Method[Any], keys: tuple[str, ...]) -> Method[Any]:
    """Wrap a method in wrappers by key, the innermost first.

    Raises
    ------
    InputError
        If there is no such wrapper, one comes twice, or the method inverts several orientations
        at once or separates: wrappers change the field of one, and make one map.
    """
    known = wrappers()
    for number, key in enumerate(keys):
        if key not in known:
            raise InputError(f"Nothing called '{key}' can be put around a method; there are "
                             f"{', '.join(known)}.")  # fmt: skip
        if key in keys[:number]:
            raise InputError(f"'{key}' was put around {method.label} twice; once is enough.")
        if method.orientations > 1:
            raise InputError(f"'{key}' knows one orientation of a head only, and {method.label} "
                             "inverts several; choose one of them.")  # fmt: skip
        if not known[key].fits(method):
            raise InputError(f"'{key}' makes one map of susceptibility, and {method.label} "
                             "separates two; choose one of them.")  # fmt: skip
        method = known[key](method)
    return method


@lru_cache(maxsize=256)
def _wrapped(wrapper: Wrapper[Any], method: Method[Any]) -> Method[Any]:
    if common := set(method.parameters.model_fields) & set(wrapper.parameters.model_fields):
        raise ValueError(f"{method.label} and '{wrapper.key}' both have {', '.join(common)}.")
    label = f"{method.label}, {wrapper.label}"
    both: type[Parameters] = create_model(
        f"{method.parameters.__name__}{wrapper.parameters.__name__}",
        __base__=(wrapper.parameters, method.parameters),  # the last one's fields come first
    )

    sources = wrapper.of_sources if Quantity.CHI_POS in method.gives else ()

    def function(acquisition: Acquisition, parameters: Parameters, device: torch.device) -> Work:
        values = dict(parameters)
        own, inside = (
            kind.model_construct(**{name: values[name] for name in kind.model_fields})
            for kind in (wrapper.parameters, method.parameters)
        )
        inner = Inner(method, label, inside, device)
        return (yield from wrapper.function(inner, acquisition, own, device))

    return Method(
        key=f"{method.key}{JOINT}{wrapper.key}",
        label=label,
        summary=wrapper.summary,
        needs=method.needs,
        uses=tuple(dict.fromkeys((*method.uses, *wrapper.uses))),
        gives=tuple(dict.fromkeys((*method.gives, *wrapper.gives, *sources))),
        references=tuple(dict.fromkeys((*method.references, *wrapper.references))),
        parameters=both,
        function=function,
        cpu_only=method.cpu_only,
        tuning=method.tuning,
        orientations=method.orientations,
        odd=method.odd,
        one_of=method.one_of,
    )
