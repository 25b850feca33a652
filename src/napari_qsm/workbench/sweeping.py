"""A sweep under way, and the one layer that shows its maps; free of Qt.

The maps lie in one array whose first axis the viewer gives a slider. It is reserved when the sweep
begins and filled point by point, so that whoever watches sees each as soon as it is there.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from napari_qsm import process
from napari_qsm.acquisition import FloatArray, Maps, Quantity, Volume
from napari_qsm.evaluation.sweep import Solved, sweep
from napari_qsm.evaluation.sweep_range import plan
from napari_qsm.evaluation.swept import Sweep
from napari_qsm.methods.registry import Method
from napari_qsm.process import Parameters, Step
from napari_qsm.workbench.job import Job
from napari_qsm.workbench.layers import LayerData, layer_data, map_layers
from napari_qsm.workbench.placement import place, to_display
from napari_qsm.workbench.session import Inputs, Result


@dataclass(frozen=True)
class Range:
    """What a user asks a sweep to go over.

    Parameters
    ----------
    low, high : float, optional
        Ends; None for a decade from the value that is stated or chosen from the data.
    points : int
        Number of values.
    """

    low: float | None
    high: float | None
    points: int


class Sweeping:
    """One sweep on the inputs of a workbench: a job, and how far it has come.

    Parameters
    ----------
    inputs : Inputs
        Chosen volumes; assembled anew inside the job, as for a reconstruction.
    method, parameters : Method, Parameters
        What is swept, and what stays.
    device : torch.device
        Where to work.
    over : Range
        Where to.
    number : int
        For the name of the layer.

    Attributes
    ----------
    job : Job
        To be run in a thread.
    sweep : Sweep or None
        The points so far.
    layer : LayerData or None
        The layer that shows them, made as soon as there is one; its data grows in place.
    """

    def __init__(
        self,
        inputs: Inputs,
        method: Method[Any],
        parameters: Parameters,
        device: torch.device,
        over: Range,
        number: int,
    ) -> None:
        self.method, self._number = method, number
        self.sweep: Sweep | None = None
        self.layer: LayerData | None = None
        self.job: Job[Sweep] = Job(
            lambda: self._watched(_swept(inputs, method, parameters, device, over))
        )

    @property
    def title(self) -> str:
        """Name of the layer."""
        return f"χ  {self.method.label} over {symbol(self.method)} #{self._number}"

    def _watched(self, steps: Generator[Step, None, Sweep]) -> Generator[Step, None, Sweep]:
        try:
            while True:
                step = next(steps)
                if isinstance(step, Solved):
                    _ = step.sweep.marks  # splines, no work for the main thread
                    if self.layer is None:
                        self.layer = sweep_layer(step.sweep, step.chi, self.title)
                    self.sweep = step.sweep
                    step = Step(step.fraction, step.message)  # whoever keeps it keeps no maps
                yield step
        except StopIteration as end:
            made: Sweep = end.value
            return made
        finally:
            steps.close()


def _swept(
    inputs: Inputs, method: Method[Any], parameters: Parameters, device: torch.device, over: Range
) -> Generator[Step, None, Sweep]:
    yield Step(0.0, "Checking the input")
    acquisition = inputs.acquisition()
    reference = None if inputs.reference is None else np.asarray(inputs.reference.data)
    yield Step(0.0, "Looking for the range")
    values = yield from plan(
        method,
        acquisition,
        parameters,
        device,
        low=over.low,
        high=over.high,
        points=over.points,
    )
    return (yield from sweep(method, acquisition, values, parameters, device, reference=reference))


def symbol(method: Method[Any]) -> str:
    """Return what a method's tuning parameter is called: λ, threshold, iterations."""
    return process.spoken(method.tuning, method.parameters.model_fields[method.tuning])


def unit(method: Method[Any]) -> str:
    """Return the unit of a method's tuning parameter, empty if it has none."""
    return process.unit(method.parameters.model_fields[method.tuning])


def sweep_layer(sweep: Sweep, chi: FloatArray, title: str) -> LayerData:
    """Return the layer that shows all maps of a sweep, the parameter along its first axis.

    Parameters
    ----------
    sweep : Sweep
        With one point at least, the roughest, which decides how far the contrast slider goes.
    chi : (n, X, Y, Z) array
        The maps; the layer's data is a view of them.
    title : str
        Name of the layer.
    """
    first = Volume(sweep.chi[0], sweep.grid, "ppm", source=f"{sweep.method.key} sweep")
    facts = {"method": sweep.method.key, "sweep": sweep.method.tuning}
    _, keywords, kind = layer_data(first, Quantity.CHI, title, facts)
    keywords |= place(sweep.grid, echoes=True)
    keywords["axis_labels"] = (symbol(sweep.method), *keywords["axis_labels"][1:])
    return to_display(np.moveaxis(chi, 0, -1), sweep.grid), keywords, kind


def kept(sweep: Sweep, index: int, number: int) -> tuple[Result, list[LayerData]]:
    """Return one point of a sweep as a result of its own, and the layers that show it."""
    maps: Maps = sweep.maps(index)
    value = sweep.points[index].value
    title = f"{sweep.method.label} {symbol(sweep.method)}={value:.3g} #{number}"
    return Result(title, maps), list(map_layers(maps, title))


def cut(layer: LayerData, sweep: Sweep) -> LayerData:
    """Return the layer of a sweep that was stopped, without the places it never came to."""
    data, keywords, kind = layer
    return data[: len(sweep.points)], keywords, kind


def settings_of(sweep: Sweep, index: int) -> dict[str, Any]:
    """Return the parameters of a point that differ from the shipped ones."""
    method = sweep.method
    made = method.with_settings(sweep.points[index].provenance.parameters)
    shipped = method.parameters()
    return {name: value for name, value in made if value != getattr(shipped, name)}
