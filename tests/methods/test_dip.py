"""DIP and MoDIP: an untrained network, the physics, and nothing else."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.generators import finished, relayed
from napari_qsm.methods.inversion import dip as module
from napari_qsm.methods.inversion.dip import DIP, dip, untrained
from napari_qsm.physics.dipole import DipoleConvolution

SHAPE = (28, 26, 24)
GRID = Grid(SHAPE, np.diag([1.0, 1.0, 1.3, 1.0]), b0_direction=(0.0, 0.28, 0.96))
NOISE = 0.003


@pytest.fixture(scope="module")
def head():
    """Two sources in a ball, their noisy field, and the truth."""
    axes = np.meshgrid(*[np.arange(n) - n / 2 for n in SHAPE], indexing="ij")
    mask = sum(a**2 for a in axes) < 11**2
    chi = np.zeros(SHAPE, np.float32)
    for centre, value in (((4, 0, 0), 0.15), ((-5, 2, 1), -0.1)):
        chi[sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < 9] = value
    field = DipoleConvolution(GRID, padding=1.5)(torch.from_numpy(chi)).numpy()
    field += NOISE * np.random.default_rng(0).standard_normal(SHAPE)
    volumes = {Quantity.LOCAL_FIELD: field * mask, Quantity.MASK: mask}
    return Acquisition(GRID, volumes), chi - chi[mask].mean()


def run(measured, **settings):
    running = dip(measured, dip.with_settings({"width": 6, "iterations": 20, **settings}))
    steps = []
    return finished(relayed(running, steps.append)), steps


def residuals(steps):
    found = {int(s.values["iteration"]): s.values["residual"] for s in steps if "loss" in s.values}
    return [found[number] for number in sorted(found)]


def error(maps, truth, mask):
    return np.linalg.norm((maps[Quantity.CHI] - truth)[mask]) / np.linalg.norm(truth[mask])


@pytest.mark.parametrize("variant", ["modip", "dip"])
def test_the_residual_falls_and_the_map_comes(head, variant):
    measured, truth = head
    maps, steps = run(measured, variant=variant, steps=2)
    curve = residuals(steps)
    assert min(curve) < 0.9 * curve[0]
    assert error(maps, truth, measured.mask) < 0.85
    fractions = [s.fraction for s in steps]
    assert fractions == sorted(fractions)
    assert any("seed 0" in note for note in maps.provenance.notes)


def test_gradient_steps_are_what_the_physics_knows(head):
    """Without them, a network that has not learned yet makes nothing."""
    measured, truth = head
    before, _ = run(measured, steps=0, iterations=1)
    after, _ = run(measured, steps=20, iterations=1)
    mask = measured.mask
    assert error(before, truth, mask) > 0.9
    assert error(after, truth, mask) < error(before, truth, mask) - 0.1


def test_it_stops_at_the_error_of_the_field(head):
    maps, steps = run(head[0], discrepancy=3.0)
    assert steps[-1].fraction <= 1
    assert len(residuals(steps)) < 20
    assert any("residual being the field's error" in note for note in maps.provenance.notes)


def test_the_seed_decides(head):
    first, _ = run(head[0], iterations=3, seed=1)
    again, _ = run(head[0], iterations=3, seed=1)
    other, _ = run(head[0], iterations=3, seed=2)
    np.testing.assert_array_equal(first[Quantity.CHI], again[Quantity.CHI])
    assert not np.array_equal(first[Quantity.CHI], other[Quantity.CHI])


def test_drawing_a_network_leaves_the_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    untrained(DIP(), torch.device("cpu"))
    torch.testing.assert_close(torch.rand(3), expected)


def test_previews_are_the_map_on_the_way(head):
    running = dip(head[0], dip.with_settings({"width": 4, "iterations": 3}))
    previews = []
    maps = finished(relayed(running, lambda s: s.preview and previews.append(s.preview())))
    np.testing.assert_allclose(previews[-1], maps[Quantity.CHI], atol=1e-6)


def test_cancelling_frees_network_and_volumes(head, monkeypatch):
    made = []
    original = module.untrained
    monkeypatch.setattr(
        module, "untrained", lambda *given: made.append(original(*given)) or made[-1]
    )
    running = dip(head[0], dip.with_settings({"iterations": 50}))
    step = next(running)
    while "loss" not in step.values:
        step = next(running)
    gone = [weakref.ref(network) for network in made]
    made.clear()
    began = time.perf_counter()
    running.close()
    assert time.perf_counter() - began < 0.3
    deadline = time.perf_counter() + 5
    while any(t.name == "napari-qsm network" for t in threading.enumerate()):
        assert time.perf_counter() < deadline
        time.sleep(0.02)
    gc.collect()
    assert gone
    assert all(network() is None for network in gone)
