"""The given mask, the threshold mask, and the shapes they are made with."""

import numpy as np
import pytest
from scipy import ndimage

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished
from napari_qsm.preparation.morphology import closed, dilated, eroded, filled, largest, opened
from napari_qsm.preparation.registry import find
from napari_qsm.preparation.strength import signal_strength
from napari_qsm.preparation.threshold import otsu

SIZE = (1.5, 1.2, 2.0)
TIMES = (0.005, 0.010)


def run(key, volumes, size=SIZE, times=TIMES, **settings):
    shape = next(iter(volumes.values())).shape[:3]
    stage = find(key)
    measured = Acquisition(Grid(shape, np.diag([*size, 1.0])), volumes, 3.0, times)
    return finished(stage(measured, stage.with_settings(settings)))


def distance(shape, size, centre=(0.0, 0.0, 0.0)):
    """Distance in mm of every voxel from a point, in mm from the middle of the volume."""
    along = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, size, strict=True)]
    places = np.meshgrid(*along, indexing="ij")
    return np.sqrt(sum((p - c) ** 2 for p, c in zip(places, centre, strict=True)))


def head(void=True):
    """Magnitude and phase of two echoes, a brain of 28 mm, and a bleeding without signal in it."""
    shape = (48, 60, 36)
    rng = np.random.default_rng(0)
    brain = distance(shape, SIZE) < 28
    bleeding = brain & (distance(shape, SIZE, (9, 4, -3)) < 7 if void else False)
    signal = np.where(brain & ~bleeding, 1.0, 0.0)[..., None] * np.exp(-np.array(TIMES) / 0.04)
    field = 30 * np.cos(distance(shape, SIZE, (50, 0, 0)) / 20)
    noise = 0.03 * (rng.standard_normal((2, *signal.shape)))
    measured = signal * np.exp(2j * np.pi * field[..., None] * TIMES) + noise[0] + 1j * noise[1]
    return np.abs(measured), np.angle(measured), brain, bleeding


@pytest.mark.parametrize("size", [(1.0, 1.0, 1.0), (0.7, 1.0, 2.3)])
@pytest.mark.parametrize("radius", [0.5, 1.0, 2.4, 5.0])
def test_balls_are_those_of_the_exact_distance(size, radius):
    mask = np.random.default_rng(1).random((21, 17, 14)) > 0.98
    expected = ndimage.distance_transform_edt(~mask, sampling=size) <= radius
    np.testing.assert_array_equal(finished(dilated(mask, radius, size)), expected)
    np.testing.assert_array_equal(finished(eroded(~mask, radius, size)), ~expected)


@pytest.mark.parametrize("shape", [(21, 17, 14), (80, 70, 160)])
def test_opening_and_closing_are_ordered_and_done_after_once(shape):
    smooth = ndimage.gaussian_filter(np.random.default_rng(2).standard_normal(shape), 1.5)
    mask = smooth > 0
    once = finished(opened(mask, 2.0, SIZE))
    assert (once <= mask).all()
    np.testing.assert_array_equal(finished(opened(once, 2.0, SIZE)), once)
    full = finished(closed(mask, 2.0, SIZE))
    assert (full >= mask).all()
    np.testing.assert_array_equal(finished(closed(full, 2.0, SIZE)), full)


def test_edges_of_the_volume_are_no_border():
    mask = np.ones((6, 7, 8), bool)
    assert finished(eroded(mask, 3.0, SIZE)).all()
    mask[3, 3, :] = False  # a tunnel through the volume is no hole
    np.testing.assert_array_equal(filled(mask), mask)
    mask[3, 3, [0, -1]] = True
    assert filled(mask).all()
    assert not filled(mask, largest_hole=5).all()
    assert filled(mask, largest_hole=6).all()


def test_the_largest_piece_hangs_together_by_faces():
    mask = np.zeros((6, 6, 6), bool)
    mask[:3, :3, :3] = mask[3:, 3:, 3:4] = True
    expected = np.zeros_like(mask)
    expected[:3, :3, :3] = True
    np.testing.assert_array_equal(largest(mask), expected)
    assert not largest(np.zeros_like(mask)).any()


def test_otsu_parts_two_classes_in_the_middle_of_their_gap():
    values = np.concatenate([np.zeros(900), np.ones(100)])
    assert otsu(values) == pytest.approx(0.5, abs=0.01)
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(1, 0.2, 5000), rng.normal(4, 0.2, 5000)])
    assert 2 < otsu(values) < 3


def test_the_given_mask_stays_bit_for_bit():
    mask = np.random.default_rng(0).random((9, 8, 7)) > 0.5
    maps = run("given", {Quantity.MASK: mask})
    np.testing.assert_array_equal(maps[Quantity.MASK], mask)
    (note,) = maps.provenance.notes
    assert f"{mask.sum()} voxels" in note
    assert "untouched" in note


@pytest.mark.parametrize("use", ["both", "magnitude", "phase"])
def test_the_threshold_mask_covers_a_bleeding_and_has_no_hole(use):
    magnitude, phase, brain, bleeding = head()
    volumes = {Quantity.MAGNITUDE: magnitude, Quantity.PHASE: phase}
    if use != "both":
        volumes = {q: v for q, v in volumes.items() if q.key == use}
    maps = run("threshold", volumes)
    mask = maps[Quantity.MASK]
    assert mask[bleeding].all()
    np.testing.assert_array_equal(ndimage.binary_fill_holes(mask), mask)
    assert ndimage.label(mask)[1] == 1
    overlap = 2 * (mask & brain).sum() / (mask.sum() + brain.sum())
    assert overlap > 0.96
    assert (Quantity.QUALITY in maps) == (use != "magnitude")
    holes = int(maps.provenance.notes[-1].split(" voxels of holes")[0].rsplit(" ", 1)[1])
    assert holes > 0.5 * bleeding.sum()


def test_quality_is_high_where_there_is_signal():
    magnitude, phase, brain, _ = head(void=False)
    maps = run("threshold", {Quantity.MAGNITUDE: magnitude, Quantity.PHASE: phase})
    quality = maps[Quantity.QUALITY]
    assert 0 <= quality.min() <= quality.max() <= 1
    assert np.median(quality[brain]) > 0.7 > 0.3 > np.median(quality[~brain])


def test_specks_and_bridges_go_and_gaps_close():
    shape, size = (40, 40, 40), (1.0, 1.0, 1.0)
    body = distance(shape, size) < 12
    signal = body.astype(np.float32)
    signal[20, 14, 28:38] = 1  # a thin bridge to nowhere
    signal[2:5, 2:5, 2:5] = 1  # a speck
    signal[:, 20, 28:33][body[:, 20, 28:33]] = 0  # a slit at the surface, one voxel wide
    maps = run("threshold", {Quantity.MAGNITUDE: signal}, size, opening=1.5, closing=2.0)
    mask = maps[Quantity.MASK]
    assert not mask[2:5, 2:5, 2:5].any()
    assert not mask[20, 14, 34:].any()
    assert mask[20, 20, 28:31].all()
    raw = run("threshold", {Quantity.MAGNITUDE: signal}, size, opening=0, closing=0)
    assert raw[Quantity.MASK][20, 14, 34]
    assert not raw[Quantity.MASK][20, 20, 28:31].all()


def test_a_stated_fraction_is_that_of_the_98th_percentile():
    ramp = np.broadcast_to(np.linspace(0, 1, 101, dtype=np.float32)[:, None, None], (101, 9, 9))
    settings = {"opening": 0, "closing": 0, "magnitude": 0.5}
    maps = run("threshold", {Quantity.MAGNITUDE: ramp}, (1.0, 1.0, 1.0), **settings)
    assert np.flatnonzero(maps[Quantity.MASK][:, 4, 4])[0] == 50  # the first above 0.5 x 0.98
    assert "0.5 of the 98th percentile" in maps.provenance.notes[0]


def test_without_air_tissue_is_not_parted():
    rng = np.random.default_rng(0)
    tissue = np.where(rng.random((30, 30, 30)) > 0.5, 1.0, 0.7) + 0.05 * rng.random((30, 30, 30))
    maps = run("threshold", {Quantity.MAGNITUDE: tissue})
    assert maps[Quantity.MASK].all()
    assert "no air" in maps.provenance.notes[0]


def test_a_scalp_near_the_coils_does_not_hide_the_brain():
    shape, size = (50, 50, 50), (3.0, 3.0, 3.0)
    radius = distance(shape, size)
    signal = np.exp(1.6 * (radius / 70) ** 2) * (radius < 70) + 0.1
    maps = run("threshold", {Quantity.MAGNITUDE: signal.astype(np.float32)}, size)
    assert maps[Quantity.MASK][radius < 66].all()
    assert not maps[Quantity.MASK][radius > 73].any()


def test_the_signal_of_echoes_is_their_root_sum_of_squares():
    magnitude = np.random.default_rng(0).random((6, 5, 4, 3)).astype(np.float32)
    measured = Acquisition(Grid((6, 5, 4), np.eye(4)), {Quantity.MAGNITUDE: magnitude})
    combined = finished(signal_strength(measured))
    np.testing.assert_allclose(combined, np.linalg.norm(magnitude, axis=3), rtol=1e-6)


@pytest.mark.parametrize(
    ("volumes", "settings", "said"),
    [
        ({Quantity.CHI: np.ones((9, 9, 9))}, {}, "magnitude or a phase"),
        ({Quantity.MAGNITUDE: np.ones((9, 9, 9))}, {}, "same everywhere"),
        ({Quantity.MAGNITUDE: np.eye(9)[None].repeat(9, 0)}, {"opening": 4}, "Nothing is left"),
    ],
)
def test_what_cannot_be_masked_is_a_sentence(volumes, settings, said):
    with pytest.raises(InputError, match=said):
        run("threshold", volumes, **settings)


def test_more_than_a_brain_is_said():
    ball = (distance((60, 60, 60), (3.0, 3.0, 3.0)) < 86).astype(np.float32)
    maps = run("threshold", {Quantity.MAGNITUDE: ball}, (3.0, 3.0, 3.0))
    assert "more than a brain" in maps.provenance.notes[-1]
