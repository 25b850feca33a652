"""PDI: sigma in ppm, calibrated, with what it does not say."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.generators import finished
from napari_qsm.methods.direct import DISCLAIMER
from napari_qsm.methods.learned import opened, seen
from napari_qsm.methods.registry import find
from napari_qsm.methods.workspace import Workspace
from napari_qsm.networks.weights import Card, load_network, write

CPU = torch.device("cpu")


def head(noise=0.01, shape=(26, 28, 24), scale=1.0):
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*[np.linspace(-1.2, 1.2, n) for n in shape], indexing="ij")
    mask = sum(a**2 for a in axes) < 1
    field = scale * noise * rng.standard_normal(shape) * mask
    return Acquisition(Grid(shape, np.eye(4)), {Quantity.LOCAL_FIELD: field, Quantity.MASK: mask})


def run(measured, **settings):
    method = find("pdi")
    return finished(method(measured, method.with_settings({"precision": "float32", **settings})))


def test_sigma_is_that_of_the_network_times_the_calibration():
    measured = head()
    network, card = opened("pdi", CPU, "pdi")
    with Workspace(measured, CPU, "Test") as space, torch.no_grad():
        view = finished(seen(measured, network, space))
        expected = space.restore(view.padded(network(view.inputs).sigma, space))
    maps = run(measured)
    assert card.calibration == 1.5
    np.testing.assert_allclose(maps[Quantity.SIGMA], 1.5 * expected, rtol=1e-4, atol=1e-8)
    assert not maps[Quantity.SIGMA][~measured.mask].any()
    assert (maps[Quantity.SIGMA][measured.mask] > 0).all()


def test_sigma_grows_with_field_and_noise():
    one, ten = (run(head(scale=scale))[Quantity.SIGMA] for scale in (100, 1000))
    mask = head().mask
    assert ten[mask].mean() == pytest.approx(10 * one[mask].mean(), rel=0.01)


def test_what_sigma_does_not_say_is_in_the_notes():
    notes = " ".join(run(head()).provenance.notes)
    assert "multiplied by 1.5" in notes
    assert DISCLAIMER in notes
    assert "larger than it says" in DISCLAIMER


def test_weights_without_calibration_say_so(networks):
    network, _ = load_network("pdi")
    path = write(Card("raw", "Raw", network.design, "pdi"), network, networks)
    try:
        notes = " ".join(run(head(), weights="raw").provenance.notes)
    finally:
        path.unlink()
        path.with_suffix(".safetensors").unlink()
    assert "not calibrated" in notes


def test_sigma_comes_back_from_the_frame():
    plain = head()
    thick = Acquisition(Grid(plain.grid.shape, np.diag([1.0, 1.0, 3.0, 1.0])), plain.volumes)
    maps = run(thick)
    assert maps[Quantity.SIGMA].shape == thick.grid.shape
    assert (maps[Quantity.SIGMA][thick.mask] > 0).all()
    assert not maps[Quantity.SIGMA][~thick.mask].any()
    assert any("interpolated" in note for note in maps.provenance.notes)


def test_symmetric_sigma_is_the_same_for_a_flipped_field():
    one, other = (run(head(scale=s), symmetric=True)[Quantity.SIGMA] for s in (1, -1))
    np.testing.assert_array_equal(one, other)
