"""R2' of whatever rates there are: which one it is is always told, and never below zero."""

import numpy as np
import pytest

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.preparation.r2prime import found_r2prime

Q = Quantity
SHAPE = (10, 11, 12)
MASK = np.indices(SHAPE).sum(0) > 8


def rates(low, high, seed=0):
    return np.random.default_rng(seed).uniform(low, high, SHAPE).astype(np.float32)


def found(strength=3.0, nominal=13.0, **volumes):
    given = {Q.named(key): values for key, values in volumes.items()}
    acquisition = Acquisition(Grid(SHAPE, np.eye(4)), {Q.MASK: MASK, **given}, strength)
    values, notes = found_r2prime(acquisition, nominal)
    assert values.min() >= 0
    assert not values[~MASK].any()
    return values, " ".join(notes)


def test_a_given_map_goes_before_everything():
    given = rates(0, 10)
    values, told = found(r2prime=given, r2star=rates(20, 40), r2=rates(10, 20))
    np.testing.assert_array_equal(values, given * MASK)
    assert told == "R2' is the given map."


def test_then_comes_the_difference():
    fast, slow = rates(20, 40), rates(10, 20, 1)
    values, told = found(r2star=fast, r2=slow)
    np.testing.assert_allclose(values, (fast - slow) * MASK, atol=1e-5)
    assert told == "R2' is the given R2* less the given R2."


def test_then_a_nominal_r2_which_is_told_at_length():
    fast = rates(20, 40)
    values, told = found(r2star=fast, nominal=15.0)
    np.testing.assert_allclose(values, (fast - 15) * MASK, atol=1e-5)
    assert "less a nominal R2 of 15 1/s everywhere" in told
    assert "R2*-surrogate" in told
    assert "B0 is 7 T" not in told
    assert "nominal value at 3 T, and B0 is 7 T" in found(7.0, r2star=fast)[1]


def test_what_is_below_zero_is_set_to_zero_and_counted():
    part = np.count_nonzero((np.indices(SHAPE)[0] == 9) & MASK) / np.count_nonzero(MASK)
    for name, volumes in (
        ("The given R2' is below 0", {"r2prime": rates(1, 10)}),
        ("R2 is above R2*", {"r2star": rates(20, 40), "r2": rates(1, 2)}),
        ("R2* is below 13 1/s", {"r2star": rates(20, 40)}),
    ):
        first = next(iter(volumes))
        volumes[first][9] = 1.0 if first == "r2star" else -1.0
        if "r2" in volumes:
            volumes["r2"][9] = 5.0
        values, told = found(**volumes)
        assert not values[9].any()
        assert f"{name} in {part:.1%} of the mask" in told
        assert "set to 0 there" in told


def test_neither_is_a_sentence():
    with pytest.raises(InputError, match=r"Neither R2' nor R2\* is known"):
        found(r2=rates(10, 20))


@pytest.mark.parametrize("which", ["r2prime", "r2star"])
def test_rates_that_look_like_1_per_ms_are_refused(which):
    with pytest.raises(InputError, match="looks like 1/ms, so multiply it by 1000"):
        found(**{which: rates(2, 30) / 1000})


def test_a_map_of_zeros_and_times_for_rates_are_sentences():
    with pytest.raises(InputError, match="R2' is zero in the whole mask"):
        found(r2prime=np.zeros(SHAPE))
    with pytest.raises(InputError, match=r"R2 is above R2\* in 100% of the mask"):
        found(r2star=rates(20, 40), r2=1000 / rates(10, 20))


def test_noise_around_zero_is_no_reason_to_refuse():
    noisy = np.random.default_rng(0).standard_normal(SHAPE)
    assert "The given R2' is below 0 in" in found(r2prime=noisy)[1]
