"""Stored voxels, drawn positions and scanner mm agree for every way of storing a head."""

import itertools

import numpy as np
import pytest
from nibabel.affines import apply_affine

from napari_qsm.acquisition import Grid
from napari_qsm.workbench.placement import (
    display_shape,
    from_display,
    locate,
    place,
    stored_codes,
    to_display,
)

SHAPE = (7, 8, 9)


def all_48():
    for permutation in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            affine = np.zeros((4, 4))
            affine[3, 3] = 1
            for axis, (row, sign) in enumerate(zip(permutation, signs, strict=True)):
                affine[row, axis] = sign * (0.8, 1.0, 2.5)[axis]
            affine[:3, 3] = (-11.0, 5.0, 40.0)
            yield affine


def oblique(degrees):
    a, b = np.radians(degrees), np.radians(degrees / 2)
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.diag((0.8, 1.0, 2.5))
    affine[:3, 3] = (-11.0, 5.0, 40.0)
    return affine


AFFINES = [*all_48(), oblique(12), oblique(-31)]
VALUES = np.arange(np.prod(SHAPE)).reshape(SHAPE)


@pytest.mark.parametrize("affine", AFFINES)
def test_turning_there_and_back_is_exact_and_copies_nothing(affine):
    grid = Grid(SHAPE, affine)
    shown = to_display(VALUES, grid)
    assert shown.shape == display_shape(grid)
    back = from_display(shown, grid)
    assert np.array_equal(back, VALUES)
    assert np.shares_memory(back, VALUES)


@pytest.mark.parametrize("affine", AFFINES)
def test_drawn_axes_run_to_superior_anterior_right(affine):
    grid = Grid(SHAPE, affine)
    position = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    mm = to_display_vectors(apply_affine(affine, position), grid)
    for axis, world in enumerate((2, 1, 0)):  # S, A, R among R, A, S
        assert (np.diff(mm[..., world], axis=axis) > 0).all()


def to_display_vectors(field, grid):
    return np.stack([to_display(field[..., c], grid) for c in range(3)], -1)


@pytest.mark.parametrize("affine", AFFINES)
def test_cursor_finds_the_voxel_that_is_drawn_there_and_its_true_mm(affine):
    grid = Grid(SHAPE, affine)
    placed, shown = place(grid), to_display(VALUES, grid)
    for index in ((0, 0, 0), (3, 2, 1), tuple(n - 1 for n in shown.shape)):
        drawn = np.array(placed["translate"]) + np.array(placed["scale"]) * index
        voxel, mm = locate(drawn + 0.3 * np.array(placed["scale"]), grid)
        assert VALUES[voxel] == shown[index]
        assert np.allclose(mm, apply_affine(affine, voxel))


@pytest.mark.parametrize("affine", list(all_48()))
def test_axis_aligned_volumes_are_drawn_at_their_true_mm(affine):
    grid = Grid(SHAPE, affine)
    placed = place(grid)
    _, mm = locate(placed["translate"], grid)
    assert np.allclose(mm[::-1], placed["translate"])


def test_outside_is_nowhere():
    grid = Grid(SHAPE, np.eye(4))
    assert locate((-3.0, 0.0, 0.0), grid) is None


def test_codes_name_the_stored_axes():
    assert stored_codes(Grid(SHAPE, np.diag([-1.0, -1, 1, 1]))) == "LPS"
