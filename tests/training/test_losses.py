"""Losses, each against a computation by hand."""

import math

import pytest
import torch

from napari_qsm.acquisition import Grid
from napari_qsm.networks.inverter import Estimate
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.training import losses
from napari_qsm.training.losses import LOSSES, SPREAD


def random(*shape, seed=0, scale=0.1):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def line(*values):
    """A volume of one row."""
    return torch.tensor(values).view(1, 1, 1, 1, -1)


def estimate(mean, sigma=None):
    return Estimate(mean, sigma)


MEAN, TRUTH, WEIGHT = line(0.1, 0.0, -0.2, 9.0), line(0.0, 0.1, -0.1, 0.0), line(1.0, 1.0, 1.0, 0.0)


def test_absolute():
    value = losses.absolute(estimate(MEAN), TRUTH, WEIGHT)
    assert float(value) == pytest.approx(0.1 / SPREAD)


def test_squared():
    value = losses.squared(estimate(MEAN), TRUTH, WEIGHT)
    assert float(value) == pytest.approx(0.01 / SPREAD**2)


def test_relative():
    strong = 0.1 / math.sqrt(0.1**2 + SPREAD**2)
    value = losses.relative(estimate(MEAN), TRUTH, WEIGHT)
    assert float(value) == pytest.approx((0.1 / SPREAD + 2 * strong) / 3)


def test_gradient_takes_pairs_of_voxels_that_both_count():
    # Errors are 0.1, -0.1, -0.1: steps of -0.2 and 0 along the row, none along the other axes.
    value = losses.gradient(estimate(MEAN), TRUTH, WEIGHT)
    assert float(value) == pytest.approx(0.1 / 3 / SPREAD)


def test_gradient_sees_no_constant_and_every_axis_alike():
    truth, weight = random(2, 1, 6, 6, 6), torch.ones(2, 1, 6, 6, 6)
    mean = truth + random(2, 1, 6, 6, 6, seed=1)
    value = losses.gradient(estimate(mean), truth, weight)
    assert torch.allclose(losses.gradient(estimate(mean + 7), truth, weight), value, rtol=1e-4)
    turned = [v.permute(0, 1, 4, 2, 3) for v in (mean, truth, weight)]
    assert torch.allclose(losses.gradient(estimate(turned[0]), *turned[1:]), value)


def test_model_is_the_field_of_the_error():
    truth, weight = random(2, 1, 8, 8, 8), torch.ones(2, 1, 8, 8, 8)
    mean = truth + random(2, 1, 8, 8, 8, seed=1)
    field = DipoleConvolution(Grid((8, 8, 8), torch.eye(4).numpy()), padding=1.5)(mean - truth)
    expected = 3 * field.abs().mean() / SPREAD
    assert torch.allclose(losses.model(estimate(mean), truth, weight), expected, rtol=1e-5)


def test_model_is_blind_to_sources_that_do_not_count():
    """What lies outside is unknown to the network: its field must not be held against it."""
    truth, weight = random(1, 1, 8, 8, 8), torch.zeros(1, 1, 8, 8, 8)
    weight[..., 2:-2, 2:-2, 2:-2] = 1
    mean = truth + random(1, 1, 8, 8, 8, seed=1)
    value = losses.model(estimate(mean), truth, weight)
    strong = truth + 5 * (1 - weight)
    assert torch.allclose(losses.model(estimate(mean), strong, weight), value)
    assert losses.model(estimate(truth), truth, weight) == 0


def test_likelihood():
    value = losses.likelihood(estimate(MEAN, line(0.1, 0.2, 0.1, 1.0)), TRUTH, WEIGHT)
    by_hand = (
        (0.5 + math.log(0.1 / SPREAD))
        + (0.5 * 0.5**2 + math.log(0.2 / SPREAD))
        + (0.5 + math.log(0.1 / SPREAD))
    )
    assert float(value) == pytest.approx(by_hand / 3, rel=1e-5)


def test_likelihood_is_smallest_for_the_true_sigma():
    truth, weight = torch.zeros(1, 1, 24, 24, 24), torch.ones(1, 1, 24, 24, 24)
    mean = random(1, 1, 24, 24, 24, scale=0.03)
    true = float(mean.std())
    tried = [true * factor for factor in (0.5, 0.9, 0.97, 1.0, 1.03, 1.1, 2.0)]
    values = [
        float(losses.likelihood(estimate(mean, torch.full_like(mean, s)), truth, weight))
        for s in tried
    ]
    assert values.index(min(values)) == 3
    assert min(values) == pytest.approx(0.5 + math.log(true / SPREAD), abs=1e-3)


def test_likelihood_grows_smoothly_into_a_line():
    """Value and slope join at four standard deviations, and the slope stays four beyond."""
    errors = torch.tensor([3.999, 4.0, 4.001, 40.0], requires_grad=True)
    parts = torch.stack(
        [
            losses.likelihood(estimate(e.view(1, 1, 1, 1, 1), line(1.0)), line(0.0), line(1.0))
            for e in errors
        ]
    )
    (slopes,) = torch.autograd.grad(parts.sum(), errors)
    assert torch.allclose(slopes, torch.tensor([3.999, 4.0, 4.0, 4.0]))
    assert float((parts[2] - parts[0]).detach()) == pytest.approx(0.008, rel=0.01)


def test_likelihood_needs_a_standard_deviation():
    with pytest.raises(ValueError, match="gives a standard deviation"):
        losses.likelihood(estimate(MEAN), TRUTH, WEIGHT)


@pytest.mark.parametrize("name", LOSSES)
def test_voxels_that_do_not_count_change_nothing(name):
    truth, sigma = random(1, 1, 8, 8, 8), torch.full((1, 1, 8, 8, 8), 0.05)
    weight = torch.zeros(1, 1, 8, 8, 8)
    weight[..., 3:, :, :] = 1
    mean = truth + random(1, 1, 8, 8, 8, seed=1)
    value = LOSSES[name](estimate(mean, sigma), truth, weight)
    other = torch.where(weight > 0, mean, 5.0)
    assert torch.allclose(LOSSES[name](estimate(other, sigma), truth, weight), value)


@pytest.mark.parametrize("name", LOSSES)
def test_an_empty_block_is_no_division_by_zero(name):
    nothing = torch.zeros(1, 1, 4, 4, 4)
    mean, sigma = random(1, 1, 4, 4, 4).requires_grad_(), (nothing + 0.1).requires_grad_()
    value = LOSSES[name](estimate(mean, sigma), nothing, nothing)
    value.backward()
    assert float(value.detach()) == 0
    for changed in (mean, sigma):
        assert changed.grad is None or torch.isfinite(changed.grad).all()


def test_a_weak_block_counts_like_a_strong_one():
    truth = torch.cat([0.2 * random(1, 1, 6, 6, 6), random(1, 1, 6, 6, 6)])
    ones = torch.ones_like(truth)
    assert float(losses.normalised(estimate(1.1 * truth), truth, ones)) == pytest.approx(
        0.1, rel=2e-3
    )


def test_the_spread_leaves_the_mean_alone():
    mean, sigma = random(1, 1, 4, 4, 4).requires_grad_(), torch.full((1, 1, 4, 4, 4), 0.1)
    sigma.requires_grad_()
    nothing, ones = torch.zeros_like(sigma), torch.ones_like(sigma)
    losses.spread(estimate(mean, sigma), nothing, ones).backward()
    assert mean.grad is None and sigma.grad.abs().sum() > 0
    losses.likelihood(estimate(mean, sigma), nothing, ones).backward()
    assert mean.grad.abs().sum() > 0


def test_the_total_weighs_its_parts():
    wanted = {"absolute": 2.0, "squared": 0.5}
    summed, parts = losses.total(wanted, estimate(MEAN), TRUTH, WEIGHT)
    assert parts == {"absolute": pytest.approx(2.0), "squared": pytest.approx(4.0)}
    assert float(summed) == pytest.approx(2.0 * 2.0 + 0.5 * 4.0)


def test_a_total_that_is_not_finite_is_an_error():
    with pytest.raises(ArithmeticError, match="smaller learning rate"):
        losses.total({"absolute": 1.0}, estimate(line(math.nan)), line(0.0), line(1.0))
