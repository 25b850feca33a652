"""The gradient, its adjoint, its spectrum, and the slabs that solvers use."""

import pytest
import torch

from napari_qsm.physics import fourier
from napari_qsm.physics.gradient import Gradient

SHAPES = [(8, 10, 12), (9, 7, 5), (1, 6, 5), (6, 5, 1)]


def noise(shape, random_state=0):
    generator = torch.Generator().manual_seed(random_state)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("shape", SHAPES)
def test_adjoint(shape):
    G = Gradient((1.0, 0.8, 2.5))
    x, v = noise(shape), noise((3, *shape), 1)
    torch.testing.assert_close((G(x) * v).sum(), (x * G.H(v)).sum(), atol=1e-10, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_and_adjoint_together_are_the_spectrum(shape):
    G = Gradient((1.0, 0.8, 2.5))
    x = noise(shape)
    symbol = G.spectrum(shape, dtype=torch.float64)
    expected = fourier.volume(fourier.spectrum(x) * symbol, shape)
    torch.testing.assert_close(G.H(G(x)), expected, atol=1e-10, rtol=0)


def test_a_ramp_has_its_slope_in_mm():
    ramp = torch.arange(10.0)[None, None, :].expand(3, 4, 10) * 0.6
    slope = Gradient((1.0, 1.0, 2.0))(ramp)[2, :, :, :-1]
    torch.testing.assert_close(slope, torch.full_like(slope, 0.3))


@pytest.mark.parametrize("thickness", [1, 3, 8])
@pytest.mark.parametrize("axis", [-3, -2, -1])
def test_slabs_add_up_to_the_whole(axis, thickness):
    G = Gradient((1.0, 0.8, 2.5))
    x, w = noise((8, 6, 5)), noise((8, 6, 5), 1)
    adjoint = torch.zeros_like(x)
    for start in range(0, 8, thickness):
        slab = slice(start, min(start + thickness, 8))
        got = G.difference(x, axis, slab, torch.empty_like(x[slab]))
        torch.testing.assert_close(got, G(x)[axis, slab])
        G.add_adjoint(w[slab], axis, slab, adjoint)
    vectors = torch.zeros(3, 8, 6, 5, dtype=torch.float64)
    vectors[axis] = w
    torch.testing.assert_close(adjoint, G.H(vectors))
