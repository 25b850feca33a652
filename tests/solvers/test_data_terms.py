"""Each data term's dual against what defines it: its proximal, its optimality, its bounds."""

import math

import pytest
import torch

from napari_qsm.physics.gradient import Gradient
from napari_qsm.solvers.admm import total_variation
from napari_qsm.solvers.data_terms import LeastAbsolute, LeastSquares, Wrapped
from napari_qsm.solvers.fourier import GradientNormal, SplitStep
from napari_qsm.solvers.iteration import until_converged

SHAPE = (6, 5, 4)
MU = 0.3
ALL = slice(None)


def noise(scale=1.0, random_state=0, shape=SHAPE):
    generator = torch.Generator().manual_seed(random_state)
    return scale * torch.randn(shape, dtype=torch.float64, generator=generator)


@pytest.fixture
def weights():
    return noise(random_state=3).square()


def wrapped_objective(y, v, data, weights, scale):
    misfit = weights * (1 - torch.cos(scale * (y - data))) / scale**2
    return misfit + MU / 2 * (y - v).square()


def test_least_squares_is_its_proximal(weights):
    """y minimises W^2/2 (y - f)^2 + mu/2 (y - v)^2, where ``mu u = W^2 (y - f)``."""
    data, predicted, dual = noise(), noise(1, 1), noise(1, 2)
    v = predicted + dual
    LeastSquares(data, weights, penalty=MU).dual(v, predicted, ALL, dual)
    torch.testing.assert_close(MU * dual, weights * (v - dual - data))


def test_the_wrapped_term_never_overshoots(weights):
    """Every step lowers what the proximal minimises, however many turns away one starts."""
    data, v, scale = noise(2.0), noise(2.0, 1), 16.0
    term = Wrapped(data, weights, scale=scale, penalty=MU)
    dual = noise(0.5, 2)
    before = wrapped_objective(v - dual, v, data, weights, scale)
    for _ in range(30):
        term.dual(v, v - dual, ALL, dual)
        after = wrapped_objective(v - dual, v, data, weights, scale)
        assert bool((after <= before + 1e-12).all())
        before = after


def test_the_wrapped_term_ends_where_its_slope_vanishes(weights):
    data, v, scale = noise(0.2), noise(0.2, 1), 5.0
    term = Wrapped(data, weights, scale=scale, penalty=MU)
    dual = torch.zeros_like(data)
    for _ in range(300):
        term.dual(v, v - dual, ALL, dual)
    slope = weights * torch.sin(scale * (v - dual - data)) / scale
    torch.testing.assert_close(MU * dual, slope, atol=1e-9, rtol=0)


def test_whole_turns_cannot_be_seen(weights):
    data, predicted, scale = noise(), noise(1, 1), 16.0
    turns = torch.round(noise(3, 5)) * 2 * math.pi / scale
    period = 2 * math.pi / scale
    for make in (
        lambda f: Wrapped(f, weights, scale=scale, penalty=MU),
        lambda f: LeastAbsolute(f, weights, scale=1e-2, penalty=MU, period=period),
    ):
        duals = [noise(0.01, 2), noise(0.01, 2)]
        for dual, field in zip(duals, (data, data + turns), strict=True):
            make(field).dual(predicted + dual, predicted, ALL, dual)
        torch.testing.assert_close(*duals, atol=1e-10, rtol=0)


def test_small_phase_is_linear(weights):
    data, predicted, scale = noise(), noise(1, 1), 1e-4
    duals = [noise(1, 2), noise(1, 2)]
    Wrapped(data, weights, scale=scale, penalty=MU).dual(
        predicted + duals[0], predicted, ALL, duals[0]
    )
    LeastSquares(data, weights, penalty=MU).dual(predicted + duals[1], predicted, ALL, duals[1])
    torch.testing.assert_close(*duals, atol=1e-6, rtol=0)


def test_absolute_misfits_are_soft_thresholded(weights):
    data, predicted, dual = noise(), noise(1, 1), noise(1, 2)
    v = predicted + dual
    LeastAbsolute(data, weights, scale=0.2, penalty=MU).dual(v, predicted, ALL, dual)
    bound = 0.2 * weights.sqrt() / MU
    shift = v - data
    y = data + shift.sign() * (shift.abs() - bound).clamp(min=0)
    torch.testing.assert_close(v - dual, y)
    assert bool((dual.abs() <= bound * (1 + 1e-12)).all())


@pytest.mark.parametrize(
    "make",
    [
        lambda f, w: LeastSquares(f, w, penalty=MU),
        lambda f, w: Wrapped(f, w, scale=2.0, penalty=MU),
        lambda f, w: LeastAbsolute(f, w, scale=0.2, penalty=MU),
    ],
)
def test_the_optimal_dual_stays(make, weights):
    """If y is the prediction and u the dual optimal with it, nothing moves."""
    data = noise()
    predicted = data + noise(0.3, 1).sign() * (5 + noise(0.3, 1).abs())  # no small misfits
    term = make(data, weights)
    dual = term.optimal(predicted)
    again = torch.empty_like(dual)
    term.dual(predicted + dual, predicted, ALL, again)
    torch.testing.assert_close(again, dual, atol=1e-9, rtol=1e-9)


def solve(term, symbol, shape, *, regularization, penalty, iterations):
    gradient = Gradient((1.0, 1.0, 1.0))
    prior = gradient.spectrum(shape, dtype=torch.float64)
    step = SplitStep(term, symbol, GradientNormal(symbol, prior, ratio=penalty / MU), shape=shape)
    start = torch.zeros(shape, dtype=torch.float64)
    iterates = total_variation(step, gradient, start, threshold=regularization / penalty)
    *_, last = until_converged(iterates, tolerance=1e-13, max_iterations=iterations)
    return last.estimate


def test_gross_errors_are_given_up_and_the_rest_is_exact():
    """With A = 1: a spike pays less misfit, sigma, than the 6 lambda of its faces; a slab as a
    whole costs more misfit than variation, so that, unlike with squares, it does not shrink."""
    shape = torch.Size((20, 6, 6))
    truth = torch.zeros(shape, dtype=torch.float64)
    truth[5:11] = 2.0
    data = truth.clone()
    for x, y, z in ((1, 1, 1), (7, 3, 3), (13, 2, 4), (16, 5, 0)):
        data[x, y, z] += 5.0 * (-1) ** x
    ones = torch.ones_like(data)
    symbol = torch.ones((20, 6, 4), dtype=torch.float64)
    term = LeastAbsolute(data, ones, scale=1.0, penalty=MU)
    x = solve(term, symbol, shape, regularization=0.3, penalty=1.0, iterations=3000)
    torch.testing.assert_close(x, truth, atol=1e-6, rtol=0)


def test_one_step_per_iteration_arrives_where_ten_do():
    """The wrapped proximal is only approached; the solution is the same, stationary point."""
    shape = torch.Size((12, 8, 6))
    data, ones = noise(0.1, shape=shape), torch.ones(shape, dtype=torch.float64)
    symbol = 0.2 + noise(0.2, 4, shape=(12, 8, 4)).abs()

    class Patient(Wrapped):
        def dual(self, moved, predicted, slab, out):
            for _ in range(10):
                super().dual(moved, predicted, slab, out)
                predicted = moved - out

    settings = {"scale": 5.0, "penalty": MU}
    known = {"regularization": 1e-3, "penalty": 0.1, "iterations": 600}
    quick = solve(Wrapped(data, ones, **settings), symbol, shape, **known)
    slow = solve(Patient(data, ones, **settings), symbol, shape, **known)
    torch.testing.assert_close(quick, slow, atol=1e-7, rtol=0)
