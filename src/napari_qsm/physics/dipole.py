"""From susceptibility to field: convolution with the unit dipole.

This is the only place where the dipole kernel, its padding, the direction of B0 and anisotropic
voxels are decided.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import combinations
from typing import Literal, Protocol

import torch
from torch import Tensor

from napari_qsm.physics.fourier import Shape, crop, frequencies, smooth_shape, spectrum, volume

Kernel = Literal["k-space", "cuboid"]


class Lattice(Protocol):
    """What the dipole must know of a grid; `napari_qsm.acquisition.Grid` is one."""

    @property
    def shape(self) -> Shape:
        """Number of voxels along each axis."""

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Sides of a voxel in mm."""

    @property
    def b0_direction(self) -> tuple[float, float, float]:
        """Unit vector of B0 in voxel axes."""


class DipoleConvolution:
    """The field in ppm that a susceptibility in ppm makes along B0: ``f = F^-1 D F chi``.

    Parameters
    ----------
    lattice : Lattice
        Shape, voxel size (mm) and B0 direction (voxel axes).
    kernel : {"k-space", "cuboid"}
        ``"k-space"`` samples ``D = 1/3 - (k.b)^2 / k^2`` with ``D(0) = 0``: closed form, exact
        normal operator, periodic; for inversion. ``"cuboid"`` convolves with the field of a
        uniformly magnetised voxel: free of Gibbs ringing and, from padding 2 on, of periodic
        images; for forward simulation.
    padding : float
        Each axis is transformed at the next 2-3-5-7-smooth size >= padding * n.
    padded_shape : sequence of int, optional
        The exact shape to transform at, instead of `padding`.
    device, dtype : optional
        Where the symbol lives and the real type it is applied in.

    Raises
    ------
    ValueError
        If the padding is below 1, `padded_shape` is smaller than the lattice, or `kernel` is
        unknown.

    Notes
    -----
    Volumes have shape (..., X, Y, Z). The operator pads with zeros, convolves and crops, so it is
    self-adjoint: ``A.H is A``. Sign: a paramagnetic sphere has a positive field at its poles.
    Reference: Marques & Bowtell 2005, doi:10.1002/cmr.b.20034.
    """

    def __init__(
        self,
        lattice: Lattice,
        *,
        kernel: Kernel = "k-space",
        padding: float = 1.0,
        padded_shape: Sequence[int] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if kernel not in _KERNELS:
            raise ValueError(
                f"'{kernel}' is not a dipole kernel; use one of {', '.join(_KERNELS)}."
            )
        x, y, z = smooth_shape(lattice.shape, padding) if padded_shape is None else padded_shape
        if any(p < n for p, n in zip((x, y, z), lattice.shape, strict=True)):
            raise ValueError(f"The padded shape {(x, y, z)} is smaller than {lattice.shape}.")
        self.shape = lattice.shape
        self.padded_shape = (x, y, z)
        self.kernel = kernel
        build = _KERNELS[kernel]
        self.spectrum = build(
            self.padded_shape, lattice.voxel_size, lattice.b0_direction, device, dtype
        )
        """The symbol D: real, on the half grid of `padded_shape`."""

    @property
    def H(self) -> "DipoleConvolution":
        """The adjoint, which is the operator itself."""
        return self

    @cached_property
    def gram(self) -> Tensor:
        """``D^2``: the symbol of ``A.H A`` on the padded shape."""
        return self.spectrum.square()

    def __call__(self, susceptibility: Tensor) -> Tensor:
        """Field of `susceptibility`: real volumes (..., X, Y, Z) of the lattice's shape.

        Raises
        ------
        ValueError
            If the volumes have another shape.
        """
        if susceptibility.shape[-3:] != self.shape:
            raise ValueError(
                f"The volume has shape {tuple(susceptibility.shape)}; {self.shape} was expected."
            )
        transform = spectrum(susceptibility, self.padded_shape)
        transform.mul_(self.spectrum)
        return crop(volume(transform, self.padded_shape), self.shape)


def _sampled_symbol(
    shape: Shape,
    voxel_size: Sequence[float],
    b0: Sequence[float],
    device: torch.device | str | None,
    dtype: torch.dtype,
) -> Tensor:
    """``1/3 - (k.b)^2 / k^2`` on the half grid, zero at the origin.

    The Nyquist index of an even axis stands for +k and -k at once, so terms odd in that k average
    to zero there. Leaving them in makes D lose its Hermitian symmetry: the operator is still
    self-adjoint but D(Dx) differs from D^2 x by about 10 % for noise and oblique B0.
    """
    k = frequencies(shape, voxel_size, device=device, dtype=dtype)
    along = torch.zeros((1, 1, 1), device=device, dtype=dtype)
    even = torch.zeros_like(along)
    for axis, (k_axis, b) in enumerate(zip(k, b0, strict=True)):
        paired = k_axis * b
        if shape[axis] % 2 == 0:
            nyquist = paired.narrow(axis, shape[axis] // 2, 1)
            squared = torch.zeros_like(paired)
            squared.narrow(axis, shape[axis] // 2, 1).copy_(nyquist.square())
            nyquist.zero_()
            even = even + squared
        along = along + paired
    k_squared = k[0].square() + k[1].square() + k[2].square()
    k_squared[0, 0, 0] = 1.0
    symbol = along.square().add_(even).div_(k_squared).neg_().add_(1 / 3)
    symbol[0, 0, 0] = 0.0
    return symbol


def _cuboid_symbol(
    shape: Shape,
    voxel_size: Sequence[float],
    b0: Sequence[float],
    device: torch.device | str | None,
    dtype: torch.dtype,
) -> Tensor:
    """Transform of the field that one uniformly magnetised voxel makes at voxel centres.

    With the demagnetising tensor N of a box and the Lorentz sphere (2/3 inside matter),
    ``h(r) = inside(r) (1 - 2/3) - b.N(r) b``. N_ij is odd along i and j if they differ and even
    otherwise, so one octant is evaluated and mirrored. Evaluated in float64: neighbouring corners
    cancel to one part in r^3.
    """
    corners = [
        (torch.arange(n // 2 + 2, dtype=torch.float64) - 0.5) * size
        for n, size in zip(shape, voxel_size, strict=True)
    ]
    diagonal = [_demagnetisation(corners, i, i).mul_(b0[i] ** 2) for i in range(3) if b0[i]]
    response = _mirrored(torch.stack(diagonal).sum(0), shape, odd=()).neg_()
    for i, j in combinations(range(3), 2):
        if b0[i] * b0[j]:
            component = _mirrored(_demagnetisation(corners, i, j), shape, odd=(i, j))
            response.sub_(component, alpha=2 * b0[i] * b0[j])
    response[0, 0, 0] += 1 / 3
    symbol: Tensor = spectrum(response).real
    return symbol.to(dtype=dtype, device=device).contiguous()


def _mirrored(octant: Tensor, shape: Shape, *, odd: Sequence[int]) -> Tensor:
    """Continue a function from r >= 0 to the periodic grid of `shape`, odd along the axes `odd`.

    The middle plane of an even axis is its own mirror image, where an odd function is zero.
    """
    whole = octant
    for axis, n in enumerate(shape):
        behind = whole.narrow(axis, 1, n - n // 2 - 1).flip(axis)
        if axis in odd:
            behind.neg_()
            if n % 2 == 0:
                whole.narrow(axis, n // 2, 1).zero_()
        whole = torch.cat((whole, behind), axis)
    return whole


def _demagnetisation(corners: Sequence[Tensor], i: int, j: int) -> Tensor:
    """Component N_ij of a voxel's demagnetising tensor, on the grid between `corners` (mm).

    N_xx sums ``atan(yz / (x r)) / 4 pi`` and N_xy sums ``-asinh(z / rho_xy) / 4 pi`` over the
    eight corners with alternating signs, which is a difference along each axis of a table of
    corners. The usual ``ln(z + r)`` differs from the asinh by a term that cancels, and loses
    digits for negative z. Reference: Newell, Williams & Dunlop 1993, doi:10.1029/93JB00694.
    """
    axes = [c.reshape([-1 if a == axis else 1 for a in range(3)]) for axis, c in enumerate(corners)]
    if i == j:
        x, y, z = axes[i], axes[(i + 1) % 3], axes[(i + 2) % 3]
        r = (x.square() + y.square() + z.square()).sqrt_()
        table = (y * z / x / r).atan_()
    else:
        x, y, z = axes[i], axes[j], axes[3 - i - j]
        table = (z / (x.square() + y.square()).sqrt_()).asinh_().neg_()
    for axis in range(3):
        table = table.diff(dim=axis)
    return table.div_(4 * math.pi)


_KERNELS = {"k-space": _sampled_symbol, "cuboid": _cuboid_symbol}
