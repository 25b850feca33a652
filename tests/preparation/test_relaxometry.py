"""R2*: exact where mathematics says so, within 2 % at an SNR of 50, and clipped out loud."""

import numpy as np
import pytest
import torch
from scipy import stats

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished
from napari_qsm.physics.relaxation import arlo, exponential, log_linear, magnitude_mean
from napari_qsm.preparation.relaxometry.arlo import arlo as arlo_stage
from napari_qsm.preparation.relaxometry.loglinear import loglinear
from napari_qsm.preparation.relaxometry.nonlinear import nonlinear
from napari_qsm.preparation.signal_noise import background_noise, residual_noise

TIMES = (0.004, 0.009, 0.014, 0.019, 0.024)
STAGES = {stage.key: stage for stage in (arlo_stage, loglinear, nonlinear)}
every_fit = pytest.mark.parametrize("key", STAGES)


def run(key, acquisition, **settings):
    stage = STAGES[key]
    return finished(stage(acquisition, stage.with_settings(settings)))


def decay(rates, times=TIMES):
    """Signals of 100 at echo time zero, float64, echoes first."""
    t = torch.tensor(times, dtype=torch.float64)
    return 100 * torch.exp(-t[:, None] * rates), t


def measured(rate, noise=0.0, times=TIMES, *, mask=None, seed=0):
    """Magnitudes with complex noise; nothing but noise outside the mask."""
    rng, t = np.random.default_rng(seed), np.array(times)
    signal = 100 * np.exp(-rate[..., None] * t)
    if mask is not None:
        signal = signal * mask[..., None]
    magnitude = np.abs(signal + noise * (rng.standard_normal((*signal.shape, 2)) @ [1, 1j]))
    volumes = {Quantity.MAGNITUDE: magnitude}
    if mask is not None:
        volumes[Quantity.MASK] = mask
    return Acquisition(Grid(rate.shape, np.eye(4)), volumes, 3.0, tuple(t))


def notes(maps):
    return " ".join(maps.provenance.notes)


@pytest.mark.parametrize("x", [0.05, 0.3, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("count", [3, 5])
def test_arlo_has_exactly_the_bias_of_simpsons_rule(x, count):
    spacing = 0.005
    signal, _ = decay(torch.tensor([x / spacing], dtype=torch.float64), TIMES[:count])
    bias = spacing / x / float(spacing / x) * float((x / spacing) / arlo(signal, spacing)) - 1
    assert bias == pytest.approx(x * (np.cosh(x) + 2) / (3 * np.sinh(x)) - 1, abs=1e-12)


def test_log_linear_and_nonlinear_are_exact_without_noise():
    rates = torch.linspace(0, 200, 41, dtype=torch.float64)
    signal, t = decay(rates, (0.003, 0.01, 0.012, 0.021))
    torch.testing.assert_close(log_linear(signal, t), rates, rtol=0, atol=1e-9)
    start = 0.7 * rates + 10
    torch.testing.assert_close(exponential(signal, t, start), rates, rtol=0, atol=1e-9)


def test_the_exponential_with_noise_in_its_model_is_exact_on_its_own_mean():
    rates = torch.linspace(5, 150, 30, dtype=torch.float64)
    signal, t = decay(rates)
    floored, _ = magnitude_mean(signal, 4.0)
    found = exponential(floored, t, 0.8 * rates, noise=4.0, iterations=20)
    torch.testing.assert_close(found, rates, rtol=1e-6, atol=1e-6)
    assert (exponential(floored, t, rates) < rates).all()  # the floor taken for slow decay


def test_the_mean_of_a_noisy_magnitude_is_that_of_rices_distribution():
    signal = torch.linspace(0, 60, 50, dtype=torch.float64)
    mean, slope = magnitude_mean(signal, 2.5)
    expected = stats.rice.mean(signal.numpy() / 2.5, scale=2.5)
    np.testing.assert_allclose(mean, expected, rtol=1e-9)
    higher, _ = magnitude_mean(signal + 1e-5, 2.5)
    np.testing.assert_allclose(slope, (higher - mean) / 1e-5, atol=1e-5)
    assert magnitude_mean(signal, 0.0)[0] is signal


@every_fit
@pytest.mark.parametrize("rate", [10.0, 25.0, 40.0, 100.0])
def test_the_mean_is_right_to_two_percent_at_an_snr_of_fifty(key, rate):
    maps = run(key, measured(np.full((40, 40, 40), rate), 2.0))
    assert maps[Quantity.R2STAR].mean() == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize("key", ["loglinear", "nonlinear"])
def test_knowing_the_noise_floor_keeps_fast_decay_fast(key):
    """At 200 1/s the last echo is at a third of the noise."""
    mask = np.zeros((48, 48, 48), bool)
    mask[12:36, 12:36, 12:36] = True
    acquisition = measured(np.full(mask.shape, 200.0), 2.0, mask=mask)
    aware, naive = (run(key, acquisition, noise_floor=floor) for floor in ("background", "none"))
    error = [abs(m[Quantity.R2STAR][mask].mean() / 200 - 1) for m in (aware, naive)]
    assert error[0] < 0.02
    assert error[0] < error[1]
    assert "read off the air" in notes(aware)
    assert not aware[Quantity.R2STAR][~mask].any()


@every_fit
def test_the_order_of_the_echoes_does_not_matter(key):
    rate = np.random.default_rng(0).uniform(5, 60, (8, 9, 10))
    plain = measured(rate, 2.0)
    order = [3, 1, 0, 4, 2]
    volumes = {Quantity.MAGNITUDE: plain[Quantity.MAGNITUDE][..., order]}
    mixed = Acquisition(plain.grid, volumes, 3.0, tuple(TIMES[j] for j in order))
    np.testing.assert_array_equal(
        run(key, mixed)[Quantity.R2STAR], run(key, plain)[Quantity.R2STAR]
    )


@every_fit
def test_what_is_clipped_and_dark_is_counted(key):
    rate = np.full((6, 6, 6), 30.0)
    rate[0, 0, :3], rate[1, 0, :2] = -20.0, 180.0
    acquisition = measured(rate)
    magnitude = acquisition[Quantity.MAGNITUDE].copy()
    magnitude[2, 2, 2] = 0
    maps = run(key, acquisition.with_volumes({Quantity.MAGNITUDE: magnitude}), limit=100.0)
    found = maps[Quantity.R2STAR]
    assert (found[0, 0, :3] == 0).all()
    assert (found[1, 0, :2] == 100).all()
    assert found[2, 2, 2] == 0
    assert "3 voxels (1.4%) in which the signal grows were set to 0 and 2 (0.9%)" in notes(maps)
    assert "1 voxels of the mask have no signal" in notes(maps)


@every_fit
def test_zeros_among_the_echoes_give_numbers(key):
    magnitude = np.zeros((2, 2, 2, 5))
    for index, kept in enumerate(
        ([0], [4], [0, 1], [2, 3, 4], [0, 4], [1, 2, 3, 4], [0, 2, 4], [3])
    ):
        magnitude.reshape(8, 5)[index, kept] = 50
    acquisition = Acquisition(
        Grid((2, 2, 2), np.eye(4)), {Quantity.MAGNITUDE: magnitude}, 3.0, TIMES
    )
    found = run(key, acquisition)[Quantity.R2STAR]
    assert ((found >= 0) & (found <= 500)).all()


def test_unequal_spacing_is_refused_by_arlo_alone():
    acquisition = measured(np.full((5, 5, 5), 30.0), times=(0.004, 0.009, 0.02))
    with pytest.raises(InputError, match=r"4, 9, 20 ms were measured; choose loglinear\."):
        run("arlo", acquisition)
    for key in ("loglinear", "nonlinear"):
        np.testing.assert_allclose(run(key, acquisition)[Quantity.R2STAR], 30, rtol=1e-4)


def test_rounded_echo_times_count_as_equal():
    acquisition = measured(np.full((5, 5, 5), 30.0), times=(0.00246, 0.00492, 0.00739, 0.00985))
    np.testing.assert_allclose(run("arlo", acquisition)[Quantity.R2STAR], 30, rtol=0.01)


@every_fit
def test_one_magnitude_for_all_echoes_is_refused(key):
    acquisition = measured(np.full((5, 5, 5), 30.0))
    single = {Quantity.MAGNITUDE: acquisition[Quantity.MAGNITUDE][..., 0]}
    with pytest.raises(InputError, match="has 1 echoes where 5"):
        run(key, Acquisition(acquisition.grid, single, 3.0, TIMES))


def air(sigma, count=60_000, seed=0):
    return np.abs(np.random.default_rng(seed).standard_normal((count, 2)) @ [sigma, 1j * sigma])


@pytest.mark.parametrize("scale", [1e-5, 1.0, 3e4])
def test_the_noise_is_read_off_the_air_beside_the_scalp(scale):
    scalp = np.random.default_rng(1).uniform(20, 200, 30_000)
    around = scale * np.concatenate([air(3.0), scalp, np.zeros(20_000)])
    assert background_noise(around, 100 * scale) == pytest.approx(3 * scale, rel=0.03)


def test_what_is_no_air_is_none():
    assert background_noise(np.zeros(5000), 100.0) is None  # masked
    assert background_noise(air(3.0, 500), 100.0) is None  # too little
    assert background_noise(air(30.0), 40.0) is None  # as bright as the brain
    assert background_noise(np.round(air(3.0) / 5) * 5, 100.0) is None  # lost in rounding


@pytest.mark.parametrize("freedom", [1, 2, 4])
def test_the_noise_is_read_off_residuals_whatever_a_tenth_of_them_does(freedom):
    misfit = np.square(np.random.default_rng(0).normal(0, 2.5, (50_000, freedom))).sum(1)
    assert residual_noise(misfit, freedom) == pytest.approx(2.5, rel=0.02)
    misfit[:5000] = 1e6
    assert residual_noise(misfit, freedom) == pytest.approx(2.5, rel=0.15)
    assert residual_noise(misfit[:0], freedom) == 0
