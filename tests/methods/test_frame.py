"""A network's frame: nothing happens inside its ranges, and little is lost on the way there."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, Maps, Provenance, Quantity
from napari_qsm.generators import finished
from napari_qsm.methods.axes import axes
from napari_qsm.methods.field_error import field_error
from napari_qsm.methods.frame import frame, in_frame, outside
from napari_qsm.methods.registry import find
from napari_qsm.methods.resampling import extended, interpolated
from napari_qsm.methods.workspace import Workspace
from napari_qsm.networks.inverter import Design
from napari_qsm.networks.weights import Card
from napari_qsm.physics.dipole import DipoleConvolution

CPU = torch.device("cpu")
CARD = Card("card", "A card", Design(), "qsmnet")
Q = Quantity


def tilted(degrees):
    angle = np.radians(degrees)
    return (0.6 * np.sin(angle), 0.8 * np.sin(angle), np.cos(angle))


def phantom(sides=(1.0, 1.0, 1.0), degrees=0.0, length=44.0):
    """Smooth blobs in a ball: an acquisition and the truth."""
    shape = tuple(round(length / side) for side in sides)
    grid = Grid(shape, np.diag([*sides, 1.0]), tilted(degrees))
    places = [(np.arange(n) - (n - 1) / 2) * side for n, side in zip(shape, sides, strict=True)]
    x, y, z = np.meshgrid(*places, indexing="ij")
    chi = np.zeros(shape, np.float32)
    for a, b, c, size, value in ((3, -4, 2, 5, 0.1), (-6, 3, -4, 4, -0.07), (2, 6, 5, 4, 0.08)):
        chi += value * np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / (2 * size**2))
    mask = x**2 + y**2 + z**2 < 18**2
    chi = ((chi - chi[mask].mean()) * mask).astype(np.float32)
    field = DipoleConvolution(grid, padding=2.0)(torch.from_numpy(chi)).numpy()
    volumes = {Q.LOCAL_FIELD: field * mask, Q.MASK: mask, Q.FIELD_NOISE: 1e-3 * mask}
    return Acquisition(grid, volumes), chi


def by_tikhonov(measured):
    tikhonov = find("tikhonov")
    return tikhonov.function(measured, tikhonov.parameters(regularization=1e-2), CPU)


def ideal(truth, mask, sides):
    """Reconstruct without error whatever the grid: the truth, interpolated where it is asked for.

    It leaves nothing of a map's error but that of the way there and back.
    """

    def reconstruct(measured):
        with Workspace(measured, CPU, "Ideal") as space:
            yield space.step(0.0, "")
            back = np.linalg.inv(np.diag([*sides, 1.0])) @ measured.grid.affine
            there = finished(interpolated(truth, mask, back, measured.grid.shape, layers=4))
            return (yield from space.finish(space.place(there)))

    return reconstruct


def run(measured, wanted="auto", card=CARD, reconstruct=by_tikhonov):
    return finished(in_frame(measured, card, wanted, reconstruct, CPU, "Test"))


def error(found, truth, mask):
    return float(np.linalg.norm((found - truth)[mask]) / np.linalg.norm(truth[mask]))


@pytest.mark.parametrize("degrees", [0, 14])
@pytest.mark.parametrize("sides", [(1.0, 1.0, 1.0), (1.1, 1.1, 1.5)])
def test_inside_the_ranges_nothing_changes_bit_for_bit(sides, degrees):
    measured, _ = phantom(sides, degrees)
    seen = []
    maps = run(measured, reconstruct=lambda m: seen.append(m) or by_tikhonov(m))
    plain = finished(by_tikhonov(measured))
    for quantity in plain.volumes:
        np.testing.assert_array_equal(maps[quantity], plain[quantity])
    for quantity in measured.volumes:
        assert np.shares_memory(seen[0][quantity], measured[quantity])
    assert maps.provenance.notes == plain.provenance.notes


@pytest.mark.parametrize(
    ("sides", "degrees", "words"),
    [
        ((0.7, 0.7, 0.7), 0, "sides of 1 to 1.8 mm"),
        ((1.0, 1.0, 3.0), 0, "a factor of 1.4"),
        ((1.0, 1.0, 1.0), 30, "at most 15 degrees"),
    ],
)
def test_what_lies_outside_is_said(sides, degrees, words):
    grid = Grid((9, 9, 9), np.diag([*sides, 1.0]), tilted(degrees))
    assert len(outside(grid, CARD)) == 1
    assert words in outside(grid, CARD)[0]


def test_the_frame_lies_inside_the_ranges():
    measured, _ = phantom((0.8, 1.0, 2.4), 35)
    target = frame(measured, CARD, "auto")
    assert outside(target.grid, CARD) == []
    np.testing.assert_allclose(target.grid.b0_direction, (0, 0, 1), atol=1e-6)
    np.testing.assert_allclose(target.grid.voxel_size, 1.0)
    # A place is the same in both grids.
    index = np.array([5, 7, 9, 1])
    stored = measured.grid.affine @ target.matrix @ index
    np.testing.assert_allclose(target.grid.affine @ index, stored)


def test_there_and_back_costs_little():
    measured, truth = phantom((1.0, 1.0, 3.0), 40)
    maps = run(measured, reconstruct=ideal(truth, measured.mask, (1.0, 1.0, 3.0)))
    assert error(maps[Q.CHI], truth, measured.mask) < 0.02
    (told,) = [note for note in maps.provenance.notes if "interpolated" in note]
    assert "1 x 1 x 3 mm with B0 40 degrees off" in told
    assert "cubes of 1 mm along B0" in told


def test_an_inversion_in_the_frame_is_as_good_as_one_outside():
    measured, truth = phantom((1.0, 1.0, 3.0), 40)
    there = error(run(measured)[Q.CHI], truth, measured.mask)
    here = error(run(measured, "never")[Q.CHI], truth, measured.mask)
    assert there < 1.3 * here


def along_the_third_axis(measured):
    """Reconstruct as networks do that know one direction of B0: along the third axis."""
    straight = replace(measured, grid=measured.grid.with_b0((0, 0, 1)))
    return by_tikhonov(straight)


@pytest.mark.parametrize("degrees", [20, 40])
def test_the_frame_saves_what_knows_only_one_direction(degrees):
    measured, truth = phantom(degrees=degrees)
    errors = {
        wanted: error(
            run(measured, wanted, reconstruct=along_the_third_axis)[Q.CHI], truth, measured.mask
        )
        for wanted in ("never", "auto")
    }
    best = error(run(measured, "never")[Q.CHI], truth, measured.mask)
    assert errors["auto"] < 1.1 * best
    assert errors["never"] > 1.3 * best


def test_the_residual_is_that_of_the_original_grid():
    measured, _ = phantom((1.0, 1.0, 2.0), 25)
    maps = run(measured)
    with Workspace(measured, CPU, "Test") as space:
        field = space.restore(space.dipole(space.place(maps[Q.CHI])))
    expected = (field - measured[Q.LOCAL_FIELD]) * measured.mask
    # The map is referenced anew, which makes a field only where the mask ends.
    assert np.abs(maps[Q.RESIDUAL] - expected)[measured.mask].max() < 1e-4
    assert not maps[Q.RESIDUAL][~measured.mask].any()
    assert abs(maps[Q.CHI][measured.mask].mean()) < 1e-7


def test_never_runs_where_it_is_and_says_so():
    measured, _ = phantom((1.0, 1.0, 1.0), 30)
    maps = run(measured, "never")
    np.testing.assert_array_equal(maps[Q.CHI], finished(by_tikhonov(measured))[Q.CHI])
    assert "this lies outside, as asked for" in maps.provenance.notes[0]


def test_other_maps_come_back_as_well():
    measured, _ = phantom((1.0, 1.0, 2.0))

    def reconstruct(cubes):
        yield from ()
        inside = cubes.mask.astype(np.float32)
        volumes = {Q.CHI: 0.1 * inside, Q.RESIDUAL: inside, Q.SIGMA: 0.02 * inside}
        return Maps(cubes.grid, {**volumes, Q.UNRELIABLE: inside}, Provenance(chosen={"a": 1}))

    maps = run(measured, reconstruct=reconstruct)
    np.testing.assert_allclose(maps[Q.SIGMA][measured.mask], 0.02, rtol=1e-3)
    assert set(np.unique(maps[Q.UNRELIABLE])) == {0, 1}
    assert not maps[Q.SIGMA][~measured.mask].any()
    assert maps.provenance.chosen == {"a": 1}


def test_noise_keeps_what_is_known_of_the_head():
    measured, _ = phantom((1.0, 1.0, 3.0), 40)
    seen = []
    run(measured, reconstruct=lambda m: seen.append(m) or by_tikhonov(m))
    known = [
        float((1 / one[Q.FIELD_NOISE][one.mask].astype(float) ** 2).sum())
        for one in (measured, seen[0])
    ]
    assert known[1] == pytest.approx(known[0], rel=0.05)


def noisy(sides):
    """The phantom with noise of 5 ppb and no map of it."""
    measured, _ = phantom(sides)
    noise = 0.005 * np.random.default_rng(7).standard_normal(measured.grid.shape)
    field = (measured[Q.LOCAL_FIELD] + noise * measured.mask).astype(np.float32)
    return replace(measured, volumes={Q.LOCAL_FIELD: field, Q.MASK: measured.mask})


def level(measured):
    with Workspace(measured, CPU, "Level") as space:
        return field_error(space).error, space.noise()


@pytest.mark.parametrize("sides", [(1.0, 1.0, 3.0), (3.0, 1.0, 1.0)])
def test_voxels_that_were_only_interpolated_do_not_hide_the_error(sides):
    measured, seen = noisy(sides), []
    run(measured, reconstruct=lambda m: seen.append((m, level(m))) or by_tikhonov(m))
    (inner, told), known = seen[0], level(measured)
    assert told == pytest.approx(known, rel=1e-6)
    afresh = replace(inner, volumes={q: volume.copy() for q, volume in inner.volumes.items()})
    assert level(afresh)[1] < 0.7 * told[1]  # what the cubes alone would say


def test_averaging_takes_its_part_of_the_error():
    card = replace(CARD, voxel_size=(2.0, 2.5))
    measured, seen = noisy((1.0, 1.0, 1.0)), []
    run(measured, card=card, reconstruct=lambda m: seen.append(level(m)) or by_tikhonov(m))
    assert seen[0][1] < 0.7 * level(measured)[1]


def test_axes_are_put_in_order_without_changing_a_value():
    affine = np.array([[0, 0, 1.2, 5], [-1, 0, 0, 6], [0, -1.1, 0, 7], [0, 0, 0, 1.0]])
    stored = Grid((4, 5, 6), affine)
    order = axes(stored)
    values = np.random.default_rng(0).standard_normal(stored.shape)
    turned = order.grid(stored)
    np.testing.assert_allclose(turned.b0_direction, (0, 0, 1))
    np.testing.assert_allclose(turned.voxel_size, (1.2, 1.0, 1.1))
    assert order.turn(values).shape == turned.shape == (6, 4, 5)
    np.testing.assert_array_equal(order.restore(order.turn(values)), values)
    assert order.turn(np.zeros((4, 5, 6, 3))).shape == (6, 4, 5, 3)
    # The first voxel of the turned volume lies where that value lay.
    place = (turned.affine @ [0, 0, 0, 1])[:3]
    index = np.rint(np.linalg.inv(affine) @ [*place, 1])[:3].astype(int)
    assert order.turn(values)[0, 0, 0] == values[tuple(index)]


def test_maps_are_continued_beyond_their_mask():
    mask = np.zeros((9, 9, 9), bool)
    mask[3:6, 3:6, 3:6] = True
    volume = np.where(mask, 2.0, 99.0).astype(np.float32)
    made = extended(volume, mask, 2)
    np.testing.assert_allclose(made[1:8, 1:8, 1:8], 2.0, rtol=1e-5)
    assert made[0, 0, 0] == 0
