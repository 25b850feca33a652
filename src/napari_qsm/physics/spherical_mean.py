"""The spherical mean value: a harmonic field is, at every point, its mean over a ball around it.

Fields of sources outside a ball are harmonic in it, so ``f - S f`` keeps nothing of them; methods
that remove a background by spherical means are built on this operator.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from napari_qsm.physics import fourier

SUBDIVISION = 6
"""Points along each axis of a voxel that decide which part of it lies in the ball."""


def reach(radius: float, voxel_size: Sequence[float]) -> tuple[int, ...]:
    """How many voxels a ball of `radius` mm around a voxel's centre reaches along each axis."""
    return tuple(math.floor(radius / size + 0.5) for size in voxel_size)


def ball(radius: float, voxel_size: Sequence[float]) -> Tensor:
    """Weights with which voxels count in the mean over a ball.

    A voxel counts with the part of it that the ball covers. Small second differences at the
    centre then bring the second moment along every axis to that of the ball, ``r^2 / 5``, so that
    harmonic polynomials of degree 2, and by symmetry those of degree 0, 1 and 3, equal their mean
    to rounding, on anisotropic voxels as well.

    Parameters
    ----------
    radius : float
        In mm, at least the longest side of a voxel.
    voxel_size : sequence of float
        Sides of a voxel in mm.

    Returns
    -------
    Tensor
        float64, for offsets of 0 or more voxels along each axis; mirrored, they sum to 1.

    Raises
    ------
    ValueError
        If the radius is too short.
    """
    if radius < max(voxel_size):
        raise ValueError(f"A ball of {radius:g} mm is smaller than a voxel of {voxel_size} mm.")
    weights = covered(radius, voxel_size)
    weights /= _sum(weights)
    for axis, size in enumerate(voxel_size):
        squares = (torch.arange(weights.shape[axis], dtype=weights.dtype) * size).square()
        missing = radius**2 / 5 - float(_sum(weights * _along(axis, squares)))
        share = missing / (2 * size**2)
        weights[0, 0, 0] -= 2 * share
        weights[tuple(int(a == axis) for a in range(3))] += share
    return weights


def covered(radius: float, voxel_size: Sequence[float]) -> Tensor:
    """Which part of each voxel a ball around the centre of one covers.

    Returns
    -------
    Tensor
        float64, for offsets of 0 or more voxels along each axis; more than 0 for the first,
        however small the ball.
    """
    axes = [
        torch.arange(n + 1, dtype=torch.float64) * size
        for n, size in zip(reach(radius, voxel_size), voxel_size, strict=True)
    ]
    points = torch.zeros([len(axis) for axis in axes], dtype=torch.float64)
    offsets = (torch.arange(SUBDIVISION, dtype=torch.float64) + 0.5) / SUBDIVISION - 0.5
    for offset in torch.cartesian_prod(offsets, offsets, offsets):
        x, y, z = (
            (axis + part * size).square()
            for axis, part, size in zip(axes, offset, voxel_size, strict=True)
        )
        points += x[:, None, None] + y[:, None] + z <= radius**2
    points[0, 0, 0].clamp_(min=1)
    return points / SUBDIVISION**3


def eroded(region: Tensor, neighbourhood: Tensor) -> Tensor:
    """Voxels of a region whose whole neighbourhood lies in it.

    Parameters
    ----------
    region : (X, Y, Z) tensor
        1 inside, 0 outside, with a margin at its far ends as wide as the neighbourhood.
    neighbourhood : Tensor
        Not 0 for the offsets that belong to it, 0 or more along each axis and mirrored; such as
        what `covered` returns.

    Notes
    -----
    Voxels are counted and not weighted: one that a large ball barely touches would be lost in the
    rounding of a mean.
    """
    count = _symbol((neighbourhood != 0).double(), region.shape)
    outside = fourier.spectrum(1 - region)
    outside.mul_(count.to(device=region.device, dtype=region.dtype))
    return (fourier.volume(outside, region.shape) < 0.5).to(region.dtype)


def _along(axis: int, values: Tensor) -> Tensor:
    return values.reshape([-1 if a == axis else 1 for a in range(3)])


def _sum(octant: Tensor) -> Tensor:
    """Sum of the mirrored octant."""
    for axis in range(3):
        octant = 2 * octant.sum(axis, keepdim=True) - octant.narrow(axis, 0, 1)
    return octant.squeeze()


def _symbol(octant: Tensor, shape: Sequence[int]) -> Tensor:
    """Transform of the mirrored octant on the half grid of `shape`: sums of cosines.

    A ball is so much smaller than a head that this takes less time than a transform, and no
    memory; and rounding does not blur how little a mean departs from 1 at low frequencies.
    """
    cosines = []
    for axis, (reach, n) in enumerate(zip(octant.shape, shape, strict=True)):
        k = torch.arange(n if axis < 2 else n // 2 + 1, dtype=torch.float64)
        offset = torch.arange(reach, dtype=torch.float64)
        table = 2 * torch.cos((2 * math.pi / n) * torch.outer(k, offset))
        table[:, 0] = 1
        cosines.append(table)
    return torch.einsum("ijk,xi,yj,zk->xyz", octant, *cosines)


class SphericalMean:
    """The mean over a ball around every voxel, a periodic convolution S.

    Parameters
    ----------
    shape : (X, Y, Z)
        Of the volumes. Where the ball must not wrap around, leave a margin of `radius`.
    voxel_size : sequence of float
        In mm.
    radius : float
        In mm, at least the longest side of a voxel.
    device, dtype : optional
        Where the symbol lives and the real type it is applied in.

    Raises
    ------
    ValueError
        If the radius is shorter than a voxel, or the ball does not fit into the volume.

    Notes
    -----
    S is self-adjoint: ``S.H is S``.
    """

    def __init__(
        self,
        shape: Sequence[int],
        voxel_size: Sequence[float],
        radius: float,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.weights = ball(radius, voxel_size)
        """See `ball`."""
        self.shape, self.radius = tuple(shape), radius
        if any(2 * n - 1 > size for n, size in zip(self.weights.shape, shape, strict=True)):
            raise ValueError(f"A ball of {radius:g} mm does not fit into {self.shape} voxels.")
        deviation = 1 - _symbol(self.weights, shape)
        self.deviation = deviation.to(device=device, dtype=dtype)
        """The symbol of ``1 - S``: real, at least 0, on the half grid."""

    @property
    def H(self) -> "SphericalMean":
        """The adjoint, which is the operator itself."""
        return self

    def __call__(self, volume: Tensor) -> Tensor:
        """Mean of a real volume over the ball around every voxel."""
        beyond = fourier.spectrum(volume).mul_(self.deviation)
        return volume - fourier.volume(beyond, self.shape)

    def core(self, region: Tensor) -> Tensor:
        """Where the ball around a voxel touches nothing outside `region`, see `eroded`."""
        return eroded(region, self.weights)
