"""A method over a range of the parameter that trades streaks for blur, and how to choose from it.

The path is solved from weak to strong regularisation, each solution starting from the one before.
That way round the iteration takes detail away; the other way it has to find it, and what is left to
find after a few iterations is missed (measured with TV on the digital head).
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from napari_qsm import process
from napari_qsm.acquisition import (
    Acquisition,
    FloatArray,
    Grid,
    InputError,
    Maps,
    Provenance,
    Quantity,
)
from napari_qsm.evaluation.curves import LCurve, crossing, lowest, u_curve
from napari_qsm.evaluation.filter_curve import FilterCurve, filter_curve
from napari_qsm.evaluation.sweep_range import target_of, tuned
from napari_qsm.evaluation.yardstick import Measures, Yardstick
from napari_qsm.methods.registry import Method
from napari_qsm.methods.workspace import Weighting
from napari_qsm.process import Parameters, Step
from napari_qsm.surroundings import bounding_box

T = TypeVar("T")
Steps = Generator[Step, None, T]

NEXT_SHARE = 0.05
"""Part of a method's limit of iterations for a value whose neighbour is there. The middle value
is solved as anybody would; from there maps need little to follow lambda outwards."""

DENSE = 25
"""Values at which the curve of a closed-form method is computed: it needs no map for that."""


@dataclass(frozen=True, eq=False)
class Point:
    """One value of a sweep and what came of it.

    Parameters
    ----------
    value : float
        The parameter, in its unit.
    measures : Measures
        Its map in figures.
    seconds : float
        Time it took to solve.
    iterations : int
        Iterations of its solver; 0 where there are none.
    others : mapping of Quantity to array
        What the method made besides susceptibility.
    provenance : Provenance
        How it was made.
    """

    value: float
    measures: Measures
    seconds: float
    iterations: int
    others: Mapping[Quantity, NDArray[Any]]
    provenance: Provenance


@dataclass(frozen=True)
class Mark:
    """A value of the parameter that a curve recommends.

    Parameters
    ----------
    key, label : str
        Name for machines and for people.
    value : float
        The parameter.
    """

    key: str
    label: str
    value: float


@dataclass(frozen=True, eq=False)
class Sweep:
    """A path of maps, by ascending value of one parameter.

    Parameters
    ----------
    method : Method
        What was swept; `Method.tuning` is the parameter.
    grid : Grid
        Where the maps lie.
    points : tuple[Point, ...]
        One for each value.
    chi : (n, X, Y, Z) array
        The susceptibilities in ppm. Memory is reserved for whole volumes, but nobody ever writes
        around the mask's box, so that the operating system need not provide what lies there.
    noise : float
        Root mean square of the weighted residual that the field's noise alone would leave, ppm.
    scale : tuple[float, float]
        Residual of a map that is zero, and roughness of the field itself, to compare with.
    closed_form : FilterCurve, optional
        The exact curve of a method that is a Fourier filter.
    """

    method: Method[Any]
    grid: Grid
    points: tuple[Point, ...]
    chi: FloatArray
    noise: float
    scale: tuple[float, float]
    closed_form: FilterCurve | None = None

    @property
    def values(self) -> NDArray[np.float64]:
        """The parameter, ascending."""
        return np.array([point.value for point in self.points])

    def column(self, name: str) -> NDArray[np.float64]:
        """Return a figure of `Measures` over all points, NaN where there is none."""
        found = (getattr(point.measures, name) for point in self.points)
        return np.array([np.nan if x is None else x for x in found], np.float64)

    def maps(self, index: int) -> Maps:
        """Return all maps of a point, as its method would have returned them."""
        point = self.points[index]
        volumes = {Quantity.CHI: self.chi[index].copy(), **point.others}
        return Maps(self.grid, volumes, point.provenance)

    @cached_property
    def curve(self) -> LCurve:
        """The L-curve: of ``|G chi|_1`` in the mask, or for a Fourier filter of ``|G chi|_2``."""
        if self.closed_form is not None:
            return self.closed_form.curve
        return LCurve(self.values, self.column("residual"), self.column("variation"))

    @cached_property
    def u_curve(self) -> NDArray[np.float64]:
        """The U-curve at the values of `curve`."""
        scale = self.closed_form.scale if self.closed_form is not None else self.scale
        return u_curve(self.curve, *scale)

    @cached_property
    def marks(self) -> tuple[Mark, ...]:
        """What the curves recommend; those that recommend nothing in this range are left out."""
        amplitudes = np.array([point.measures.amplitudes for point in self.points])
        curve = self.curve
        found = {
            ("corner", "L-curve: largest curvature"): curve.corner,
            ("inflection", "L-curve: zero curvature"): curve.inflection,
            ("u_curve", "U-curve: lowest"): lowest(curve.values, self.u_curve),
            ("discrepancy", "residual equals noise"): crossing(
                curve.values, curve.residual, self.noise
            ),
            ("frequencies", "equal amplitudes"): crossing(
                self.values, amplitudes[:, 2], amplitudes[:, 1]
            ),
            ("nrmse", "least NRMSE"): lowest(self.values, self.column("nrmse")),
        }
        return tuple(Mark(*names, value) for names, value in found.items() if value is not None)

    def nearest(self, value: float) -> int:
        """Return the place of the point whose value is nearest, by ratio."""
        return int(np.argmin(np.abs(np.log(self.values / value))))

    def table(self) -> str:
        """Return all figures as comma-separated values, one line a point."""
        tuning = self.method.tuning
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([tuning, *_COLUMNS, "seconds", "iterations"])
        for point in self.points:
            m = point.measures
            figures = (m.residual, m.variation, m.roughness, m.cone, *m.amplitudes, m.nrmse, m.xsim)
            shown = ["" if x is None else f"{x:.6g}" for x in (point.value, *figures)]
            writer.writerow([*shown, f"{point.seconds:.3f}", point.iterations])
        return text.getvalue()


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


_COLUMNS = (
    "residual_ppm",
    "variation_ppm_per_mm",
    "roughness_ppm_per_mm",
    "cone_energy",
    "amplitude_in_cone",
    "amplitude_near_cone",
    "amplitude_far_from_cone",
    "nrmse_percent",
    "xsim",
)


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
        Give every point as many iterations as a reconstruction of its own; see `NEXT_SHARE`.

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
            changed["max_iterations"] = max(1, round(NEXT_SHARE * limit))
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
            neighbour = index - 1 if index > self._middle else index + 1
            acquisition = acquisition.with_volumes({Quantity.CHI: self.chi[neighbour]})
            notes = (f"Solved on a sweep, from the map at {self.values[neighbour]:.3g}.",)
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


def _renamed(steps: Generator[Step, None, T], fraction: float, message: str) -> Steps[T]:
    """Pass on steps under another fraction and message."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: T = end.value
            return made
        yield Step(fraction, message)
