"""Planes without their volume, volumes without what is cut off, and rough ones."""

import pytest
import torch

from napari_qsm.physics import fourier
from napari_qsm.physics.slices import SlicedInverse

SHAPES = [(12, 10, 8), (9, 15, 7), (40, 6, 5)]


@pytest.fixture(params=SHAPES, ids=str)
def filtered(request):
    """A field's half spectrum, a symbol that is even as filters are, and their inverse."""
    torch.manual_seed(0)
    shape = request.param
    field = torch.randn(shape)
    even = torch.randn(shape)
    even = even + even.flip((0, 1, 2)).roll((1, 1, 1), (0, 1, 2))
    symbol = even[..., : shape[2] // 2 + 1].contiguous()
    transform = fourier.spectrum(field)
    return shape, transform, symbol, fourier.volume(transform * symbol, shape)


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_planes_are_those_of_the_volume(filtered, place):
    shape, transform, symbol, volume = filtered
    at = {"first": [0, 0, 0], "middle": [n // 2 - 1 for n in shape], "last": [n - 1 for n in shape]}
    x, y, z = at[place]
    planes = SlicedInverse(transform, shape)(symbol, (x, y, z))
    for plane, expected in zip(planes, (volume[x], volume[:, y], volume[:, :, z]), strict=True):
        torch.testing.assert_close(plane, expected, rtol=0, atol=2e-6 * float(volume.abs().max()))


def test_the_filtered_spectrum_is_the_product(filtered):
    shape, transform, symbol, _ = filtered
    sliced = SlicedInverse(transform, shape)
    torch.testing.assert_close(sliced.spectrum(symbol), transform * symbol)
    low = fourier.low_half(transform * symbol, shape)
    torch.testing.assert_close(sliced.spectrum(symbol, low=True), low)


def test_a_cropped_inverse_is_the_crop_of_the_inverse(filtered):
    shape, transform, symbol, volume = filtered
    part = tuple(n - 2 for n in shape)
    cropped = fourier.cropped_volume(transform * symbol, shape, part)
    torch.testing.assert_close(cropped, fourier.crop(volume, part), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(32, 24, 20), (27, 35, 21)], ids=str)
def test_a_coarse_volume_keeps_what_is_smooth(shape):
    """A wave of three periods is on a grid half as fine what it was, at the nearest sample."""
    axes = [torch.arange(n) / n for n in shape]
    phase = 2 * torch.pi * (3 * axes[0][:, None, None] + axes[1][:, None] + 2 * axes[2])
    volume = 1 + phase.cos()
    low = fourier.low_half(fourier.spectrum(volume), shape)
    coarse = fourier.coarse_volume(low, shape, shape)
    kept = [2 * ((n + 3) // 4) - 1 for n in shape]
    nearest = [(a * k).round() / k for a, k in zip(axes, kept, strict=True)]
    there = 3 * nearest[0][:, None, None] + nearest[1][:, None] + 2 * nearest[2]
    torch.testing.assert_close(coarse, 1 + (2 * torch.pi * there).cos(), rtol=0, atol=1e-5)


def test_a_coarse_volume_of_noise_lacks_its_fine_half():
    torch.manual_seed(1)
    volume = torch.randn(32, 32, 32)
    low = fourier.low_half(fourier.spectrum(volume), volume.shape)
    coarse = fourier.coarse_volume(low, volume.shape, (20, 32, 9))
    assert coarse.shape == (20, 32, 9)
    assert 0.05 < float(coarse.var()) < 0.2  # an eighth of the frequencies, an eighth of the power
