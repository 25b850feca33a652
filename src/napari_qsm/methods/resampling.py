"""Volumes on another grid: continued beyond their mask, interpolated by cubic splines."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from napari_qsm.acquisition import FloatArray
from napari_qsm.networks.background import in_background

SLAB = 100_000
"""Voxels that are interpolated between two signs of life."""


def extended(volume: NDArray[np.float32], mask: NDArray[np.bool_], layers: int) -> FloatArray:
    """Continue a volume beyond a mask: layer by layer with the mean of the neighbours known."""
    known = torch.from_numpy(mask.astype(np.float32))[None, None]
    values = torch.from_numpy(np.where(mask, volume, 0).astype(np.float32))[None, None]
    for _ in range(layers):
        counts = functional.avg_pool3d(known, 3, 1, 1)
        sums = functional.avg_pool3d(values, 3, 1, 1)
        new = (known == 0) & (counts > 1e-3)
        values = torch.where(new, sums / counts.clamp(min=1e-3), values)
        known = known + new
    result: FloatArray = values[0, 0].numpy()
    return result


def sampled(
    volume: NDArray[np.float32],
    matrix: NDArray[np.float64],
    shape: tuple[int, int, int],
    *,
    order: int,
) -> FloatArray:
    """Sample a volume, or its spline coefficients, at ``matrix @ index``; zero outside it."""
    made: FloatArray = ndimage.affine_transform(
        volume,
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=shape,
        output=np.float32,
        order=order,
        mode="grid-constant",
        prefilter=False,
    )
    return made


def interpolated(
    volume: NDArray[np.float32],
    mask: NDArray[np.bool_],
    matrix: NDArray[np.float64],
    shape: tuple[int, int, int],
    *,
    layers: int,
    smooth: bool = False,
) -> Generator[None, None, FloatArray]:
    """Interpolate a volume by cubic splines, in pieces, yielding in between.

    Parameters
    ----------
    volume, mask : (X, Y, Z) array
        What is interpolated, and where it is known.
    matrix : (4, 4) array
        From the indices of the result to those of the volume.
    shape : tuple[int, int, int]
        Of the result.
    layers : int
        Voxels by which the volume is continued beyond the mask.
    smooth : bool
        Whether what is finer than the voxels of the result is taken out first: right for what was
        measured, needless for maps made from something as coarse as the result.
    """

    def coefficients() -> FloatArray:
        known = extended(volume, mask, layers)
        known = _smoothed(known, matrix) if smooth else known
        made: FloatArray = ndimage.spline_filter(known, order=3, output=np.float32, mode="mirror")
        return made

    spline = yield from in_background(coefficients)
    made = np.zeros(shape, dtype=np.float32)
    planes = max(1, SLAB // (shape[1] * shape[2]))
    for start in range(0, shape[0], planes):
        part = min(planes, shape[0] - start)
        moved = matrix.copy()
        moved[:3, 3] += start * matrix[:3, 0]
        made[start : start + part] = sampled(spline, moved, (part, *shape[1:]), order=3)
        yield
    return made


def _smoothed(volume: FloatArray, matrix: NDArray[np.float64]) -> FloatArray:
    """Smooth along every axis to the size of larger voxels, so that nothing folds over."""
    for axis, width in enumerate(_widths(matrix)):
        if width > 0.2:
            volume = ndimage.gaussian_filter1d(volume, width, axis=axis, truncate=3.0)
    return volume


def _widths(matrix: NDArray[np.float64]) -> Sequence[float]:
    """Return for every axis the standard deviation in voxels of a Gaussian to smooth with."""
    sizes = np.linalg.norm(np.linalg.inv(matrix[:3, :3]), axis=0)
    ratios = 1 / sizes  # voxels of the volume that a voxel of the result is long
    return [0.5 * float(np.sqrt(max(0.0, ratio**2 - 1))) for ratio in ratios]
