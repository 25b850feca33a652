"""L1-QSM: outliers, whole turns, and a lambda that means what it means with squares."""

import math

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.generators import finished
from napari_qsm.methods.registry import find
from napari_qsm.methods.variation import robust_scale
from napari_qsm.methods.workspace import Workspace
from napari_qsm.training.phantom import sample_head


def reconstruct(measured, key="l1", **settings):
    method = find(key)
    return finished(method(measured, method.with_settings(settings)))


@pytest.fixture(scope="module")
def head():
    return sample_head("haemorrhage", 4.0)


def difference(one, other):
    return np.linalg.norm(one - other) / np.linalg.norm(other)


def error(head, key, measured=None, **settings):
    maps = reconstruct(head.acquisition if measured is None else measured, key, **settings)
    return nrmse(maps[Quantity.CHI], head.truth[Quantity.CHI], head.acquisition.mask)


@pytest.mark.parametrize("data", ["linear", "nonlinear"])
def test_it_beats_tkd_at_its_defaults(head, data):
    assert error(head, "l1", data=data) < 0.75 * error(head, "tkd")


def test_a_few_bad_voxels_hardly_matter(head):
    """0.5 % of the voxels are off by 0.5 ppm."""
    measured = head.acquisition
    rng = np.random.default_rng(0)
    inside = np.flatnonzero(measured.mask)
    bad = rng.choice(inside, inside.size // 200, replace=False)
    field = measured[Quantity.LOCAL_FIELD].copy()
    field.flat[bad] += rng.choice([-0.5, 0.5], bad.size)
    dirty = measured.with_volumes({Quantity.LOCAL_FIELD: field})
    assert error(head, "l1", dirty) < 0.2 * error(head, "tv", dirty)
    assert error(head, "l1", dirty) < 1.2 * error(head, "l1")


def test_whole_turns_of_the_phase_change_hardly_anything(head):
    """In a few voxels: what they change is the field's noise, of which sigma is a multiple."""
    measured, scale = head.acquisition, 10.0
    rng = np.random.default_rng(0)
    turns = rng.integers(-2, 3, measured.grid.shape) * (rng.random(measured.grid.shape) < 3e-3)
    field = measured[Quantity.LOCAL_FIELD] + measured.mask * turns * (2 * math.pi / scale)
    again = measured.with_volumes({Quantity.LOCAL_FIELD: field})
    settings = {
        "phase_scale": scale,
        "weights": "none",
        "regularization": 1e-4,
        "max_iterations": 20,
    }
    one, other = (reconstruct(m, **settings)[Quantity.CHI] for m in (measured, again))
    assert difference(other, one) < 0.05
    unaware = reconstruct(again, **settings, data="linear")[Quantity.CHI]
    assert difference(unaware, one) > 2 * difference(other, one)


def test_sigma_makes_absolute_misfits_as_stiff_as_squares():
    """Shifting a model by d under normal noise costs a slope of d, as with squares."""
    noise = 0.01 * np.random.default_rng(0).standard_normal((60, 60, 60))
    measured = Acquisition(Grid(noise.shape, np.eye(4)), {Quantity.LOCAL_FIELD: noise})
    with Workspace(measured, torch.device("cpu"), "") as space:
        sigma = robust_scale(space)
    for shift in (0.001, 0.004):
        slope = sigma * np.sign(shift - noise).mean()
        assert slope == pytest.approx(shift, rel=0.1)
