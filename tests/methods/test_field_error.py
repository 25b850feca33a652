"""What is read off a field: its error, and what is chosen from it."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.generators import finished
from napari_qsm.methods.field_error import FieldError, field_error
from napari_qsm.methods.registry import find
from napari_qsm.methods.workspace import Workspace
from napari_qsm.training.phantom import sample_head


@pytest.fixture(scope="module")
def head():
    return sample_head("healthy", 3.0)


def with_noise(measured, sigma, random_state=0):
    rng = np.random.default_rng(random_state)
    noise = sigma * rng.standard_normal(measured.grid.shape)
    field = measured[Quantity.LOCAL_FIELD] + noise * measured.mask
    return measured.with_volumes({Quantity.LOCAL_FIELD: field.astype(np.float32)})


def measure(measured, weighting="mask"):
    with Workspace(measured, torch.device("cpu"), "test") as space:
        return field_error(space, weighting)


@pytest.mark.parametrize("sigma", [0.003, 0.01, 0.03])
def test_white_noise_is_measured(head, sigma):
    found = measure(with_noise(head.acquisition, sigma))
    assert found.error == pytest.approx(np.hypot(sigma, 7.5e-4), rel=0.06)  # the head has some


def test_a_field_that_no_susceptibility_explains_is_error_though_it_is_smooth(head):
    """The finest scale, where noise is usually looked for, sees nothing of it."""
    measured = head.acquisition
    rng = np.random.default_rng(1)
    spectrum = np.fft.rfftn(rng.standard_normal(measured.grid.shape))
    frequency = np.sqrt(
        sum(
            k**2
            for k in np.meshgrid(
                *(np.fft.fftfreq(n) for n in measured.grid.shape[:2]),
                np.fft.rfftfreq(measured.grid.shape[2]),
                indexing="ij",
            )
        )
    )
    smooth = np.fft.irfftn(
        spectrum / (1 + (frequency / 0.1) ** 2), s=measured.grid.shape, axes=(0, 1, 2)
    )
    smooth *= 0.005 / smooth[measured.mask].std()
    field = measured[Quantity.LOCAL_FIELD] + smooth.astype(np.float32) * measured.mask
    disturbed = measured.with_volumes({Quantity.LOCAL_FIELD: field})
    assert measure(disturbed).error > 2 * measure(measured).error
    with Workspace(disturbed, torch.device("cpu"), "test") as space:
        assert space.noise() < 0.7 * measure(disturbed).error


def test_weights_discount_what_they_know_to_be_noisy(head):
    measured = head.acquisition
    sigma = np.where(np.arange(measured.grid.shape[0])[:, None, None] % 2, 0.02, 0.002)
    sigma = np.broadcast_to(sigma, measured.grid.shape)
    noise = np.random.default_rng(2).standard_normal(measured.grid.shape) * sigma
    known = measured.with_volumes(
        {
            Quantity.LOCAL_FIELD: (noise * measured.mask).astype(np.float32),
            Quantity.FIELD_NOISE: sigma.astype(np.float32),
        }
    )
    assert measure(known).error == pytest.approx(np.sqrt((0.02**2 + 0.002**2) / 2), rel=0.06)
    harmonic = 1 / np.sqrt((0.02**-2 + 0.002**-2) / 2)
    # A hundredth too much of the whole is not discounted, and a tenth of what is left.
    assert measure(known, "noise").error == pytest.approx(harmonic, rel=0.15)


def test_weights_discount_noise_and_nothing_else(head):
    """Where the signal has faded noise is large; what else is wrong is as wrong elsewhere."""
    measured, rng = head.acquisition, np.random.default_rng(4)
    shape = measured.grid.shape
    sigma = np.full(shape, 0.001)
    sigma[: shape[0] // 3] = 0.012
    noise, other = sigma * rng.standard_normal(shape), 0.004 * rng.standard_normal(shape)
    known = measured.with_volumes(
        {
            Quantity.LOCAL_FIELD: ((noise + other) * measured.mask).astype(np.float32),
            Quantity.FIELD_NOISE: sigma.astype(np.float32),
        }
    )
    inside = sigma[measured.mask]
    left = np.hypot(0.004, 1 / np.sqrt(np.mean(1 / inside**2)))
    assert measure(known).error == pytest.approx(np.hypot(0.004, np.sqrt(np.mean(inside**2))), 0.06)
    assert measure(known, "noise").error == pytest.approx(left, rel=0.1)


def test_errors_that_lie_where_weights_are_low_are_discounted_though_no_noise_is_known(head):
    """A mask that reaches into air: what the noise map says of it is far too little."""
    measured, rng = head.acquisition, np.random.default_rng(5)
    shape = measured.grid.shape
    stated, true = np.full(shape, 0.002), np.full(shape, 0.002)
    stated[: shape[0] // 3], true[: shape[0] // 3] = 0.006, 0.03
    known = measured.with_volumes(
        {
            Quantity.LOCAL_FIELD: (true * rng.standard_normal(shape) * measured.mask).astype("f4"),
            Quantity.FIELD_NOISE: stated.astype(np.float32),
        }
    )
    weights = 1 / np.square(stated[measured.mask])
    left = np.sqrt(np.average(np.square(true[measured.mask]), weights=weights))
    plain, weighted = measure(known), measure(known, "noise")
    assert left < 0.6 * plain.error
    assert weighted.error == pytest.approx(left, rel=0.2)


def test_no_field_has_no_error_and_doubling_doubles():
    assert FieldError(0.0, 0.0).relative == FieldError(0.0, 0.0).weight == 0.0
    one, two = FieldError(0.001, 0.01), FieldError(0.002, 0.02)
    assert two.relative == one.relative
    assert two.weight == pytest.approx(2 * one.weight)


@pytest.mark.parametrize(
    ("key", "settings"),
    [("tkd", {}), ("tikhonov", {}), ("tikhonov", {"regularizer": "gradient"})],
)
@pytest.mark.parametrize("sigma", [0.0, 0.004])
def test_closed_forms_choose_nearly_the_best(head, key, settings, sigma):
    measured = with_noise(head.acquisition, sigma)
    method = find(key)

    def error(**chosen):
        maps = finished(method(measured, method.with_settings(settings | chosen)))
        found = nrmse(maps[Quantity.CHI], head.truth[Quantity.CHI], measured.mask)
        return found, maps.provenance

    reached, provenance = error()
    chosen = provenance.chosen[method.tuning]
    assert any(f"= {chosen:g}" in note for note in provenance.notes)
    low, high = (0.01, 0.6) if key == "tkd" else (1e-6, 1.0)
    tried = [min(max(f * chosen, low), high) for f in (0.25, 0.4, 0.63, 1.6, 2.5, 4.0)]
    best = min(error(**{method.tuning: value})[0] for value in tried)
    assert reached < 1.05 * best


def test_a_tiny_volume_has_an_error_too():
    from napari_qsm.acquisition import Grid

    field = 0.01 * np.random.default_rng(0).standard_normal((8, 8, 8)).astype(np.float32)
    tiny = Acquisition(Grid((8, 8, 8), np.eye(4)), {Quantity.LOCAL_FIELD: field})
    assert measure(tiny).error == pytest.approx(0.01, rel=0.3)
