"""The noise estimate finds the noise, and little but the noise."""

import numpy as np
import pytest

from napari_qsm.acquisition import Quantity
from napari_qsm.preparation.noise import field_noise
from napari_qsm.training.phantom import sample_head


@pytest.mark.parametrize("shape", [(40, 41, 42), (60, 60, 1)])
@pytest.mark.parametrize("sigma", [1e-4, 3e-3])
def test_white_noise_is_found_to_three_percent(shape, sigma):
    field = np.random.default_rng(0).normal(0, sigma, shape)
    assert field_noise(field, np.ones(shape, bool)) == pytest.approx(sigma, rel=0.03)


def test_smooth_fields_and_strong_sources_hardly_count():
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, 40)] * 3, indexing="ij")
    smooth = 0.05 * x * y + 0.03 * z**2
    smooth[18:22, 18:22, 18:22] += 1.0
    noise = np.random.default_rng(0).normal(0, 1e-3, smooth.shape)
    assert field_noise(smooth + noise, np.ones(smooth.shape, bool)) == pytest.approx(1e-3, rel=0.05)


def test_only_the_mask_counts():
    field = np.random.default_rng(0).normal(0, 1.0, (30, 30, 30))
    mask = np.zeros(field.shape, bool)
    mask[5:25, 5:25, 5:25] = True
    field[mask] *= 1e-3
    assert field_noise(field, mask) == pytest.approx(1e-3, rel=0.05)


def test_a_mask_of_single_voxels_gives_nothing_to_go_by():
    mask = np.zeros((9, 9, 9), bool)
    mask[::2, ::2, ::2] = True
    assert field_noise(np.ones(mask.shape), mask) == 0.0


def test_on_the_digital_head_fine_anatomy_adds_at_most_a_half():
    head = sample_head("haemorrhage", 2.0)
    measured = head.acquisition
    true = float(np.median(head.noise[measured.mask]))
    assert true < field_noise(measured[Quantity.LOCAL_FIELD], measured.mask) < 1.7 * true
