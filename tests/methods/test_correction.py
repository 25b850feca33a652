"""The correction around a method: what it smoothed away comes back as far as fields know it."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.generators import finished
from napari_qsm.methods.correction import MOST, agreement
from napari_qsm.methods.registry import find
from napari_qsm.physics import fourier
from napari_qsm.physics.dipole import DipoleConvolution

SHAPE = (32, 30, 28)


@pytest.fixture(scope="module")
def textured():
    """A ball of fine texture, its field with some noise, and its truth."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*[np.linspace(-1.1, 1.1, n) for n in SHAPE], indexing="ij")
    mask = sum(a**2 for a in axes) < 1
    chi = (0.04 * rng.standard_normal(SHAPE) * mask).astype(np.float32)
    chi[12:18, 12:18, 12:18] += 0.1
    grid = Grid(SHAPE, np.eye(4))
    field = DipoleConvolution(grid, padding=2.0)(torch.from_numpy(chi)).numpy()
    field += 0.003 * rng.standard_normal(SHAPE).astype(np.float32)
    return Acquisition(grid, {Quantity.LOCAL_FIELD: field * mask, Quantity.MASK: mask}), chi


def run(key, measured, **settings):
    method = find(key)
    return finished(method(measured, method.with_settings(settings)))


def error(maps, measured, truth):
    mask = measured.mask
    off = maps[Quantity.CHI][mask] - truth[mask]
    return float(np.linalg.norm(off - off.mean()) / np.linalg.norm(truth[mask]))


def test_what_a_strong_lambda_smoothed_away_comes_back(textured):
    measured, truth = textured
    smooth = run("tv", measured, regularization=1e-3)
    again = run("tv+correction", measured, regularization=1e-3)
    assert error(again, measured, truth) < 0.9 * error(smooth, measured, truth)
    left = [np.linalg.norm(maps[Quantity.RESIDUAL]) for maps in (smooth, again)]
    assert left[1] < 0.7 * left[0]


def test_without_a_ratio_the_map_stays(textured):
    measured, _ = textured
    plain, same = run("tkd", measured), run("tkd+correction", measured, correction=0.0)
    np.testing.assert_allclose(same[Quantity.CHI], plain[Quantity.CHI], atol=1e-7)


def test_it_says_what_it_did(textured):
    notes = run("tkd+correction", textured[0], correction=7.0).provenance.notes
    assert any("2.6 times the field's" in note for note in notes)


def test_by_itself_it_leaves_the_error_of_the_field(textured):
    measured, truth = textured
    smooth = run("tv", measured, regularization=1e-3)
    again = run("tv+correction", measured, regularization=1e-3)
    chosen = again.provenance.chosen["correction"]
    assert 1 < chosen <= MOST
    assert any("so that of" in note and "is left" in note for note in again.provenance.notes)
    assert error(again, measured, truth) < 0.9 * error(smooth, measured, truth)


def test_a_map_that_explains_the_field_is_left_alone(textured):
    measured, _ = textured
    plain, same = (
        run("ndi", measured, iterations=300),
        run("ndi+correction", measured, iterations=300),
    )
    assert same.provenance.chosen["correction"] == 0
    assert any("nothing to correct" in note for note in same.provenance.notes)
    np.testing.assert_allclose(same[Quantity.CHI], plain[Quantity.CHI], atol=1e-8)


@pytest.mark.parametrize("share", [0.95, 0.7, 0.5])
def test_the_ratio_leaves_the_share_that_was_asked_for(share):
    """Without a mask the residual of a corrected map is known in Fourier space."""
    shape = (24, 30, 32)
    residual = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    kernel = DipoleConvolution(Grid(shape, np.eye(4)), padding=1.0).spectrum
    transform = fourier.spectrum(residual)
    ratio = agreement(transform, kernel, shape, share)
    left = fourier.volume(transform / (ratio * kernel.square() + 1), shape)
    expected = share if ratio < MOST else None
    assert expected is None or float(left.norm() / residual.norm()) == pytest.approx(
        share, rel=0.01
    )
    assert (ratio == pytest.approx(MOST)) == (share == 0.5)


def test_nothing_is_chosen_where_nothing_is_left_over():
    flat = torch.ones(4, 4, 3, dtype=torch.complex64)
    assert agreement(flat, torch.full((4, 4, 3), 0.3), (4, 4, 4), 1.0) == 0
