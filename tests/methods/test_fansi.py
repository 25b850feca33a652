"""FANSI: whole turns, small phase, weights of one, warm starts, and both regularisers."""

import math

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.generators import finished
from napari_qsm.methods.registry import find
from napari_qsm.methods.variation import Variation
from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics.gradient import Gradient
from napari_qsm.solvers.data_terms import Wrapped
from napari_qsm.training.phantom import sample_head

SCALE = 10.0
LONG = {"tolerance": 1e-6, "max_iterations": 200}


def reconstruct(measured, key="fansi", **settings):
    method = find(key)
    return finished(method(measured, method.with_settings(settings)))


@pytest.fixture(scope="module")
def head():
    return sample_head("haemorrhage", 4.0)


def error(head, key, **settings):
    maps = reconstruct(head.acquisition, key, **settings)
    return nrmse(maps[Quantity.CHI], head.truth[Quantity.CHI], head.acquisition.mask)


def difference(one, other):
    return np.linalg.norm(one - other) / np.linalg.norm(other)


@pytest.mark.parametrize("regularizer", ["TV", "TGV"])
def test_it_beats_tkd_by_far_at_its_defaults(head, regularizer):
    assert error(head, "fansi", regularizer=regularizer) < 0.65 * error(head, "tkd")


def wrapped(measured, scale, random_state=0):
    """The same signals: whole turns added to the phase of every other voxel."""
    rng = np.random.default_rng(random_state)
    turns = rng.integers(-2, 3, measured.grid.shape) * measured.mask
    field = measured[Quantity.LOCAL_FIELD] + turns * (2 * math.pi / scale)
    return measured.with_volumes({Quantity.LOCAL_FIELD: field})


def test_whole_turns_of_the_phase_change_nothing(head):
    settings = {"phase_scale": SCALE, "regularization": 1e-4, "weights": "none"}
    once, again = (
        reconstruct(m, **settings)[Quantity.CHI]
        for m in (head.acquisition, wrapped(head.acquisition, SCALE))
    )
    assert difference(again, once) < 1e-3
    linear = reconstruct(wrapped(head.acquisition, SCALE), **settings, data="linear")
    assert difference(linear[Quantity.CHI], once) > 1  # it sees every one of them


def test_small_phase_is_linear(head):
    settings = {"regularization": 1e-4, "max_iterations": 20, "tolerance": 1e-6}
    small = reconstruct(head.acquisition, **settings, phase_scale=0.1)[Quantity.CHI]
    linear = reconstruct(head.acquisition, **settings, data="linear")[Quantity.CHI]
    assert difference(small, linear) < 1e-4


def test_lambda_means_the_same_at_every_echo_time(head):
    """At low noise the map hardly depends on how much phase a ppm is."""
    one, other = (
        reconstruct(head.acquisition, phase_scale=s, regularization=1e-4)[Quantity.CHI]
        for s in (1.0, 2.0)
    )
    assert difference(one, other) < 0.02


def test_weights_of_one_are_no_weights():
    """With a mask that fills the grid, and nothing padded, weighting by it is total variation."""
    rng = np.random.default_rng(0)
    shape = (12, 10, 8)
    field = np.zeros(shape)
    field[3:7, 3:7, 2:6] = 0.1
    field += 0.01 * rng.standard_normal(shape)
    measured = Acquisition(Grid(shape, np.eye(4)), {Quantity.LOCAL_FIELD: field})
    settings = {"regularization": 3e-3, "weights": "none", "tolerance": 1e-6}
    split = reconstruct(measured, data="linear", max_iterations=1000, **settings)
    plain = reconstruct(measured, "tv", max_iterations=1000, **settings)
    assert difference(split[Quantity.CHI], plain[Quantity.CHI]) < 5e-3


def objective(estimate, space, weights, regularization):
    """Wrapped misfit and total variation of an estimate on the padded grid."""
    error = space.dipole(estimate).sub_(space.field()).mul_(SCALE)
    misfit = float((weights * (1 - error.cos())).sum()) / SCALE**2
    return misfit + regularization * float(Gradient(space.voxel_size)(estimate).abs().sum())


def test_a_warm_start_needs_a_third_of_the_iterations(head):
    """From the map for 1.2 lambda, as it is shown, to what a cold start comes to by default."""
    regularization = 1e-4
    settings = {"phase_scale": SCALE, "regularization": 1.2 * regularization}
    near = reconstruct(head.acquisition, **settings)[Quantity.CHI]

    def objectives(measured, goal, most):
        with Workspace(measured, torch.device("cpu"), "") as space:
            weights = space.weights("magnitude")
            variation = Variation(measured, space, regularization)
            term = Wrapped(space.field(), weights, scale=SCALE, penalty=variation.data_penalty)
            for iterate in variation.iterates(term):
                if iterate.complete:
                    value = objective(iterate.estimate, space, weights, regularization)
                    if iterate.iteration == most or value < goal:
                        return iterate.iteration, value
        raise AssertionError

    cold, reached = objectives(head.acquisition, 0.0, 30)
    given = head.acquisition.with_volumes({Quantity.CHI: near})
    warm, _ = objectives(given, reached, 100)
    assert 3 * warm <= cold


def test_a_warm_start_stays_near_where_a_long_run_went(head):
    cold = reconstruct(head.acquisition, regularization=2e-4, **LONG)[Quantity.CHI]
    given = head.acquisition.with_volumes({Quantity.CHI: cold})
    warm = reconstruct(given, regularization=2e-4)
    assert difference(warm[Quantity.CHI], cold) < 0.03
    assert any("Started from" in note for note in warm.provenance.notes)


def test_a_warm_start_of_generalised_variation_saves_most_iterations(head):
    """After 5 iterations it is nearer to where a long run went than a cold start after 15."""
    settings = {"regularizer": "TGV", "regularization": 2e-4, "tolerance": 1e-6}
    near, goal = (
        reconstruct(head.acquisition, **settings | {"regularization": r}, max_iterations=60)
        for r in (2.4e-4, 2e-4)
    )
    given = head.acquisition.with_volumes({Quantity.CHI: near[Quantity.CHI]})
    warm = reconstruct(given, **settings, max_iterations=5)
    cold = reconstruct(head.acquisition, **settings, max_iterations=15)
    goal, warm, cold = (m[Quantity.CHI] for m in (goal, warm, cold))
    assert difference(warm, goal) < difference(cold, goal)


def test_what_was_chosen_repeats_the_run(head):
    chosen = reconstruct(head.acquisition, max_iterations=3)
    assert set(chosen.provenance.chosen) == {"regularization", "phase_scale"}
    again = reconstruct(head.acquisition, max_iterations=3, **chosen.provenance.chosen)
    np.testing.assert_array_equal(again[Quantity.CHI], chosen[Quantity.CHI])


def test_a_steady_rise_is_no_staircase(monkeypatch):
    """A triangle wave in noise: generalised variation, unlike the other, keeps its ramps."""
    monkeypatch.setattr(Workspace.__init__, "__kwdefaults__", {"padding": 1.0})
    shape = (40, 8, 8)
    wave = np.abs(np.arange(40) - 20.0)[:, None, None] / 20 - 0.5
    chi = np.broadcast_to(wave, shape)
    field = chi / 3 + 0.02 * np.random.default_rng(0).standard_normal(shape)  # across B0, D = 1/3
    measured = Acquisition(Grid(shape, np.eye(4)), {Quantity.LOCAL_FIELD: field})
    settings = {"regularization": 1e-2, "data": "linear", "max_iterations": 200}
    rough, smooth = (
        reconstruct(measured, regularizer=r, **settings)[Quantity.CHI] for r in ("TV", "TGV")
    )
    assert difference(smooth, chi) < 0.7 * difference(rough, chi)
