"""Changing a network for one case: the loop, and the losses that need no truth."""

import threading
import time

import numpy as np
import pytest
import torch

from napari_qsm.generators import finished
from napari_qsm.methods.per_case import Track
from napari_qsm.networks.consistency import (
    Convolution,
    Descent,
    average,
    blurred,
    exponential,
    linear,
    roughness,
)
from napari_qsm.networks.editing import editable, edited
from napari_qsm.networks.inverter import Design, Inverter
from napari_qsm.networks.unet import Architecture, ScaleNorm, UNet
from napari_qsm.physics.dipole import DipoleConvolution

SHAPE = (12, 10, 14)


class Lattice:
    shape = SHAPE
    voxel_size = (1.0, 1.2, 1.5)
    b0_direction = (0.0, 0.6, 0.8)


@pytest.fixture
def dipole():
    return Convolution(DipoleConvolution(Lattice(), padded_shape=SHAPE).spectrum)


def volume(seed=0):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) * 0.05


def test_the_convolution_is_the_physics(dipole):
    chi = volume()
    expected = DipoleConvolution(Lattice(), padded_shape=SHAPE)(chi)
    torch.testing.assert_close(dipole(chi), expected, atol=1e-7, rtol=1e-5)


def test_the_gradient_through_the_physics_is_the_adjoint(dipole):
    """d/dx |A x - b|^2 = 2 A^H (A x - b), the operator being its own adjoint."""
    chi, field = volume().requires_grad_(), volume(1)
    (dipole(chi) - field).square().sum().backward()
    expected = 2 * dipole(dipole(chi.detach()) - field)
    torch.testing.assert_close(chi.grad, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_the_descent_is_that_many_steps(dipole, steps):
    field, estimate = volume(1), volume(2)
    descent = Descent(dipole, field, torch.ones(SHAPE), steps=steps, size=1.2)
    expected = estimate.clone()
    for _ in range(steps):
        expected = expected - 1.2 * dipole(dipole(expected) - field)
    torch.testing.assert_close(descent(estimate), expected, atol=1e-6, rtol=1e-4)


def test_the_exponential_is_the_one_that_does_not_see_whole_turns():
    """NDI is the loss of phases; LDI and WLDI are linear. At small phase all agree."""
    measured, off = volume(), volume(1)
    weights = torch.rand(SHAPE, generator=torch.Generator().manual_seed(2))
    plain = linear(measured + off, measured, weights)
    small = exponential(measured + off, measured, weights, 0.1)
    assert float(small) == pytest.approx(float(plain), rel=1e-4)
    scale = 20.0
    turn = 2 * torch.pi / scale
    there = exponential(measured + off, measured, weights, scale)
    turned = exponential(measured + off + turn, measured, weights, scale)
    assert float(turned) == pytest.approx(float(there), rel=1e-3)
    phases = torch.exp(1j * scale * (measured + off)) - torch.exp(1j * scale * measured)
    direct = average(phases.abs().square(), weights) / scale**2
    assert float(there) == pytest.approx(float(direct), rel=1e-4)
    assert float(there) < float(plain)


def test_roughness_counts_what_its_selection_leaves():
    ramp = torch.arange(SHAPE[2], dtype=torch.float32).expand(SHAPE) * 0.3
    region = torch.ones(SHAPE)
    inner = (SHAPE[2] - 1) / SHAPE[2]
    assert float(roughness(ramp, (1, 1, 1.5), region)) == pytest.approx(0.2 * inner, rel=1e-5)
    selection = torch.ones(3, *SHAPE)
    selection[2] = 0
    assert float(roughness(ramp, (1, 1, 1.5), region, selection)) == 0


def test_a_linear_residual_has_no_fine_structure():
    ramp = torch.arange(SHAPE[0], dtype=torch.float32)[:, None, None].expand(SHAPE)
    assert blurred(ramp)[1:-1, 1:-1, 1:-1].abs().max() < 1e-5


def toy(norm="none", widths=(6, 12)):
    torch.manual_seed(0)
    return Inverter(Design(architecture=Architecture(widths=widths, norm=norm)))


@pytest.mark.parametrize("part", ["all", "mean decoder", "head"])
def test_only_the_part_is_changed_and_norms_never(part):
    network = toy("scale")
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    weights = editable(network, part)
    field = torch.randn(1, 1, 8, 8, 8) * 0.01
    target = torch.full((1, 1, 8, 8, 8), 0.1)

    def objective():
        loss = (network(field).mean - target).square().mean()
        return loss, {"loss": float(loss.detach())}

    losses = [e.figures["loss"] for e in edited(objective, weights, network, rate=1e-2,
                                                iterations=8) if e.complete]  # fmt: skip
    assert losses[-1] < losses[0]
    changed = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    wanted = {"all": "unet", "mean decoder": "unet.decoders.0", "head": "unet.decoders.0.head"}
    assert all(name.startswith(wanted[part]) for name in changed)
    norms = {f"{name}.{own}" for name, layer in network.named_modules()
             if isinstance(layer, ScaleNorm) for own in ("gain", "square")}  # fmt: skip
    assert norms
    assert not changed & norms


def test_one_pair_can_be_learned_by_heart():
    """A 16^3 pair in 60 steps to below 15 %, and it is still falling."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*[np.linspace(-1, 1, 16)] * 3, indexing="ij")
    truth = np.zeros((16, 16, 16), np.float32)
    for _ in range(6):
        centre, radius = rng.uniform(-0.5, 0.5, 3), rng.uniform(0.15, 0.4)
        ball = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < radius**2
        truth[ball] = rng.uniform(-0.1, 0.2)

    class Cube(Lattice):
        shape = (16, 16, 16)

    chi = torch.from_numpy(truth)
    field = DipoleConvolution(Cube(), padding=1.5)(chi)
    torch.manual_seed(0)
    architecture = Architecture(widths=(8, 16, 32))
    network = Inverter(Design(architecture=architecture))

    def objective():
        loss = (network(field[None, None]).mean[0, 0] - chi).square().sum() / chi.square().sum()
        return loss, {"nrmse": float(loss.detach()) ** 0.5}

    last = 1.0
    running = edited(
        objective, network.parameters(), network, rate=4e-3, iterations=60, betas=(0.9, 0.99)
    )
    for edit in running:
        last = edit.figures.get("nrmse", last)
        if last < 0.15:
            break
    assert last < 0.15


def test_nearest_upsampling_leaves_no_checkerboard():
    """An untrained network with transposed convolutions has a period of two voxels, this has not.

    Of a constant input, away from the border, all that varies comes from the upsampling.
    """

    def ripple(upsampling):
        torch.manual_seed(0)
        net = UNet(Architecture(widths=(4, 8), convolutions=1, upsampling=upsampling))
        with torch.no_grad():
            inside = net(torch.ones(1, 1, 24, 24, 24))[..., 6:-6, 6:-6, 6:-6]
        return float(inside.std() / inside.abs().mean())

    assert ripple("transposed") > 1e-2
    assert ripple("nearest") < 1e-5


def test_the_average_holds_still_and_the_scatter_finds_its_least():
    track = Track(0.8)
    rng = torch.Generator().manual_seed(0)
    found = None
    for count in range(60):
        noise = 0.1 if count < 30 else 1.0
        track.add(torch.ones(50) + noise * torch.randn(50, generator=rng))
        handed = track.mean
        kept = handed.clone()
        found = track.scattered(15)
        if found is not None:
            break
    assert found is not None
    assert 30 < count < 50
    assert float((found - 1).abs().mean()) < 0.1
    track.add(torch.zeros(50))
    torch.testing.assert_close(handed, kept)
    assert Track(0.8).scattered(1) is None


def test_without_memory_the_last_map_is_the_map():
    track = Track(0.0)
    for value in (1.0, 2.0, 5.0):
        track.add(torch.full((3,), value))
    assert track.mean.tolist() == [5.0] * 3


def test_closing_ends_at_the_next_layer(dipole):
    """Also between the transforms of the physics, where no network is."""
    passed = []

    class Slow(torch.nn.Module):
        def forward(self, values):
            passed.append(time.perf_counter())
            time.sleep(0.1)
            return values

    layers = torch.nn.Sequential(*[Slow() for _ in range(40)])
    weight = torch.nn.Parameter(torch.ones(()))

    def objective():
        loss = dipole(layers(volume() * weight)).square().sum()
        return loss, {}

    running = edited(objective, [weight], layers, dipole, rate=1e-3, iterations=3)
    for _ in range(3):
        next(running)
    began = time.perf_counter()
    running.close()
    assert time.perf_counter() - began < 0.3
    deadline = time.perf_counter() + 2
    while any(t.name == "napari-qsm network" for t in threading.enumerate()):
        assert time.perf_counter() < deadline
        time.sleep(0.02)
    assert len(passed) < 40


def test_an_objective_that_is_not_finite_is_an_error():
    weight = torch.nn.Parameter(torch.ones(()))
    with pytest.raises(ArithmeticError, match="finite"):
        finished(edited(lambda: (weight * float("nan"), {}), [weight], rate=1.0, iterations=1))
