"""Laplacian unwrapping, exact without poles, and scikit-image's, by whole turns and in a thread."""

import threading
import time

import numpy as np
import pytest

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.generators import finished
from napari_qsm.preparation import reliability
from napari_qsm.preparation.laplacian import MaskedPoisson
from napari_qsm.preparation.registry import find

SHAPE = (30, 34, 28)
SIZES = (0.9, 1.3, 2.0)
x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
BALL = x**2 + y**2 + z**2 < 0.9
BOX = np.ones(SHAPE, bool)
FIELDS = {
    "ramp": 3.1 * np.arange(SHAPE[1])[None, :, None] + 0 * x,
    "parabola": 20 * x**2 - 15 * y**2 + 18 * y * z + 12 * z,
    "waves": 8 * np.sin(3 * x + 2 * z) * np.cos(2 * y),
}


def wrap(phase):
    return np.angle(np.exp(1j * phase))


def acquisition(phase, mask=BOX, times=(0.004, 0.008)):
    grid = Grid(mask.shape, np.diag([*SIZES, 1]))
    volumes = {Quantity.PHASE: phase, Quantity.MASK: mask}
    return Acquisition(grid, volumes, 3.0, times[: phase.shape[3]])


def run(key, measured, **settings):
    stage = find(key)
    return finished(stage(measured, stage.with_settings(settings)))


@pytest.mark.parametrize("name", FIELDS)
def test_the_laplacian_of_a_box_is_exact_at_once(name):
    """One cosine transform and back: nothing is left to iterate."""
    poisson = MaskedPoisson(BOX, SIZES)
    found = finished(poisson.unwrapping(wrap(FIELDS[name]), tolerance=0.5))
    assert np.ptp(found - FIELDS[name]) < 1e-10
    assert not poisson.stopped


@pytest.mark.parametrize("name", FIELDS)
def test_the_laplacian_of_a_mask_is_exact_whatever_lies_outside(name):
    phase = wrap(FIELDS[name])
    phase[~BALL] = np.random.default_rng(0).uniform(-np.pi, np.pi, np.count_nonzero(~BALL))
    found = finished(MaskedPoisson(BALL, SIZES).unwrapping(phase, tolerance=1e-12))
    assert np.ptp((found - FIELDS[name])[BALL]) < 1e-8


def test_a_coarse_tolerance_leaves_an_error_that_is_harmonic():
    """What one step misses has no Laplacian inside the mask, with the true voxel sizes."""
    phase = wrap(FIELDS["parabola"])
    found = finished(MaskedPoisson(BALL, SIZES).unwrapping(phase, tolerance=0.5))
    off = found - FIELDS["parabola"]
    bends = sum(
        np.diff(off, 2, axis=a)[tuple(slice(None) if b == a else slice(1, -1) for b in range(3))]
        / SIZES[a] ** 2
        for a in range(3)
    )
    deep = (x**2 + y**2 + z**2 < 0.6)[1:-1, 1:-1, 1:-1]
    assert np.ptp(off[BALL]) > 0.1
    assert np.abs(bends[deep]).max() < 1e-2 * np.ptp(off[BALL])


def test_the_stage_finds_the_constant_and_the_turns_of_every_echo():
    truth = FIELDS["waves"][..., None] * [0.5, 1] + [0.7, 1.4]
    maps = run("laplacian", acquisition(wrap(truth), BALL))
    np.testing.assert_allclose(maps[Quantity.UNWRAPPED][BALL], truth[BALL], atol=0.02)
    assert not maps[Quantity.UNWRAPPED][~BALL].any()
    assert "differs besides by" in maps.provenance.notes[0]


def test_poles_spread_an_error_and_the_notes_say_how_much():
    """Around a pole the phase turns once: no smooth phase has its differences."""
    swirl = np.arctan2(y - 0.03, x + 0.02)
    maps = run("laplacian", acquisition(swirl[..., None], BALL))
    off = wrap(maps[Quantity.UNWRAPPED] - swirl[..., None])[BALL]
    assert off.std() > 0.3
    stated = float(maps.provenance.notes[0].split("besides by ")[1].split(" rad")[0])
    assert stated == pytest.approx(float(np.sqrt((off**2).mean())), rel=0.05)


@pytest.mark.parametrize("key", ["laplacian", "reliability"])
def test_islands_are_unwrapped_each_for_itself(key):
    mask = np.zeros(SHAPE, bool)
    mask[2:16, 4:30, 4:24] = True
    mask[20:28, 4:20, 4:20] = True
    field = np.where(x < 0.2, 6 * y, 50 + 8 * z)
    maps = run(key, acquisition(wrap(field)[..., None], mask))
    unwrapped = maps[Quantity.UNWRAPPED][..., 0]
    for part in (mask & (x < 0.2), mask & (x > 0.2)):
        turns = (unwrapped - field)[part] / (2 * np.pi)
        assert np.abs(turns - np.rint(turns[0])).max() < 5e-3
    assert abs(unwrapped[mask & (x > 0.2)].mean() - unwrapped[mask & (x < 0.2)].mean()) < 3.3
    assert any("2 parts" in note for note in maps.provenance.notes)


@pytest.mark.parametrize("mask", [BOX, BALL], ids=["box", "ball"])
@pytest.mark.parametrize("name", FIELDS)
def test_scikit_image_recovers_whole_turns_and_both_echoes_agree(name, mask):
    truth = FIELDS[name][..., None] * [0.5, 1]
    rng = np.random.default_rng(0)
    phase = wrap(truth + 0.003 * rng.standard_normal(truth.shape)).astype(np.float32)
    unwrapped = run("reliability", acquisition(phase, mask))[Quantity.UNWRAPPED]
    turns = (unwrapped - phase)[mask] / (2 * np.pi)
    assert np.abs(turns - np.rint(turns)).max() < 1e-5
    off = (unwrapped - truth)[mask] / (2 * np.pi)
    assert np.abs(off - np.rint(off[0])).max() < 0.05


def test_scikit_image_gives_the_same_twice():
    phase = np.random.default_rng(0).uniform(-np.pi, np.pi, (16, 17, 18, 1))
    mask = np.ones(phase.shape[:3], bool)
    one, other = (run("reliability", acquisition(phase, mask)) for _ in range(2))
    np.testing.assert_array_equal(one[Quantity.UNWRAPPED], other[Quantity.UNWRAPPED])


def test_a_cancel_does_not_wait_for_scikit_image(monkeypatch):
    """A call that takes long is left behind, and ends by itself."""
    release = threading.Event()

    def slow(phase, inside):
        release.wait(10)
        return phase

    monkeypatch.setattr(reliability, "_unwrapped", slow)
    running = find("reliability")(acquisition(wrap(FIELDS["ramp"])[..., None]))
    for _ in range(4):
        step = next(running)
    assert 0 < step.fraction < 1
    began = time.perf_counter()
    running.close()
    assert time.perf_counter() - began < 1
    release.set()


def test_a_failure_of_scikit_image_comes_back_to_the_caller(monkeypatch):
    def broken(phase, inside):
        raise MemoryError("no room")

    monkeypatch.setattr(reliability, "_unwrapped", broken)
    with pytest.raises(MemoryError, match="no room"):
        run("reliability", acquisition(wrap(FIELDS["ramp"])[..., None]))
