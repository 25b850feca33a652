"""The guard of nonlinear methods: it finds a bleed, not noise, and keeps phases within half a turn.

The haemorrhage is the digital head's, at 3 mm: its field reaches 0.33 ppm, at 20 ms 5.3 rad.
"""

import math

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.generators import finished
from napari_qsm.methods.registry import find
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.preparation.checks import inspect
from napari_qsm.preparation.strong_field import (
    SAFE_PHASE,
    UNKNOWN_SCALE,
    beyond_half_turn,
    strongest_field,
)
from napari_qsm.training.phantom import digital_head, sample_head, simulate

SHAPE = (24, 26, 22)
INSIDE = np.ones(SHAPE, bool)


def reconstruct(measured, **settings):
    method = find("ndi")
    return finished(method(measured, method.with_settings(settings)))


@pytest.fixture(scope="module")
def head():
    return digital_head(3.0, seed=74, lesions=("haemorrhage",))


@pytest.fixture(scope="module")
def bleed(head):
    return simulate(head, seed=74)


def field(*strong, value=0.3, noise=0.01):
    values = np.random.default_rng(0).normal(0, noise, SHAPE).astype(np.float32)
    for voxel in strong:
        values[voxel] = value
    return values


ROW = ((5, 5, 5), (5, 5, 6), (5, 5, 7))
CORNER = ((5, 5, 5), (6, 5, 5), (6, 5, 6))
EDGE = ((0, 0, 0), (1, 0, 0), (0, 1, 0))


@pytest.mark.parametrize("voxels", [ROW, CORNER, EDGE])
@pytest.mark.parametrize("sign", [1, -1])
def test_three_neighbours_are_found(voxels, sign):
    values = field(*voxels, value=sign * 0.3)
    values[voxels[1]] *= 1.1  # what all three have in common counts
    assert strongest_field(values, INSIDE, above=0.2) == pytest.approx(0.3)


def test_what_counts_is_connected_alike_and_in_the_mask():
    pairs = ((5, 5, 5), (5, 5, 6), (9, 5, 5), (9, 6, 5), (12, 12, 12))
    assert strongest_field(field(*pairs), INSIDE, above=0.2) == 0
    diagonal = ((5, 5, 5), (6, 6, 5), (7, 7, 5), (7, 7, 6))
    assert strongest_field(field(*diagonal), INSIDE, above=0.2) == 0
    mixed = field(*ROW)
    mixed[ROW[1]] *= -1
    assert strongest_field(mixed, INSIDE, above=0.2) == 0
    around = ((0, 5, 5), (-1, 5, 5), (0, 5, 6))  # a volume has no neighbours across its ends
    assert strongest_field(field(*around), INSIDE, above=0.2) == 0
    masked = INSIDE.copy()
    masked[ROW[2]] = False
    assert strongest_field(field(*ROW), masked, above=0.2) == 0


def test_noise_that_reaches_beyond_half_a_turn_here_and_there_does_not_trigger():
    rng = np.random.default_rng(1)
    values = field()
    values[rng.random(SHAPE) < 2e-3] = 0.5
    assert np.abs(values).max() * UNKNOWN_SCALE > 2 * math.pi
    assert strongest_field(values, INSIDE, above=math.pi / UNKNOWN_SCALE) == 0


def test_a_bleed_of_4_mm_is_found_and_harmless():
    """1 ppm at 1 mm: four voxels at either pole are all there is to see; unguarded NDI fails."""
    grid = Grid((40, 40, 40), np.eye(4))
    fine = (np.indices((80, 80, 80)) - 39.5) / 2
    ball = (np.square(fine).sum(0) < 2.0**2).astype(np.float32)
    chi = ball.reshape(40, 2, 40, 2, 40, 2).mean((1, 3, 5))
    field = DipoleConvolution(grid, kernel="cuboid", padding=2.0)(torch.from_numpy(chi)).numpy()
    mask = np.ones(grid.shape, bool)
    volumes = {Quantity.LOCAL_FIELD: field, Quantity.MASK: mask}
    measured = Acquisition(grid, volumes, 3.0, (0.02,))
    found = beyond_half_turn(measured, UNKNOWN_SCALE)
    assert found is not None
    assert found.voxels == 8
    plain = {"accelerated": False, "preconditioned": False, "iterations": 80}
    guarded, unguarded = (
        nrmse(reconstruct(measured, phase_scale=s, **plain)[Quantity.CHI], chi, mask)
        for s in (None, 16.05)
    )
    assert guarded < 0.5 * unguarded


def test_the_guarded_scale_costs_no_more_than_a_linear_data_term(bleed):
    measured, truth = bleed.acquisition, bleed.truth[Quantity.CHI]
    natural = 2 * math.pi * 42.577478518 * 3 * 0.02
    errors = {}
    for scale in (None, 0.1, natural):
        maps = reconstruct(measured, phase_scale=scale)
        errors[scale] = nrmse(maps[Quantity.CHI], truth, measured.mask)
    assert errors[None] < errors[0.1] + 1
    assert errors[natural] > errors[None] + 10


def test_it_says_what_it_did_and_maps_the_voxels(bleed):
    maps = reconstruct(bleed.acquisition, iterations=1)
    note = next(n for n in maps.provenance.notes if "half a turn is the limit" in n)
    assert "a smaller phase scale was taken" in note
    scale = maps.provenance.chosen["phase_scale"]
    mask, values = bleed.acquisition.mask, bleed.acquisition[Quantity.LOCAL_FIELD]
    strongest = strongest_field(values, mask, above=0)
    assert scale * strongest == pytest.approx(SAFE_PHASE, rel=0.01)
    assert scale * np.abs(values[mask]).max() < math.pi
    unreliable = maps[Quantity.UNRELIABLE]
    natural = 2 * math.pi * 42.577478518 * 3 * 0.02
    assert np.array_equal(unreliable > 0, (np.abs(values) * natural > math.pi) & mask)
    assert 0 < unreliable.sum() < 200


def test_a_stated_scale_is_taken_with_a_warning(bleed):
    maps = reconstruct(bleed.acquisition, iterations=1, phase_scale=20.0)
    assert "phase_scale" not in maps.provenance.chosen
    assert any("at most 8" in note and "20 rad/ppm" in note for note in maps.provenance.notes)
    assert Quantity.UNRELIABLE in maps.volumes
    quiet = reconstruct(bleed.acquisition, iterations=1, phase_scale=5.0)
    assert not any("half a turn" in note for note in quiet.provenance.notes)
    assert Quantity.UNRELIABLE not in quiet.volumes


def test_a_healthy_head_keeps_its_own_scale():
    measured = sample_head("healthy", 3.0).acquisition
    maps = reconstruct(measured, iterations=1)
    assert maps.provenance.chosen["phase_scale"] == pytest.approx(16.05, rel=1e-2)
    assert Quantity.UNRELIABLE not in maps.volumes
    assert not any("turn" in finding.text for finding in inspect(measured))


def test_the_input_check_warns(bleed):
    (warned,) = [f.text for f in inspect(bleed.acquisition) if f.severity == "warning"]
    assert "haemorrhage" in warned
    assert "4.7 rad" in warned
    assert "nonlinear methods take a smaller phase scale" in warned
