"""NDI: its filter, its stability, whole turns, and when it stops."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.generators import finished
from napari_qsm.methods.registry import find
from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics import fourier
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.solvers.gradient_descent import responses
from napari_qsm.training.phantom import sample_head

AFFINE = np.diag([1.0, 1.2, 1.5, 1.0])
PLAIN = {"accelerated": False, "preconditioned": False, "phase_scale": 1.0, "tolerance": 1e-6}


def reconstruct(measured, **settings):
    ndi = find("ndi")
    return finished(ndi(measured, ndi.with_settings(settings)))


def periodic(values):
    grid = Grid(values.shape, AFFINE, b0_direction=(0.0, 0.6, 0.8))
    return Acquisition(grid, {Quantity.LOCAL_FIELD: values})


@pytest.fixture
def scene(monkeypatch):
    """Random susceptibility without mean on a smooth odd grid, and its operator."""
    monkeypatch.setattr(Workspace.__init__, "__kwdefaults__", {"padding": 1.0})
    shape = (15, 9, 21)
    A = DipoleConvolution(periodic(np.zeros(shape)).grid, padded_shape=shape, dtype=torch.float64)
    chi = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.1
    return A, chi - chi.mean()


def close(maps, expected, tolerance):
    got = torch.from_numpy(maps[Quantity.CHI].copy()).double()
    assert float((got - expected).norm() / expected.norm()) < tolerance


def filtered(values, symbol):
    return fourier.volume(fourier.spectrum(values) * symbol, values.shape)


@pytest.mark.parametrize("accelerated", [False, True])
def test_at_small_phase_it_is_a_landweber_filter(scene, accelerated):
    """After N plain steps ``chi = [1 - (1 - 2 tau D^2)^N] / D f``."""
    A, chi = scene
    field = 1e-4 * A(chi)
    settings = PLAIN | {"accelerated": accelerated, "iterations": 12, "step": 1.3}
    *_, passed = (
        r for _, r in zip(range(12), responses(A.gram, step=2.6, accelerated=accelerated),
                          strict=False)
    )  # fmt: skip
    if not accelerated:
        torch.testing.assert_close(passed, 1 - (1 - 2.6 * A.gram) ** 12)
    symbol = torch.where(A.spectrum == 0, 0, passed / A.spectrum)
    close(reconstruct(periodic(field.numpy()), **settings), filtered(field, symbol), 2e-4)


def test_alpha_is_tikhonov_in_the_end(scene):
    A, chi = scene
    field = 1e-4 * A(chi)
    maps = reconstruct(periodic(field.numpy()), **PLAIN | {
        "accelerated": True, "iterations": 300, "regularization": 0.02
    })  # fmt: skip
    close(maps, filtered(field, A.spectrum / (A.gram + 0.02)), 1e-3)


def test_it_is_stable_up_to_its_largest_step(scene):
    A, chi = scene
    measured = periodic(1e-3 * A(chi).numpy())
    maps = reconstruct(measured, step=2.2, iterations=200, **PLAIN)
    assert np.linalg.norm(maps[Quantity.CHI]) < 2e-3 * chi.norm()
    ndi = find("ndi")
    settings = {**ndi.parameters().model_dump(), **PLAIN, "iterations": 200}
    beyond = ndi.parameters.model_construct(**settings)
    wild = finished(ndi(measured, beyond.model_copy(update={"step": 2.3})))
    assert np.linalg.norm(wild[Quantity.CHI]) > 10e-3 * chi.norm()  # bounded by the sine alone
    fast = reconstruct(measured, step=1.45, iterations=200, phase_scale=1.0, tolerance=1e-6)
    assert np.linalg.norm(fast[Quantity.CHI]) < 3e-3 * chi.norm()
    with pytest.raises(InputError, match="diverge with momentum"):
        reconstruct(measured, step=1.6, iterations=2)


@pytest.mark.parametrize("settings", [{}, {"accelerated": False, "preconditioned": False}])
def test_it_does_not_see_whole_turns(scene, settings):
    A, chi = scene
    field = A(chi).numpy()
    turns = np.random.default_rng(0).integers(-2, 3, field.shape)
    settings = {"iterations": 20, "phase_scale": 8.0, "preconditioned": False} | settings
    plain = reconstruct(periodic(field), **settings)
    wrapped = reconstruct(periodic(field + turns * 2 * np.pi / 8.0), **settings)
    close(wrapped, torch.from_numpy(plain[Quantity.CHI].copy()).double(), 1e-4)


@pytest.mark.parametrize(("case", "limit"), [("healthy", 1.06), ("haemorrhage", 1.2)])
def test_it_improves_on_tkd_and_stops_near_its_best(case, limit):
    """A haemorrhage has next to no weight, so it comes later than predicted for the rest."""
    phantom = sample_head(case, 4.0)
    measured, truth = phantom.acquisition, phantom.truth[Quantity.CHI]

    def error(maps):
        return nrmse(maps[Quantity.CHI], truth, measured.mask)

    maps = reconstruct(measured)
    count = maps.provenance.chosen["iterations"]
    assert isinstance(count, int)
    assert error(maps) < error(finished(find("tkd")(measured)))
    best = min(error(reconstruct(measured, iterations=int(count * f))) for f in (0.5, 0.7, 1.4, 2))
    assert error(maps) < limit * best


def test_more_noise_stops_it_sooner():
    measured = sample_head("healthy", 4.0).acquisition
    noise = 0.01 * np.random.default_rng(0).standard_normal(measured.grid.shape)
    noisy = measured.with_volumes(
        {Quantity.LOCAL_FIELD: measured[Quantity.LOCAL_FIELD] + noise * measured.mask}
    )
    counts = [
        reconstruct(m, preconditioned=False).provenance.chosen["iterations"]
        for m in (measured, noisy)
    ]
    assert counts[1] < counts[0] / 2


def test_it_says_which_phase_scale_it_used():
    field = 0.01 * np.random.default_rng(0).standard_normal((8, 8, 8))
    grid = Grid((8, 8, 8), np.eye(4))
    known = Acquisition(grid, {Quantity.LOCAL_FIELD: field}, 3.0, (0.01, 0.03))
    maps = reconstruct(known, iterations=1)
    assert any("3 T, mean echo time 20 ms" in note for note in maps.provenance.notes)
    assert maps.provenance.chosen["phase_scale"] == pytest.approx(16.05, rel=0.01)
