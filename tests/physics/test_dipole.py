"""The dipole convolution against mathematics and against bodies whose field is known."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_qsm.acquisition import Grid
from napari_qsm.physics import fourier
from napari_qsm.physics.dipole import DipoleConvolution

KERNELS = ("k-space", "cuboid")


@dataclass(frozen=True)
class Box:
    """A lattice for tests."""

    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    b0_direction: tuple[float, float, float] = (0.0, 0.0, 1.0)


def unit(*vector):
    return tuple(float(v) for v in np.array(vector) / np.linalg.norm(vector))


OBLIQUE = unit(0.3, -0.4, 0.87)


def noise(shape, dtype=torch.float64, random_state=0):
    generator = torch.Generator().manual_seed(random_state)
    return torch.randn(shape, dtype=dtype, generator=generator)


def relative(x, y):
    return float((x - y).norm() / y.norm())


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("padding", [1.0, 2.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize(
    "box",
    [
        Box((8, 10, 12)),
        Box((9, 15, 7), (1.0, 0.8, 2.5), OBLIQUE),
        Box((11, 16, 13), (0.6, 0.6, 2.0), OBLIQUE),  # 11 and 13 are padded even at padding 1
        Box((1, 9, 10), b0_direction=unit(1, 1, 0)),
    ],
)
def test_it_is_its_own_adjoint(box, dtype, tolerance, padding, kernel, device):
    A = DipoleConvolution(box, kernel=kernel, padding=padding, dtype=dtype, device=device)
    x, y = (noise(box.shape, dtype, i).to(device) for i in (1, 2))
    forward, backward = (A(x) * y).sum(), (x * A.H(y)).sum()
    assert abs(forward - backward) <= tolerance * A(x).norm() * y.norm()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    voxel_size=st.tuples(*[st.floats(0.3, 4.0)] * 3),
    direction=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1),
    kernel=st.sampled_from(KERNELS),
)
def test_it_is_linear_finite_and_self_adjoint_on_any_grid(shape, voxel_size, direction, kernel):
    A = DipoleConvolution(
        Box(shape, voxel_size, unit(*direction)), kernel=kernel, dtype=torch.float64
    )
    x, y = noise(shape, random_state=1), noise(shape, random_state=2)
    assert torch.isfinite(A.spectrum).all()
    torch.testing.assert_close(A(2 * x - y), 2 * A(x) - A(y), atol=1e-12, rtol=0)
    torch.testing.assert_close((A(x) * y).sum(), (x * A(y)).sum(), atol=1e-10, rtol=0)


def without_nyquist_fix(box):
    k = fourier.frequencies(box.shape, box.voxel_size, dtype=torch.float64)
    along = sum(k_axis * b for k_axis, b in zip(k, box.b0_direction, strict=True))
    squared = sum(k_axis.square() for k_axis in k)
    squared[0, 0, 0] = 1
    symbol = 1 / 3 - along.square() / squared
    symbol[0, 0, 0] = 0
    return symbol


def applied(symbol, x):
    return fourier.volume(fourier.spectrum(x) * symbol, x.shape)


@pytest.mark.parametrize("shape", [(8, 10, 12), (9, 15, 7), (8, 9, 10)])
def test_applying_it_twice_is_applying_its_square(shape):
    """On even axes this holds only with the terms odd in the Nyquist frequency left out."""
    box = Box(shape, (1.0, 1.2, 0.7), OBLIQUE)
    A = DipoleConvolution(box, padded_shape=shape, dtype=torch.float64)
    x = noise(shape)
    assert relative(A(A(x)), applied(A.gram, x)) < 1e-14

    naive = without_nyquist_fix(box)
    twice = relative(applied(naive, applied(naive, x)), applied(naive.square(), x))
    if all(n % 2 for n in shape):
        assert twice < 1e-14
    else:
        assert twice > 0.01


@pytest.mark.parametrize("shape", [(9, 15, 7), (8, 10, 12)])
def test_three_orthogonal_directions_cancel(shape):
    triad = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    symbols = [
        DipoleConvolution(
            Box(shape, (1.0, 0.8, 2.0), unit(*b)), padded_shape=shape, dtype=torch.float64
        ).spectrum
        for b in triad
    ]
    assert float(sum(symbols).abs().max()) < 1e-14


def test_a_constant_makes_no_field():
    A = DipoleConvolution(Box((8, 9, 10), b0_direction=OBLIQUE), padded_shape=(8, 9, 10))
    assert float(A(torch.full((8, 9, 10), 0.7)).abs().max()) < 1e-6


def antialiased(inside, shape, voxel_size, parts=4):
    """Volume share of a body; `inside` takes positions in mm relative to the centre."""
    total = torch.zeros(shape, dtype=torch.float64)
    steps = (np.arange(parts) + 0.5) / parts - 0.5
    for offset in product(steps, repeat=3):
        total += inside(*positions(shape, voxel_size, offset)).double()
    return total / parts**3


def positions(shape, voxel_size, offset=(0, 0, 0)):
    axes = [
        (torch.arange(n, dtype=torch.float64) - n // 2 + o) * v
        for n, v, o in zip(shape, voxel_size, offset, strict=True)
    ]
    return torch.meshgrid(*axes, indexing="ij")


@pytest.mark.parametrize("direction", [(0.0, 0.0, 1.0), OBLIQUE])
@pytest.mark.parametrize(
    ("kernel", "voxel_size", "limit"),
    [
        ("k-space", (1.0, 1.0, 1.0), 0.04),
        ("cuboid", (1.0, 1.0, 1.0), 0.03),
        ("cuboid", (1.0, 1.0, 2.0), 0.03),
    ],
)
def test_sphere(kernel, voxel_size, limit, direction):
    """Outside ``chi/3 (R/r)^3 (3 cos^2 - 1)``, inside 0.

    Compared from 1.5 voxels outside the surface on: nearer, the partial volume of the voxels on
    the border decides. The rest is discretisation, 0.4 to 3 % of the field's norm at R = 8.
    """
    radius, shape = 8.0, tuple(int(48 / v) for v in voxel_size)
    chi = antialiased(lambda x, y, z: x**2 + y**2 + z**2 < radius**2, shape, voxel_size)
    A = DipoleConvolution(
        Box(shape, voxel_size, direction), kernel=kernel, padding=2.0, dtype=torch.float64
    )
    field = A(chi)
    place = torch.stack(positions(shape, voxel_size))
    r = place.norm(dim=0).clamp(min=1e-6)
    cosine = torch.tensordot(torch.tensor(direction, dtype=torch.float64), place, 1) / r
    expected = (radius / r) ** 3 * (3 * cosine**2 - 1) / 3
    outside = (r > radius + 1.5 * max(voxel_size)) & (r < 2.5 * radius)
    inside = r < radius - 2 * max(voxel_size)
    assert relative(field[outside], expected[outside]) < limit
    assert float(field[inside].abs().max()) < 0.05
    pole = int(torch.where(outside, cosine.abs(), -1).argmax())
    assert field.flatten()[pole] > 0  # paramagnetic: positive at the poles


@pytest.mark.parametrize("angle", [0, 30, 54.7356, 90])
def test_infinite_cylinder(angle):
    """Inside ``chi/6 (3 cos^2 - 1)``, outside ``chi/2 sin^2 (R/r)^2 cos(2 phi)``.

    The cylinder runs along the last axis through the periodic boundary, so it has no ends. Its
    images across the other two axes are 96 voxels away and add at most chi/2 (R/96)^2 each, which
    with the discretisation stays below 0.012 chi.
    """
    radius, shape = 6.0, (96, 96, 4)
    theta = np.radians(angle)
    box = Box(shape, b0_direction=(float(np.sin(theta)), 0.0, float(np.cos(theta))))
    chi = antialiased(lambda x, y, _: x**2 + y**2 < radius**2, shape, box.voxel_size)
    field = DipoleConvolution(box, padded_shape=shape, dtype=torch.float64)(chi)
    x, y, _ = positions(shape, box.voxel_size)
    r = (x**2 + y**2).sqrt().clamp(min=1e-6)
    outer = np.sin(theta) ** 2 / 2 * (radius / r) ** 2 * (x**2 - y**2) / r**2
    inner = (3 * np.cos(theta) ** 2 - 1) / 6
    # The mean of the periodic volume carries no field: what a whole plane of matter would make.
    gauge = float(chi.mean()) * inner
    outside = (r > radius + 2) & (r < 24)
    assert float((field - outer + gauge)[outside].abs().max()) < 0.012
    assert float((field - inner + gauge)[r < radius - 3].abs().max()) < 0.012


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2)])
def test_turning_the_volume_turns_the_field(order, flips, kernel):
    """Axes may be stored in any order and sense, as long as the affine says so."""
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = rotation * [1.0, 0.8, 1.5]
    chi = rng.standard_normal((8, 9, 10))
    turned = np.eye(4)
    turned[:3, :3] = affine[:3, order]
    turned[:3, list(flips)] *= -1

    def field(values, matrix):
        A = DipoleConvolution(
            Grid(values.shape, matrix), kernel=kernel, padding=2.0, dtype=torch.float64
        )
        return A(torch.from_numpy(np.ascontiguousarray(values))).numpy()

    def turn(values):
        return np.flip(values.transpose(order), flips)

    np.testing.assert_allclose(field(turn(chi), turned), turn(field(chi, affine)), atol=1e-12)


def test_far_from_a_voxel_the_cuboid_is_a_point_dipole():
    """``V (3 cos^2 - 1) / (4 pi r^3)``; at 11 voxels the shape of a cube changes 1e-4 of it."""
    box = Box((25, 25, 25), b0_direction=OBLIQUE)
    chi = torch.zeros(box.shape, dtype=torch.float64)
    chi[12, 12, 12] = 1
    field = DipoleConvolution(box, kernel="cuboid", padding=2.0, dtype=torch.float64)(chi)
    away = np.array([8, 5, -6])
    r = np.linalg.norm(away)
    expected = (3 * (away @ OBLIQUE / r) ** 2 - 1) / (4 * np.pi * r**3)
    assert float(field[tuple(12 + away)]) == pytest.approx(expected, rel=1e-3)
    assert abs(float(field[12, 12, 12])) < 1e-12  # Lorentz: a cube feels no field of its own


def test_padding_chooses_fast_sizes_and_crops_back():
    A = DipoleConvolution(Box((41, 82, 11)), padding=1.25)
    assert A.padded_shape == (54, 105, 14)
    assert A(torch.zeros(2, 41, 82, 11)).shape == (2, 41, 82, 11)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"padding": 0.5}, "at least 1"),
        ({"padded_shape": (4, 8, 8)}, "smaller"),
        ({"kernel": "point"}, "k-space, cuboid"),
    ],
)
def test_it_refuses_what_it_cannot_do(options, words):
    with pytest.raises(ValueError, match=words):
        DipoleConvolution(Box((8, 8, 8)), **options)


def test_it_refuses_a_volume_of_another_shape():
    with pytest.raises(ValueError, match="was expected"):
        DipoleConvolution(Box((8, 8, 8)))(torch.zeros(8, 8, 9))


def test_it_can_be_differentiated():
    """Networks are trained through it."""
    A = DipoleConvolution(Box((6, 5, 7), b0_direction=OBLIQUE), dtype=torch.float64)
    assert torch.autograd.gradcheck(A, noise((6, 5, 7)).requires_grad_())
