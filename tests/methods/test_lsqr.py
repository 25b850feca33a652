"""LSQR, and the spectrum that tells it where noise begins."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.generators import finished
from napari_qsm.methods.power import measured_power
from napari_qsm.methods.registry import find
from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics import fourier
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.training.phantom import sample_head

CPU = torch.device("cpu")


def reconstruct(key, measured, **settings):
    method = find(key)
    return finished(method(measured, method.with_settings(settings)))


@pytest.fixture
def unpadded(monkeypatch):
    monkeypatch.setattr(Workspace.__init__, "__kwdefaults__", {"padding": 1.0})


def noisy(shape, slope, noise, seed=0):
    """A susceptibility whose power falls as ``|k|^-slope``, and its noisy field."""
    rng = np.random.default_rng(seed)
    grid = Grid(shape, np.diag([1.0, 1.2, 0.9, 1.0]), b0_direction=(0.0, 0.6, 0.8))
    k = fourier.frequencies(shape, grid.voxel_size, dtype=torch.float64)
    size = (k[0] ** 2 + k[1] ** 2 + k[2] ** 2).sqrt()
    size[0, 0, 0] = torch.inf
    white = torch.from_numpy(rng.standard_normal(shape))
    chi = fourier.volume(fourier.spectrum(white) * size ** (-slope / 2), shape)
    A = DipoleConvolution(grid, padded_shape=shape, dtype=torch.float64)
    field = A(chi).numpy() + noise * rng.standard_normal(shape)
    return Acquisition(grid, {Quantity.LOCAL_FIELD: field}), chi.numpy()


@pytest.mark.parametrize("slope", [0.0, 2.0])
def test_the_ratio_of_noise_to_susceptibility_is_read_off_the_field(unpadded, slope):
    """To the random error of a shell's power, half at low frequencies."""
    measured, _ = noisy((48, 45, 50), slope, noise=0.3)
    with Workspace(measured, CPU, "x") as space:
        power = finished(measured_power(space, fourier.spectrum(space.field())))
    expected = 0.3**2 * (power.frequency / (2 * torch.pi)) ** slope
    departure = (power.ratio / expected).log()[2:]
    assert float(departure.abs().max()) < 0.5


def test_the_predicted_error_is_the_error(unpadded):
    measured, chi = noisy((48, 45, 50), 0.0, noise=0.1)
    with Workspace(measured, CPU, "x") as space:
        power = finished(measured_power(space, fourier.spectrum(space.field())))
    for value in (1e-3, 1e-2, 1e-1):
        maps = reconstruct("tikhonov", measured, regularization=value, regularizer="identity")
        passed = power.gram / (power.gram + value)
        predicted = power.error(passed[None], caution=1.0)
        actual = (nrmse(maps[Quantity.CHI], chi, measured.mask) / 100) ** 2
        assert predicted == pytest.approx(actual, rel=0.08)


def test_a_field_of_nothing_has_a_ratio_too(unpadded):
    grid = Grid((8, 6, 7), np.eye(4))
    measured = Acquisition(grid, {Quantity.LOCAL_FIELD: np.zeros((8, 6, 7))})
    with Workspace(measured, CPU, "x") as space:
        power = finished(measured_power(space, fourier.spectrum(space.field())))
        prior = power.prior(space.dipole.spectrum)
    assert torch.isfinite(prior).all()
    assert (prior > 0).all()


def test_without_weights_it_is_tikhonov(unpadded):
    measured, _ = noisy((16, 15, 14), 0.0, noise=0.1)
    closed = reconstruct("tikhonov", measured, regularization=0.02, regularizer="identity")
    maps = reconstruct("lsqr", measured, regularization=0.02, regularizer="identity",
                       weights="none", tolerance=1e-5)  # fmt: skip
    np.testing.assert_allclose(maps[Quantity.CHI], closed[Quantity.CHI], atol=1e-4)


@pytest.fixture(scope="module", params=["healthy", "haemorrhage"])
def head(request):
    phantom = sample_head(request.param, 4.0)
    return phantom.acquisition, phantom.truth[Quantity.CHI]


def error(head, key, **settings):
    maps = reconstruct(key, head[0], **settings)
    return nrmse(maps[Quantity.CHI], head[1], head[0].mask)


def test_it_improves_on_tkd(head):
    assert error(head, "lsqr") < 0.85 * error(head, "tkd")


@pytest.mark.parametrize("regularizer", ["identity", "gradient"])
def test_lambda_is_chosen_near_its_best(head, regularizer):
    """Among values a factor of four apart."""
    settings = {"regularizer": regularizer, "tolerance": 1e-2, "weights": "mask"}
    values = (1e-3, 4e-3, 1.6e-2, 6.4e-2)
    best = min(error(head, "lsqr", regularization=value, **settings) for value in values)
    assert error(head, "lsqr", **settings) < 1.06 * best


def test_a_start_is_taken_only_where_the_answer_is_the_same(head):
    measured, _ = head
    cold = reconstruct("lsqr", measured, regularization=0.3)
    given = measured.with_volumes({Quantity.CHI: cold[Quantity.CHI]})

    def iterations(maps):
        note = next(n for n in maps.provenance.notes if n.startswith("Converged"))
        return int(note.split()[2])

    warm = reconstruct("lsqr", given, regularization=0.36)
    again = reconstruct("lsqr", measured, regularization=0.36)
    assert iterations(warm) <= iterations(again) / 2
    assert nrmse(warm[Quantity.CHI], again[Quantity.CHI], measured.mask) < 3
    early = reconstruct("lsqr", given, regularizer="none", max_iterations=4)
    plain = reconstruct("lsqr", measured, regularizer="none", max_iterations=4)
    np.testing.assert_array_equal(early[Quantity.CHI], plain[Quantity.CHI])
    assert any("left aside" in note for note in early.provenance.notes)
