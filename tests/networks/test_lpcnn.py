"""LPCNN: gradient descent where its network does nothing, homogeneous, each volume its physics."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from napari_qsm.networks.building import built
from napari_qsm.networks.inverter import Design
from napari_qsm.networks.lpcnn import LPCNN, Measurement
from napari_qsm.networks.unet import Architecture
from napari_qsm.physics.dipole import DipoleConvolution

CHANNELS = ("field", "noise", "contrast", "tikhonov", "tv")
FIELD, NOISE, TIKHONOV, TV = 0, 1, 3, 4


@dataclass(frozen=True)
class Box:
    shape: tuple = (12, 10, 14)
    voxel_size: tuple = (1.0, 1.0, 1.3)
    b0_direction: tuple = (0.0, math.sin(0.2), math.cos(0.2))


def physics(b0=None, dtype=torch.float32):
    box = Box() if b0 is None else Box(b0_direction=b0)
    mask = torch.zeros(1, *box.shape, dtype=dtype)
    mask[:, 2:-2, 1:-2, 2:-1] = 1
    return Measurement(DipoleConvolution(box, padding=1.5, dtype=dtype), mask)


def inputs(seed=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    made = 0.1 * torch.randn((1, 5, *Box().shape), generator=generator, dtype=dtype)
    made[:, NOISE].abs_()
    return made * physics(dtype=dtype).mask


def network(residual=True, iterations=3):
    torch.manual_seed(0)
    inner = Architecture(widths=(4, 8), convolutions=1)
    made = LPCNN(Design(CHANNELS, False, inner, "inversion", iterations, 0.7, residual))
    with torch.no_grad():
        for values in made.proximal.parameters():
            if values.ndim == 5 and values.shape[-1] == 1:
                values.mul_(5)
    return made.eval()


class First(nn.Module):
    """Return the map alone of what P sees."""

    def forward(self, shown):
        return shown[:, len(CHANNELS) : len(CHANNELS) + 1]


def descent(step, iterations):
    made = LPCNN(Design(CHANNELS, iterations=iterations, residual=True), proximal=First())
    with torch.no_grad():
        made.step.fill_(step)
    return made


def test_a_design_with_iterations_is_one():
    assert isinstance(built(Design(CHANNELS, iterations=2)), LPCNN)


@torch.no_grad()
def test_it_starts_from_its_shares_of_the_maps():
    one, known = network(), inputs()
    start = one.first(known)
    torch.testing.assert_close(start[:, 0], (known[:, TIKHONOV] + known[:, TV]) / 2)
    one.shares[1, :, 0, 0, 0] = torch.tensor([-0.5, 0.5])  # where the noise is known
    torch.testing.assert_close(one.first(known)[:, 0], known[:, TV])
    known[:, NOISE] = 0
    torch.testing.assert_close(one.first(known), start)


@torch.no_grad()
def test_without_a_network_it_minimises_the_weighted_misfit():
    """Every step is the gradient's; many come to where it vanishes in the mask."""
    one, known, measured = descent(0.9, 400), inputs(), physics()
    noise = known[:, NOISE : NOISE + 1]
    mean = noise.sum() / measured.mask.sum()
    weights = (mean / noise.clamp(min=1e-6)).square().clamp(max=1) * measured.mask

    def gradient(x):
        residual = weights * (known[:, :1] - measured.dipole(x[0])[None])
        return measured.dipole(residual[0])[None] * measured.mask

    x, sizes = one.first(known), []
    for iterate in one.iterates(known, [measured]):
        sizes.append(float(gradient(x).norm()))
        x = (x + 0.9 * gradient(x)) * measured.mask
        torch.testing.assert_close(iterate, x, rtol=1e-4, atol=1e-5)
    assert sizes[-1] < 0.05 * sizes[0]


@pytest.mark.parametrize(("step", "stable"), [(0.7, True), (4.4, True), (7.0, False)])
@torch.no_grad()
def test_plain_steps_converge_below_four_and_a_half(step, stable):
    measured = Measurement(physics().dipole, torch.ones(1, *Box().shape))
    known = inputs()
    known[:, NOISE] = 0
    one = descent(step, 800)
    first, last = (one(known, [measured], 0, count)[-1] for count in (1, 800))

    def misfit(x):
        return float((known[:, :1] - measured.dipole(x[0])[None]).norm())

    grown = misfit(last) > misfit(first) or not math.isfinite(misfit(last))
    assert grown is not stable


@pytest.mark.parametrize("residual", [True, False])
@torch.no_grad()
def test_stronger_sources_give_maps_as_much_stronger(residual):
    one, known, measured = network(residual), inputs(), [physics()]
    found = one(known, measured)[-1]
    assert (found - one.first(known)).abs().max() > 1e-3
    assert not (found * (1 - measured[0].mask)).any()
    torch.testing.assert_close(one(30 * known, measured)[-1], 30 * found, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_it_is_told_residual_and_gradient_in_ppm():
    one, known, measured = network(), inputs(), physics()
    known[:, NOISE] = 0  # then all voxels count the same
    x = one.first(known)
    shown = one.descended(x, known, [measured])
    residual = measured.mask * (known[:, :1] - measured.dipole(x[0])[None])
    gradient = measured.mask * measured.dipole(residual[0])[None]
    torch.testing.assert_close(shown[:, :5], known)
    torch.testing.assert_close(shown[:, 5:6], x + one.step * gradient)
    torch.testing.assert_close(shown[:, 6:7], residual)
    torch.testing.assert_close(shown[:, 7:], gradient)
    assert network(residual=False).descended(x, known, [measured]).shape[1] == 6


@torch.no_grad()
def test_each_volume_has_its_own_physics():
    one, near, turned = network(), physics(), physics((1.0, 0.0, 0.0))
    both = inputs().repeat(2, 1, 1, 1, 1)
    found = one(both, [near, turned])[-1]
    torch.testing.assert_close(found[:1], one(both[:1], [near])[-1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[1:], one(both[1:], [turned])[-1], rtol=1e-4, atol=1e-6)
    assert (found[0] - found[1]).abs().max() > 1e-3
