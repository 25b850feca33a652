"""A population: the same seed is the same case, and a case is what its ranges and physics say."""

from functools import lru_cache

import numpy as np
import pytest
from pydantic import ValidationError

from napari_qsm.acquisition import Quantity
from napari_qsm.training.phantom import field_inside
from napari_qsm.training.population import Population, draw

FIELD, NOISE = Quantity.LOCAL_FIELD, Quantity.FIELD_NOISE
PLAIN = {
    "voxel_size": (4.0, 4.0),
    "anisotropy": 1.0,
    "geometry": 0.0,
    "lesions": {},
    "error": (1e-6, 1e-6),
    "slabs": 0.0,
    "erosion": 0,
    "inverted": 0.0,
}
"""Coarse heads, measured almost without an error."""


@lru_cache
def _drawn(seed, lesions, stated):
    strengths = dict.fromkeys(lesions, 1.0)
    return draw(Population(**PLAIN | {"lesions": strengths} | dict(stated)), seed)


def drawn(seed=5, lesions=(), **stated):
    """A case; drawn once for all tests."""
    return _drawn(seed, lesions, tuple(sorted(stated.items())))


def test_the_same_seed_is_the_same_case_byte_for_byte():
    wild = Population(voxel_size=(4.0, 5.0))
    first, second = draw(wild, 11), draw(wild, 11)
    assert np.array_equal(first.chi, second.chi)
    assert np.array_equal(first.lesions, second.lesions)
    assert np.array_equal(first.acquisition.grid.affine, second.acquisition.grid.affine)
    for quantity, volume in first.acquisition.volumes.items():
        assert np.array_equal(volume, second.acquisition[quantity])


def test_another_seed_is_another_case():
    first, second = drawn(5), drawn(6)
    assert first.chi.shape != second.chi.shape or not np.allclose(first.chi, second.chi)


@pytest.mark.parametrize("seed", [5, 6])
def test_the_field_is_that_of_the_truth(seed):
    """Truth is referenced to its mean, so the field of a constant in the mask is free."""
    case = drawn(seed)
    measured, mask = case.acquisition, case.acquisition.mask
    field = field_inside(case.chi, mask, measured.grid)[mask]
    constant = field_inside(mask.astype(np.float32), mask, measured.grid)[mask]
    rest = measured[FIELD][mask] - field
    level = float(rest @ constant / (constant @ constant))
    wrong = np.linalg.norm(rest - level * constant) / np.linalg.norm(measured[FIELD][mask])
    assert wrong < 1e-4
    assert abs(level) < 0.03


@pytest.mark.parametrize("stated", [{}, {"geometry": 1.0, "voxel_size": (1.6, 1.6)}])
def test_truth_has_no_mean_and_nothing_is_outside_the_mask(stated):
    case = drawn(error=(0.2, 0.2), **stated)
    mask = case.acquisition.mask
    assert abs(case.chi[mask].mean(dtype=np.float64)) < 1e-6
    assert (case.chi[~mask] == 0).all()
    assert not case.lesions[~mask].any()
    for quantity in (FIELD, NOISE, Quantity.MAGNITUDE):
        assert (case.acquisition[quantity][~mask] == 0).all()
    assert (case.acquisition[NOISE][mask] > 0).all()
    for axis in range(3):  # no empty planes
        assert mask.any(axis=tuple(a for a in range(3) if a != axis)).all()


def test_the_error_of_the_field_is_the_stated_part_of_it():
    clean, wrong = drawn(), drawn(error=(0.3, 0.3))
    assert np.array_equal(clean.chi, wrong.chi)
    mask = clean.acquisition.mask
    field = clean.acquisition[FIELD][mask]
    error = wrong.acquisition[FIELD][mask] - field
    assert 0.25 < error.std() / np.sqrt(np.square(field).mean()) < 0.5


def test_noise_follows_its_stated_deviation():
    """Noise is a part of the error: where it is said to be largest, the error is no smaller."""
    clean, wrong = (drawn(lesions=("haemorrhage",), error=(e, e)) for e in (1e-6, 0.5))
    mask = clean.acquisition.mask
    error = (wrong.acquisition[FIELD] - clean.acquisition[FIELD])[mask]
    stated = wrong.acquisition[NOISE][mask]
    loud = np.argsort(stated)[-200:]
    assert stated[loud].mean() > 1.3 * np.median(stated)
    assert error[loud].std() > 0.8 * np.sqrt(np.square(stated[loud]).mean())
    assert np.sqrt(np.square(stated).mean()) < 1.05 * error.std()


def test_geometry_and_measurement_stay_in_their_ranges():
    wanted = Population(**PLAIN | {"voxel_size": (4.0, 6.0), "anisotropy": 1.5, "tilt": 20.0})
    tilts = []
    for seed in range(5):
        grid = draw(wanted, seed).acquisition.grid
        side, other, thick = grid.voxel_size
        assert side == pytest.approx(other)
        assert 4 <= side <= 6
        assert 1 <= thick / side <= 1.5
        tilts.append(np.degrees(np.arccos(grid.b0_direction[2])))
    assert max(tilts) <= 20
    assert max(tilts) > 3


def test_a_turned_head_and_a_turned_geometry_have_b0_alike():
    rng = np.random.default_rng([5, 0, 5])
    rng.uniform(size=2)  # voxel size and anisotropy come first
    nod, lean = np.radians(rng.uniform(-1, 1, 2) * 30 / np.sqrt(2))
    turned = [-np.sin(lean), np.cos(lean) * np.sin(nod), np.cos(lean) * np.cos(nod)]
    for share, size in ((0.0, 3.9), (1.0, 1.6)):
        grid = drawn(geometry=share, tilt=30.0, voxel_size=(size, size)).acquisition.grid
        assert np.allclose(grid.b0_direction, turned, atol=1e-6)


def test_erosion_takes_layers_and_a_slab_a_part():
    whole = drawn()
    full = whole.acquisition.mask.sum()
    eroded = [drawn(seed, erosion=3).acquisition.mask.sum() for seed in (5, 6, 7)]
    plain = [drawn(seed).acquisition.mask.sum() for seed in (5, 6, 7)]
    assert all(a <= b for a, b in zip(eroded, plain, strict=True))
    assert min(a / b for a, b in zip(eroded, plain, strict=True)) < 0.9
    slab = drawn(slabs=1.0)
    parts = np.divide(slab.acquisition.grid.shape, whole.acquisition.grid.shape)
    assert 0.25 < parts.min() < 0.75
    assert slab.acquisition.mask.sum() < 0.9 * full


def test_the_field_of_a_slab_comes_from_outside_as_well():
    whole, slab = drawn(), drawn(slabs=1.0)
    mask = slab.acquisition.mask
    found = np.sort(slab.acquisition[FIELD][mask])
    every = whole.acquisition[FIELD]
    shape = mask.shape
    axis = int(np.argmin(np.divide(shape, every.shape)))
    best = np.inf
    for first in range(every.shape[axis] - shape[axis] + 1):
        part = np.take(every, range(first, first + shape[axis]), axis=axis)
        inside = part[part != 0]
        if len(inside) == len(found):
            best = min(best, float(np.abs(np.sort(inside) - found).max()))
    assert best < 1e-4
    own = field_inside(slab.chi, mask, slab.acquisition.grid)[mask]
    measured = slab.acquisition[FIELD][mask]
    assert np.linalg.norm(measured - own) > 0.1 * np.linalg.norm(measured)


def test_an_inverted_case_is_the_case_with_its_sign_turned():
    plain, inverted = drawn(), drawn(inverted=1.0)
    assert np.allclose(plain.chi, -inverted.chi, atol=1e-7)
    assert np.allclose(plain.acquisition[FIELD], -inverted.acquisition[FIELD], atol=1e-6)


def test_lesions_are_where_they_are_said_to_be():
    plain, case = drawn(), drawn(lesions=("haemorrhage",))
    assert not plain.lesions.any()
    assert case.lesions.any()
    assert case.chi[case.lesions].mean() > 3 * plain.chi.std()


def test_the_signal_fades_around_strong_sources():
    case = drawn(lesions=("haemorrhage",), error=(0.3, 0.3))
    mask, noise = case.acquisition.mask & ~case.lesions, case.acquisition[NOISE]
    assert noise[case.lesions].mean() > 1.5 * noise[mask].mean()


@pytest.mark.parametrize("wrong", [{"voxels": 1}, {"anatomy": "mine"}, {"voxel_size": 1.0}])
def test_unknown_and_malformed_ranges_are_refused(wrong):
    with pytest.raises(ValidationError):
        Population(**wrong)
