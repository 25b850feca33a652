"""STAR-like: its limits, and streaks around a strong source."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.methods.inversion.star import NO_SOURCES, strong_part
from napari_qsm.methods.registry import find
from napari_qsm.training.phantom import sample_head


def reconstruct(key, measured, **settings):
    running = find(key)(measured, find(key).with_settings(settings))
    while True:
        try:
            next(running)
        except StopIteration as done:
            return done.value


@pytest.fixture(scope="module")
def head():
    phantom = sample_head("haemorrhage", 4.0)
    return phantom.acquisition, phantom.truth[Quantity.CHI]


SETTINGS = {"regularization": 1e-4, "weights": "mask", "tolerance": 5e-4, "max_iterations": 300}


def test_without_strong_sources_it_is_one_total_variation(head):
    measured, _ = head
    star = reconstruct("star", measured, threshold=NO_SOURCES, **SETTINGS)
    tv = reconstruct("tv", measured, **SETTINGS)
    assert nrmse(star[Quantity.CHI], tv[Quantity.CHI], measured.mask) < 2
    high = reconstruct("star", measured, threshold=50, **SETTINGS)
    np.testing.assert_allclose(high[Quantity.CHI], star[Quantity.CHI], atol=1e-6)
    assert any("0 voxels held strong" in note for note in high.provenance.notes)


def test_strong_sources_are_what_departs_from_the_mean():
    estimate = torch.tensor([0.5, 0.5, 0.5, 1.0, -0.5, 9.0])
    region = torch.tensor([True, True, True, True, True, False])
    got = strong_part(estimate, region, 0.3)  # the mean is 0.4
    torch.testing.assert_close(got, torch.tensor([0, 0, 0, 0.6, -0.9, 0]))


def test_both_levels_explain_the_field(head):
    """The residual of the sum is as small as that of one total variation."""
    measured, truth = head
    two = reconstruct("star", measured, **SETTINGS)
    one = reconstruct("star", measured, threshold=NO_SOURCES, **SETTINGS)
    assert any("strong sources" in note for note in two.provenance.notes)
    size = [np.linalg.norm(m[Quantity.RESIDUAL]) for m in (two, one)]
    assert size[0] < 1.1 * size[1]
    lesion = truth > 0.4
    for maps in (two, one):
        assert maps[Quantity.CHI][lesion].mean() == pytest.approx(truth[lesion].mean(), rel=0.15)


def test_it_improves_on_tkd(head):
    measured, truth = head
    star, tkd = (
        nrmse(reconstruct(key, measured)[Quantity.CHI], truth, measured.mask)
        for key in ("star", "tkd")
    )
    assert star < 0.85 * tkd
