"""R2' is a difference of rates, never negative, never of two different units."""

import numpy as np
import pytest

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished
from napari_qsm.preparation.r2prime import r2prime

SHAPE = (10, 12, 14)


def run(fast, slow, mask=None, **settings):
    volumes = {Quantity.R2STAR: fast, Quantity.R2: slow}
    if mask is not None:
        volumes[Quantity.MASK] = mask
    running = r2prime(Acquisition(Grid(SHAPE, np.eye(4)), volumes), r2prime.with_settings(settings))
    return finished(running)


def rates(low, high, seed=0):
    return np.random.default_rng(seed).uniform(low, high, SHAPE).astype(np.float32)


def notes(maps):
    return " ".join(maps.provenance.notes)


def test_it_is_the_difference_within_the_mask():
    fast, slow, mask = rates(20, 40), rates(10, 20, 1), rates(0, 1, 2) > 0.3
    maps = run(fast, slow, mask)
    np.testing.assert_allclose(maps[Quantity.R2PRIME], (fast - slow) * mask, atol=1e-5)
    assert "R2* was taken to be in 1/s" in notes(maps)
    assert "R2 is above R2* in 0.0% of the mask; R2' was set to 0 there." in notes(maps)


def test_negative_differences_become_zero_and_are_counted():
    fast, slow = rates(20, 40), np.full(SHAPE, 15.0)
    slow[:1] = 60  # a tenth of the volume
    maps = run(fast, slow)
    assert not maps[Quantity.R2PRIME][:1].any()
    assert (maps[Quantity.R2PRIME][1:] > 0).all()
    assert "in 10.0% of the mask where at most 5% was expected" in notes(maps)


@pytest.mark.parametrize("which", ["r2star", "r2"])
def test_rates_in_1_per_ms_are_refused_and_never_converted_silently(which):
    given = {"r2star": rates(20, 40), "r2": rates(10, 20, 1)}
    given[which] = given[which] / 1000
    with pytest.raises(InputError, match=rf"if it is in 1/ms, state {which}_unit = 1/ms"):
        run(given["r2star"], given["r2"])
    maps = run(given["r2star"], given["r2"], **{f"{which}_unit": "1/ms"})
    expected = run(rates(20, 40), rates(10, 20, 1))[Quantity.R2PRIME]
    np.testing.assert_allclose(maps[Quantity.R2PRIME], expected, atol=1e-4)
    assert "was converted from 1/ms to 1/s" in notes(maps)


def test_slow_rates_can_be_insisted_on():
    maps = run(rates(0.5, 0.6), rates(0.3, 0.4, 1), r2star_unit="1/s", r2_unit="1/s")
    assert maps[Quantity.R2PRIME].mean() == pytest.approx(0.2, abs=0.02)
    assert "as stated" in notes(maps)


def test_swapped_maps_and_a_t2_in_ms_are_a_sentence():
    with pytest.raises(InputError, match="exchange the two if they are swapped"):
        run(rates(10, 20), rates(20, 40, 1))
    with pytest.raises(InputError, match="a rate and not T2"):
        run(rates(20, 40), 1000 / rates(10, 20, 1))


@pytest.mark.parametrize("which", [0, 1])
def test_a_map_of_zeros_is_a_sentence(which):
    given = [rates(20, 40), rates(10, 20, 1)]
    given[which] = np.zeros(SHAPE)
    with pytest.raises(InputError, match=r"R2\*? is zero in the whole mask"):
        run(*given)


def test_what_lies_outside_the_mask_does_not_matter():
    fast, slow = rates(20, 40), rates(10, 20, 1)
    mask = np.zeros(SHAPE, bool)
    mask[3:7] = True
    plain = run(fast, slow, mask)[Quantity.R2PRIME]
    slow[~mask], fast[~mask] = 1e4, 0
    np.testing.assert_array_equal(run(fast, slow, mask)[Quantity.R2PRIME], plain)
