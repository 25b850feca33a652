"""Means over balls, erosion by them and the Laplacian, against harmonic functions."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_qsm.physics import fourier
from napari_qsm.physics.laplacian import laplacian_symbol
from napari_qsm.physics.spherical_mean import SphericalMean, ball, covered, eroded, reach

SIZES = [(1.0, 1.0, 1.0), (1.2, 0.9, 2.0), (0.6, 0.6, 3.0)]
every_size = pytest.mark.parametrize("size", SIZES, ids=str)

HARMONIC = {
    "1": lambda x, y, z: torch.ones_like(x + y + z),
    "x": lambda x, y, z: x + 0 * y * z,
    "x2 - y2": lambda x, y, z: x**2 - y**2 + 0 * z,
    "3z2 - r2": lambda x, y, z: 2 * z**2 - x**2 - y**2,
    "xy": lambda x, y, z: x * y + 0 * z,
    "xyz": lambda x, y, z: x * y * z,
    "x3 - 3xy2": lambda x, y, z: x**3 - 3 * x * y**2 + 0 * z,
}
QUARTIC = {
    "x4 - 6x2y2 + y4": lambda x, y, z: x**4 - 6 * x**2 * y**2 + y**4 + 0 * z,
    "8z4 - 24z2s2 + 3s4": lambda x, y, z: (
        8 * z**4 - 24 * z**2 * (x**2 + y**2) + 3 * (x**2 + y**2) ** 2
    ),
}


def mirrored(octant):
    for axis in range(3):
        octant = torch.cat(
            (octant.flip(axis).narrow(axis, 0, octant.shape[axis] - 1), octant), axis
        )
    return octant


def axes(shape, size):
    """Coordinates in mm about the middle of a volume."""
    return torch.meshgrid(
        *[
            (torch.arange(n, dtype=torch.float64) - n // 2) * s
            for n, s in zip(shape, size, strict=True)
        ],
        indexing="ij",
    )


def noise(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@every_size
@pytest.mark.parametrize("radius", [3.0, 4.0, 7.5])
def test_a_ball_has_its_volume_and_its_moments(size, radius):
    parts = mirrored(covered(radius, size))
    volume = float(parts.sum()) * math.prod(size)
    assert volume == pytest.approx(4 / 3 * math.pi * radius**3, rel=0.03)
    weights = mirrored(ball(radius, size))
    assert float(weights.sum()) == pytest.approx(1)
    for axis in axes(weights.shape, size):
        assert float((weights * axis).sum()) == pytest.approx(0)
        assert float((weights * axis**2).sum()) == pytest.approx(radius**2 / 5)


@every_size
@pytest.mark.parametrize("ratio", [1.0, 1.1, 1.5, 2.0, 3.7])
def test_its_correction_is_small_and_keeps_the_filter_positive(size, ratio):
    radius = ratio * max(size)
    weights, parts = ball(radius, size), covered(radius, size)
    assert float((weights - parts / mirrored(parts).sum()).abs().max()) < 0.4
    S = SphericalMean((45, 48, 40), size, radius, dtype=torch.float64)
    assert float(S.deviation.flatten()[1:].min()) > 0
    assert float(S.deviation.max()) < 1.2


def test_a_ball_of_cubic_voxels_knows_no_axis():
    weights = ball(4.0, (1.0, 1.0, 1.0))
    torch.testing.assert_close(weights, weights.permute(2, 0, 1))


@every_size
@pytest.mark.parametrize("function", HARMONIC.values(), ids=HARMONIC)
def test_a_harmonic_polynomial_is_its_own_mean(size, function):
    radius, shape = 4.0, (24, 25, 21)
    field = function(*axes(shape, size))
    S = SphericalMean(shape, size, radius, dtype=torch.float64)
    inside = tuple(slice(n, -n) for n in reach(radius, size))  # nothing wraps around here
    error = float((S(field) - field)[inside].abs().max() / field.abs().max())
    assert error < 1e-13


@every_size
def test_others_are_not(size):
    shape = (24, 25, 21)
    x, _, _ = axes(shape, size)
    S = SphericalMean(shape, size, 4.0, dtype=torch.float64)
    middle = tuple(n // 2 for n in shape)
    assert float(S(x**2)[middle]) == pytest.approx(16 / 5)


@every_size
@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 0, 1), (0.6, 0.48, 0.64)], ids=str)
def test_the_field_of_a_dipole_outside_the_ball_is_its_mean(size, direction):
    radius, distance = 5.0, 10.0
    weights = mirrored(ball(radius, size))
    x, y, z = (a - distance * d for a, d in zip(axes(weights.shape, size), direction, strict=True))
    r2 = x**2 + y**2 + z**2
    field = (3 * z**2 / r2 - 1) / r2**1.5
    middle = field[tuple(n // 2 for n in field.shape)]
    assert abs(float((weights * field).sum() - middle)) < 0.04 * distance**-3


@every_size
def test_its_symbol_is_the_transform_of_the_ball(size):
    shape, radius = (30, 27, 16), 3.5
    S = SphericalMean(shape, size, radius, dtype=torch.float64)
    weights = mirrored(S.weights)
    kernel = torch.zeros(shape, dtype=torch.float64)
    kernel[tuple(slice(0, n) for n in weights.shape)] = weights
    kernel = kernel.roll([-(n // 2) for n in weights.shape], (0, 1, 2))
    torch.testing.assert_close(S.deviation, 1 - fourier.spectrum(kernel).real, atol=1e-13, rtol=0)


@every_size
def test_the_mean_and_what_lies_beyond_it_are_adjoint_to_themselves(size):
    """For H = m (1 - S), also ``<H x, y> = <x, H.H y>`` with ``H.H = (1 - S) m``."""
    shape = (16, 15, 18)
    S = SphericalMean(shape, size, 3.0, dtype=torch.float64)
    x, y = noise(shape), noise(shape, seed=1)
    assert float((S(x) * y).sum()) == pytest.approx(float((x * S.H(y)).sum()), rel=1e-12)
    m = (noise(shape, seed=2) > 0).double()
    left, right = (m * (x - S(x)) * y).sum(), (x * (m * y - S(m * y))).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-12)


@every_size
@pytest.mark.parametrize("radius", [0.1, 1.0, 3.0, 4.5])
def test_erosion_is_that_by_all_voxels_the_ball_touches(size, radius):
    rng = np.random.default_rng(0)
    mask = np.zeros((40, 36, 30), bool)
    mask[2:31, 3:27, 1:24] = True
    mask &= rng.random(mask.shape) > 1e-3
    kernel = mirrored(covered(radius, size)).numpy() > 0
    expected = ndimage.binary_erosion(mask, kernel)
    got = eroded(torch.from_numpy(mask).float(), covered(radius, size)).numpy() > 0
    np.testing.assert_array_equal(got, expected)
    if radius < min(size) / 2:
        np.testing.assert_array_equal(got, mask)


def test_a_large_ball_that_is_barely_touched_is_eroded():
    """One voxel in 20 000: a mean in single precision would not see it."""
    region = torch.zeros((80, 80, 80))
    region[:42, :42, :42] = 1
    region[21, 21, 4] = 0
    neighbourhood = covered(17.0, (1.0, 1.0, 1.0))
    assert not eroded(region, neighbourhood)[21, 21, 21]
    region[21, 21, 4] = 1
    assert eroded(region, neighbourhood)[21, 21, 21]


@pytest.mark.parametrize(
    ("shape", "radius", "match"),
    [((20, 20, 20), 1.5, "smaller than a voxel"), ((20, 8, 20), 4.0, "does not fit")],
)
def test_balls_that_cannot_be_are_a_sentence(shape, radius, match):
    with pytest.raises(ValueError, match=match):
        SphericalMean(shape, (1.0, 1.0, 2.0), radius)


@every_size
@pytest.mark.parametrize("function", (HARMONIC | QUARTIC).values(), ids=HARMONIC | QUARTIC)
def test_the_laplacian_of_a_harmonic_polynomial_is_zero(size, function):
    """Up to the fourth degree, where the second derivatives alone are wrong."""
    shape = (12, 13, 10)
    field = function(*axes(shape, size))
    symbol = laplacian_symbol(shape, size, dtype=torch.float64)
    inside = (slice(1, -1),) * 3
    laplacian = fourier.volume(fourier.spectrum(field) * symbol, shape)[inside]
    assert float(laplacian.abs().max()) < 1e-10 * float(field.abs().max())


@every_size
def test_the_laplacian_is_positive_and_known_for_squares(size):
    shape = (12, 13, 10)
    symbol = laplacian_symbol(shape, size, dtype=torch.float64)
    assert float(symbol.flatten()[1:].min()) > 0
    assert float(symbol[0, 0, 0]) == 0
    for axis in axes(shape, size):
        laplacian = fourier.volume(fourier.spectrum(axis**2) * symbol, shape)
        torch.testing.assert_close(
            laplacian[1:-1, 1:-1, 1:-1], torch.full((10, 11, 8), -2.0, dtype=torch.float64)
        )
