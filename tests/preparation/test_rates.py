"""Relaxation rates come in whatever unit their makers liked; what is done about that is said."""

import numpy as np
import pytest

from napari_qsm.acquisition import Grid, InputError, Quantity, Volume
from napari_qsm.preparation.assemble import assemble
from napari_qsm.preparation.rates import rate, rate_factor

SHAPE = (8, 9, 10)
GRID = Grid(SHAPE, np.eye(4))
INSIDE = np.ones(SHAPE, bool)


def given(scale=20.0, unit=None, **changes):
    data = scale * np.random.default_rng(0).uniform(0.5, 1.5, SHAPE).astype("f4")
    return Volume(changes.get("data", data), changes.get("grid", GRID), unit, source="r.nii.gz")


def read(volume, quantity=Quantity.R2STAR, inside=INSIDE):
    notes = []
    return rate(quantity, volume, inside, notes), notes


@pytest.mark.parametrize(
    ("scale", "unit", "factor", "words"),
    [
        (20, "1/s", 1, "in 1/s, as stated"),
        (20, None, 1, "no unit is stated"),
        (0.02, "1/ms", 1000, "in 1/ms, as stated"),
        (0.02, None, 1000, "taken to be in 1/ms"),
        (0.02, "1/s", 1000, "taken to be in 1/ms"),  # what a layer of a file without unit says
        (3, "Hz", 1, "in 1/s, as stated"),
    ],
)
def test_rates_come_to_one_per_second_and_it_is_said_how(scale, unit, factor, words):
    volume = given(scale, unit)
    made, notes = read(volume)
    assert np.allclose(made, volume.data * factor)
    assert len(notes) == 1
    assert words in notes[0]


def test_a_still_map_is_judged_by_what_is_positive_in_the_mask():
    data = np.zeros(SHAPE)
    data[:2] = 4.0
    data[-1] = -3.0
    made, notes = read(given(data=data), Quantity.R2PRIME)
    assert np.array_equal(made, data)
    assert "median 4" in notes[0]


def test_failed_fits_become_zero_in_words_unless_there_are_many():
    data = given().data.copy()
    data[0, 0, :5] = np.nan
    made, notes = read(given(data=data))
    assert not made[0, 0, :5].any()
    assert "no number" in notes[0]
    data[:2] = np.inf
    with pytest.raises(InputError, match="no number"):
        read(given(data=data))


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (given(data=np.zeros(SHAPE)), "not positive anywhere"),
        (given(data=np.ones((*SHAPE, 2))), "one 3D volume"),
        (given(unit="ms"), "'ms'"),
    ],
)
def test_what_is_no_rate_is_refused_in_a_sentence(volume, words):
    with pytest.raises(InputError, match=words):
        read(volume)


def test_a_file_in_another_unit_states_its_factor():
    assert rate_factor(Quantity.R2, "ms^-1") == 1000
    assert rate_factor(Quantity.R2, None) == 1


def field():
    return given(0.01, "ppm")


def test_rates_are_assembled_with_the_field_but_lend_it_no_echo_times():
    echoes = Volume(given().data, GRID, "1/s", 3.0, (0.004, 0.008), "r2s.nii.gz")
    made = assemble(field(), r2star=echoes, r2=given(12), r2prime=given(0.006, "1/ms"))
    assert made.echo_times == ()
    assert made.field_strength == 3.0
    assert made.sources[Quantity.R2STAR] == "r2s.nii.gz"
    assert np.median(made[Quantity.R2PRIME]) == pytest.approx(6, rel=0.1)
    assert sum("1/s" in note for note in made.notes) == 3


def test_a_rate_on_another_grid_is_refused():
    moved = np.eye(4)
    moved[0, 3] = 5
    with pytest.raises(InputError, match=r"R2\* map lies up to 5.00 mm"):
        assemble(field(), r2star=given(grid=Grid(SHAPE, moved)))
