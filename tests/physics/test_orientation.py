"""B0 turns with a head, and several directions of it leave no frequency out."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from napari_qsm.acquisition import Grid
from napari_qsm.physics import orientation

Z = (0.0, 0.0, 1.0)


def tilted(axis, degrees):
    turn = Rotation.from_euler(axis, degrees, degrees=True)
    return tuple(turn.apply(Z))


def rotations(count=5):
    return Rotation.random(count, random_state=3).as_matrix()


@pytest.mark.parametrize(
    ("directions", "worst"),
    [
        ([Z, tilted("y", 60), tilted("y", 120)], 0.111),
        ([Z, *(tilted(axis, s * 30) for axis in "xy" for s in (1, -1))], 0.275),
        ([Z, *(tilted(axis, s * 15) for axis in "xy" for s in (1, -1))], 0.109),
        ([Z, tilted("x", 25), tilted("y", 25)], 0.040),
        ([Z, tilted("y", 40)], 0.0),
        ([Z], 0.0),
    ],
)
def test_the_smallest_sum_is_that_of_the_textbook_sets(directions, worst):
    assert orientation.worst_sum(directions) == pytest.approx(worst, abs=7e-4)


@pytest.mark.parametrize("turn", rotations())
def test_the_smallest_sum_does_not_depend_on_the_frame(turn):
    directions = np.array([Z, tilted("x", 25), tilted("y", 25)])
    upright = orientation.worst_sum(directions.tolist())
    assert orientation.worst_sum((directions @ turn.T).tolist()) == pytest.approx(upright, abs=3e-4)
    flipped = directions * np.array([1, -1, 1])[:, None]  # -B0 is the same axis
    assert orientation.worst_sum(flipped.tolist()) == pytest.approx(upright, abs=1e-12)


@pytest.mark.parametrize("turn", rotations())
def test_a_rotation_is_found_below_scales_shears_and_a_shift(turn):
    affine = np.eye(4)
    affine[:3, :3] = turn @ (np.diag([1.03, 0.97, 1.0]) + 0.01 * np.eye(3, k=1))
    affine[:3, 3] = 5, -3, 8
    found = orientation.rotation_part(affine.tolist()).numpy()
    assert np.allclose(found @ found.T, np.eye(3), atol=1e-12)
    assert np.abs(found - turn).max() < 0.04
    assert np.allclose(orientation.rotation_part(turn.tolist()), turn, atol=1e-12)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.diag([2.0, 1, 1]), "scales"),
        (np.diag([-1.0, 1, 1]), "mirrors"),
        (np.zeros((3, 3)), "scales"),
        (np.full((4, 4), np.nan), "no numbers"),
        (np.eye(2), "shape"),
    ],
)
def test_what_is_no_rotation_is_refused(matrix, words):
    with pytest.raises(ValueError, match=words):
        orientation.rotation_part(matrix.tolist())


@pytest.mark.parametrize("turn", rotations())
def test_scanner_axes_become_voxel_axes_as_a_grid_has_them(turn):
    affine = np.eye(4)
    affine[:3, :3] = turn * (0.9, 1.2, 2.0)
    assert np.allclose(orientation.voxel_direction(Z, affine.tolist()),
                       Grid((4, 5, 6), affine).b0_direction)  # fmt: skip


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turn", rotations(3))
def test_flirt_and_a_plain_rotation_agree(turn, mirrored):
    """FLIRT counts mm along voxel axes; both say how the same head was turned."""
    axes = Rotation.random(random_state=9).as_matrix() @ np.diag([-1 if mirrored else 1, 1, 1])
    affine = np.eye(4)
    affine[:3, :3] = axes * (1.0, 1.5, 2.0)
    in_voxels = axes.T @ turn @ axes
    backwards = np.eye(3) if mirrored else np.diag([-1, 1, 1])
    flirt = backwards @ in_voxels @ backwards
    b = orientation.voxel_direction(Z, affine.tolist())
    by_flirt = orientation.turned(b, orientation.flirt_rotation(flirt.tolist(), affine.tolist()))
    by_scanner = orientation.voxel_direction(orientation.turned(Z, turn.tolist()), affine.tolist())
    assert np.allclose(by_flirt, by_scanner)
    assert math.isclose(float(torch.linalg.vector_norm(torch.tensor(by_flirt))), 1, abs_tol=1e-12)
