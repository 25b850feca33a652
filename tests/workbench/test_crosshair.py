"""The crosshair's place and values, and the letters at a view's borders, for any affine."""

from itertools import permutations, product

import numpy as np
import pytest
from napari.layers import Layer
from nibabel.affines import apply_affine
from nibabel.eulerangles import euler2mat

from napari_qsm.acquisition import Grid, Maps, Quantity, Volume
from napari_qsm.workbench.bearings import (
    UPRIGHT,
    border_letters,
    drawn_directions,
    letters,
    screen_directions,
)
from napari_qsm.workbench.crosshair import (
    Crosshair,
    brightest_along,
    values_at,
    voxel_position,
)
from napari_qsm.workbench.layers import layer_data, map_layers
from napari_qsm.workbench.placement import locate

SHAPE = (9, 12, 7)
ALL_CODES = ["".join(p) for o in permutations(("LR", "PA", "IS")) for p in product(*o)]
RADIOLOGICAL, NEUROLOGICAL = ("away", "up", "left"), ("towards", "up", "right")


def grid_of(codes, tilt=0.0):
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, code in enumerate(codes):
        row = next(n for n, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        affine[row, axis] = (1.0, 1.5, 2.0)[row] * (1 if code in "RAS" else -1)
    affine[:3, :3] = euler2mat(z=np.radians(tilt)) @ affine[:3, :3]
    affine[:3, 3] = (-20, -30, 5)
    return Grid(SHAPE, affine)


@pytest.mark.parametrize("codes", ALL_CODES)
@pytest.mark.parametrize("tilt", [0.0, 12.0])
def test_a_voxel_is_found_where_it_is_drawn(codes, tilt):
    grid = grid_of(codes, tilt)
    for voxel in ((0, 0, 0), (8, 0, 6), (3, 11, 2)):
        hit = locate(voxel_position(voxel, grid), grid)
        assert hit is not None
        assert hit[0] == voxel
        assert np.allclose(hit[1], apply_affine(grid.affine, voxel))


@pytest.mark.parametrize("codes", ALL_CODES)
@pytest.mark.parametrize(
    ("displayed", "orientation", "expected"),
    [
        ((1, 2), RADIOLOGICAL, "R L A P"),
        ((1, 2), NEUROLOGICAL, "L R A P"),
        ((0, 2), RADIOLOGICAL, "R L S I"),
        ((0, 2), NEUROLOGICAL, "L R S I"),
        ((0, 1), RADIOLOGICAL, "A P S I"),
    ],
)
def test_letters_do_not_depend_on_the_order_of_storage(codes, displayed, orientation, expected):
    right, up = screen_directions(displayed, orientation)
    assert " ".join(border_letters(right, up, grid_of(codes))) == expected


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SPR", "AIL"])
def test_an_oblique_scan_has_two_letters_where_the_tilt_is_worth_it(codes):
    """Turned by 30 degrees about S: what is drawn as R truly runs to R and A."""
    grid = grid_of(codes, 30.0)
    right, up = screen_directions((1, 2), RADIOLOGICAL)
    assert border_letters(right, up, grid) == ("RA", "LP", "AL", "PR")
    assert border_letters(right, up, grid_of(codes, 10.0)) == ("R", "L", "A", "P")


def test_the_true_directions_of_an_oblique_grid_are_its_axes():
    directions = drawn_directions(grid_of("LPS", 20.0))
    turn = euler2mat(z=np.radians(20))
    assert np.allclose(directions, (turn @ UPRIGHT.T).T)
    assert np.array_equal(drawn_directions(None), UPRIGHT)


@pytest.mark.parametrize("orientation", [RADIOLOGICAL, NEUROLOGICAL])
def test_a_camera_in_3d_sees_the_same_sides_as_the_plane_it_stands_before(orientation):
    """With the camera before the axial plane, 3D letters are those of the axial view."""
    depth = 1.0 if orientation[0] == "away" else -1.0
    flat = screen_directions((1, 2), orientation)
    deep = screen_directions((0, 1, 2), orientation, view=(depth, 0, 0), up=(0, 1, 0))
    assert np.allclose(flat, deep)


def test_letters_name_every_part_of_a_direction_that_counts():
    assert letters((1, 0, 0)) == "R"
    assert letters((-1, -1, -1)) == "LPI"
    assert letters((0, 0.1, -1)) == "I"
    assert letters((0, 0, 0)) == ""


def test_the_crosshair_tells_when_it_moved_and_only_then():
    crosshair, heard = Crosshair(), []
    crosshair.moved.connect(heard.append)
    crosshair.move((1, 2, 3))
    crosshair.move((5, 1, 2, 3))  # an echo in front
    assert heard == [(1.0, 2.0, 3.0)]


@pytest.fixture
def result():
    """Layers of a result with a sigma map, and of a bare file, on one permuted grid."""
    grid = grid_of("ILP")
    rng = np.random.default_rng(0)
    chi, sigma = rng.normal(size=(2, *SHAPE)).astype(np.float32)
    maps = Maps(grid, {Quantity.CHI: chi, Quantity.SIGMA: sigma})
    made = [Layer.create(*data) for data in map_layers(maps, "TV")]
    file = Volume(2 * chi, grid, "ppm", source="file")
    made.append(Layer.create(*layer_data(file, Quantity.CHI, "file")))
    return grid, chi, sigma, made


def test_values_come_with_the_sigma_of_the_same_result(result):
    grid, chi, sigma, layers = result
    voxel = (4, 7, 2)
    file, own, uncertainty = values_at(layers, voxel_position(voxel, grid))
    assert own.value == pytest.approx(chi[voxel])
    assert own.sigma == pytest.approx(sigma[voxel])
    assert uncertainty.value == pytest.approx(sigma[voxel])
    assert uncertainty.sigma is None
    assert file.value == pytest.approx(2 * chi[voxel])
    assert file.sigma is None  # another map's sigma is none of its business
    assert values_at(layers, (1e4, 0, 0)) == ()


def test_values_are_said_with_their_unit(result):
    grid, chi, sigma, layers = result
    _, own, _ = values_at(layers, voxel_position((1, 1, 1), grid))
    value, spread = chi[1, 1, 1], sigma[1, 1, 1]
    assert own.spoken() == f"{value:.4g} ± {spread:.2g} ppm"
    assert own.spoken(ppb=True) == f"{1000 * value:.4g} ± {1000 * spread:.2g} ppb"


def test_a_click_in_a_projection_finds_what_shines_through():
    data = np.zeros((10, 10, 10))
    data[3, 4, 7] = 1
    assert np.array_equal(brightest_along(data, (3, 4, -1), (3, 4, 11)), (3, 4, 7))
    assert np.array_equal(brightest_along(data, (3, 4, 11), (3, 4, -1)), (3, 4, 7))
