"""A network as an estimator: it starts from physics, and its error bar scales with the field."""

from dataclasses import asdict

import pytest
import torch

from napari_qsm.networks.inverter import SIGMA_FLOOR, Design, Inverter
from napari_qsm.networks.unet import Architecture

SMALL = Architecture(widths=(4, 8))


def network(*channels, uncertain=False, seed=0):
    torch.manual_seed(seed)
    return Inverter(Design(channels, uncertain, SMALL)).eval()


def maps(channels, seed=1):
    """Inputs in ppm: a field of 10 ppb and susceptibilities of 50."""
    values = torch.randn(1, channels, 12, 10, 8, generator=torch.Generator().manual_seed(seed))
    values[:, :1] *= 0.01
    values[:, 1:] *= 0.05
    return values


@torch.no_grad()
def test_it_starts_from_the_mean_of_its_maps():
    model, inputs = network("field", "tikhonov", "tv"), maps(3)
    start = inputs[:, 1:].mean(dim=1, keepdim=True)
    added = model(inputs).mean - start
    assert 0 < added.norm() < 0.3 * start.norm()
    model.unet.decoders[0].head.weight.zero_()
    assert torch.allclose(model(inputs).mean, start, atol=1e-9)


@torch.no_grad()
def test_from_the_field_alone_it_starts_from_nothing():
    model, inputs = network("field"), maps(1)
    model.unet.decoders[0].head.weight.zero_()
    assert model(inputs).mean.abs().max() == 0


@torch.no_grad()
def test_nothing_comes_of_nothing():
    estimate = network("field", "tv", uncertain=True)(torch.zeros(1, 2, 8, 8, 8))
    assert estimate.mean.abs().max() == 0
    assert torch.allclose(estimate.sigma, torch.tensor(SIGMA_FLOOR))


@torch.no_grad()
def test_sigma_never_falls_below_its_floor():
    model, inputs = network("field", "tv", uncertain=True), maps(2)
    assert model(inputs).sigma.min() >= SIGMA_FLOOR
    model.unet.decoders[1].head.weight.zero_()
    assert torch.allclose(model(inputs).sigma, torch.tensor(SIGMA_FLOOR))


@torch.no_grad()
def test_twice_the_field_has_twice_the_mean_and_twice_the_sigma():
    model, inputs = network("field", "tv", uncertain=True), maps(2)
    once, twice = model(inputs), model(2 * inputs)
    assert torch.allclose(twice.mean, 2 * once.mean, rtol=1e-5, atol=1e-7)

    def above_floor(sigma):
        return (sigma.square() - SIGMA_FLOOR**2).clamp(min=0).sqrt()

    assert torch.allclose(above_floor(twice.sigma), 2 * above_floor(once.sigma), atol=1e-5)
    strong = model(1000 * inputs).sigma / model(500 * inputs).sigma
    assert torch.allclose(strong, torch.tensor(2.0), rtol=0.02)


@torch.no_grad()
def test_a_network_that_knows_no_error_says_none():
    assert network("field", "tikhonov")(maps(2)).sigma is None


@torch.no_grad()
def test_estimates_are_in_single_precision_whatever_convolutions_run_in():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        estimate = network("field", "tv", uncertain=True)(maps(2))
    assert estimate.mean.dtype == estimate.sigma.dtype == torch.float32


def test_every_weight_of_both_heads_gets_a_gradient():
    model = network("field", "tv", uncertain=True)
    estimate = model(maps(2))
    (estimate.mean.square().mean() + estimate.sigma.mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("uncertain", [False, True])
def test_a_design_survives_being_written_down(uncertain):
    design = Design(("field", "tv"), uncertain, Architecture(widths=(4, 8), norm="scale"))
    stored = asdict(design)
    stored["channels"] = list(stored["channels"])  # as JSON has it
    stored["architecture"]["widths"] = list(stored["architecture"]["widths"])
    stored["architecture"]["heads"] = list(stored["architecture"]["heads"])
    assert Design.from_dict(stored) == design


def test_inputs_and_heads_follow_from_the_design():
    model = network("field", "tikhonov", "tv", uncertain=True)
    assert model.unet.architecture.inputs == 3
    assert model.unet.architecture.heads == (1, Inverter.SIGMA_CHANNELS)
    assert "scales" not in model.state_dict()


@torch.no_grad()
def test_maps_of_methods_that_knew_more_have_other_shares():
    model = network("field", "noise", "contrast", "tikhonov", "medi")
    model.unet.decoders[0].head.weight.zero_()
    model.shares[1, 1], model.shares[2, 0] = 0.5, -0.25
    inputs = maps(5).repeat(3, 1, 1, 1, 1)
    inputs[0, 1:3] = 0
    inputs[1, 2] = 0
    half = 0.5 * (inputs[:, 3] + inputs[:, 4])
    more = torch.stack([0 * half[0], 0.5 * inputs[1, 4], 0.5 * inputs[2, 4] - 0.25 * inputs[2, 3]])
    torch.testing.assert_close(model(inputs).mean[:, 0], half + more)
    torch.testing.assert_close(model(model.opposite(inputs)).mean, -model(inputs).mean)
