"""The uncertainty: in closed form exact, drawn in agreement with it, and it covers the errors."""

from dataclasses import replace

import numpy as np
import pytest

from napari_qsm.acquisition import Quantity
from napari_qsm.generators import finished
from napari_qsm.methods import registry
from napari_qsm.methods.registry import find
from napari_qsm.methods.wrappers.sigma import DISCLAIMER, Moments
from napari_qsm.training.phantom import sample_head

CHI, SIGMA, FIELD = Quantity.CHI, Quantity.SIGMA, Quantity.LOCAL_FIELD


def reconstruct(key, measured, **settings):
    method = find(key)
    return finished(method(measured, method.with_settings(settings)))


@pytest.fixture(scope="module")
def head():
    return sample_head("healthy", 4.0)


@pytest.fixture(scope="module")
def measured(head):
    return noisy(head, 1)


def noisy(head, seed):
    noise = np.random.default_rng(seed).standard_normal(head.field.shape).astype(np.float32)
    field = (head.field + noise * head.noise) * head.acquisition.mask
    return head.acquisition.with_volumes({FIELD: field, Quantity.FIELD_NOISE: head.noise})


def as_sampled(monkeypatch, key):
    """Make the wrapper forget that the method is a filter."""
    monkeypatch.setitem(registry._REGISTRY, key, replace(find(key), symbol=None))


@pytest.mark.parametrize("key", ["tkd", "tikhonov"])
def test_closed_form_is_what_many_draws_tend_to(measured, key):
    """The ratio of variances over 60 draws has its median at 0.99, at every level of noise."""
    mask = measured.mask
    maps = reconstruct(f"{key}+sigma", measured)
    noise = measured[Quantity.FIELD_NOISE]
    moments = Moments(mask.shape)
    for seed in range(60):
        drawn = np.random.default_rng([9, seed]).standard_normal(mask.shape).astype(np.float32)
        given = measured.with_volumes({FIELD: measured[FIELD] + drawn * noise * mask})
        moments.add(reconstruct(key, given, **maps.provenance.chosen)[CHI])
    closed, drawn = maps[SIGMA][mask] ** 2, moments.variance[mask]
    bins = np.digitize(closed, np.quantile(closed, [0.2, 0.4, 0.6, 0.8]))
    for number in range(5):
        part = bins == number
        assert np.median(drawn[part] / closed[part]) == pytest.approx(0.99, abs=0.03)
    assert any("in closed form" in note for note in maps.provenance.notes)


def test_draws_agree_with_the_closed_form(measured, monkeypatch):
    mask = measured.mask
    closed = reconstruct("tikhonov+sigma", measured)[SIGMA][mask]
    as_sampled(monkeypatch, "tikhonov")
    drawn = reconstruct("tikhonov+sigma", measured, draws=24)[SIGMA][mask]
    assert np.median(drawn / closed) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("key", ["tkd", "tikhonov", "tv"])
def test_two_deviations_cover_95_percent_of_what_noise_does(head, measured, key):
    """Of the distance from what the method makes of the field without noise."""
    mask = measured.mask
    maps = reconstruct(f"{key}+sigma", measured)
    clean = measured.with_volumes({FIELD: head.field * mask})
    expected = reconstruct(key, clean, **maps.provenance.chosen)[CHI]
    error = np.abs(maps[CHI] - expected)[mask]
    assert 0.92 < np.mean(error < 2 * maps[SIGMA][mask]) < 0.975
    assert 0.62 < np.mean(error < maps[SIGMA][mask]) < 0.74


def test_the_map_is_the_methods_own_and_the_notes_tell(measured):
    maps, plain = reconstruct("tv+sigma", measured, draws=2), reconstruct("tv", measured)
    assert np.array_equal(maps[CHI], plain[CHI])
    notes = maps.provenance.notes
    assert DISCLAIMER in notes
    assert any("2 reconstructions with noise added" in note for note in notes)
    assert any("the noise of the field is that of its map" in note for note in notes)
    assert maps.provenance.chosen == plain.provenance.chosen


def test_the_seed_decides(measured):
    first, again, other = (
        reconstruct("ndi+sigma", measured, draws=2, noise_seed=seed, iterations=5)[SIGMA]
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_twice_the_noise_is_twice_the_uncertainty_of_a_filter(measured):
    once = reconstruct("tkd+sigma", measured)[SIGMA]
    louder = measured.with_volumes({Quantity.FIELD_NOISE: 2 * measured[Quantity.FIELD_NOISE]})
    np.testing.assert_allclose(reconstruct("tkd+sigma", louder)[SIGMA], 2 * once, rtol=1e-4)


def test_without_a_noise_map_one_number_is_taken_and_noted(head):
    maps = reconstruct("tkd+sigma", head.acquisition)
    assert any("no map of the field's noise is known" in note for note in maps.provenance.notes)
    assert maps[SIGMA][head.acquisition.mask].min() > 0


def test_draws_start_from_the_map_where_the_method_can(measured):
    method = find("tv+sigma")
    running = method(measured, method.with_settings({"draws": 2, "tolerance": 1e-2}))
    cold = warm = 0
    for step in running:
        cold += "the map, iteration" in step.message
        warm += "draw 1 of 2, iteration" in step.message
    assert 0 < warm < 0.8 * cold


def test_moments_are_those_of_numpy():
    values = np.random.default_rng(0).normal(5, 1, (7, 4, 3)).astype(np.float32)
    moments = Moments((4, 3))
    for one in values:
        moments.add(one)
    np.testing.assert_allclose(moments.variance, values.var(axis=0, ddof=1), rtol=1e-4)
