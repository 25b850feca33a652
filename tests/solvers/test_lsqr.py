"""Weighted least squares against dense matrices, and Krylov filter factors."""

import pytest
import torch

from napari_qsm.generators import finished
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.solvers.gradient_descent import gradient_descent, responses
from napari_qsm.solvers.iteration import until_converged
from napari_qsm.solvers.lsqr import WeightedConvolution


class Box:
    shape = (5, 6, 4)
    voxel_size = (1.0, 0.8, 2.0)
    b0_direction = (0.28, 0.0, 0.96)


A = DipoleConvolution(Box, padded_shape=Box.shape, dtype=torch.float64)
COUNT = 5 * 6 * 4
DENSE = A(torch.eye(COUNT, dtype=torch.float64).reshape(-1, *Box.shape)).reshape(COUNT, COUNT)


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def solve(problem, data, iterations, tolerance=1e-13):
    iterates = problem.solve(finished(problem.right(data)))
    *_, last = until_converged(iterates, tolerance=tolerance, max_iterations=iterations)
    return last.estimate


@pytest.fixture
def weighted():
    weights = noise(*Box.shape, seed=1).abs()
    region = (noise(*Box.shape, seed=2) > -0.5).double()
    return weights, region, noise(*Box.shape)


@pytest.mark.parametrize("restricted", [True, False])
def test_the_damped_problem_is_solved_as_a_matrix_is(weighted, restricted):
    weights, region, data = weighted
    damping = torch.full_like(A.spectrum, 0.03)
    region = region if restricted else torch.ones_like(region)
    problem = WeightedConvolution(A.spectrum, weights, damping=damping, region=region)
    inside = region.flatten() > 0
    columns = DENSE[:, inside]
    identity = 0.03 * torch.eye(int(inside.sum()), dtype=torch.float64)
    normal = columns.T @ (weights.reshape(-1, 1) * columns) + identity
    expected = torch.linalg.solve(normal, columns.T @ (weights * data).flatten())
    got = solve(problem, data, 300)
    torch.testing.assert_close(got.flatten()[inside], expected)
    assert not got.flatten()[~inside].any()


def test_the_normal_operator_is_symmetric_and_positive(weighted):
    weights, region, x = weighted
    problem = WeightedConvolution(
        A.spectrum, weights, damping=0.1 * torch.ones_like(A.spectrum), region=region
    )
    x, y = x * region, noise(*Box.shape, seed=3) * region
    for operator in (problem.normal, problem.preconditioner):
        torch.testing.assert_close((finished(operator(x)) * y).sum(),
                                   (x * finished(operator(y))).sum())  # fmt: skip
        assert (finished(operator(x)) * x).sum() > 0


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_early_iterates_are_least_squares_in_krylov_spaces(weighted, iterations):
    """After n iterations LSQR has the smallest residual in span{b, Nb, .. N^(n-1) b}, which is
    what its filter factors do to every singular value."""
    weights, _, data = weighted
    root = weights.flatten().sqrt()
    forward = root[:, None] * DENSE
    basis = [forward.T @ (root * data.flatten())]
    for _ in range(iterations - 1):
        basis.append(forward.T @ (forward @ basis[-1]))
    space = torch.linalg.qr(torch.stack([b / b.norm() for b in basis], 1))[0]
    inner = torch.linalg.lstsq(forward @ space, (root * data.flatten())[:, None]).solution
    got = solve(WeightedConvolution(A.spectrum, weights), data, iterations)
    torch.testing.assert_close(got.flatten(), (space @ inner).flatten(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("accelerated", [True, False])
def test_descent_answers_as_it_is_predicted_to(accelerated):
    curvature = torch.linspace(0, 0.6, 40, dtype=torch.float64)

    def gradient(x):
        yield
        return curvature * (x - 1)

    settings = {"step": 2.0, "accelerated": accelerated}
    iterates = gradient_descent(gradient, torch.zeros_like(curvature), **settings)
    complete = (i.estimate.clone() for i in iterates if i.complete)
    for _, got, expected in zip(
        range(30), complete, responses(curvature, **settings), strict=False
    ):
        torch.testing.assert_close(got, expected)
    if not accelerated:
        torch.testing.assert_close(got, 1 - (1 - 2 * curvature) ** 30)


def test_momentum_saves_most_iterations():
    """To come to half of a curvature of 1e-3."""
    needed = {}
    for accelerated in (True, False):
        passed = responses(torch.tensor(1e-3).double(), step=2.0, accelerated=accelerated)
        needed[accelerated] = next(n for n, p in enumerate(passed, start=1) if p > 0.5)
    assert needed[True] < needed[False] / 7
