"""Total variation by ADMM: exact solutions, and the blocked loop against a naive one."""

from itertools import pairwise

import pytest
import torch

from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.physics.gradient import Gradient
from napari_qsm.solvers import admm
from napari_qsm.solvers.admm import ShrinkageSplit, split_of, total_variation
from napari_qsm.solvers.data_terms import LeastSquares
from napari_qsm.solvers.fourier import GradientNormal, QuadraticStep, SplitStep
from napari_qsm.solvers.iteration import until_converged


class Box:
    shape = (16, 15, 12)
    voxel_size = (1.0, 0.8, 2.0)
    b0_direction = (0.28, 0.0, 0.96)


G = Gradient(Box.voxel_size)


def noise(shape, random_state=0):
    generator = torch.Generator().manual_seed(random_state)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


@pytest.fixture
def problem():
    """Symbol of the dipole, spectrum of the gradient, and a noisy field of two boxes."""
    A = DipoleConvolution(Box, padded_shape=Box.shape, dtype=torch.float64)
    chi = torch.zeros(Box.shape, dtype=torch.float64)
    chi[4:9, 3:9, 4:8] = 0.2
    chi[10:13, 9:13, 2:9] = -0.1
    data = A(chi) + 0.002 * noise(Box.shape)
    return A.spectrum, G.spectrum(Box.shape, dtype=torch.float64), data


def solve(step, shape, *, threshold, iterations, gradient=G, **settings):
    start = torch.zeros(shape, dtype=torch.float64)
    iterates = total_variation(step, gradient, start, threshold=threshold, **settings)
    *_, last = until_converged(iterates, tolerance=1e-14, max_iterations=iterations)
    return last.estimate


def test_a_slab_shrinks_exactly():
    """With A = 1 a slab of length L in a period N loses 2 lambda / L; the rest gains
    2 lambda / (N - L)."""
    period, length, regularization = 20, 6, 0.3
    data = torch.zeros((period, 4, 4), dtype=torch.float64)
    data[5 : 5 + length] = 2.0
    gradient = Gradient((1.0, 1.0, 1.0))
    one = torch.ones((period, 4, 3), dtype=torch.float64)
    prior = gradient.spectrum(data.shape, dtype=torch.float64)
    step = QuadraticStep(data, one, prior, penalty=1.0)
    x = solve(step, data.shape, threshold=regularization, iterations=400, gradient=gradient)
    expected = data.clone()
    expected[5 : 5 + length] -= 2 * regularization / length
    expected[:5] += 2 * regularization / (period - length)
    expected[5 + length :] += 2 * regularization / (period - length)
    torch.testing.assert_close(x, expected, atol=1e-6, rtol=0)


def naive(symbol, prior, data, *, regularization, penalty, iterations, relaxation):
    """The textbook loop with every variable stored."""
    x = torch.zeros_like(data)
    z, u = torch.zeros((2, 3, *data.shape), dtype=data.dtype)
    normal = symbol.square() + penalty * prior
    normal[0, 0, 0] = torch.inf
    for _ in range(iterations):
        v = relaxation * G(x) + (1 - relaxation) * z + u
        z = v.sign() * (v.abs() - regularization / penalty).clamp(min=0)
        u = v - z
        numerator = symbol * torch.fft.rfftn(data) + penalty * torch.fft.rfftn(G.H(z - u))
        x = torch.fft.irfftn(numerator / normal, s=data.shape)
    return x


@pytest.mark.parametrize("relaxation", [1.0, 1.6])
@pytest.mark.parametrize("slab_voxels", [1, 400, 10**6])
def test_the_blocked_loop_is_the_textbook_loop(problem, monkeypatch, slab_voxels, relaxation):
    monkeypatch.setattr(admm, "SLAB_VOXELS", slab_voxels)
    symbol, prior, data = problem
    known = {"regularization": 1e-3, "penalty": 0.1, "iterations": 15, "relaxation": relaxation}
    expected = naive(symbol, prior, data, **known)
    step = QuadraticStep(data, symbol, prior, penalty=0.1)
    got = solve(step, data.shape, threshold=1e-2, iterations=15, relaxation=relaxation)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)


def objective(x, symbol, data, regularization, weights=1.0):
    error = torch.fft.irfftn(torch.fft.rfftn(x) * symbol, s=x.shape) - data
    return float((weights * error.square()).sum() / 2 + regularization * G(x).abs().sum())


def test_the_objective_falls(problem):
    """ADMM is not monotone at first; from the fifth iteration on it is, to 1e-4 of its value."""
    symbol, prior, data = problem
    step = QuadraticStep(data, symbol, prior, penalty=0.1)
    iterates = total_variation(step, G, torch.zeros_like(data), threshold=1e-2)
    running = until_converged(iterates, tolerance=1e-14, max_iterations=60)
    values = [objective(i.estimate, symbol, data, 1e-3) for i in running if i.complete]
    tail = values[5:]
    assert all(b <= a * (1 + 1e-4) for a, b in pairwise(tail))
    assert values[-1] < 0.9 * values[0]


def test_the_result_is_a_minimum(problem):
    """No small step from it, in random or steepest directions, lowers the objective."""
    symbol, prior, data = problem
    step = QuadraticStep(data, symbol, prior, penalty=0.1)
    x = solve(step, data.shape, threshold=1e-2, iterations=1500)
    here = objective(x, symbol, data, 1e-3)
    for random_state in range(20):
        direction = noise(x.shape, random_state)
        direction *= x.norm() / direction.norm()
        for size in (1e-2, -1e-2, 1e-4, -1e-4):
            assert objective(x + size * direction, symbol, data, 1e-3) >= here * (1 - 1e-9)


def weighted_step(problem, weights, *, penalty=0.1, data_penalty=0.3):
    symbol, prior, data = problem
    term = LeastSquares(data, weights, penalty=data_penalty)
    normal = GradientNormal(symbol, prior, ratio=penalty / data_penalty)
    return SplitStep(term, symbol, normal, shape=data.shape)


def test_weights_of_one_change_nothing(problem):
    symbol, prior, data = problem
    plain = QuadraticStep(data, symbol, prior, penalty=0.1)
    expected = solve(plain, data.shape, threshold=1e-2, iterations=2500)
    got = solve(weighted_step(problem, torch.ones_like(data)), data.shape, threshold=1e-2,
                iterations=2500)  # fmt: skip
    assert float((got - expected).norm() / expected.norm()) < 1e-3


def test_weights_decide_what_is_fitted(problem):
    """The weighted minimum is lower in the weighted objective than the unweighted one."""
    symbol, prior, data = problem
    weights = torch.ones_like(data)
    weights[:8] = 0.05
    got = solve(weighted_step(problem, weights), data.shape, threshold=1e-2, iterations=600)
    plain = QuadraticStep(data, symbol, prior, penalty=0.1)
    other = solve(plain, data.shape, threshold=1e-2, iterations=600)
    assert objective(got, symbol, data, 1e-3, weights) < 0.99 * objective(
        other, symbol, data, 1e-3, weights
    )


def test_what_has_no_weight_is_not_looked_at(problem):
    symbol, prior, data = problem
    weights = torch.ones_like(data)
    weights[:8] = 0
    nonsense = data.clone()
    nonsense[:8] = 1e3
    a, b = (
        solve(weighted_step((symbol, prior, d), weights), d.shape, threshold=1e-2, iterations=30)
        for d in (data, nonsense)
    )
    torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def optimum(problem):
    """Minimum of the unweighted problem, reached from nothing."""
    symbol, prior, data = problem
    step = QuadraticStep(data, symbol, prior, penalty=0.1)
    return solve(step, data.shape, threshold=1e-2, iterations=1500)


def iterations_to(problem, goal, *, firmness=1.0, near=None, **settings):
    """Iterations until the objective is below `goal`, from nothing or `near` an answer."""
    symbol, prior, data = problem
    step = QuadraticStep(data, symbol, prior, penalty=0.1 * firmness)
    start, split, threshold = torch.zeros_like(data), None, 1e-2 / firmness
    if near is not None:
        start = near.clone()
        split = split_of(G, start, threshold=threshold, steepness=1.0)
    iterates = total_variation(step, G, start, threshold=threshold, split=split, **settings)
    complete = (i for i in iterates if i.complete)
    return next(i.iteration for i in complete if objective(i.estimate, symbol, data, 1e-3) < goal)


def test_a_warm_start_needs_half_the_iterations(problem):
    """From the minimum for 1.2 lambda, with firm penalties, to within 0.1 % of the minimum."""
    symbol, prior, data = problem
    goal = 1.001 * objective(optimum(problem), symbol, data, 1e-3)
    step = QuadraticStep(data, symbol, prior, penalty=0.12)
    near = solve(step, data.shape, threshold=1e-2, iterations=1500)
    assert objective(near, symbol, data, 1e-3) > goal
    warm = iterations_to(problem, goal, firmness=5.0, near=near)
    assert 2 * warm <= iterations_to(problem, goal)


def test_relaxation_saves_a_quarter(problem):
    """Of the iterations to the same objective, against the plain method."""
    symbol, _, data = problem
    goal = 1.0001 * objective(optimum(problem), symbol, data, 1e-3)
    relaxed = iterations_to(problem, goal, relaxation=1.6)
    assert relaxed < 0.75 * iterations_to(problem, goal, relaxation=1.0)


def test_the_pull_is_what_the_shrinkage_leaves():
    """From v = 0 without relaxation: v = G x, and out = G.H (v - 2 clip(v))."""
    x, t = noise((6, 5, 4)), 0.1
    gradient = Gradient((1, 1, 1))
    split = torch.zeros((3, 6, 5, 4), dtype=torch.float64)
    prior = ShrinkageSplit(gradient, threshold=t, split=split, relaxation=1.0)
    out = torch.empty_like(x)
    for _ in prior.update(x, out):
        pass
    v = gradient(x)
    torch.testing.assert_close(split, v)
    torch.testing.assert_close(out, gradient.H(v - 2 * v.clamp(-t, t)))
