"""The Laplacian on a grid, exact for what is harmonic to the fourth order of the voxel size."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from napari_qsm.physics import fourier


def laplacian_symbol(
    shape: Sequence[int],
    voxel_size: Sequence[float],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Symbol of the negative 19-point Laplacian in 1/mm^2, real, >= 0, on the half grid.

    With ``s_a = (2 - 2 cos(2 pi k_a v_a)) / v_a^2`` it is
    ``sum_a s_a - sum_{a<b} (v_a^2 + v_b^2) s_a s_b / 12``. The first sum errs by fourth
    derivatives; of a harmonic function the second takes these away on any rectangular grid. It is
    at least a third of the first sum, so the operator stays positive.
    """
    lines = [
        (2 - 2 * torch.cos(2 * math.pi * k * v)) / v**2
        for k, v in zip(
            fourier.frequencies(shape, voxel_size, dtype=torch.float64), voxel_size, strict=True
        )
    ]
    x, y, z = (line.to(device=device, dtype=dtype) for line in lines)
    u, v, w = (size**2 / 12 for size in voxel_size)
    plane = x + y - (u + v) * x * y
    return plane + z * (1 - (u + w) * x - (v + w) * y)
