"""Further orientations come to the first with their own B0, unit and notes."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from napari_qsm.acquisition import Grid, InputError, Quantity, Volume
from napari_qsm.physics.units import FieldUnit, ppm_per_unit
from napari_qsm.preparation.assemble import assemble
from napari_qsm.preparation.checks import inspect
from napari_qsm.preparation.orientations import Orientation, conditioning, with_orientations

SHAPE = (16, 18, 20)
GRID = Grid(SHAPE, np.diag([1.0, 1.0, 2.0, 1.0]))
BALL = np.linalg.norm(np.indices(SHAPE).T - np.array(SHAPE) / 2, axis=-1).T < 7
TILTED = (0.0, 0.5, 0.8)


def field(seed=0, grid=GRID, scale=1.0, **stated):
    values = np.random.default_rng(seed).normal(0, 0.015, SHAPE) * BALL * scale
    return Volume(values.astype(np.float32), grid, **({"unit": "ppm"} | stated))


def together(*others, **stated):
    return with_orientations(assemble(field(), Volume(BALL, GRID)), others, **stated)


def noted(acquisition, *words):
    return any(all(word in note for word in words) for note in acquisition.notes)


def test_the_first_stays_as_it_is_and_the_others_follow():
    made = together(Orientation(field(1), TILTED), Orientation(field(2), (0.5, 0, 0.8)))
    assert np.array_equal(made[Quantity.LOCAL_FIELD], field().data)
    assert [o.grid.b0_direction[1] > 0.5 for o in made.others] == [True, False]
    assert np.array_equal(made.others[1][Quantity.LOCAL_FIELD], field(2).data)
    assert noted(made, "Orientation 2: B0 was set to (0.000, 0.530, 0.848)")
    assert noted(made, "Orientation 3: No mask was given")


def test_constants_of_the_first_stand_in_for_those_a_file_does_not_state():
    factor = ppm_per_unit(FieldUnit.HZ, field_strength=3.0)
    hertz = field(1, scale=1 / factor, unit="Hz")
    first = assemble(field(field_strength=3.0), Volume(BALL, GRID))
    made = with_orientations(first, [Orientation(hertz, TILTED)])
    assert made.others[0][Quantity.LOCAL_FIELD] == pytest.approx(field(1).data, abs=1e-7)
    assert noted(made, "Orientation 2: The field was multiplied by")


def test_a_turned_affine_says_where_b0_was():
    """The voxels lie on those of the first one while the affine tells how the head lay."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("x", 30, degrees=True).as_matrix() * (1, 1, 2)
    made = together(Orientation(field(1, Grid(SHAPE, affine))))
    assert made.others[0].grid.b0_direction == pytest.approx((0, 0.5, np.sqrt(0.75)))
    assert noted(made, "Orientation 2: By its affine it lies up to", "voxel by voxel")


def test_what_was_registered_says_so():
    made = together(Orientation(field(1), TILTED, "B0 was turned by hand."))
    assert noted(made, "Orientation 2: B0 was turned by hand.")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Orientation(field(1)), "state the direction of each"),
        (Orientation(field(1, scale=0), TILTED), "Orientation 2: The field holds no number"),
        (Orientation(field(1, scale=1e4), TILTED), "Orientation 2: Inside the mask"),
        (Orientation(field(1), (0, 0, 0)), "Orientation 2: The B0 direction"),
    ],
)
def test_refusals_name_the_orientation(other, words):
    with pytest.raises(InputError) as caught:
        together(other)
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("directions", "severity"),
    [([TILTED], "warning"), ([(0.5, 0, 0.87), (-0.5, 0, 0.87), (0, 0.5, 0.87)], "note")],
)
def test_the_doctor_judges_a_set_of_orientations(directions, severity):
    made = together(*(Orientation(field(n), b) for n, b in enumerate(directions, start=1)))
    found = [f for f in inspect(made) if "min ΣD²" in f.text]
    assert [f.severity for f in found] == [severity]
    assert found[0].text.endswith(".")


def test_b0_and_minus_b0_are_the_same_orientation():
    assert conditioning([(0, 0, 1), (0, 0, -1)]).angle == pytest.approx(0)
    assert conditioning([(0, 0, 1), (0, 1, 0)]).angle == pytest.approx(90)
