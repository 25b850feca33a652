"""Units, masks and magnitudes are brought together, and every decision leaves a sentence."""

import math

import numpy as np
import pytest

from napari_qsm.acquisition import Grid, InputError, Quantity, Volume
from napari_qsm.io.nifti import read_volume
from napari_qsm.physics.units import FieldUnit, ppm_per_unit
from napari_qsm.preparation.assemble import assemble, spread

SHAPE = (16, 18, 20)
GRID = Grid(SHAPE, np.diag([1.0, 1.0, 2.0, 1.0]))
BALL = np.linalg.norm(np.indices(SHAPE).T - np.array(SHAPE) / 2, axis=-1).T < 7


def field(scale=1.0, **stated):
    values = np.random.default_rng(0).normal(0, 0.015, SHAPE) * BALL * scale
    return Volume(values.astype(np.float32), GRID, **stated)


def mask(values=BALL, grid=GRID):
    return Volume(np.asarray(values), grid)


def refusal(*volumes, **stated):
    with pytest.raises(InputError) as caught:
        assemble(*volumes, **stated)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def noted(acquisition, words):
    return any(words in note for note in acquisition.notes)


def test_a_field_in_ppm_stays_as_it_is():
    made = assemble(field(unit="ppm"), mask())
    assert np.array_equal(made[Quantity.LOCAL_FIELD], field().data)
    assert np.array_equal(made.mask, BALL)
    assert made.notes == ()


@pytest.mark.parametrize("unit", list(FieldUnit))
@pytest.mark.parametrize("how", ["sidecar", "argument"])
def test_every_unit_becomes_ppm(unit, how):
    factor = ppm_per_unit(unit, field_strength=3.0, echo_time=0.02)
    stated = {"unit": unit.value} if how == "sidecar" else {}
    source = field(1 / factor, field_strength=3.0, echo_times=(0.02,), **stated)
    made = assemble(source, mask(), unit=None if stated else unit)
    assert made[Quantity.LOCAL_FIELD] == pytest.approx(field().data, rel=1e-5, abs=1e-9)
    assert noted(made, f"{factor:.6g}") == (factor != 1)


def test_what_the_caller_states_goes_first():
    source = field(unit="Hz", field_strength=7.0, echo_times=(0.02,))
    made = assemble(source, mask(), unit=FieldUnit.PPM, field_strength=3.0, echo_time=0.01)
    assert (made.field_strength, made.echo_times) == (3.0, (0.01,))
    assert np.array_equal(made[Quantity.LOCAL_FIELD], source.data)


def test_constants_come_from_the_other_files_where_the_field_states_none():
    magnitude = Volume(np.ones(SHAPE), GRID, field_strength=3.0, echo_times=(0.004, 0.008))
    made = assemble(field(), mask(), magnitude)
    assert (made.field_strength, made.echo_times) == (3.0, (0.004, 0.008))


def test_ppm_is_assumed_with_a_note():
    assert noted(assemble(field(), mask()), "ppm was assumed")


@pytest.mark.parametrize(
    ("scale", "stated", "words"),
    [
        (127.7, {}, "look like Hz"),
        (1000, {"unit": "ppm"}, "look like ppb"),
        (1, {"unit": "Hz", "field_strength": 3.0}, "look like ppm"),
        (1, {"unit": "ppb"}, "look like ppm"),
        (1e-8, {}, "state the unit"),
    ],
)
def test_numbers_that_cannot_be_in_the_unit_are_refused(scale, stated, words):
    assert words in refusal(field(scale, **stated), mask())


def test_an_explicit_unit_is_believed():
    assert assemble(field(127.7), mask(), unit=FieldUnit.PPM)[Quantity.LOCAL_FIELD].any()
    assert assemble(field(), mask(), unit=FieldUnit.HZ, field_strength=3)[Quantity.MASK].any()


def test_a_faint_phantom_in_ppm_is_accepted():
    values = np.zeros(SHAPE)
    values[8, 9, 10] = 0.01
    assert noted(assemble(Volume(values, GRID), mask()), "assumed")


def test_what_a_conversion_lacks_is_asked_for():
    assert "B0 in tesla" in refusal(field(127, unit="Hz"), mask())
    assert "echo time" in refusal(field(16, unit="rad", field_strength=3.0), mask())
    several = field(16, unit="rad", field_strength=3.0, echo_times=(0.01, 0.02))
    assert "2 are known" in refusal(several, mask())
    assert "'arbitrary'" in refusal(field(unit="arbitrary"), mask())


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"field_strength": 0}, "0 T"),
        ({"field_strength": -3.0}, "-3 T"),
        ({"field_strength": math.nan}, "nan T"),
        ({"echo_time": 20}, "milliseconds"),
        ({"echo_time": 0.0}, "positive"),
        ({"b0_direction": (0, 0, 0)}, "no direction"),
        ({"b0_direction": (0, math.nan, 1)}, "no direction"),
    ],
)
def test_impossible_constants_are_refused(stated, words):
    assert words in refusal(field(), mask(), **stated)


def test_b0_can_be_stated():
    made = assemble(field(), mask(), b0_direction=(0, 3, 4))
    assert made.grid.b0_direction == pytest.approx((0, 0.6, 0.8))
    assert noted(made, "(0.000, 0.600, 0.800)")


def test_without_a_mask_it_is_where_the_field_is_not_zero():
    source = field()
    source.data[0, 0, 0] = np.nan
    made = assemble(source)
    assert np.array_equal(made.mask, BALL)
    assert noted(made, f"{BALL.sum()} voxels in which the field is not zero")
    assert noted(made, "1 voxels of the field outside")


def test_probabilities_and_labels_become_a_mask_with_a_note():
    soft = assemble(field(), mask(BALL * 0.8 + (~BALL) * 0.2))
    labels = assemble(field(), mask(BALL * 17))
    assert np.array_equal(soft.mask, BALL)
    assert np.array_equal(labels.mask, BALL)
    assert noted(soft, "probabilities")
    assert noted(labels, "labels up to 17")


def test_masks_that_do_not_fit_are_refused():
    shifted = Grid(SHAPE, GRID.affine + np.eye(4, k=3) * 5)
    assert "shape (2, 2, 2)" in refusal(
        field(), mask(np.ones((2, 2, 2)), Grid((2, 2, 2), np.eye(4)))
    )
    assert "5.00 mm away" in refusal(field(), mask(BALL, shifted))
    assert "empty" in refusal(field(), mask(BALL * 0))
    assert "3D volume" in refusal(field(), mask(np.ones((*SHAPE, 2))))
    assert "values from" in refusal(field(), mask(field().data))
    assert "values from" in refusal(field(), mask(BALL * 2.5))


def test_numbers_that_are_none_are_refused_inside_and_zeroed_outside():
    source = field()
    source.data[8, 9, 10] = np.inf
    assert "1 voxels inside the mask" in refusal(source, mask())
    outside = field()
    outside.data[0] = np.nan
    made = assemble(outside, mask())
    assert not made[Quantity.LOCAL_FIELD][0].any()
    assert noted(made, f"{18 * 20} voxels")


def test_fields_without_content_are_refused():
    assert "zero everywhere" in refusal(field(0), mask())
    assert "other than zero" in refusal(field(0))
    assert "combine the echoes" in refusal(Volume(np.ones((*SHAPE, 3)), GRID), mask())
    assert "real numbers" in refusal(Volume(np.ones(SHAPE, complex), GRID), mask())
    assert "no field does" in refusal(field(1e20), mask(), unit=FieldUnit.PPM)


def test_echoes_of_the_magnitude_are_combined():
    values = np.stack([np.full(SHAPE, 3.0), np.full(SHAPE, 4.0)], axis=-1)
    values[0, 0, 0] = np.nan
    made = assemble(field(), mask(), Volume(values, GRID))
    assert made[Quantity.MAGNITUDE][1, 1, 1] == 5
    assert made[Quantity.MAGNITUDE][0, 0, 0] == 0
    assert noted(made, "2 echoes")


def test_a_magnitude_without_signal_is_refused():
    assert "positive signal" in refusal(field(), mask(), Volume(np.zeros(SHAPE), GRID))
    assert "shape" in refusal(
        field(), mask(), Volume(np.ones((2, 2, 2)), Grid((2, 2, 2), np.eye(4)))
    )


def noise(scale=1.0, grid=GRID, **stated):
    values = np.random.default_rng(2).uniform(0.001, 0.003, SHAPE) * BALL * scale
    return Volume(values.astype(np.float32), grid, **stated)


def test_a_noise_map_goes_in_as_it_is():
    made = assemble(field(unit="ppm"), mask(), noise=noise(unit="ppm", source="n.nii"))
    assert np.array_equal(made[Quantity.FIELD_NOISE], noise().data)
    assert made.sources == {Quantity.FIELD_NOISE: "n.nii"}
    assert made.notes == ()
    assert Quantity.FIELD_NOISE not in assemble(field(), mask())
    assert noted(assemble(field(), mask(), noise=noise()), "stated for the noise map, so ppm")


def test_a_noise_map_in_another_unit_becomes_ppm_with_a_note():
    factor = ppm_per_unit(FieldUnit.HZ, field_strength=3.0)
    made = assemble(field(), mask(), noise=noise(1 / factor, unit="Hz", field_strength=3.0))
    assert made[Quantity.FIELD_NOISE] == pytest.approx(noise().data, rel=1e-5)
    assert noted(made, f"noise map was multiplied by {factor:.6g}")


def with_one(value, where):
    spoilt = noise()
    spoilt.data[where] = value
    return spoilt


CENTRE, CORNER = (8, 9, 10), (0, 0, 0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (with_one(-1e-4, CENTRE), "down to -0.0001 ppm"),
        (with_one(-1e-4, CORNER), "down to -0.0001 ppm"),
        (with_one(np.nan, CENTRE), "1 voxels inside the mask"),
        (with_one(np.inf, CENTRE), "1 voxels inside the mask"),
        (noise(0), "zero everywhere"),
        (noise(1000), "median of 2"),
        (noise(unit="seconds"), "'seconds'"),
        (noise(unit="Hz"), "B0 in tesla"),
        (noise(grid=Grid(SHAPE, GRID.affine + np.eye(4, k=3) * 5)), "5.00 mm away"),
        (Volume(np.ones((2, 2, 2)), Grid((2, 2, 2), np.eye(4))), "shape (2, 2, 2)"),
        (Volume(np.ones((*SHAPE, 3)), GRID), "one 3D volume"),
        (Volume(np.ones(SHAPE, complex), GRID), "real numbers"),
    ],
)
def test_what_is_no_noise_of_this_field_is_refused(given, words):
    told = refusal(field(), mask(), noise=given)
    assert words in told
    assert told.startswith("The noise map") or "Hz" in told


def test_a_noise_map_may_be_undefined_outside_the_mask():
    made = assemble(field(), mask(), noise=with_one(np.inf, CORNER))
    assert np.array_equal(made[Quantity.FIELD_NOISE], noise().data)
    assert noted(made, "1 voxels of the noise map outside the mask")


def test_the_sources_are_kept():
    made = assemble(field(source="f.nii"), Volume(BALL, GRID, source="m.nii"))
    assert made.sources == {Quantity.LOCAL_FIELD: "f.nii", Quantity.MASK: "m.nii"}


def test_the_spread_is_the_standard_deviation_of_a_normal_distribution():
    values = np.random.default_rng(1).normal(0, 2, 100_000)
    assert spread(values) == pytest.approx(2, rel=0.02)


@pytest.mark.shared
def test_the_patient_is_assembled_without_assumptions(shared_data):
    folder = shared_data / "haemorrhage-patient"
    made = assemble(read_volume(folder / "localfield.nii.gz"), read_volume(folder / "mask.nii.gz"))
    assert made.notes == ()
    assert made.field_strength == 3.0
