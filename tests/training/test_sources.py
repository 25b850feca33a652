"""Bodies fill the volume they should, lesions stay in the brain, and geometry in its body."""

import numpy as np
import pytest

from napari_qsm.training.sources import (
    KINDS,
    Body,
    geometry,
    paint_lesions,
    random_body,
    smooth_field,
)

SIZE = np.array([0.5, 0.5, 0.8])
SHAPE = (60, 64, 40)
CENTRE = np.array([15.0, 16.0, 16.0])
RADII = np.array([4.0, 6.0, 5.0])
VOLUMES = {
    "ellipsoid": 4 / 3 * np.pi * RADII.prod(),
    "cuboid": 8 * RADII.prod(),
    "tube": 2 * np.pi * RADII.prod(),
}


def turn(seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]


def filled(body, shape=SHAPE):
    whole = np.zeros(shape, np.float32)
    box, share = body.share(SIZE, shape)
    whole[box] = share
    return whole


@pytest.mark.parametrize("shape", VOLUMES)
@pytest.mark.parametrize("turned", [np.eye(3), turn()], ids=["straight", "turned"])
def test_a_body_has_its_volume(shape, turned):
    share = filled(Body(shape, CENTRE, RADII, turned, edge=0.0))
    assert share.sum() * SIZE.prod() == pytest.approx(VOLUMES[shape], rel=0.03)
    assert share.min() == 0
    assert share.max() == 1


@pytest.mark.parametrize("shape", VOLUMES)
def test_a_body_lies_where_it_should(shape):
    share = filled(Body(shape, CENTRE, RADII, turn(), edge=0.0))
    axes = np.meshgrid(*(np.arange(n) * s for n, s in zip(SHAPE, SIZE, strict=True)), indexing="ij")
    middle = [float((axis * share).sum() / share.sum()) for axis in axes]
    assert np.allclose(middle, CENTRE, atol=0.05)


def test_a_soft_edge_keeps_the_surface():
    sharp = filled(Body("ellipsoid", CENTRE, RADII, np.eye(3), edge=0.0))
    soft = filled(Body("ellipsoid", CENTRE, RADII, np.eye(3), edge=2.0))
    between = [((s > 0.02) & (s < 0.98)).sum() for s in (sharp, soft)]
    assert between[1] > 1.8 * between[0]
    inside = sharp > 0.99
    assert (soft[inside] > 0.49).all()


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("shape", VOLUMES)
@pytest.mark.parametrize("away", [-40.0, 0.0, 40.0, 80.0])
def test_a_body_across_or_beyond_the_border_is_cut(shape, axis, away):
    centre = CENTRE.copy()
    centre[axis] = away
    body = Body(shape, centre, RADII, turn(), edge=1.0)
    chi = np.zeros(SHAPE, np.float32)
    box, share = body.share(SIZE, SHAPE)
    chi[box] += share
    wide = np.pad(np.zeros(SHAPE, np.float32), [(40, 40)] * 3)
    moved = Body(shape, centre + 40 * SIZE, RADII, body.turn, edge=1.0)
    box, share = moved.share(SIZE, wide.shape)
    wide[box] += share
    assert np.allclose(chi, wide[40:-40, 40:-40, 40:-40], atol=1e-4)


def test_bodies_are_drawn_alike_from_one_seed():
    first, second = (
        random_body(np.random.default_rng(3), CENTRE, 5.0, shapes=("tube", "cuboid"))
        for _ in range(2)
    )
    assert np.array_equal(filled(first), filled(second))
    assert np.allclose(first.turn @ first.turn.T, np.eye(3))


@pytest.fixture(scope="module")
def brain():
    return filled(Body("ellipsoid", CENTRE, 2.4 * RADII, np.eye(3), edge=0.0)) > 0.5


@pytest.mark.parametrize("name", KINDS)
def test_lesions_have_their_sign_and_strength_and_stay_inside(name, brain):
    kind = KINDS[name]
    strongest = []
    for seed in range(12):
        chi = np.zeros(SHAPE, np.float32)
        touched = paint_lesions(chi, brain, brain, SIZE, (name,), np.random.default_rng(seed))
        assert not touched[~brain].any()
        assert (chi[~brain] == 0).all()
        if kind.sign:
            assert (kind.sign * chi >= 0).all()
        strongest.append(float(np.abs(chi).max()))
    low, high = kind.strength
    assert max(strongest) < 1.5 * high  # a lobe departs by a tenth or so
    assert max(strongest) > low
    assert max(strongest) > 2 * min(strongest)


def test_no_lesions_paint_nothing(brain):
    chi = np.ones(SHAPE, np.float32)
    assert not paint_lesions(chi, brain, brain, SIZE, (), np.random.default_rng(0)).any()
    assert np.array_equal(chi, brain.astype(np.float32))


def test_geometry_fills_a_body_and_nothing_else():
    chi, mask = geometry((40, 44, 36), np.array([2.0, 2.0, 2.5]), np.random.default_rng(1))
    assert chi.dtype == np.float32
    assert 0.2 < mask.mean() < 0.6
    assert (chi[~mask] == 0).all()
    assert 0.005 < chi[mask].std() < 0.3
    again, _ = geometry((40, 44, 36), np.array([2.0, 2.0, 2.5]), np.random.default_rng(1))
    assert np.array_equal(chi, again)


@pytest.mark.parametrize("width", [1.5, 4.0])
def test_smooth_noise_has_unit_variance_and_the_stated_width_in_mm(width):
    size = np.array([1.0, 1.0, 2.0])
    noise = smooth_field((64, 64, 48), size, width, np.random.default_rng(0))
    assert noise.std() == pytest.approx(1, abs=1e-4)
    for axis, step in enumerate(size):
        shift = round(2 * width / step)
        expected = np.exp(-((shift * step) ** 2) / (4 * width**2))
        found = float((noise * np.roll(noise, shift, axis)).mean())
        assert found == pytest.approx(expected, abs=0.12)
