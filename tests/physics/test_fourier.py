"""Sizes and means on the half grid."""

import math

import pytest
import torch

from napari_qsm.physics import fourier


@pytest.mark.parametrize("n", [1, 7, 11, 13, 41, 97, 128, 205, 241])
def test_smooth_size_is_the_next_one(n):
    def smooth(m):
        return not any(
            m % p == 0 for p in range(11, m + 1) if all(p % q for q in range(2, math.isqrt(p) + 1))
        )

    assert fourier.smooth_size(n) == next(m for m in range(n, 2 * n + 2) if smooth(m))


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 7), (3, 3, 1)])
def test_mean_over_the_half_grid_is_that_of_the_full_grid(shape):
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    power = torch.fft.fftn(x).abs().square()
    half = fourier.spectrum(x).abs().square()
    assert fourier.mean_over_spectrum(half, shape) == pytest.approx(float(power.mean()))
