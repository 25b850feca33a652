"""A method over a range of the parameter that trades streaks for blur: the path is solved.

The value in the middle is solved as anybody would, then those below it, each from its neighbour,
then those above. Upwards the iteration takes detail away, which follows where the last two maps
lead; downwards it has to find detail, and takes more iterations (measured with TV).
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from napari_qsm import process
from napari_qsm.acquisition import Acquisition, FloatArray, InputError, Maps, Quantity
from napari_qsm.evaluation.filter_curve import FilterCurve, filter_curve
from napari_qsm.evaluation.sweep_range import target_of, tuned
from napari_qsm.evaluation.swept import Point, Sweep
from napari_qsm.evaluation.yardstick import Yardstick
from napari_qsm.generators import relayed
from napari_qsm.methods.registry import Method
from napari_qsm.methods.workspace import Weighting
from napari_qsm.process import Parameters, Step
from napari_qsm.surroundings import bounding_box

T = TypeVar("T")
Steps = Generator[Step, None, T]

WEAKER_SHARE, STRONGER_SHARE = 0.05, 0.035
"""Part of a method's limit of iterations for a value below or above a neighbour that is there. TV
on the digital head is then 1 to 5 % above the objective of cold solves, further from the middle
more than close to it."""

DENSE = 25
"""Values at which the curve of a closed-form method is computed: it needs no map for that."""


@dataclass(frozen=True)
class Solved(Step):
    """The step at which a point is there.

    Parameters
    ----------
    sweep : Sweep
        All points so far, from the smallest value on.
    chi : (n, X, Y, Z) array
        What `Sweep.chi` will be, zeros where there is no point yet.
    """

    sweep: Sweep = field(kw_only=True)
    chi: FloatArray = field(kw_only=True)


def sweep(
    method: Method[Any],
    acquisition: Acquisition,
    values: Sequence[float],
    parameters: Parameters | None = None,
    device: torch.device | str = "cpu",
    *,
    reference: NDArray[Any] | None = None,
    thorough: bool = False,
) -> Generator[Step, None, Sweep]:
    """Reconstruct with every one of `values` and measure what comes out.

    Parameters
    ----------
    method : Method
        With a `Method.tuning` parameter.
    acquisition : Acquisition
        What is reconstructed.
    values : sequence of float
        Of that parameter.
    parameters : Parameters, optional
        All others.
    device : torch.device
        Where to work.
    reference : (X, Y, Z) array, optional
        A susceptibility map in ppm that every point is compared with.
    thorough : bool
        Give every point as many iterations as a reconstruction of its own; see `STRONGER_SHARE`.

    Yields
    ------
    Step
        Often; a `Solved` for every point.

    Raises
    ------
    InputError
        If the method has no such parameter, the values are out of its range, or the acquisition
        lacks what it needs.
    """
    tuned(method)
    method.check(acquisition)
    if reference is not None and reference.shape != acquisition.grid.shape:
        raise InputError(
            f"The reference has shape {reference.shape}, the field {acquisition.grid.shape}; "
            "bring them to one grid."
        )
    path = _Path(
        method, acquisition, parameters or method.parameters(), values, device, thorough=thorough
    )
    exact = None
    if method.symbol is not None:
        dense = np.geomspace(path.values[0], path.values[-1], DENSE)
        at = np.union1d(dense[1:-1], path.values)
        curve = filter_curve(method, acquisition, at, path.parameters, device)
        exact = yield from _renamed(curve, 0.0, f"{method.label}: computing the curve")
    with Yardstick(acquisition, path.weighting, target_of(method, device), reference) as yardstick:
        yield from yardstick.prepare()
        return (yield from path.solve(yardstick, exact))


class _Path:
    """The points of a sweep, solved one after the other."""

    def __init__(
        self,
        method: Method[Any],
        acquisition: Acquisition,
        parameters: Parameters,
        values: Sequence[float],
        device: torch.device | str,
        *,
        thorough: bool,
    ) -> None:
        self.method, self.parameters, self.device = method, parameters, device
        self._acquisition = acquisition
        self.values = tuple(sorted({float(v) for v in values}))
        if not self.values:
            raise InputError("There are no values to sweep; give some.")
        self._warm = Quantity.CHI in method.uses
        self._brief = self._warm and not thorough
        self._middle = (len(self.values) - 1) // 2 if self._warm else 0
        self._settings = [self._settings_of(index) for index in range(len(self.values))]
        self._solved: dict[int, Point] = {}
        self.chi = np.zeros((len(self.values), *acquisition.grid.shape), np.float32)
        self._box = bounding_box(acquisition.mask)

    @property
    def weighting(self) -> Weighting:
        """How residuals are weighted: as the method weights them, if it says so."""
        stated: Any = getattr(self.parameters, "weights", "auto")
        return stated if stated in get_args(Weighting) else "auto"

    def _settings_of(self, index: int) -> Parameters:
        """Return the parameters of a point, with as many iterations as it may take."""
        changed: dict[str, Any] = {self.method.tuning: self._typed(self.values[index])}
        limit = getattr(self.parameters, "max_iterations", None)
        if self._brief and isinstance(limit, int) and index != self._middle:
            share = WEAKER_SHARE if index < self._middle else STRONGER_SHARE
            changed["max_iterations"] = max(1, round(share * limit))
        made: Parameters = self.method.with_settings({**dict(self.parameters), **changed})
        return made

    def _typed(self, value: float) -> float | int:
        return round(value) if tuned(self.method).whole else value

    def solve(self, yardstick: Yardstick, exact: FilterCurve | None) -> Steps[Sweep]:
        """Solve and measure all points: from the middle down, then from the middle up.

        What is handed out begins with the smallest value, so nothing is before that is reached.
        """
        count = len(self.values)
        name = process.spoken(
            self.method.tuning, self.method.parameters.model_fields[self.method.tuning]
        )
        order = [*range(self._middle, -1, -1), *range(self._middle + 1, count)]
        for place, index in enumerate(order):
            value = self.values[index]
            head = f"{name} = {value:.3g} ({place + 1} of {count}): "
            began, iterations = time.perf_counter(), 0
            running = self._solution(index)
            try:
                while True:
                    step = next(running)
                    iterations = int(step.values.get("iteration", iterations))
                    yield Step((place + 0.9 * step.fraction) / count, head + step.message)
            except StopIteration as end:
                maps: Maps = end.value
            finally:
                running.close()
            seconds = time.perf_counter() - began
            measuring = yardstick.measure(maps)
            measures = yield from _renamed(measuring, (place + 0.9) / count, f"{head}measuring")
            self.chi[index][self._box] = maps[Quantity.CHI][self._box]
            others = dict(maps.volumes)
            del others[Quantity.CHI]
            self._solved[index] = Point(
                value, measures, seconds, iterations, others, maps.provenance
            )
            if 0 in self._solved:
                made = self._so_far(yardstick, exact)
                yield Solved((place + 1) / count, f"{head}done", sweep=made, chi=self.chi)
        return made

    def _so_far(self, yardstick: Yardstick, exact: FilterCurve | None) -> Sweep:
        points = tuple(self._solved[index] for index in sorted(self._solved))
        scale = yardstick.field_residual, yardstick.field_variation
        chi, grid = self.chi[: len(points)], self._acquisition.grid
        return Sweep(self.method, grid, points, chi, yardstick.noise, scale, exact)

    def _solution(self, index: int) -> Generator[Step, None, Maps]:
        """Solve one point; the first as anybody would, which records how it was made."""
        parameters, acquisition = self._settings[index], self._acquisition
        if not self._solved:
            return (yield from self.method(acquisition, parameters, self.device))
        notes: tuple[str, ...] = ()
        if self._warm:
            start, told = self._start(index)
            acquisition = acquisition.with_volumes({Quantity.CHI: start})
            notes = (f"Solved on a sweep, from {told}.",)
        target = target_of(self.method, self.device)
        began = time.perf_counter()
        maps = yield from self.method.function(acquisition, parameters, target)
        made = replace(
            self._solved[self._middle].provenance,  # the same inputs, the same machine
            parameters=parameters.model_dump(mode="json"),
            chosen=maps.provenance.chosen,
            seconds=round(time.perf_counter() - began, 3),
            notes=(*acquisition.notes, *notes, *maps.provenance.notes),
        )
        return replace(maps, provenance=made)

    def _start(self, index: int) -> tuple[FloatArray, str]:
        """Return what a point starts from, in words too: its neighbour, or where two of them lead.

        Upwards the map is continued from two neighbours along the logarithm of the parameter.
        """
        if index < self._middle:
            return self.chi[index + 1], f"the map at {self.values[index + 1]:.3g}"
        last, before = index - 1, index - 2
        told = f"the map at {self.values[last]:.3g}"
        if before < 0:
            return self.chi[last], told
        far, near, value = (math.log(self.values[k]) for k in (before, last, index))
        reach = (value - near) / (near - far)
        start = self.chi[last].copy()
        box = start[self._box]
        box += reach * (box - self.chi[before][self._box])
        return start, f"{told} and on from that at {self.values[before]:.3g}"


def _renamed(steps: Generator[Step, None, T], fraction: float, message: str) -> Steps[T]:
    """Pass on steps under another fraction and message."""
    return (yield from relayed(steps, lambda _: Step(fraction, message)))
