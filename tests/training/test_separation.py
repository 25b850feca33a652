"""Heads with iron and myelin: what they are made of agrees with what is measured of them."""

import numpy as np
import pytest
from scipy import ndimage

from napari_qsm.acquisition import Quantity
from napari_qsm.training.myelin import DIAMAGNETIC, MEANS, SOURCES
from napari_qsm.training.phantom import field_inside
from napari_qsm.training.population import Population
from napari_qsm.training.separation import RELAXIVITY, Separation, draw_separated, lattice
from napari_qsm.training.separation_unseen import coarser_sources
from napari_qsm.training.tissues import TISSUES

QUIET = Separation(
    population=Population(
        voxel_size=(4.0, 4.0), lesions={}, slabs=0.0, erosion=0, error=(1e-6, 1e-6)
    ),
    relaxivity=(1.0, 1.0),
    imbalance=0.0,
    rate_error=(1e-6, 1e-6),
)
"""Coarse healthy heads, measured almost without an error."""


@pytest.fixture(scope="module")
def healthy():
    return draw_separated(QUIET, 3)


@pytest.fixture(scope="module")
def ill():
    kinds = {"haemorrhage": 1.0, "calcification": 1.0}
    population = QUIET.population.model_copy(update={"lesions": kinds})
    return draw_separated(QUIET.model_copy(update={"population": population}), 3)


def test_the_same_seed_is_the_same_case_byte_for_byte(healthy):
    again = draw_separated(QUIET, 3)
    assert np.array_equal(again.chi_pos, healthy.chi_pos)
    assert np.array_equal(again.chi_neg, healthy.chi_neg)
    for quantity, volume in healthy.acquisition.volumes.items():
        assert np.array_equal(volume, again.acquisition[quantity])
    other = draw_separated(QUIET, 4)
    assert other.chi.shape != healthy.chi.shape or not np.allclose(other.chi, healthy.chi)


def test_the_field_is_that_of_both_sources(healthy):
    """``chi = chi_pos - chi_neg``, relative to CSF, makes the field that was measured."""
    measured, mask = healthy.acquisition, healthy.acquisition.mask
    field = field_inside(healthy.chi, mask, measured.grid)
    inside = ndimage.binary_erosion(mask)
    found = measured[Quantity.LOCAL_FIELD]
    assert np.abs(found - field)[inside].max() < 1e-4
    assert np.abs(healthy.field_error[inside]).max() < 1e-4


def test_sources_are_of_the_size_that_the_literature_reports(healthy):
    mask = healthy.acquisition.mask
    for source in (healthy.chi_pos, healthy.chi_neg):
        assert source.min() >= 0
        assert not source[~mask].any()
        assert 0.01 < source[mask].mean() < 0.05
    assert healthy.chi_neg[mask].max() < 0.3


def test_relaxation_is_that_of_both_sources_but_for_the_error_of_r2(healthy):
    """Deep inside, where the air's field does not reach, all that is left follows R2."""
    measured = healthy.acquisition
    reversible = RELAXIVITY * measured.field_strength * (healthy.chi_pos + healthy.chi_neg)
    sizes = measured.grid.voxel_size
    deep = ndimage.distance_transform_edt(measured.mask, sampling=sizes) > 30
    deep &= measured[Quantity.R2PRIME] > 0
    left = (measured[Quantity.R2PRIME] - reversible)[deep]
    r2 = measured[Quantity.R2][deep]
    share = float(left @ r2 / (r2 @ r2))
    assert abs(share) < 0.08
    assert np.sqrt(np.mean((left - share * r2) ** 2)) < 0.3
    difference = measured[Quantity.R2STAR] - measured[Quantity.R2]
    np.testing.assert_array_equal(measured[Quantity.R2PRIME], np.maximum(difference, 0))


def test_relaxivity_of_a_head_departs_from_the_assumed_one_as_stated():
    """Twice the Dr, twice the R2'; nothing else changes."""
    twice = draw_separated(QUIET.model_copy(update={"relaxivity": (2.0, 2.0)}), 3)
    once = draw_separated(QUIET, 3)
    np.testing.assert_array_equal(twice.chi_pos, once.chi_pos)
    more = (twice.acquisition[Quantity.R2STAR] - once.acquisition[Quantity.R2STAR]).astype(float)
    both = once.chi_pos + once.chi_neg
    mask = once.acquisition.mask & (once.acquisition[Quantity.R2STAR] > 0)
    expected = RELAXIVITY * once.acquisition.field_strength * both
    np.testing.assert_allclose(more[mask], expected[mask], atol=2e-2)


def test_blood_is_iron_and_stones_are_diamagnetic_within_the_stated_strength(ill, healthy):
    assert ill.lesions.any()
    strong = ill.chi_pos[ill.lesions].max(), ill.chi_neg[ill.lesions].max()
    assert 0.05 < strong[0] < 0.3 * 4.0 * 1.5
    assert 0.05 < strong[1] < 0.3 * 2.0 * 1.5
    changed = (ill.chi_pos != healthy.chi_pos) | (ill.chi_neg != healthy.chi_neg)
    assert changed.mean() < 0.3
    inside = ndimage.binary_erosion(ill.lesions)
    both = np.minimum(ill.chi_pos, ill.chi_neg)[inside]
    assert np.median(both) < 0.01, "a lesion pushes the other source aside"


def test_voxels_and_b0_are_known_before_a_case_is_drawn(healthy):
    known, grid = lattice(QUIET, 3), healthy.acquisition.grid
    np.testing.assert_allclose(known.voxel_size, grid.voxel_size, rtol=1e-3)
    np.testing.assert_allclose(known.b0_direction, grid.b0_direction, atol=1e-6)


def test_every_tissue_has_a_diamagnetic_part_and_it_has_sources():
    assert set(DIAMAGNETIC) == {tissue.name for tissue in TISSUES}
    assert len(MEANS) == len(TISSUES)
    for tissue, negative in zip(TISSUES, MEANS, strict=True):
        assert negative >= 0
        assert tissue.chi + negative >= 0, f"{tissue.name} would have less than no iron"
    assert all(doi.startswith("10.") for doi in SOURCES)


def test_putting_voxels_together_keeps_sources_and_rates(healthy):
    coarse = coarser_sources(healthy)
    old, new = healthy.acquisition, coarse.acquisition
    assert new.grid.voxel_size == pytest.approx([2 * s for s in old.grid.voxel_size], rel=1e-3)
    inside = ndimage.binary_erosion(new.mask)
    i, j, k = np.argwhere(inside)[len(np.argwhere(inside)) // 2]
    box = tuple(slice(2 * n, 2 * n + 2) for n in (i, j, k))
    assert coarse.chi_pos[i, j, k] == pytest.approx(healthy.chi_pos[box].mean(), rel=1e-4)
    rate = old[Quantity.R2STAR][box].mean()
    assert new[Quantity.R2STAR][i, j, k] == pytest.approx(rate, rel=1e-4)
    assert (coarse.chi_neg >= 0).all()
    assert new.field_strength == old.field_strength
