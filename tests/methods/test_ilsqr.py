"""iLSQR: its weights, and what its third stage takes away."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.generators import finished
from napari_qsm.methods.inversion.ilsqr import Streaks, falling, without_streaks
from napari_qsm.methods.registry import find
from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics import fourier
from napari_qsm.training.phantom import sample_head

CPU = torch.device("cpu")


def reconstruct(key, measured, **settings):
    method = find(key)
    return finished(method(measured, method.with_settings(settings)))


def boxes():
    """A susceptibility of boxes, piecewise constant as the third stage hopes it to be."""
    chi = np.zeros((24, 26, 22), dtype=np.float32)
    chi[4:15, 5:12, 6:16] = 0.1
    chi[12:20, 14:21, 4:12] = -0.08
    return chi


@pytest.fixture
def scene(monkeypatch):
    monkeypatch.setattr(Workspace.__init__, "__kwdefaults__", {"padding": 1.0})
    chi = boxes()
    grid = Grid(chi.shape, np.eye(4), b0_direction=(0.0, 0.6, 0.8))
    measured = Acquisition(grid, {Quantity.LOCAL_FIELD: chi})
    with Workspace(measured, CPU, "iLSQR") as space:
        yield space, space.field()


def pattern(space, cone, size=0.05):
    """Noise with a spectrum in the cone alone."""
    values = torch.randn(space.shape, generator=torch.Generator().manual_seed(0))
    inside = (space.dipole.spectrum.abs() < cone).float()
    streaks = fourier.volume(fourier.spectrum(values) * inside, space.shape)
    streaks -= streaks.mean()
    return streaks.mul_(size / streaks.std())


def test_percentiles_are_those_of_the_magnitude():
    """A signed percentile would trust the strongest negative values most."""
    values = torch.tensor([-9.0, -2.0, 0.0, 1.0, 2.0, 9.0])
    weights = falling(values, torch.ones(6, dtype=torch.bool), (40, 80))
    torch.testing.assert_close(weights, falling(-values, torch.ones(6).bool(), (40, 80)))
    assert weights[0] == weights[5] == 0
    assert weights[2] == weights[3] == 1


def test_a_pattern_of_the_cone_is_taken_away(scene):
    space, chi = scene
    streaks = pattern(space, 0.1)
    cleaned = finished(without_streaks(space, chi + streaks, chi, 0.1))
    left = cleaned - chi
    left -= left.mean()
    assert float(left.square().sum() / streaks.square().sum()) < 0.2


def test_what_lies_outside_the_cone_stays(scene):
    space, chi = scene
    cleaned = finished(without_streaks(space, chi + pattern(space, 0.1), chi, 0.1))
    outside = space.dipole.spectrum.abs() >= 0.1
    change = fourier.spectrum(cleaned - chi - pattern(space, 0.1))
    assert float(change[outside].abs().max()) < 1e-4 * float(change.abs().max())


def test_the_operator_of_the_third_stage_is_symmetric(scene):
    space, chi = scene
    weights = torch.rand((3, *space.shape), generator=torch.Generator().manual_seed(1))
    problem = Streaks(space, weights, 0.1)
    x, y = chi, chi.flip(0) + 0.02 * pattern(space, 0.3)
    left, right = ((finished(problem.normal(a)) * b).sum() for a, b in ((x, y), (y, x)))
    torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("settings", [{}, {"edges": "fast", "discount_bends": True}])
def test_no_field_no_susceptibility(settings):
    grid = Grid((10, 12, 9), np.eye(4))
    measured = Acquisition(grid, {Quantity.LOCAL_FIELD: np.zeros(grid.shape)})
    assert not reconstruct("ilsqr", measured, **settings)[Quantity.CHI].any()


@pytest.mark.parametrize("case", ["healthy", "haemorrhage"])
def test_it_improves_on_tkd(case):
    phantom = sample_head(case, 4.0)
    measured, truth = phantom.acquisition, phantom.truth[Quantity.CHI]
    errors = {
        key: nrmse(reconstruct(key, measured)[Quantity.CHI], truth, measured.mask)
        for key in ("tkd", "ilsqr")
    }
    assert errors["ilsqr"] < 0.92 * errors["tkd"]
