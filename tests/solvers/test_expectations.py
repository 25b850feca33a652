"""Closed-form expectations against samples, and what independent voxels leave out."""

import math

import pytest
import torch

from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.physics.gradient import Gradient
from napari_qsm.solvers.expectations import FreeEnergy, Misfit, Variation, diagonal, folded

SHAPE, PADDED = (12, 10, 8), (15, 14, 12)
SIZES = (1.0, 1.3, 2.0)


class Lattice:
    shape, voxel_size, b0_direction = PADDED, SIZES, (0.0, 0.6, 0.8)


@pytest.fixture
def scene():
    """An operator, weights with holes, and a random mean and deviation, in double precision."""
    torch.manual_seed(1)
    symbol = DipoleConvolution(Lattice(), padded_shape=PADDED, dtype=torch.float64).spectrum
    region = torch.rand(SHAPE) > 0.1
    weights = torch.rand(SHAPE, dtype=torch.float64) * region
    mean = torch.randn(SHAPE, dtype=torch.float64) * region
    sigma = torch.rand(SHAPE, dtype=torch.float64) * region
    misfit = Misfit(symbol, PADDED, 0.2 * torch.randn(SHAPE, dtype=torch.float64), weights)
    selection = (torch.rand((3, *SHAPE)) > 0.3).double()
    return FreeEnergy(misfit, selection, SIZES, 2.0, region), mean, sigma


def matrix(misfit):
    """The operator as a dense matrix: its columns are the fields of single voxels."""
    count = math.prod(SHAPE)
    units = torch.eye(count, dtype=torch.float64).reshape(count, *SHAPE)
    return torch.stack([(misfit.residual(unit) + misfit.data).flatten() for unit in units], dim=1)


def test_the_operator_is_the_padded_dipole(scene):
    energy, mean, _ = scene
    whole = torch.zeros(PADDED, dtype=torch.float64)
    whole[:12, :10, :8] = mean
    A = DipoleConvolution(Lattice(), padded_shape=PADDED, dtype=torch.float64)
    expected = A(whole)[:12, :10, :8] - energy.misfit.data
    torch.testing.assert_close(energy.misfit.residual(mean), expected)


def test_the_diagonal_is_that_of_the_normal_operator(scene):
    misfit = scene[0].misfit
    dense = matrix(misfit)
    normal = dense.T @ (misfit.weights.flatten()[:, None] * dense)
    expected = normal.diagonal().reshape(SHAPE)
    torch.testing.assert_close(diagonal(misfit.symbol, PADDED, misfit.weights), expected)


def test_closed_forms_are_what_samples_come_to(scene):
    energy, mean, sigma = scene
    closed = energy(mean, sigma)
    sampled = energy.sampled(mean, sigma, 1000)
    assert float(sampled.misfit) == pytest.approx(float(closed.misfit + closed.spread), rel=0.01)
    assert float(sampled.variation) == pytest.approx(float(closed.variation), rel=0.01)
    assert float(sampled.order) == float(closed.order)
    assert float(closed.spread) > 0.05 * float(closed.misfit)  # there is something to be compared


def test_a_single_sample_has_the_slope_of_the_closed_form_on_average(scene):
    energy, mean, sigma = scene
    sigma = sigma.clamp(min=0.05)
    mean.requires_grad_(), sigma.requires_grad_()

    def slopes(total):
        return torch.cat([g.flatten() for g in torch.autograd.grad(total, (mean, sigma))])

    closed = slopes(energy(mean, sigma).total)
    sampled = slopes(energy.sampled(mean, sigma, 1000).total)
    assert float((sampled - closed).norm() / closed.norm()) < 0.05


def test_variation_counts_selected_neighbours_per_mm(scene):
    _, mean, _ = scene
    slopes = Gradient(SIZES)(mean).abs()
    selection = torch.rand(SHAPE, dtype=torch.float64)
    for axis, size, slope in zip((-3, -2, -1), SIZES, slopes, strict=True):
        inner = SHAPE[axis] - 1
        expected = (selection * slope).narrow(axis, 0, inner).sum()
        made = Variation(selection, axis, size)
        torch.testing.assert_close(made(mean), expected)
        torch.testing.assert_close(made(mean, torch.zeros_like(mean)), expected)


def test_the_folded_normal_is_right_at_its_ends():
    m = torch.tensor([0.0, 3.0, -3.0, 1e-3, 0.0], dtype=torch.float64)
    s = torch.tensor([1.0, 1e-10, 1e-10, 1e3, 1e-10], dtype=torch.float64)
    bell = math.sqrt(2 / math.pi)
    expected = torch.tensor([bell, 3.0, 3.0, 1e3 * bell, 1e-10 * bell], dtype=torch.float64)
    torch.testing.assert_close(folded(m, s), expected)
    assert torch.autograd.gradcheck(
        folded,
        (
            torch.randn(20, dtype=torch.float64, requires_grad=True),
            (0.3 + torch.rand(20, dtype=torch.float64)).requires_grad_(),
        ),
    )


def test_slopes_are_finite_where_nothing_is_known_or_nothing_varies():
    energy = FreeEnergy(
        Misfit(torch.ones(4, 4, 3), (4, 4, 4), torch.zeros(4, 4, 4), torch.zeros(4, 4, 4)),
        torch.ones(3, 4, 4, 4), SIZES, 5.0, torch.zeros(4, 4, 4, dtype=torch.bool),
    )  # fmt: skip
    mean, sigma = (torch.zeros(4, 4, 4, requires_grad=True) for _ in range(2))
    for terms in (energy(mean, sigma), energy.sampled(mean, sigma, 2)):
        slopes = torch.autograd.grad(terms.total, (mean, sigma))
        assert all(bool(torch.isfinite(slope).all()) for slope in slopes)
        assert bool(torch.isfinite(terms.total))


@pytest.fixture
def toy():
    """A misfit, a Gaussian prior of 0.05 ppm, and the exact posterior covariance."""
    shape = (8, 8, 8)

    class Cube:
        voxel_size, b0_direction = (1.0, 1.0, 1.0), (0.0, 0.0, 1.0)

    Cube.shape = shape
    symbol = DipoleConvolution(Cube(), padded_shape=shape, dtype=torch.float64).spectrum
    torch.manual_seed(0)
    data = 0.01 * torch.randn(shape, dtype=torch.float64)
    misfit = Misfit(symbol, shape, data, torch.full(shape, 0.01**-2, dtype=torch.float64))
    units = torch.eye(512, dtype=torch.float64).reshape(512, *shape)
    dense = torch.stack([(misfit.residual(unit) + data).flatten() for unit in units], dim=1)
    precision = dense.T @ dense / 0.01**2 + torch.eye(512, dtype=torch.float64) / 0.05**2
    return misfit, precision


def fitted(misfit):
    """Minimise the free energy under the Gaussian prior over the logarithm of sigma."""
    order = torch.full((8, 8, 8), -3.0, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([order], lr=0.03)
    for _ in range(400):
        optimiser.zero_grad()
        sigma = order.exp()
        prior = 0.5 * (sigma / 0.05).square().sum()
        (misfit.spread(sigma) + prior - order.sum()).backward()
        optimiser.step()
    return order.detach().exp().flatten()


def test_with_a_gaussian_prior_the_variance_is_one_over_the_precision(toy):
    misfit, precision = toy
    torch.testing.assert_close(fitted(misfit).square(), 1 / precision.diagonal(), rtol=1e-3, atol=0)


def test_independent_voxels_claim_less_than_the_exact_posterior(toy):
    """What streaks and voxels share is missing: the reason for what the method's notes say."""
    _, precision = toy
    claimed = precision.diagonal().rsqrt()
    exact = torch.linalg.inv(precision).diagonal().sqrt()
    ratio = claimed / exact
    assert float(ratio.max()) < 1
    assert 0.4 < float(ratio.mean()) < 0.9
