"""TGV: its operators, its closed-form step, and ramps that stay ramps."""

import pytest
import torch

from napari_qsm.generators import finished
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.physics.gradient import Gradient
from napari_qsm.solvers.admm import AXES, admm
from napari_qsm.solvers.data_terms import LeastSquares
from napari_qsm.solvers.fourier import SplitStep
from napari_qsm.solvers.generalised_variation import GeneralisedNormal, GeneralisedSplit
from napari_qsm.solvers.iteration import until_converged


class Box:
    shape = (8, 7, 6)
    voxel_size = (1.0, 0.8, 2.0)
    b0_direction = (0.28, 0.0, 0.96)


G = Gradient(Box.voxel_size)
K = 3.0
MU = 0.2


def noise(shape, random_state=0):
    generator = torch.Generator().manual_seed(random_state)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def bends(w):
    """All nine entries of E w."""
    slopes = torch.stack([G(component) for component in w])  # [j, i]: difference of w_j along i
    return (slopes + slopes.transpose(0, 1)) / 2


def bends_adjoint(b):
    """The adjoint of `bends` for a symmetric tensor field."""
    return torch.stack([G.H(row) for row in b])


def test_the_adjoint_of_the_symmetrised_gradient():
    w, b = noise((3, *Box.shape)), noise((3, 3, *Box.shape), 1)
    b = b + b.transpose(0, 1)
    assert float((bends(w) * b).sum()) == pytest.approx(float((w * bends_adjoint(b)).sum()))


@pytest.mark.parametrize("thickness", [1, 5, 100])
def test_the_split_pulls_with_the_adjoint(monkeypatch, thickness):
    """With nothing to shrink, z is K x itself, and what is written is the normal operator."""
    monkeypatch.setattr("napari_qsm.solvers.admm.SLAB_VOXELS", thickness * 42)
    unknowns = noise((4, *Box.shape))
    split = torch.zeros((9, *Box.shape), dtype=torch.float64)
    prior = GeneralisedSplit(
        G, threshold=0.0, order_ratio=1.0, penalty_ratio=K, split=split, relaxation=1.0
    )
    out = finished(prior.update(unknowns, torch.empty_like(unknowns)))
    x, w = unknowns[0], unknowns[1:]
    a = G(x) - w
    torch.testing.assert_close(out[0], G.H(a))
    torch.testing.assert_close(out[1:], K * bends_adjoint(bends(w)) - a)


def test_the_closed_form_solves_both_equations():
    symbol = DipoleConvolution(Box, padded_shape=Box.shape, dtype=torch.float64).spectrum
    prior = G.spectrum(Box.shape, dtype=torch.float64)
    ratio = 0.7
    normal = GeneralisedNormal(
        symbol, prior, voxel_size=Box.voxel_size, shape=torch.Size(Box.shape),
        ratio=ratio, penalty_ratio=K,
    )  # fmt: skip
    pulled, target = noise((4, *Box.shape)), noise(Box.shape, 1)

    def dipole(volume, times=1):
        return torch.fft.irfftn(torch.fft.rfftn(volume) * symbol**times, s=Box.shape)

    pulled[0] -= pulled[0].mean()  # the mean of x is free
    x, *w = finished(normal(pulled.clone(), torch.fft.rfftn(dipole(target))))
    w = torch.stack(w)
    first = dipole(x, 2) / ratio + G.H(G(x) - w)
    torch.testing.assert_close(first, dipole(target) / ratio + pulled[0])
    second = w - G(x) + K * bends_adjoint(bends(w))
    torch.testing.assert_close(second, pulled[1:])


def solve(data, symbol, *, voxel_size, regularization, order_ratio, penalty, iterations):
    gradient, shape = Gradient(voxel_size), data.shape
    unknowns = torch.zeros((4, *shape), dtype=torch.float64)
    prior = GeneralisedSplit(
        gradient,
        threshold=regularization / penalty,
        order_ratio=order_ratio,
        penalty_ratio=K,
        split=torch.zeros((9, *shape), dtype=torch.float64),
    )
    normal = GeneralisedNormal(
        symbol,
        gradient.spectrum(shape, dtype=torch.float64),
        voxel_size=voxel_size,
        shape=shape,
        ratio=penalty / MU,
        penalty_ratio=K,
    )
    term = LeastSquares(data, torch.ones_like(data), penalty=MU)
    step = SplitStep(term, symbol, normal, shape=shape)
    iterates = admm(prior, step, unknowns)
    *_, last = until_converged(iterates, tolerance=1e-13, max_iterations=iterations)
    return last.estimate


def test_ramps_stay_ramps_exactly():
    """With A = 1 a triangle wave only loses height, by a known amount.

    Where w is the slope, second differences alone are penalised, by r lambda. At the minimum
    ``f - x = r lambda d2 p`` with \\|p\\| <= 1 and p = +-1 at the kinks. For ``x = (1 - e) f`` that
    p is the twofold sum of e f, largest at the kinks by symmetry, so e follows from p = 1 there.
    """
    period, regularization, order_ratio = 24, 50.0, 0.02
    position = torch.arange(period, dtype=torch.float64)
    wave = (position - period / 2).abs() - period / 4
    second = wave.roll(-1) + wave.roll(1) - 2 * wave
    assert int((second != 0).sum()) == 2  # the kinks
    eigen = 2 * torch.cos(2 * torch.pi * torch.fft.rfftfreq(period, dtype=torch.float64)) - 2
    sums = torch.fft.rfft(wave)
    sums[1:] /= eigen[1:]
    sums[0] = 0
    height = float(torch.fft.irfft(sums, n=period).abs().max())
    lost = order_ratio * regularization / height

    shape = (period, 4, 4)
    data = wave[:, None, None].expand(shape).clone()
    symbol = torch.ones((period, 4, 3), dtype=torch.float64)
    x = solve(
        data, symbol, voxel_size=(1.0, 1.0, 1.0),
        regularization=regularization, order_ratio=order_ratio, penalty=5.0, iterations=6000,
    )  # fmt: skip
    assert 0.005 < lost < 0.5
    torch.testing.assert_close(x, (1 - lost) * data, atol=1e-5, rtol=0)


def test_a_mirrored_volume_has_a_mirrored_solution():
    symbol = torch.ones((8, 7, 4), dtype=torch.float64)
    data = noise(Box.shape)
    known = {
        "voxel_size": (1.0, 0.8, 2.0),
        "regularization": 0.2,
        "order_ratio": 1.5,
        "penalty": 0.5,
        "iterations": 1500,
    }
    x = solve(data, symbol, **known)
    mirrored = solve(data.flip(AXES), symbol, **known)
    torch.testing.assert_close(mirrored.flip(AXES), x, atol=1e-5, rtol=0)
