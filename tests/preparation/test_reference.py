"""What susceptibility is relative to is a choice, exact and recorded."""

import numpy as np
import pytest

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.preparation.registry import find

SHAPE = (30, 32, 28)
RNG = np.random.default_rng(0)
OFFSETS = np.indices(SHAPE) - (np.reshape(SHAPE, (3, 1, 1, 1)) - 1) / 2
MASK = np.linalg.norm(OFFSETS, axis=0) < 12
VENTRICLE = np.linalg.norm(OFFSETS / np.reshape([2, 1, 1], (3, 1, 1, 1)), axis=0) < 3
LABELS = 3.0 * (MASK & (OFFSETS[0] > 4)) + 5.0 * (MASK & (OFFSETS[0] < -8))
CHI = (0.05 * RNG.standard_normal(SHAPE) * MASK).astype(np.float32)
RATE = np.where(VENTRICLE, 2.0, 22.0) * MASK


def referenced(chi=CHI, *, without=(), **settings):
    volumes = {
        Quantity.CHI: chi,
        Quantity.MASK: MASK,
        Quantity.R2STAR: RATE,
        Quantity.LABELS: LABELS,
    }
    for quantity in without:
        del volumes[quantity]
    stage = find("reference")
    work = stage(Acquisition(Grid(SHAPE, np.eye(4)), volumes), stage.with_settings(settings))
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value[Quantity.CHI], done.value.provenance.notes[-1]


@pytest.mark.parametrize(
    ("settings", "region"),
    [
        ({"to": "mask"}, MASK),
        ({"to": "roi"}, LABELS > 0),
        ({"to": "roi", "label": 5}, LABELS == 5),
    ],
    ids=["mask", "roi", "label"],
)
def test_the_mean_of_the_region_becomes_zero_and_contrast_stays(settings, region):
    chi, note = referenced(**settings)
    assert abs(chi[region].mean()) < 1e-6
    np.testing.assert_allclose(np.diff(chi[MASK]), np.diff(CHI[MASK]), atol=1e-6)
    assert not chi[~MASK].any()
    assert f"{np.count_nonzero(region)} voxels" in note


def test_the_ventricle_is_found_by_its_slow_decay():
    chi, note = referenced(to="csf")
    assert "ventricles" in note
    shift = float((CHI - chi)[MASK].mean())
    inner = float(CHI[VENTRICLE].mean())
    spread = float(CHI[VENTRICLE].std()) / np.sqrt(VENTRICLE.sum())
    assert abs(shift - inner) < 4 * spread


@pytest.mark.parametrize("to", ["mask", "csf", "roi"])
def test_a_constant_changes_nothing(to):
    plain, _ = referenced(to=to)
    shifted, _ = referenced(CHI + np.float32(0.3) * MASK, to=to)
    np.testing.assert_allclose(shifted, plain, atol=1e-6)


def test_none_leaves_the_map_as_it_is():
    chi, note = referenced(to="none")
    np.testing.assert_array_equal(chi, CHI)
    assert "left" in note


@pytest.mark.parametrize(
    ("settings", "without", "words"),
    [
        ({"to": "csf"}, (Quantity.R2STAR,), "R2\\* map"),
        ({"to": "roi"}, (Quantity.LABELS,), "needs labels"),
        ({"to": "roi", "label": 9}, (), "label 9, has 0 voxels"),
        ({"to": "csf", "csf_rate": 1.0}, (), "has 0 voxels"),
    ],
)
def test_what_is_missing_is_a_sentence(settings, without, words):
    with pytest.raises(InputError, match=words):
        referenced(without=without, **settings)
