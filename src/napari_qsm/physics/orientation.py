"""Where B0 points when a head is turned, and how well several directions condition COSMOS.

Registration turns an image into the frame of another one, and the direction of B0 turns with it:
``b = R b'``, with R the rotation that takes positions in the turned image to those in the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Vector = tuple[float, float, float]

ANISOTROPY = 0.1
"""How far a matrix may scale or shear before it is no rotation that registration has found."""

POINTS = 20_000
"""Directions on half a sphere at which `worst_sum` looks: one for each square degree."""


def rotation_part(matrix: Sequence[Sequence[float]] | Tensor) -> Tensor:
    """Return the rotation nearest to a 3x3 matrix, or to the upper left part of a 4x4 one.

    With the singular value decomposition ``M = U S V'`` that is ``U V'``: what remains of an affine
    registration when its scales and shears are taken off.

    Raises
    ------
    ValueError
        If it has another shape, is not finite, mirrors, or scales an axis by more than a tenth.
    """
    given = torch.as_tensor(matrix, dtype=torch.float64)
    if given.shape not in ((3, 3), (4, 4)):
        raise ValueError(f"The matrix has shape {tuple(given.shape)}; 3x3 or 4x4 was expected.")
    linear = given[:3, :3]
    if not bool(torch.isfinite(given).all()):
        raise ValueError("The matrix holds values that are no numbers.")
    left, scales, right = torch.linalg.svd(linear)
    if float((scales - 1).abs().max()) > ANISOTROPY:
        found = ", ".join(f"{float(scale):.3g}" for scale in scales)
        raise ValueError(f"The matrix scales by {found}; a rotation was expected.")
    if float(torch.linalg.det(linear)) < 0:
        raise ValueError("The matrix mirrors; a rotation was expected.")
    rotation: Tensor = left @ right
    return rotation


def voxel_direction(direction: Sequence[float], affine: Sequence[Sequence[float]]) -> Vector:
    """Bring a direction from scanner axes (RAS) to voxel axes: ``R' b``.

    The columns of R are the unit columns of the affine.
    """
    linear = torch.as_tensor(affine, dtype=torch.float64)[:3, :3]
    axes = linear / torch.linalg.vector_norm(linear, dim=0)
    return _unit(axes.T @ torch.as_tensor(direction, dtype=torch.float64))


def turned(direction: Sequence[float], rotation: Sequence[Sequence[float]] | Tensor) -> Vector:
    """Return a direction turned by the rotation part of a matrix, see `rotation_part`."""
    return _unit(rotation_part(rotation) @ torch.as_tensor(direction, dtype=torch.float64))


def flirt_rotation(
    matrix: Sequence[Sequence[float]] | Tensor, affine: Sequence[Sequence[float]]
) -> Tensor:
    """Bring the rotation of a FLIRT matrix to stored voxel axes.

    FLIRT's matrices connect positions in mm along the voxel axes, of which the first runs
    backwards wherever the affine does not mirror (its determinant is positive). Both images are
    taken to be stored alike.
    """
    rotation = rotation_part(matrix)
    linear = torch.as_tensor(affine, dtype=torch.float64)[:3, :3]
    if float(torch.linalg.det(linear)) > 0:
        backwards = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
        rotation = backwards @ rotation @ backwards
    return rotation


def worst_sum(directions: Sequence[Sequence[float]]) -> float:
    """Smallest ``sum_i D_i(k)^2`` over all directions of k, with ``D_i = 1/3 - (k.b_i)^2 / k^2``.

    It is the denominator of COSMOS where it is smallest: noise of the fields is amplified there by
    ``1 / sqrt`` of it. For one direction, or several equal ones, and for two, whose cones of zeros
    intersect, it is 0; to within 2e-4, since it is looked for at one point in each square degree.

    Parameters
    ----------
    directions : sequence of three numbers each
        Unit vectors of B0 in one frame.
    """
    axes = torch.as_tensor(directions, dtype=torch.float64)
    return float((1 / 3 - (_half_sphere() @ axes.T).square()).square().sum(1).min())


def _half_sphere() -> Tensor:
    """Spread unit vectors evenly over half a sphere, along a spiral of golden angles."""
    count = torch.arange(POINTS, dtype=torch.float64)
    z = (count + 0.5) / POINTS
    angle = count * (math.pi * (3 - math.sqrt(5)))
    radius = (1 - z.square()).sqrt_()
    return torch.stack((radius * angle.cos(), radius * angle.sin(), z), dim=1)


def _unit(vector: Tensor) -> Vector:
    x, y, z = (float(part) for part in vector / torch.linalg.vector_norm(vector))
    return x, y, z
