"""Adapting a network to the field of one patient: what is run for that, and what it changed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic.fields import FieldInfo

from napari_qsm.acquisition import InputError, Maps, Quantity
from napari_qsm.methods.registry import INVERSION, Method, Parameters
from napari_qsm.methods.wrapping import JOINT
from napari_qsm.networks import weights
from napari_qsm.networks.weights import Card
from napari_qsm.workbench.session import Workbench

ADAPTERS = {True: "pdi_vi", False: "fine"}
"""What adapts a network, by whether the network says how sure it is."""

NETWORK = "weights"
"""Name of the parameter by which methods choose a network."""

PPB = 1000.0


@dataclass(frozen=True)
class Run:
    """A method with the parameters it is to run with."""

    method: Method[Any]
    parameters: Parameters

    def made(self, maps: Maps) -> bool:
        """Whether maps come from a run like this one."""
        told = maps.provenance
        return (told.method, told.parameters) == (
            self.method.key,
            self.parameters.model_dump(mode="json"),
        )


@dataclass(frozen=True)
class Adaptation:
    """What adapting runs.

    Parameters
    ----------
    card : Card
        Of the weights that are adapted.
    before, after : Run
        The network as it was trained, and the method that changes it.
    """

    card: Card
    before: Run
    after: Run


def chooses_network(name: str, field: FieldInfo) -> bool:
    """Whether a parameter is that of trained weights, and not of those of voxels."""
    return name == NETWORK and field.annotation is str


def has_network(method: Method[Any]) -> bool:
    """Whether a method has a network that can be adapted: one that makes one susceptibility."""
    fields = method.parameters.model_fields
    return method.group == INVERSION and any(chooses_network(*item) for item in fields.items())


def network_of(bench: Workbench, result: Maps | None = None) -> str:
    """Return the key of the weights to adapt: those chosen, else those a result came from."""
    if bench.chosen.group != INVERSION:
        return ""
    if has_network(bench.chosen):
        return str(getattr(bench.parameters, NETWORK))
    if result is not None:
        told = result.provenance
        made_by = bench.methods.get(told.method.split(JOINT)[0])
        if made_by is not None and has_network(made_by):
            return str(told.parameters[NETWORK])
    return ""


def adaptation(bench: Workbench, result: Maps | None = None) -> Adaptation | None:
    """Return what adapting would run now; None where no network is in view.

    The method that is chosen adapts its weights if that is what it does, else PDI-VI does or, where
    a network has no standard deviation, FINE; each with the settings it was given.

    Raises
    ------
    InputError
        If there are no such weights.
    """
    key = network_of(bench, result)
    if not key:
        return None
    card = weights.find(key)
    chosen = bench.unwrapped
    adapter = chosen if chosen in ADAPTERS.values() else ADAPTERS[card.design.uncertain]
    return Adaptation(card, _run(bench, card.family, key), _run(bench, adapter, key))


def _run(bench: Workbench, method: str, network: str) -> Run:
    """Return a method as it is set, with a network."""
    if method not in bench.methods:
        raise InputError(
            f"No method runs the weights '{network}': their card says that they are of the family "
            f"'{method}'."
        )
    found = bench.methods[method]
    settings = {**bench.settings.get(method, {}), NETWORK: network}
    return Run(found, found.with_settings(settings))


FIGURES = {
    Quantity.RESIDUAL: (
        "residual [ppb]",
        "Root mean square of what the map leaves unexplained of the field.",
    ),
    Quantity.SIGMA: ("mean σ [ppb]", "Mean of the uncertainty over the mask."),
    Quantity.ERROR: ("error to reference [ppb]", "Root mean square, means taken out."),
}
"""What is told of maps: its name with the unit, and a sentence on what it means."""


def figures(maps: Maps) -> dict[Quantity, float]:
    """Return figures of maps in ppb over their mask; what they lack is left out."""
    inside = maps[Quantity.RESIDUAL] != 0
    count = max(1, int(np.count_nonzero(inside)))
    found: dict[Quantity, float] = {}
    for quantity in FIGURES:
        if quantity not in maps.volumes:
            continue
        values = np.asarray(maps[quantity], np.float32)
        if quantity is Quantity.SIGMA:
            found[quantity] = PPB * float(values.sum(dtype=np.float64)) / count
        else:
            power = float(np.square(values).sum(dtype=np.float64))
            found[quantity] = PPB * math.sqrt(power / count)
    return found


def same_inputs(one: Maps, other: Maps) -> bool:
    """Whether two maps were made of the same numbers, as far as both took them into account."""
    first, second = one.provenance.inputs, other.provenance.inputs
    return all(first[name] == second[name] for name in first.keys() & second.keys())
