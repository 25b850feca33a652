"""The complex fit: exact without noise, at the Cramer-Rao bound with it, sound far below."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished
from napari_qsm.physics.units import radians_per_ppm
from napari_qsm.preparation.complex_fit import complex_fit, first_guess, settle
from napari_qsm.preparation.echoes import wrapped
from napari_qsm.preparation.voxels import UNKNOWN_PHASE

RAD = radians_per_ppm(3.0, 1.0)
SHAPE = (36, 38, 40)
EVEN = (0.004, 0.009, 0.014, 0.019, 0.024)
UNEVEN = (0.0025, 0.0053, 0.009, 0.014)
spacings = pytest.mark.parametrize("times", [EVEN, UNEVEN, EVEN[:2]], ids=["even", "uneven", "two"])


def run(acquisition, **settings):
    return finished(complex_fit(acquisition, complex_fit.with_settings(settings)))


def truth():
    """A field of several turns and an offset."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    return 2.0 * x * y + 0.7 * z + 0.1 * np.cos(4 * x), 1.0 + 2 * x - y**2


def measure(times, noise=0.0, seed=0):
    """Complex echoes of a signal of 100 that decays, and the bound on the field's noise in ppm."""
    rng, t = np.random.default_rng(seed), np.array(times)
    field, start = truth()
    strength = 100 * np.exp(-25 * t)
    signal = strength * np.exp(1j * (RAD * field[..., None] * t + start[..., None]))
    signal = signal + noise * (rng.standard_normal((*signal.shape, 2)) @ [1, 1j])
    volumes = {Quantity.PHASE: np.angle(signal), Quantity.MAGNITUDE: np.abs(signal)}
    power = strength**2
    since = t - (power @ t) / power.sum()
    bound = noise / np.sqrt(power @ since**2) / RAD
    return Acquisition(Grid(SHAPE, np.eye(4)), volumes, 3.0, tuple(t)), bound


def error(maps, times):
    """Error in ppm less the constant that a turn per spacing makes."""
    difference = maps[Quantity.TOTAL_FIELD] - truth()[0]
    turn = 2 * np.pi / RAD / min(np.diff(times))
    return difference - turn * np.round(np.median(difference) / turn)


def notes(maps):
    return " ".join(maps.provenance.notes)


@spacings
def test_field_and_offset_are_exact_without_noise(times):
    maps = run(measure(times)[0])
    np.testing.assert_allclose(error(maps, times), 0, atol=1e-5)
    turn = (
        2
        * np.pi
        / min(np.diff(times))
        * np.round(
            np.median(maps[Quantity.TOTAL_FIELD] - truth()[0])
            / (2 * np.pi / RAD / min(np.diff(times)))
        )
    )
    left = wrapped(maps[Quantity.OFFSET] - truth()[1] + turn * times[0])
    assert np.abs(left).max() < 1e-3


@spacings
@pytest.mark.parametrize("snr", [10, 40])
def test_the_noise_reaches_the_bound_and_the_map_says_so(times, snr):
    """At the SNR of the middle echo; the bound is that of Fisher's information."""
    noise = 100 * np.exp(-25 * np.mean(times)) / snr
    measured, bound = measure(times, noise)
    maps = run(measured)
    assert np.std(error(maps, times)) == pytest.approx(bound, rel=0.03)
    assert np.median(maps[Quantity.FIELD_NOISE]) == pytest.approx(bound, rel=0.05)


@spacings
def test_little_goes_astray_at_a_signal_of_three_sigma(times):
    noise = 100 * np.exp(-25 * np.mean(times)) / 3
    measured, bound = measure(times, noise)
    missed = error(run(measured), times)
    half = np.pi / RAD / min(np.diff(times))
    assert np.mean(np.abs(missed) > half) < 2e-3
    assert np.mean(np.abs(missed) > 6 * bound) < 0.01
    core = missed[np.abs(missed) < 6 * bound]
    assert np.std(core) < 1.15 * bound


def test_no_step_raises_the_misfit():
    """Whatever the phases: the step is that of a quadratic that lies above the misfit."""
    rng = np.random.default_rng(0)
    t = torch.tensor(UNEVEN, dtype=torch.float64)
    phase = torch.from_numpy(rng.uniform(-np.pi, np.pi, (4, 2000)))
    weights = torch.from_numpy(rng.uniform(0.01, 1, (4, 2000)))
    slope = torch.from_numpy(rng.normal(0, 500, 2000))
    before = settle(phase, weights, t, slope, 0)[3]
    for steps in range(1, 12):
        after = settle(phase, weights, t, slope, steps)[3]
        assert (after <= before + 1e-12).all()
        before = after


def test_the_guess_uses_all_equally_close_pairs():
    rng, t = np.random.default_rng(0), np.array(EVEN)
    phase = 200.0 * t[:, None] + 0.3 * rng.standard_normal((5, 20_000))
    ones = torch.ones(5, 20_000)
    spread = [
        float(first_guess(torch.from_numpy(phase[:n]), ones[:n], t[:n]).std()) for n in (2, 5)
    ]
    assert spread[1] < 0.4 * spread[0]


def test_the_order_of_the_echoes_does_not_matter():
    measured, _ = measure(UNEVEN, 3.0)
    order = [2, 0, 3, 1]
    volumes = {q: v[..., order] for q, v in measured.volumes.items()}
    mixed = Acquisition(measured.grid, volumes, 3.0, tuple(UNEVEN[j] for j in order))
    plain, shuffled = run(measured), run(mixed)
    for quantity in complex_fit.gives:
        np.testing.assert_array_equal(shuffled[quantity], plain[quantity])


@pytest.mark.parametrize("times", [EVEN, UNEVEN])
def test_voxels_without_signal_are_finite_and_counted(times):
    measured, _ = measure(times, 1.0)
    magnitude = measured[Quantity.MAGNITUDE].copy()
    magnitude[3:5, 4, 5] = 0
    magnitude[6, 7, 8, 1:] = 0
    maps = run(measured.with_volumes({Quantity.MAGNITUDE: magnitude}))
    assert "2 voxels of the mask have no magnitude" in notes(maps)
    highest = UNKNOWN_PHASE / min(np.diff(times)) / RAD
    assert maps[Quantity.FIELD_NOISE].max() == pytest.approx(highest)


def test_only_the_mask_is_fitted():
    measured, _ = measure(EVEN, 1.0)
    mask = truth()[0] > -0.2
    maps = run(measured.with_volumes({Quantity.MASK: mask}))
    for quantity in complex_fit.gives:
        assert not maps[quantity][~mask].any()


def test_too_few_steps_are_said():
    measured, _ = measure(EVEN, 20.0)
    assert "had not settled" in notes(run(measured, iterations=1))
    assert "had not settled" not in notes(run(measure(EVEN, 1.0)[0]))
    assert "equally spaced" in notes(run(measure(UNEVEN, 1.0)[0]))


def test_one_echo_and_no_b0_are_sentences():
    measured, _ = measure(EVEN)
    single = {q: v[..., 0] for q, v in measured.volumes.items()}
    with pytest.raises(InputError, match="2 echoes or more"):
        run(Acquisition(measured.grid, single, 3.0, EVEN[:1]))
    with pytest.raises(InputError, match="needs B0"):
        run(Acquisition(measured.grid, dict(measured.volumes), None, EVEN))
