"""What a sweep over a parameter has made: its points, its curves, and what they recommend."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import FloatArray, Grid, Maps, Provenance, Quantity
from napari_qsm.evaluation.curves import LCurve, crossing, lowest, u_curve
from napari_qsm.evaluation.filter_curve import FilterCurve
from napari_qsm.evaluation.yardstick import Measures
from napari_qsm.methods.registry import Method

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
