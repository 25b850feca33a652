"""The field of all echoes: exact without noise, as noisy as it says, and of one line per voxel."""

import tracemalloc

import numpy as np
import pytest

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished
from napari_qsm.physics.units import radians_per_ppm
from napari_qsm.preparation import combination, voxels
from napari_qsm.preparation.combination import fit_lines, linear, weighted
from napari_qsm.preparation.echo_turns import align
from napari_qsm.preparation.voxels import UNKNOWN_PHASE

RAD = radians_per_ppm(3.0, 1.0)  # rad per ppm and s
SHAPE = (24, 22, 20)
TIMES = (0.004, 0.0091, 0.0137, 0.0202, 0.025)
both = pytest.mark.parametrize("stage", [weighted, linear], ids=lambda s: s.key)


def run(stage, acquisition):
    return finished(stage(acquisition))


def smooth(shape=SHAPE):
    """A field in ppm that bends, and a phase offset in rad."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    return 0.4 * x * y + 0.2 * z**2 - 0.1, 0.3 + 0.4 * x - 0.3 * z


def measure(times=TIMES, *, offset=False, noise=0.0, seed=0, shape=SHAPE, order=None, turns=None):
    """Unwrapped echoes of the smooth field with a decaying magnitude, and the true field."""
    rng, t = np.random.default_rng(seed), np.array(times)
    field, start = smooth(shape)
    phase = RAD * field[..., None] * t + (start[..., None] if offset else 0)
    strength = (1 + 0.5 * rng.random(shape)[..., None]) * 100 * np.exp(-30 * t)
    parts = noise * rng.standard_normal((2, *phase.shape))
    disturbed = strength + parts[0] + 1j * parts[1]  # turned back by the phase
    phase = phase + np.angle(disturbed)
    if turns is not None:
        phase = phase + 2 * np.pi * np.array(turns)
    order = np.arange(len(t)) if order is None else np.array(order)
    volumes = {
        Quantity.UNWRAPPED: phase[..., order],
        Quantity.MAGNITUDE: np.abs(disturbed)[..., order],
    }
    return Acquisition(Grid(shape, np.eye(4)), volumes, 3.0, tuple(t[order])), field, start


def notes(maps):
    return " ".join(maps.provenance.notes)


@pytest.mark.parametrize("through_zero", [True, False])
def test_lines_are_recovered_to_rounding(through_zero):
    rng, t = np.random.default_rng(0), np.array(TIMES)
    slope, start = 300 * rng.standard_normal(500), rng.standard_normal(500) * (not through_zero)
    phase = start + slope * t[:, None]
    weights = rng.random((5, 500)) + 0.01
    found = fit_lines(phase, weights, t, through_zero=through_zero)
    np.testing.assert_allclose(found[0], slope, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found[1], start, atol=1e-11)
    np.testing.assert_allclose(found[3], 0, atol=1e-20)


def test_the_fit_is_that_of_the_normal_equations():
    rng, t = np.random.default_rng(1), np.array(TIMES)
    phase, weights = rng.standard_normal((5, 1)), rng.random((5, 1)) + 0.1
    slope, start, gain, _ = (v[0] for v in fit_lines(phase, weights, t, through_zero=False))
    design = np.stack([np.ones(5), t], axis=1)
    covariance = np.linalg.inv(design.T @ (weights * design))
    expected = covariance @ design.T @ (weights * phase)
    assert (start, slope) == pytest.approx(tuple(expected[:, 0]), rel=1e-10)
    assert gain == pytest.approx(np.sqrt(covariance[1, 1]), rel=1e-10)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_field_is_exact_without_noise(count):
    measured, field, _ = measure(TIMES[:count])
    maps = run(weighted, measured)
    np.testing.assert_allclose(maps[Quantity.TOTAL_FIELD], field, atol=1e-6)
    if count > 1:
        measured, field, start = measure(TIMES[:count], offset=True)
        maps = run(linear, measured)
        np.testing.assert_allclose(maps[Quantity.TOTAL_FIELD], field, atol=1e-6)
        np.testing.assert_allclose(maps[Quantity.OFFSET], start, atol=1e-5)


@pytest.mark.parametrize(
    ("stage", "count"), [(weighted, 3), (weighted, 5), (linear, 3), (linear, 5)]
)
def test_the_noise_is_what_the_map_says(stage, count):
    """The error over the stated noise has a deviation of 1, and the noise follows its formula."""
    measured, field, _ = measure(
        TIMES[:count], offset=stage is linear, noise=2.0, shape=(40, 44, 42)
    )
    maps = run(stage, measured)
    error = maps[Quantity.TOTAL_FIELD] - field
    assert np.std(error / maps[Quantity.FIELD_NOISE]) == pytest.approx(1, abs=0.02)
    m, t = measured[Quantity.MAGNITUDE].astype(float), np.array(TIMES[:count])
    s0, s1, s2 = ((m**2 * t**n).sum(-1) for n in range(3))
    gain = 1 / np.sqrt(s2) if stage is weighted else np.sqrt(s0 / (s0 * s2 - s1**2))
    np.testing.assert_allclose(maps[Quantity.FIELD_NOISE], 2.0 * gain / RAD, rtol=0.02)


@pytest.mark.parametrize(("stage", "count"), [(weighted, 1), (weighted, 2), (linear, 2)])
def test_few_echoes_are_judged_by_the_air_or_by_the_finest_scale(stage, count):
    measured, field, _ = measure(TIMES[:count], noise=2.0, shape=(40, 44, 42))
    maps = run(stage, measured)
    assert "finest scale" in notes(maps)
    error = maps[Quantity.TOTAL_FIELD] - field
    assert np.std(error / maps[Quantity.FIELD_NOISE]) == pytest.approx(1, abs=0.05)
    mask = np.zeros(measured.grid.shape, bool)
    mask[8:-8, 8:-8, 8:-8] = True
    air = np.abs(np.random.default_rng(2).standard_normal((*mask.shape, count, 2)) @ [2.0, 2j])
    magnitude = np.where(mask[..., None], measured[Quantity.MAGNITUDE], air)
    maps = run(stage, measured.with_volumes({Quantity.MAGNITUDE: magnitude, Quantity.MASK: mask}))
    assert "read off the air" in notes(maps)
    error = maps[Quantity.TOTAL_FIELD] - field
    assert np.std(error[mask] / maps[Quantity.FIELD_NOISE][mask]) == pytest.approx(1, abs=0.03)
    assert not maps[Quantity.TOTAL_FIELD][~mask].any()
    assert not maps[Quantity.FIELD_NOISE][~mask].any()


@both
def test_the_order_of_the_echoes_does_not_matter(stage):
    plain, mixed = (run(stage, measure(order=o, noise=1.0)[0]) for o in (None, (2, 0, 4, 1, 3)))
    for quantity, values in plain.volumes.items():
        np.testing.assert_array_equal(mixed[quantity], values)


@pytest.mark.parametrize("times", [TIMES, (0.004, 0.008, 0.012, 0.016, 0.02), (0.006, 0.01, 0.014)])
@pytest.mark.parametrize("turns", [(0, 1, 0, 0, -2), (-1, 0, 2, 1, 1), (0, -1, -1, -2, -3)])
@both
def test_whole_turns_between_echoes_are_found(stage, times, turns):
    """What is left of them is the field of a turn per echo spacing, which is a constant."""
    measured, field, _ = measure(times, noise=1.0, turns=turns[: len(times)])
    maps = run(stage, measured)
    shift = maps[Quantity.TOTAL_FIELD] - field
    assert np.std(shift) < 0.01
    assert "Whole turns were added" in notes(maps)


def test_straight_echoes_are_left_alone():
    for stage in (weighted, linear):
        assert "turns" not in notes(run(stage, measure(noise=1.0)[0]))


def test_alignment_wants_the_fewest_turns():
    t, field = np.array([0.004, 0.008, 0.012]), np.full((1, 3), 20.0)
    phase = field * t[:, None]
    lifted = phase + 2 * np.pi * np.array([[0], [0], [1]])
    assert align(lifted, t, through_zero=True).turns == (0, 0, -1)
    assert align(phase + 2 * np.pi, t, through_zero=True).turns == (-1, -1, -1)
    assert align(lifted + 2 * np.pi, t, through_zero=True).turns == (0, 1, 1)
    assert align(lifted + 2 * np.pi, t, through_zero=False).turns == (0, 0, -1)
    assert align(phase[:2] + 5, t[:2], through_zero=False).turns == (0, 0)
    assert align(phase[:1], t[:1], through_zero=True).turns == (0,)


def test_a_phase_offset_that_is_left_is_said():
    measured, *_ = measure(noise=1.0)
    shifted = measured.with_volumes({Quantity.UNWRAPPED: measured[Quantity.UNWRAPPED] + 2.0})
    assert "remove the phase offset first" in notes(run(weighted, shifted))
    assert "offset" not in notes(run(linear, shifted))
    again = shifted.with_volumes({Quantity.OFFSET: np.zeros(SHAPE)})
    assert "what is left after the one taken off before" in notes(run(linear, again))
    one = measure(TIMES[:1])[0]
    assert "cannot tell a phase offset" in notes(run(weighted, one))


def test_echo_times_that_cannot_be_are_said():
    measured, *_ = measure(TIMES[:3], noise=1.0)
    phase = measured[Quantity.UNWRAPPED].copy()
    phase[..., 2] += np.pi
    wrong = measured.with_volumes({Quantity.UNWRAPPED: phase})
    assert "check the echo times" in notes(run(linear, wrong))


@both
def test_voxels_without_signal_are_finite_and_counted(stage):
    measured, *_ = measure(noise=1.0)
    magnitude = measured[Quantity.MAGNITUDE].copy()
    magnitude[3, 4, 5] = 0
    magnitude[6, 7, 8, 1:] = 0
    maps = run(stage, measured.with_volumes({Quantity.MAGNITUDE: magnitude}))
    assert "1 voxels of the mask have no magnitude" in notes(maps)
    noise = maps[Quantity.FIELD_NOISE]
    shortest = TIMES[0] if stage is weighted else min(np.diff(TIMES))
    assert noise[3, 4, 5] == noise.max() == pytest.approx(UNKNOWN_PHASE / shortest / RAD)


def test_missing_magnitudes_are_said():
    measured, field, _ = measure()
    bare = {Quantity.UNWRAPPED: measured[Quantity.UNWRAPPED]}
    one = {**bare, Quantity.MAGNITUDE: measured[Quantity.MAGNITUDE][..., 0]}
    for volumes, words in ((bare, "no magnitude"), (one, "One magnitude stands for all 5")):
        maps = run(weighted, Acquisition(measured.grid, volumes, 3.0, TIMES))
        assert words in notes(maps)
        np.testing.assert_allclose(maps[Quantity.TOTAL_FIELD], field, atol=1e-6)


@both
def test_what_is_missing_is_a_sentence(stage):
    measured, *_ = measure()
    with pytest.raises(InputError, match="needs B0"):
        run(stage, Acquisition(measured.grid, dict(measured.volumes), None, TIMES))
    with pytest.raises(InputError, match="same echo time of 4 ms"):
        twice = (*TIMES[:4], TIMES[0])
        run(stage, Acquisition(measured.grid, dict(measured.volumes), 3.0, twice))


def test_memory_does_not_grow_with_the_echoes(monkeypatch):
    """A few maps are held; one copy of all echoes would already be over the limit."""
    monkeypatch.setattr(voxels, "PIECE", 2**11)
    monkeypatch.setattr(combination, "SAMPLE", 1000)
    shape, times = (64, 64, 48), 0.003 * np.arange(1, 25)
    phase = np.broadcast_to(np.float32(50) * times.astype(np.float32), (*shape, 24))
    volumes = {Quantity.UNWRAPPED: phase, Quantity.MAGNITUDE: phase}
    measured = Acquisition(Grid(shape, np.eye(4)), volumes, 3.0, tuple(times))
    tracemalloc.start()
    for _ in weighted.function(measured, weighted.parameters(), None):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 18 * 4 * np.prod(shape)
