"""Conjugate gradients against dense solves, and convolutions restricted to a region."""

import gc
import weakref

import pytest
import torch

from napari_qsm.generators import finished
from napari_qsm.physics import fourier
from napari_qsm.physics.laplacian import laplacian_symbol
from napari_qsm.solvers.conjugate_gradient import conjugate_gradient
from napari_qsm.solvers.iteration import DivergenceError, until_converged
from napari_qsm.solvers.restricted import filtered, restricted, solve_restricted


def solve(iterates, tolerance=1e-10, max_iterations=200):
    return finished(until_converged(iterates, tolerance=tolerance, max_iterations=max_iterations))


def applying(matrix):
    def apply(x):
        yield
        return matrix @ x

    return apply


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def positive(n, seed=0):
    root = random(n, n, seed=seed)
    return root @ root.T + 0.1 * torch.eye(n, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("preconditioned", [False, True])
def test_it_solves_what_a_dense_solver_solves(seed, preconditioned):
    matrix, right = positive(30, seed), random(30, seed=seed + 10)
    preconditioner = applying(torch.diag(1 / matrix.diagonal())) if preconditioned else None
    last = solve(conjugate_gradient(applying(matrix), right.clone(), preconditioner=preconditioner))
    torch.testing.assert_close(last.estimate, torch.linalg.solve(matrix, right))
    residual = float((right - matrix @ last.estimate).norm() / right.norm())
    assert residual < 1e-9


def test_the_change_is_the_residual():
    matrix, right = positive(20), random(20)
    for iterate in conjugate_gradient(applying(matrix), right.clone()):
        residual = float((right - matrix @ iterate.estimate).norm() / right.norm())
        assert iterate.change == pytest.approx(residual, abs=1e-9)
        if iterate.iteration == 15:
            break


def test_k_different_eigenvalues_take_k_iterations():
    values = torch.tensor([1.0, 5.0, 30.0], dtype=torch.float64).repeat(9)
    last = solve(conjugate_gradient(applying(torch.diag(values)), random(27)))
    assert last.iteration == 3


def test_the_inverse_as_preconditioner_takes_one_iteration():
    matrix = positive(25)
    inverse = applying(torch.linalg.inv(matrix))
    last = solve(
        conjugate_gradient(applying(matrix), random(25), preconditioner=inverse), tolerance=1e-8
    )
    assert last.iteration == 1


def test_a_singular_operator_gives_the_shortest_solution():
    root = random(12, 5)
    matrix = root @ root.T
    right = matrix @ random(12, seed=1)
    last = solve(conjugate_gradient(applying(matrix), right.clone()), tolerance=1e-9)
    torch.testing.assert_close(
        last.estimate, torch.linalg.pinv(matrix, hermitian=True, rtol=1e-9) @ right
    )


def test_nothing_to_solve_takes_no_iteration():
    last = solve(conjugate_gradient(applying(positive(5)), torch.zeros(5, dtype=torch.float64)))
    assert last.iteration == 0
    assert not last.estimate.any()


def test_it_stays_at_the_solution_when_asked_for_more():
    matrix, right = torch.eye(6, dtype=torch.float64), random(6)
    last = solve(conjugate_gradient(applying(matrix), right.clone()), 0.0, max_iterations=20)
    torch.testing.assert_close(last.estimate, right)


def test_an_indefinite_operator_is_a_sentence():
    matrix = torch.diag(torch.tensor([1.0, -2.0], dtype=torch.float64))
    with pytest.raises(DivergenceError, match="not positive definite"):
        solve(conjugate_gradient(applying(matrix), torch.tensor([0.1, 1.0], dtype=torch.float64)))


def test_what_is_no_number_is_not_returned():
    with pytest.raises(DivergenceError):
        solve(conjugate_gradient(applying(positive(3)), torch.full((3,), torch.nan).double()))


@pytest.mark.parametrize("steps", range(1, 7))
def test_closing_it_lets_go_of_everything(steps):
    right = random(8)
    gone = weakref.ref(right)
    running = conjugate_gradient(
        applying(positive(8)), right, preconditioner=applying(torch.eye(8, dtype=torch.float64))
    )
    del right
    for _ in range(steps):
        state = next(running)
    estimate = weakref.ref(state.estimate)
    running.close()
    del state
    gc.collect()
    assert gone() is None
    assert estimate() is None


@pytest.fixture
def scene():
    """A symbol >= 0 on a small grid, and a region in it."""
    shape = (6, 5, 8)
    symbol = laplacian_symbol(shape, (1.0, 1.3, 0.8), dtype=torch.float64)
    region = torch.zeros(shape, dtype=torch.float64)
    region[1:5, 1:4, 1:6] = 1
    region[2, 2, 2] = 0
    return symbol, region


def dense(operator, region):
    basis = torch.eye(region.numel(), dtype=torch.float64).reshape(-1, *region.shape)
    return torch.stack([finished(operator(b)).flatten() for b in basis[region.flatten() > 0]])


def test_filtering_is_a_product_of_spectra(scene):
    symbol, region = scene
    volume = random(*region.shape)
    expected = fourier.volume(fourier.spectrum(volume) * symbol, region.shape)
    torch.testing.assert_close(finished(filtered(volume, symbol)), expected)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_a_restricted_convolution_is_symmetric_and_stays_inside(scene, shift):
    symbol, region = scene
    inside = region.flatten() > 0
    rows = dense(restricted(symbol, region, shift=shift), region)
    assert not rows[:, ~inside].any()
    matrix = rows[:, inside]
    torch.testing.assert_close(matrix, matrix.T)
    assert float(torch.linalg.eigvalsh(matrix).min()) > shift


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_the_restricted_solver_solves_the_dense_system(scene, shift):
    symbol, region = scene
    inside = region.flatten() > 0
    matrix = dense(restricted(symbol, region, shift=shift), region)[:, inside]
    right = random(*region.shape) * region
    last = solve(solve_restricted(symbol, region, right.clone(), floor=0.1, shift=shift))
    expected = torch.linalg.solve(matrix, right.flatten()[inside])
    torch.testing.assert_close(last.estimate.flatten()[inside], expected)
    assert not last.estimate[region == 0].any()


def test_fine_grids_take_hardly_more_iterations_than_coarse_ones():
    """Unpreconditioned they take as many more as there are voxels along an axis."""
    taken = {}
    for n in (16, 48):
        x = (torch.arange(n) - n / 2 + 0.5) / (0.4 * n)
        region = (x[:, None, None] ** 2 + x[:, None] ** 2 + x**2 < 1).double()
        symbol = laplacian_symbol(region.shape, (1.0, 1.0, 1.0), dtype=torch.float64)
        right = random(n, n, n) * region
        for floor in (float(symbol[3, 0, 0]), 1e6):  # so high a floor preconditions nothing
            iterates = solve_restricted(symbol, region, right.clone(), floor=floor)
            taken[n, floor == 1e6] = solve(iterates, tolerance=1e-5).iteration
    assert taken[48, False] < 1.6 * taken[16, False] < 20
    assert taken[48, True] > 2.2 * taken[16, True] > 40
