"""Curves over a path of regularisation, and the values they recommend.

All of them take values of the parameter in ascending order. What a curve recommends is None where
it recommends nothing inside the range, never an end of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline, make_smoothing_spline

Values = NDArray[np.float64]
Spline = Callable[..., Any]

FEWEST = 4
"""Points below which a curve recommends nothing."""

SHORTEST_PERIOD = 1.4
"""Undulations of a curve shorter than this, in ln(lambda), are taken for errors of the solver and
halved or more by the splines; the corners of L-curves are about a decade wide, ln(10) = 2.3."""

LEAST_BEND = 0.1
"""Curvature up to which a curve counts as straight: errors of 1 % bend one as much."""

FINE = 400
"""Places at which a curve is looked at between its ends."""


def smooth(x: Values, y: Values) -> Spline:
    """Return a spline through a few points that does not follow their errors.

    It minimises ``sum (y - s)^2 + p integral s''^2``. For points h apart that passes a wave of
    period P by ``1 / (1 + p h (2 pi / P)^4)``; p makes it one half at `SHORTEST_PERIOD`, so that
    the answer does not depend on how densely the curve was sampled. Below five points there is
    nothing to smooth by and a cubic spline goes through them.
    """
    if len(x) < 5:
        through: Spline = CubicSpline(x, y, bc_type="natural")
        return through
    spacing = float(x[-1] - x[0]) / (len(x) - 1)
    penalty = (SHORTEST_PERIOD / (2 * np.pi)) ** 4 / spacing
    smoothed: Spline = make_smoothing_spline(x, y, lam=penalty)
    return smoothed


@dataclass(frozen=True, eq=False)
class LCurve:
    """Residual against roughness, in log-log, along a path of regularisation.

    Parameters
    ----------
    values : (n,) array
        The parameter, ascending and positive.
    residual, roughness : (n,) arrays
        Misfit and size of the prior there, positive.

    Notes
    -----
    Reference: Hansen 1992, doi:10.1137/1034115.
    """

    values: Values
    residual: Values
    roughness: Values

    def __post_init__(self) -> None:
        for name in ("values", "residual", "roughness"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))

    @property
    def usable(self) -> bool:
        """Whether there are enough points, all of them positive and finite."""
        columns = np.stack([self.values, self.residual, self.roughness])
        meant = np.isfinite(columns) & (columns > 0)
        return columns.shape[1] >= FEWEST and bool(meant.all())

    @cached_property
    def _splines(self) -> tuple[Spline, Spline]:
        t = np.log(self.values)
        return smooth(t, np.log(self.residual)), smooth(t, np.log(self.roughness))

    @cached_property
    def places(self) -> Values:
        """Values, evenly spaced in the logarithm, at which the curve is looked at."""
        places: Values = np.geomspace(self.values[0], self.values[-1], FINE)
        return places

    def at(self, values: ArrayLike) -> tuple[Values, Values]:
        """Residual and roughness of the smooth curve at `values` inside the range."""
        t = np.log(np.asarray(values, np.float64))
        residual, roughness = (np.exp(spline(t)) for spline in self._splines)
        return residual, roughness

    def curvature(self, values: ArrayLike) -> Values:
        """Curvature in log-log at `values`, positive where the curve bends as an L does.

        ``(x' y'' - x'' y') / (x'^2 + y'^2)^(3/2)`` with x the logarithm of the residual, y that of
        the roughness, primes for derivatives by ln(lambda).
        """
        t = np.log(np.asarray(values, np.float64))
        x, y = self._splines
        x1, y1, x2, y2 = x(t, 1), y(t, 1), x(t, 2), y(t, 2)
        bend: Values = (x1 * y2 - x2 * y1) / (x1**2 + y1**2) ** 1.5
        return bend

    @cached_property
    def corner(self) -> float | None:
        """Value of the largest curvature; over-regularises with L1 priors (see `inflection`)."""
        if not self.usable:
            return None
        bend = self.curvature(self.places)
        best = int(np.argmax(bend))
        corner = float(self.places[best])
        return corner if bend[best] > LEAST_BEND and self._inside(corner) else None

    def _inside(self, value: float) -> bool:
        """Whether a value lies off the ends, where a spline is straight whatever the curve is."""
        t = np.log(self.values)
        margin = max((t[-1] - t[0]) / (len(t) - 1) / 2, SHORTEST_PERIOD / 4)
        return bool(t[0] + margin <= np.log(value) <= t[-1] - margin)

    @cached_property
    def inflection(self) -> float | None:
        """Value below the corner at which the curvature is zero.

        With total variation it is close to the value of least error where the corner blurs.
        Reference: Milovic et al. 2021, doi:10.1002/mrm.28435.
        """
        if not self.usable:
            return None
        bend = self.curvature(self.places)
        corner = int(np.argmax(bend))
        if bend[corner] <= LEAST_BEND:
            return None
        below = np.flatnonzero(bend[:corner] <= 0)
        if not below.size:
            return None
        last = int(below[-1])
        share = bend[last] / (bend[last] - bend[last + 1])
        value = float(self.places[last] * (self.places[last + 1] / self.places[last]) ** share)
        return value if self._inside(value) else None


def u_curve(curve: LCurve, residual: float, roughness: float) -> Values:
    """Sum of the reciprocals of residual and roughness, which is high at both ends of the range.

    Each is taken relative to that of a reference map, `residual` and `roughness`, without which the
    sum would depend on the units. Reference: Krawczyk-Stando & Rudnicki 2007,
    doi:10.2478/v10006-007-0014-3.
    """
    return residual / curve.residual + roughness / curve.roughness


def lowest(values: ArrayLike, heights: ArrayLike) -> float | None:
    """Value at the bottom of a valley: of the parabola through its lowest point and neighbours.

    None where the lowest point is an end, since the valley may go on.
    """
    t, y = np.log(np.asarray(values, np.float64)), np.asarray(heights, np.float64)
    if len(y) < 3 or not np.isfinite(y).all():
        return None
    k = int(np.argmin(y))
    if k in (0, len(y) - 1):
        return None
    a, b, _ = np.polyfit(t[k - 1 : k + 2] - t[k], y[k - 1 : k + 2], 2)
    return float(np.exp(t[k] - b / (2 * a))) if a > 0 else float(np.exp(t[k]))


def crossing(values: ArrayLike, heights: ArrayLike, level: ArrayLike) -> float | None:
    """Smallest value at which a positive curve rises through a positive level.

    Log-log between the points; None where it does not. With the residual as the curve and the
    noise as the level this is the discrepancy principle.
    """
    t, y = np.log(np.asarray(values, np.float64)), np.asarray(heights, np.float64)
    height = np.broadcast_to(np.asarray(level, np.float64), y.shape)
    if not (np.isfinite([y, height]).all() and (y > 0).all() and (height > 0).all()):
        return None
    apart = np.log(y) - np.log(height)
    rises = np.flatnonzero((apart[:-1] <= 0) & (apart[1:] > 0))
    if not rises.size:
        return None
    k = int(rises[0])
    share = apart[k] / (apart[k] - apart[k + 1])
    return float(np.exp(t[k] + share * (t[k + 1] - t[k])))
