"""What networks see besides the field and maps: its noise, and what the magnitude shows."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.generators import finished
from napari_qsm.methods.channels import NOISIEST, channels, contrast, noise
from napari_qsm.networks.inverter import Design, Inverter
from napari_qsm.networks.unet import Architecture
from napari_qsm.preparation.noise import field_spread

SHAPE = (40, 36, 30)
AXES = np.meshgrid(*[np.linspace(-1.1, 1.1, n) for n in SHAPE], indexing="ij")
MASK = sum(a**2 for a in AXES) < 1
FIELD = (0.02 * np.random.default_rng(0).standard_normal(SHAPE) * MASK).astype(np.float32)
DARK = sum((a - 0.1) ** 2 for a in AXES) < 0.03


def head(field=FIELD, **volumes):
    known = {Quantity[name.upper()]: volume for name, volume in volumes.items()}
    stored = {Quantity.LOCAL_FIELD: field, Quantity.MASK: MASK, **known}
    return Acquisition(Grid(SHAPE, np.eye(4)), stored)


def magnitude(gain=1.0):
    return (gain * np.where(DARK, 0.5, 1.0) * MASK).astype(np.float32)


@pytest.mark.parametrize("name", ["noise", "contrast"])
def test_what_is_not_known_is_zero(name):
    assert not finished(channels(head(), (name,))).any()


def test_noise_is_shown_in_the_mask_and_limited():
    sigma = np.full(SHAPE, 0.003, np.float32)
    sigma[20, 18, 15] = 50.0
    shown = noise(head(field_noise=sigma))
    most = NOISIEST * field_spread(FIELD[MASK])
    assert shown[20, 18, 15] == pytest.approx(most)
    assert shown[15, 18, 15] == pytest.approx(0.003)
    assert not shown[~MASK].any()


def test_dark_tissue_is_below_zero_by_the_logarithm_of_its_signal():
    shown = finished(contrast(head(magnitude=magnitude())))
    step = shown[MASK & ~DARK].max() - shown[DARK].min()
    assert step == pytest.approx(np.log(2) * field_spread(FIELD[MASK]), rel=0.5)
    assert shown[DARK].max() < 0
    assert not shown[~MASK].any()


def test_contrast_grows_with_the_field_and_not_with_the_gain():
    once = finished(contrast(head(magnitude=magnitude())))
    louder = finished(contrast(head(magnitude=magnitude(1e4))))
    twice = finished(contrast(head(2 * FIELD, magnitude=magnitude())))
    np.testing.assert_allclose(louder, once, atol=1e-7)
    np.testing.assert_allclose(twice, 2 * once, atol=1e-7)


def test_the_shading_of_a_coil_is_no_contrast():
    shading = np.exp(0.3 * AXES[0]).astype(np.float32)
    plain = finished(contrast(head(magnitude=magnitude())))
    shaded = finished(contrast(head(magnitude=magnitude() * shading)))
    inside = sum(a**2 for a in AXES) < 0.5  # near the border a slope is not yet level
    assert np.abs(shaded - plain)[inside].max() < 0.15 * np.abs(plain).max()


def test_echoes_are_combined():
    one = finished(contrast(head(magnitude=magnitude())))
    four = finished(contrast(head(magnitude=np.stack([magnitude()] * 4, axis=3))))
    np.testing.assert_allclose(four, one, atol=1e-7)


def test_a_magnitude_of_zeros_shows_nothing():
    assert not finished(contrast(head(magnitude=np.zeros(SHAPE, np.float32)))).any()


@torch.no_grad()
def test_the_opposite_head_has_the_same_noise_and_contrast():
    names = ("field", "noise", "contrast", "tikhonov")
    measured = {"magnitude": magnitude(), "field_noise": np.full(SHAPE, 0.002, np.float32)}
    model = Inverter(Design(names, False, Architecture(widths=(4, 8)))).eval()
    made, flipped = (
        torch.from_numpy(finished(channels(head(sign * FIELD, **measured), names)))[None]
        for sign in (1, -1)
    )
    torch.testing.assert_close(model.opposite(made), flipped, rtol=1e-4, atol=1e-6)
    model.unet.decoders[0].head.weight.zero_()
    torch.testing.assert_close(model(made).mean, made[:, 3:])  # it starts from the map alone
