"""Curves with known corners, and what they recommend."""

import numpy as np
import pytest

from napari_qsm.evaluation.curves import LCurve, crossing, lowest, u_curve


def hyperbola(values, corner):
    """(residual - 1)(roughness - 1) = 1: symmetric about its corner, convex everywhere."""
    return LCurve(values, 1 + values / corner, 1 + corner / values)


def bent(values, inflection):
    """Roughness exp(-atan ln(residual)): curvature of known sign, zero at `inflection`."""
    t = np.log(values / inflection)
    return LCurve(values, np.exp(t), np.exp(-np.arctan(t)))


def bent_corner(inflection):
    t = np.linspace(0, 4, 400_001)
    y1, y2 = -1 / (1 + t**2), 2 * t / (1 + t**2) ** 2
    return inflection * np.exp(t[np.argmax(y2 / (1 + y1**2) ** 1.5)])


@pytest.mark.parametrize("points", [6, 8, 12, 25])
def test_the_corner_of_a_symmetric_curve_is_its_centre(points):
    curve = hyperbola(np.geomspace(2e-5, 2e-3, points), 2.3e-4)
    assert curve.corner == pytest.approx(2.3e-4, rel=0.15)
    assert curve.inflection is None  # it bends one way only


@pytest.mark.parametrize("points", [8, 12, 25])
def test_zero_curvature_lies_below_the_corner(points):
    curve = bent(np.geomspace(0.04, 12, points), 0.5)
    assert curve.inflection == pytest.approx(0.5, rel=0.2)
    assert curve.corner == pytest.approx(bent_corner(0.5), rel=0.25)


def test_curvature_is_that_of_the_formula():
    curve = bent(np.geomspace(1e-2, 1e2, 200), 1.0)
    t = np.linspace(-2, 2, 9)
    y1, y2 = -1 / (1 + t**2), 2 * t / (1 + t**2) ** 2
    assert curve.curvature(np.exp(t)) == pytest.approx(y2 / (1 + y1**2) ** 1.5, abs=0.04)


def test_marks_stay_where_they_are_under_errors_of_a_solver():
    values = np.geomspace(3e-3, 30, 10)
    rng = np.random.default_rng(0)
    true = bent(values, 0.5)
    for _ in range(20):
        errors = 1 + 0.005 * rng.normal(size=(2, 10))
        curve = LCurve(values, true.residual * errors[0], true.roughness * errors[1])
        assert curve.inflection == pytest.approx(0.5, rel=0.3)
        assert curve.corner == pytest.approx(bent_corner(0.5), rel=0.4)


def test_curvature_depends_neither_on_units_nor_on_lambda():
    values = np.geomspace(1e-5, 1e-1, 12)
    a = bent(values, 1e-3)
    b = LCurve(values * 7, a.residual * 1e3, a.roughness / 5)
    assert b.corner == pytest.approx(7 * a.corner)
    assert b.inflection == pytest.approx(7 * a.inflection)


def test_nothing_is_recommended_from_too_little_or_beyond_the_range():
    few = np.geomspace(1e-3, 1e-1, 3)
    assert hyperbola(few, 1e-2).corner is None
    assert hyperbola(np.geomspace(1.0, 100, 10), 1e-3).corner is None  # a corner far below
    values = np.geomspace(1e-3, 1, 8)
    flat = LCurve(values, np.zeros(8), np.ones(8))
    assert flat.corner is None and flat.inflection is None


def test_a_concave_curve_has_no_corner():
    values = np.geomspace(1e-2, 1e2, 12)
    curve = LCurve(values, values, np.exp(-(np.log(values / 1e-3) ** 2) / 20))
    assert (curve.curvature(values[1:-1]) < 0).all()
    assert curve.corner is None and curve.inflection is None


def test_the_u_curve_is_lowest_where_its_formula_says():
    values = np.geomspace(1e-2, 1e2, 41)
    curve = LCurve(values, values, 1 / values)  # U = 4 / v + v, lowest at 2
    assert lowest(values, u_curve(curve, 4.0, 1.0)) == pytest.approx(2.0, rel=1e-2)


def test_a_valley_must_have_two_sides():
    values = np.geomspace(1, 100, 7)
    t = np.log(values)
    assert lowest(values, (t - 1.9) ** 2) == pytest.approx(np.exp(1.9))
    assert lowest(values, t) is None
    assert lowest(values, -t) is None
    assert lowest(values, np.full(7, np.nan)) is None


def test_a_residual_meets_the_noise_between_points():
    values = np.geomspace(1e-4, 1e-2, 8)
    assert crossing(values, 3 * values**0.5, 3 * 7e-4**0.5) == pytest.approx(7e-4)
    assert crossing(values, 3 * values**0.5, 10.0) is None
    assert crossing(values, 1 / values, 1 / values[3]) is None  # falls, does not rise
