"""QSMnet: what direct inversion claims, whatever its weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_qsm import listing, process
from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.generators import finished
from napari_qsm.methods.correction import corrected
from napari_qsm.methods.registry import find
from napari_qsm.methods.workspace import Workspace
from napari_qsm.networks.weights import Card, load_network, write
from napari_qsm.physics import fourier
from napari_qsm.physics.dipole import DipoleConvolution

CPU = torch.device("cpu")
SHAPE = (26, 28, 24)


def head(scale=1.0, grid=None):
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*[np.linspace(-1.2, 1.2, n) for n in SHAPE], indexing="ij")
    mask = sum(a**2 for a in axes) < 1
    chi = np.zeros(SHAPE, np.float32)
    chi[11:14, 12:16, 10:13] = 0.2
    grid = grid or Grid(SHAPE, np.eye(4))
    field = DipoleConvolution(grid, padding=2.0)(torch.from_numpy(chi)).numpy()
    field = scale * (field + 1e-3 * rng.standard_normal(SHAPE)) * mask
    return Acquisition(grid, {Quantity.LOCAL_FIELD: field, Quantity.MASK: mask})


def run(measured, **settings):
    method = find("qsmnet")
    return finished(method(measured, method.with_settings({"precision": "float32", **settings})))


def test_strong_fields_are_read_on_the_scale_of_weak_ones():
    one, strong = run(head())[Quantity.CHI], run(head(50.0))[Quantity.CHI]
    np.testing.assert_allclose(strong, 50 * one, atol=1e-3 * np.abs(strong).max())


def test_symmetric_maps_flip_with_the_field_and_others_do_not():
    flipped = head(-1.0)
    for symmetric in (True, False):
        one, other = (
            run(measured, symmetric=symmetric)[Quantity.CHI] for measured in (head(), flipped)
        )
        assert np.array_equal(one, -other) is symmetric


def test_a_network_that_adds_nothing_returns_what_it_starts_from(networks):
    network, card = load_network("qsmnet")
    for parameter in network.unet.parameters():
        parameter.data.zero_()
    path = write(replace(card, key="nothing"), network, networks)
    try:
        chi = run(head(), weights="nothing", consistency=0.0)[Quantity.CHI]
    finally:
        path.unlink()
        path.with_suffix(".safetensors").unlink()
    start = finished(find("tikhonov")(head()))[Quantity.CHI]
    np.testing.assert_allclose(chi, start, atol=1e-7)


def test_the_correction_is_the_most_probable_map_between_network_and_field():
    """Without a mask it minimises |x - chi|^2 + tau |D x - f|^2: its gradient there is 0."""
    ratio, rng = 7.0, np.random.default_rng(1)
    field = rng.standard_normal(SHAPE).astype(np.float32)
    whole = Acquisition(Grid(SHAPE, np.eye(4)), {Quantity.LOCAL_FIELD: 0.01 * field})
    with Workspace(whole, CPU, "Test") as space:
        chi = 0.05 * torch.randn(space.shape, generator=torch.Generator().manual_seed(2))
        made = finished(corrected(space, chi, ratio, "consistency"))
        # The residual counts in the mask only, so the minimum is that of what it was there.
        residual = (space.field() - space.dipole(chi)) * space.region()
        step = made - chi
        gradient = step + ratio * space.dipole(space.dipole(step) - residual)
        assert float(gradient.abs().max()) < 1e-5 * float(step.abs().max())


def test_the_correction_leaves_alone_what_makes_no_field():
    with Workspace(head(), CPU, "Test") as space:
        added = fourier.spectrum(finished(corrected(space, torch.zeros(space.shape), 7.0, "tau")))
        cone = added[space.dipole.spectrum.abs() < 1e-3].abs()
        assert float(cone.max()) < 0.01 * float(added.abs().max())


def test_the_correction_lowers_the_residual_of_the_method():
    def residual(maps):
        return float(np.linalg.norm(maps[Quantity.RESIDUAL]))

    left = [residual(run(head(), consistency=ratio)) for ratio in (0.0, 7.0, 50.0)]
    assert left[2] < left[1] < 0.8 * left[0]


def test_where_it_comes_from_is_told():
    maps = run(head())
    _, card = load_network("qsmnet")
    notes = " ".join(maps.provenance.notes)
    assert f"'qsmnet' (SHA-256 {card.sha256[:16]}" in notes
    assert "starts from the maps of: tikhonov" in notes
    assert "unexplained" in notes


def test_halves_of_precision_agree_to_fractions_of_a_ppb_of_a_weak_field():
    whole = run(head())[Quantity.CHI]
    half = run(head(), precision="bfloat16")
    assert np.abs(half[Quantity.CHI] - whole).max() < 0.02 * np.abs(whole).max()
    assert "The network ran in bfloat16." in half.provenance.notes


def test_available_weights_are_choices_of_the_form_and_listed(networks):
    field = find("qsmnet").parameters.model_fields["weights"]
    assert process.choices(field) == ("qsmnet",)
    network, card = load_network("qsmnet")
    path = write(Card("other", "Other", network.design, "qsmnet"), network, networks)
    try:
        assert set(process.choices(field)) == {"other", "qsmnet"}
        told = next(t for t in listing.offered_lines() if t.startswith("qsmnet, weights"))
        assert "other" in told
    finally:
        path.unlink()
        path.with_suffix(".safetensors").unlink()
    assert "other" not in listing.markdown()
    assert card.family == "qsmnet"


@pytest.mark.parametrize("name", ["frame", "precision"])
def test_lists_of_names_are_choices(name):
    field = find("qsmnet").parameters.model_fields[name]
    assert process.choices(field)[0] == "auto"
    assert process.choices(find("qsmnet").parameters.model_fields["consistency"]) is None
