"""The error metric and what it forgives."""

import numpy as np
import pytest

from napari_qsm.acquisition import InputError
from napari_qsm.evaluation.metrics import nrmse

RNG = np.random.default_rng(0)
REFERENCE = RNG.standard_normal((6, 5, 4)) + 0.5
MASK = np.ones(REFERENCE.shape, dtype=bool)
MASK[0] = False


@pytest.mark.parametrize("detrend", ["none", "mean", "line"])
def test_equal_maps_have_no_error_whatever_lies_outside(detrend):
    estimate = np.where(MASK, REFERENCE, 99)
    assert nrmse(estimate, REFERENCE, MASK, detrend=detrend) == pytest.approx(0, abs=1e-10)


def test_zero_is_wrong_by_everything():
    assert nrmse(0 * REFERENCE, REFERENCE, MASK) == pytest.approx(100)


def test_an_offset_is_forgiven_by_the_mean_and_a_scale_by_the_line():
    shifted, scaled = REFERENCE + 3, 0.7 * REFERENCE + 3
    assert nrmse(shifted, REFERENCE, MASK, detrend="none") > 100
    assert nrmse(shifted, REFERENCE, MASK) == pytest.approx(0, abs=1e-10)
    assert nrmse(scaled, REFERENCE, MASK) == pytest.approx(30)
    assert nrmse(scaled, REFERENCE, MASK, detrend="line") == pytest.approx(0, abs=1e-10)


def test_known_value():
    mask = np.ones((2, 1, 1), dtype=bool)
    estimate, reference = np.array([[[3.0]], [[4.0]]]), np.array([[[3.0]], [[0.0]]])
    assert nrmse(estimate, reference, mask, detrend="none") == pytest.approx(400 / 3)


@pytest.mark.parametrize(
    ("estimate", "reference", "mask", "words"),
    [
        (REFERENCE[:2], REFERENCE, MASK, "one grid"),
        (REFERENCE, REFERENCE, ~MASK & MASK, "empty"),
        (REFERENCE, REFERENCE * 0 + 1, MASK, "the same everywhere"),
    ],
)
def test_refusals_are_sentences(estimate, reference, mask, words):
    with pytest.raises(InputError, match=words):
        nrmse(estimate, reference, mask)
