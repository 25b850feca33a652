"""RTS: what was divided stays, what was not is filled."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.generators import finished
from napari_qsm.methods.registry import find
from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics import fourier
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.training.phantom import sample_head


def reconstruct(key, measured, **settings):
    return finished(find(key)(measured, find(key).with_settings(settings)))


@pytest.fixture
def scene(monkeypatch):
    """Boxes and their exact field on an odd grid."""
    monkeypatch.setattr(Workspace.__init__, "__kwdefaults__", {"padding": 1.0})
    chi = torch.zeros((25, 27, 21), dtype=torch.float64)
    chi[4:15, 5:12, 6:16] = 0.1
    chi[12:20, 14:21, 4:12] = -0.08
    grid = Grid(tuple(chi.shape), np.eye(4), b0_direction=(0.0, 0.6, 0.8))
    A = DipoleConvolution(grid, padded_shape=grid.shape, dtype=torch.float64)
    chi -= chi.mean()
    return A, chi, Acquisition(grid, {Quantity.LOCAL_FIELD: A(chi).numpy()})


def spectrum(maps):
    return fourier.spectrum(torch.from_numpy(maps[Quantity.CHI].copy()).double())


def test_the_band_stays_as_it_was_divided(scene):
    A, chi, measured = scene
    maps = reconstruct("rts", measured, regularization=1e-6, threshold=0.15, max_iterations=60)
    band = A.spectrum.abs() > 0.15
    got, truth = spectrum(maps)[band], fourier.spectrum(chi)[band]
    assert float((got - truth).abs().square().sum() / truth.abs().square().sum()) < 0.01**2


def test_variation_fills_the_rest(scene):
    """The cone is empty after the division; boxes come back nearly whole."""
    A, chi, measured = scene
    settings = {"regularization": 1e-4, "tolerance": 1e-5, "max_iterations": 300}
    maps = reconstruct("rts", measured, **settings)
    outside = A.spectrum.abs() <= 0.15
    got, truth = spectrum(maps)[outside], fourier.spectrum(chi)[outside]
    assert float((got - truth).abs().square().sum() / truth.abs().square().sum()) < 0.1
    divided = reconstruct("tkd", measured, threshold=0.15, variant="zeroed")
    error = {m: np.linalg.norm(r[Quantity.CHI] - chi.numpy()) for m, r in
             (("rts", maps), ("tkd", divided))}  # fmt: skip
    assert error["rts"] < 0.3 * error["tkd"]


@pytest.mark.parametrize(("case", "part"), [("healthy", 0.97), ("haemorrhage", 0.8)])
def test_it_improves_on_tkd(case, part):
    phantom = sample_head(case, 3.0)
    measured, truth = phantom.acquisition, phantom.truth[Quantity.CHI]
    rts, tkd = (
        nrmse(reconstruct(key, measured)[Quantity.CHI], truth, measured.mask)
        for key in ("rts", "tkd")
    )
    assert rts < part * tkd


def test_a_start_saves_iterations(scene):
    _, _, measured = scene
    settings = {"tolerance": 3e-3}
    cold = reconstruct("rts", measured, regularization=1e-4, **settings)
    given = measured.with_volumes({Quantity.CHI: cold[Quantity.CHI]})

    def iterations(maps):
        return int(next(n for n in maps.provenance.notes if n.startswith("Conv")).split()[2])

    warm = reconstruct("rts", given, regularization=1.2e-4, **settings)
    again = reconstruct("rts", measured, regularization=1.2e-4, **settings)
    assert iterations(warm) < iterations(again)
