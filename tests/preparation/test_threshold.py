"""The threshold mask covers what has signal, its voids included; your own mask stays as it is."""

import numpy as np
import pytest

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.preparation.registry import find

SHAPE = (40, 44, 36)
OFFSETS = np.indices(SHAPE) - (np.reshape(SHAPE, (3, 1, 1, 1)) - 1) / 2
RADIUS = np.linalg.norm(OFFSETS, axis=0)
HEAD, VOID = RADIUS < 14, np.linalg.norm(OFFSETS - np.reshape([4, 0, 0], (3, 1, 1, 1)), axis=0) < 4


def measured(seed=0, *, bias=1.0):
    """Return a head with a signal void, brighter on one side by `bias`, with noise all over."""
    rng = np.random.default_rng(seed)
    bright = bias ** (OFFSETS[0] / 14)
    signal = 100 * HEAD * ~VOID * bright * np.exp(0.05j * OFFSETS[1])
    noisy = signal + 2 * (rng.standard_normal((*SHAPE, 2)) @ np.array([1, 1j]))
    return Acquisition(
        Grid(SHAPE, np.diag([1.0, 1.1, 1.3, 1])),
        {Quantity.MAGNITUDE: np.abs(noisy), Quantity.PHASE: np.angle(noisy)},
        echo_times=(0.01,),
    )


def mask_of(acquisition, key="threshold", **settings):
    stage = find(key)
    work = stage(acquisition, stage.with_settings(settings))
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value[Quantity.MASK], done.value.provenance.notes


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


@pytest.mark.parametrize("bias", [1.0, 3.0])
def test_a_void_inside_is_covered(bias):
    mask, notes = mask_of(measured(bias=bias))
    assert mask[VOID].all()
    assert dice(mask, HEAD) > 0.97
    assert any("holes were added" in note for note in notes)


def test_without_a_magnitude_the_phase_decides():
    whole = measured()
    phase = Acquisition(whole.grid, {Quantity.PHASE: whole[Quantity.PHASE]}, echo_times=(0.01,))
    mask, _ = mask_of(phase, quality=0.5)
    assert dice(mask, HEAD) > 0.95


def test_a_higher_threshold_leaves_less():
    sizes = [mask_of(measured(bias=3.0), magnitude=m)[0].sum() for m in (0.05, 0.4, 0.7)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_nothing_left_and_nothing_given_are_sentences():
    with pytest.raises(InputError, match="passes the thresholds"):
        mask_of(measured(), quality=0.95, opening=10.0)
    with pytest.raises(InputError, match="needs a magnitude or a phase"):
        mask_of(Acquisition(Grid(SHAPE, np.eye(4)), {}))


def test_your_own_mask_is_returned_bit_for_bit():
    own = np.random.default_rng(1).random(SHAPE) > 0.5
    acquisition = Acquisition(Grid(SHAPE, np.eye(4)), {Quantity.MASK: own})
    mask, notes = mask_of(acquisition, "given")
    np.testing.assert_array_equal(mask, own)
    assert f"{own.sum()} voxels" in notes[0]
    assert "untouched" in notes[0]
