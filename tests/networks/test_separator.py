"""Networks that separate: homogeneous, non-negative, and Landweber where they do nothing."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from napari_qsm.networks.inverter import Design
from napari_qsm.networks.separator import Unrolled, closed_form, positive
from napari_qsm.networks.unet import Architecture
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.physics.separation import SourceOperator


@dataclass(frozen=True)
class Cube:
    shape: tuple = (12, 10, 14)
    voxel_size: tuple = (1.0, 1.0, 1.3)
    b0_direction: tuple = (0.0, math.sin(0.2), math.cos(0.2))


def operator(dtype=torch.float32):
    return SourceOperator(DipoleConvolution(Cube(), padding=1.5, dtype=dtype))


def sources(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.rand((1, 2, *Cube().shape), generator=generator, dtype=dtype)


def noisy(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn((1, 3, *Cube().shape), generator=generator)


def identity(step=0.5, iterations=10):
    design = Design(task="separation", iterations=iterations)
    one = Unrolled(design, proximal=nn.Identity())
    with torch.no_grad():
        one.step.fill_(step)
    return one


def outcome(one, measured):
    if isinstance(one, Unrolled):
        return one(measured, [operator()])[-1]
    return one(measured)


@pytest.mark.parametrize("family", ["sepnet", "unrolled_sepnet"])
@pytest.mark.parametrize("factor", [0.01, 30.0])
@torch.no_grad()
def test_stronger_sources_give_maps_as_much_stronger(separated, family, factor):
    one, measured = separated.network(family), noisy()
    first, second = outcome(one, measured), outcome(one, factor * measured)
    assert (first > 0).any()
    torch.testing.assert_close(second, factor * first, rtol=2e-4, atol=1e-5 * factor)


@pytest.mark.parametrize("family", ["sepnet", "unrolled_sepnet"])
@torch.no_grad()
def test_no_source_is_negative_and_the_network_changes_something(separated, family):
    one, measured = separated.network(family), noisy()
    found = outcome(one, measured)
    assert found.shape == (1, 2, *Cube().shape)
    assert found.min() >= 0
    plain = closed_form(measured) if family == "sepnet" else outcome(identity(), measured)
    assert (found - plain).abs().max() > 1e-3


@torch.no_grad()
def test_without_a_network_it_is_landweber():
    phi, measured = operator(), noisy()
    one = identity(step=0.43)
    found = list(one.iterates(measured, [phi]))
    x = torch.zeros_like(measured[0, :2])
    for iterate in found:
        gradient = phi.H(phi(x) - measured[0])
        x = x - 0.43 * gradient
        torch.testing.assert_close(iterate[0], x, rtol=1e-5, atol=1e-6)
    assert torch.equal(one(measured, [phi])[-1], found[-1])


@torch.no_grad()
def test_a_network_that_sees_the_residual_is_homogeneous_and_told_it_in_ppm():
    torch.manual_seed(3)
    design = Design(
        task="separation",
        iterations=4,
        residual=True,
        architecture=Architecture(widths=(4, 8), convolutions=1),
    )
    one, phi, measured, x = Unrolled(design), operator(), noisy(), sources()
    shown = one.descended(x, measured, [phi])
    residual = measured - phi(x[0])[None]
    torch.testing.assert_close(shown[:, 2:], residual)
    torch.testing.assert_close(shown[:, :2], x + one.step * phi.H(residual[0])[None])
    found = outcome(one, measured)
    torch.testing.assert_close(outcome(one, 20 * measured), 20 * found, rtol=2e-4, atol=1e-4)
    silent = one.proximal(torch.cat((shown[:, :2], torch.zeros_like(residual)), 1))
    assert (silent - one.proximal(shown)).abs().max() > 1e-4


@torch.no_grad()
def test_half_a_step_recovers_both_sources_within_ten_iterations():
    """The sum at once, the difference by ``D^2 <= 4/9`` an iteration."""
    phi, truth = operator(), sources()
    found = list(identity(0.5).iterates(phi(truth[0])[None], [phi]))
    torch.testing.assert_close(found[0].sum(1), truth.sum(1), rtol=1e-4, atol=1e-6)
    errors = [float((x - truth).norm() / truth.norm()) for x in found]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3


@pytest.mark.parametrize(
    ("step", "stable"), [(0.5, True), (0.69, True), (0.75, False), (4.0, False)]
)
@torch.no_grad()
def test_steps_beyond_the_limit_diverge(step, stable):
    """What the thesis starts with, 4, is far beyond ``1 / (1 + max D^2)``."""
    phi = operator()
    assert (step < phi.stability_limit) == stable
    measured = phi(sources()[0])[None]
    errors = [
        float((phi(x[0]) - measured[0]).norm())
        for x in identity(step, 150).iterates(measured, [phi])
    ]
    if stable:
        assert errors[-1] < errors[0]
    else:
        assert not errors[-1] < errors[0]


def test_iterates_that_are_passed_through_are_the_same_and_cost_no_gradient(separated):
    one, phi, measured = separated.network("unrolled_sepnet"), operator(), noisy()
    whole = one(measured, [phi], 0, 5)
    late = one(measured, [phi], 3, 5)
    assert late.shape[0] == 2
    torch.testing.assert_close(late, whole[3:])
    late.sum().backward()
    assert one.step.grad is not None
    with_all = one.step.grad.clone()
    one.zero_grad()
    whole[3:].sum().backward()
    assert not torch.equal(one.step.grad, with_all)


def test_a_clamped_voxel_learns_its_way_back_but_is_pushed_no_further_down():
    values = torch.tensor([-1.0, -1.0, 1.0, 1.0], requires_grad=True)
    (positive(values) * torch.tensor([-2.0, 2.0, -2.0, 2.0])).sum().backward()
    assert values.grad.tolist() == [-2.0, 0.0, -2.0, 2.0]
    assert positive(values).tolist() == [0.0, 0.0, 1.0, 1.0]


def test_the_closed_form_is_exact_where_the_data_are():
    truth = sources(dtype=torch.float64)
    measured = operator(torch.float64)(truth[0])[None]
    torch.testing.assert_close(closed_form(measured), truth, rtol=0, atol=1e-14)


def test_each_volume_has_its_own_physics(separated):
    one, near = separated.network("unrolled_sepnet"), operator()
    turned = SourceOperator(DipoleConvolution(Cube(b0_direction=(1.0, 0.0, 0.0)), padding=1.5))
    measured = noisy().repeat(2, 1, 1, 1, 1)
    with torch.no_grad():
        both = one(measured, [near, turned])[-1]
        torch.testing.assert_close(both[:1], one(measured[:1], [near])[-1], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(both[1:], one(measured[1:], [turned])[-1], rtol=1e-4, atol=1e-6)
    assert (both[0] - both[1]).abs().max() > 1e-3
