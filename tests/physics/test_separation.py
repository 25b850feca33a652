"""Phi is linear, has the adjoint and the spectrum it claims, and R2' separates without loss."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Grid
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.physics.relaxation import Relaxivity
from napari_qsm.physics.separation import SourceOperator

SHAPE = (9, 11, 7)
SHARES = [(1.0, 1.0), Relaxivity(114.0, 30.0).shares]
either = pytest.mark.parametrize("shares", SHARES, ids=["equal", "unequal"])


def operator(shares=(1.0, 1.0), shape=SHAPE, padding=1.0):
    grid = Grid(shape, np.diag([1.0, 1.2, 2.0, 1.0])).with_b0((0.2, -0.4, 1.0))
    return SourceOperator(DipoleConvolution(grid, padding=padding, dtype=torch.float64), shares)


def random(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


@either
@pytest.mark.parametrize("padding", [1.0, 1.5])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_the_adjoint_is_the_adjoint(shares, padding, batch):
    phi = operator(shares, padding=padding)
    x, y = random(*batch, 2, *SHAPE), random(*batch, 3, *SHAPE, seed=1)
    there, back = (phi(x) * y).sum(), (x * phi.H(y)).sum()
    assert abs(there - back) < 1e-12 * abs(there)


def test_its_rows_are_susceptibility_relaxation_and_field():
    relaxivity = Relaxivity(114.0, 30.0)
    phi, x = operator(relaxivity.shares), random(2, *SHAPE).abs()
    chi, decay, field = phi(x)
    torch.testing.assert_close(chi, x[0] - x[1])
    torch.testing.assert_close(decay * relaxivity.mean, relaxivity.rate(x[0], x[1]))
    torch.testing.assert_close(field, phi.dipole(x[0] - x[1]))
    swapped = operator()(x.flip(0))
    expected = operator()(x) * torch.tensor([-1, 1, -1]).reshape(3, 1, 1, 1)
    torch.testing.assert_close(swapped, expected)


def dense(phi, shape):
    count = 2 * int(np.prod(shape))
    columns = phi.H(phi(torch.eye(count, dtype=torch.float64).reshape(count, 2, *shape)))
    return columns.reshape(count, count)


@either
def test_the_spectrum_is_that_of_the_dense_matrix(shares):
    shape = (5, 3, 3)
    phi = operator(shares, shape)
    expected = torch.linalg.eigvalsh(dense(phi, shape))
    torch.testing.assert_close(phi.eigenvalues.max(), expected.max())
    torch.testing.assert_close(phi.eigenvalues.min(), expected.min())
    assert phi.stability_limit == pytest.approx(2 / float(expected.max()))


@either
def test_the_spectrum_bounds_that_of_padded_convolutions(shares):
    shape = (4, 3, 3)
    phi = operator(shares, shape, padding=1.7)
    expected = torch.linalg.eigvalsh(dense(phi, shape))
    assert float(expected.max()) <= float(phi.eigenvalues[1].max()) + 1e-12
    assert float(expected.min()) >= float(phi.eigenvalues[0].min()) - 1e-12


def test_equal_shares_have_two_and_two_plus_twice_the_squared_kernel():
    phi = operator()
    torch.testing.assert_close(phi.eigenvalues[0], torch.full_like(phi.dipole.gram, 2.0))
    torch.testing.assert_close(phi.eigenvalues[1], 2 + 2 * phi.dipole.gram)


def test_a_plain_gradient_step_is_stable_below_0_692():
    """Dossier 7.6: .444, .878, .999, 1.167 and 10.6 are left of an error per step, at worst."""
    grid = Grid((8, 8, 8), np.eye(4))
    phi = SourceOperator(DipoleConvolution(grid, dtype=torch.float64))
    assert phi.stability_limit == pytest.approx(9 / 13)
    for step, expected in ((0.5, 0.444), (0.65, 0.878), (0.692, 0.999), (0.75, 1.167), (4, 10.556)):
        assert float(phi.contraction(step).max()) == pytest.approx(expected, abs=2e-3)
    for step, stays in ((0.69, True), (0.70, False)):
        x = random(2, 8, 8, 8)
        sizes = []
        for _ in range(800):
            x = x - step * phi.H(phi(x))
            sizes.append(float(x.norm()))
        assert (sizes[-1] < sizes[399]) == stays


@either
def test_landweber_finds_the_sources(shares):
    phi, truth = operator(shares), random(2, *SHAPE)
    estimate, measured = torch.zeros_like(truth), phi(truth)
    step = 0.7 * phi.stability_limit
    for _ in range(200):
        estimate = estimate + step * phi.H(measured - phi(estimate))
    torch.testing.assert_close(estimate, truth, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("relaxivity", [Relaxivity(114.0, 114.0), Relaxivity(114.0, 30.0)])
def test_susceptibility_and_r2prime_separate_without_loss(relaxivity):
    truth = random(2, *SHAPE).abs()
    found = relaxivity.separated(truth[0] - truth[1], relaxivity.rate(truth[0], truth[1]))
    torch.testing.assert_close(torch.stack(found), truth, rtol=1e-13, atol=1e-13)


def test_where_r2prime_is_all_of_one_kind_the_other_is_zero():
    relaxivity, chi = Relaxivity(128.0, 128.0), random(*SHAPE)
    positive, negative = relaxivity.separated(chi, 128 * chi.abs())
    assert not (positive * negative).any()
    torch.testing.assert_close(positive - negative, chi)


def test_the_relaxivity_is_proportional_to_b0():
    assert Relaxivity(114.0, 30.0).at(7.0) == Relaxivity(266.0, 70.0)
    assert Relaxivity(114.0, 30.0).shares == pytest.approx(Relaxivity(114.0, 30.0).at(1.5).shares)
