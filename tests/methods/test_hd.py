"""HD-QSM: outliers found by the first stage, two stages told as one run."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.generators import finished, relayed
from napari_qsm.methods.inversion.hd import discounted
from napari_qsm.methods.registry import find
from napari_qsm.training.phantom import sample_head


def reconstruct(measured, key="hd", **settings):
    method = find(key)
    running = method(measured, method.with_settings(settings))
    steps = []
    return finished(relayed(running, steps.append)), steps


@pytest.fixture(scope="module")
def head():
    return sample_head("haemorrhage", 4.0)


@pytest.fixture(scope="module")
def dirty(head):
    """0.5 % of the voxels are off by 0.5 ppm."""
    measured = head.acquisition
    rng = np.random.default_rng(0)
    inside = np.flatnonzero(measured.mask)
    bad = rng.choice(inside, inside.size // 200, replace=False)
    field = measured[Quantity.LOCAL_FIELD].copy()
    field.flat[bad] += rng.choice([-0.5, 0.5], bad.size)
    return measured.with_volumes({Quantity.LOCAL_FIELD: field})


def error(head, measured, key, **settings):
    maps, _ = reconstruct(measured, key, **settings)
    return nrmse(maps[Quantity.CHI], head.truth[Quantity.CHI], head.acquisition.mask)


def test_it_beats_tkd_by_far_at_its_defaults(head):
    clean = head.acquisition
    assert error(head, clean, "hd") < 0.65 * error(head, clean, "tkd")


def test_bad_voxels_hardly_matter(head, dirty):
    robust = error(head, dirty, "hd")
    assert robust < 0.2 * error(head, dirty, "tv")
    assert robust < 1.3 * error(head, head.acquisition, "hd")


def test_the_largest_error_counts_nothing():
    weights = torch.tensor([2.0, 2.0, 2.0, 0.0])
    errors = torch.tensor([0.0, -0.5, 1.0, 99.0])
    torch.testing.assert_close(discounted(weights, errors), torch.tensor([2.0, 0.5, 0.0, 0.0]))
    torch.testing.assert_close(discounted(weights, 0 * errors), weights)


def test_without_errors_the_second_stage_is_total_variation(head):
    """A field the first stage explains: the discounts are almost nothing, the result is TV's."""
    settings = {"regularization": 1e-4, "tolerance": 1e-4}
    hybrid, _ = reconstruct(head.acquisition, max_iterations=100, **settings)
    plain, _ = reconstruct(head.acquisition, "fansi", data="linear", max_iterations=80, **settings)
    off = np.linalg.norm(hybrid[Quantity.CHI] - plain[Quantity.CHI])
    assert off < 0.2 * np.linalg.norm(plain[Quantity.CHI])


def test_both_stages_are_counted_as_one_run(head):
    settings = {"first_iterations": 4, "tolerance": 1e-6}
    maps, steps = reconstruct(head.acquisition, max_iterations=9, **settings)
    assert any("after the 9 iterations" in note for note in maps.provenance.notes)
    iterations = [s.values["iteration"] for s in steps if "iteration" in s.values]
    assert iterations == sorted(iterations)
    assert set(range(10)) == set(iterations)
    # A first stage that is longer than the whole still ends in the second.
    maps, _ = reconstruct(head.acquisition, max_iterations=2, **settings)
    assert any("after the 5 iterations" in note for note in maps.provenance.notes)


def test_a_warm_start_saves_iterations(head):
    near, _ = reconstruct(head.acquisition, regularization=1.2e-4)
    given = head.acquisition.with_volumes({Quantity.CHI: near[Quantity.CHI]})
    settings = {"regularization": 1e-4, "tolerance": 1e-6}
    goal, _ = reconstruct(head.acquisition, **settings, max_iterations=80)
    warm, _ = reconstruct(given, **settings, first_iterations=5, max_iterations=10)
    cold, _ = reconstruct(head.acquisition, **settings, max_iterations=30)

    def far(maps):
        return np.linalg.norm(maps[Quantity.CHI] - goal[Quantity.CHI])

    assert far(warm) < far(cold)
    assert any("Started from" in note for note in warm.provenance.notes)


def test_a_warm_start_needs_few_first_iterations(head):
    """The susceptibility that is given shows the outliers; the map is as good, and says so."""
    cold, _ = reconstruct(head.acquisition)
    given = head.acquisition.with_volumes({Quantity.CHI: cold[Quantity.CHI]})
    warm, steps = reconstruct(given)
    assert any("first stage took 4 iterations" in note for note in warm.provenance.notes)
    assert 2 * max(s.values.get("iteration", 0) for s in steps) < 50
    truth, mask = head.truth[Quantity.CHI], head.acquisition.mask
    errors = [nrmse(maps[Quantity.CHI], truth, mask) for maps in (warm, cold)]
    assert errors[0] < 1.02 * errors[1]
