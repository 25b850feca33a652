"""How alike two susceptibility maps look: structure and fine detail, in a mask."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_qsm.acquisition import InputError
from napari_qsm.evaluation.metrics import checked

XSIM_WINDOW = 5
"""Side of the window in voxels in which `xsim` compares."""

XSIM_CONSTANTS = (0.01**2, 0.001**2)
"""Constants of `xsim` in ppm^2: (K1 L)^2 and (K2 L)^2 with K1 = 0.01, K2 = 0.001, L = 1 ppm."""


def xsim(estimate: NDArray[Any], reference: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    """Structural similarity with constants that fit susceptibility in ppm, averaged in the mask.

    ``(2 mx mr + c1)(2 cov + c2) / ((mx^2 + mr^2 + c1)(vx + vr + c2))`` with means m, variances v
    and covariance taken in a cube of 5 voxels about each voxel, truncated at the volume's edge;
    the constants are those of `XSIM_CONSTANTS`, far below SSIM's, which would hide all tissue.

    Parameters
    ----------
    estimate, reference : (X, Y, Z) arrays
        In ppm.
    mask : (X, Y, Z) array of bool
        Voxels whose windows count.

    Returns
    -------
    float
        1 for equal maps.

    Raises
    ------
    InputError
        If the shapes differ or the mask is empty.

    Notes
    -----
    Reference: Milovic et al. 2024, doi:10.1002/mrm.30271.
    """
    x, r = checked(estimate, reference, mask)
    c1, c2 = XSIM_CONSTANTS
    share = _window_mean(np.ones(x.shape))

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        averaged: NDArray[np.float64] = _window_mean(values) / share
        return averaged

    mx, mr = mean(x), mean(r)
    vx, vr, covariance = mean(x * x) - mx * mx, mean(r * r) - mr * mr, mean(x * r) - mx * mr
    alike = (2 * mx * mr + c1) * (2 * covariance + c2)
    scale = (mx * mx + mr * mr + c1) * (vx + vr + c2)
    return float((alike[mask] / scale[mask]).mean())


def _window_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = ndimage.uniform_filter(values, XSIM_WINDOW, mode="constant")
    return mean


def ssim(
    estimate: NDArray[Any],
    reference: NDArray[Any],
    mask: NDArray[np.bool_],
    *,
    data_range: float | None = None,
) -> float:
    """Structural similarity as scikit-image defines it, averaged over the mask.

    Parameters
    ----------
    estimate, reference : (X, Y, Z) arrays
        In one unit; at least 7 voxels along every axis.
    mask : (X, Y, Z) array of bool
        Voxels whose windows count.
    data_range : float, optional
        L in the constants; the reference's range in the mask if not given.

    Raises
    ------
    InputError
        If the shapes differ, the mask is empty, or an axis is shorter than the window.

    Notes
    -----
    Reference: Wang et al. 2004, doi:10.1109/TIP.2003.819861.
    """
    from skimage.metrics import structural_similarity

    x, r = checked(estimate, reference, mask)
    if min(x.shape) < 7:
        raise InputError(f"SSIM needs 7 voxels along every axis; the volume has {x.shape}.")
    width = float(np.ptp(r[mask])) if data_range is None else data_range
    _, local = structural_similarity(x, r, data_range=width, full=True)
    return float(local[mask].mean())


def hfen(
    estimate: NDArray[Any],
    reference: NDArray[Any],
    mask: NDArray[np.bool_],
    *,
    width: float = 1.5,
) -> float:
    """High-frequency error norm in percent: ``100 |LoG x - LoG r| / |LoG r|`` in the mask.

    Parameters
    ----------
    estimate, reference : (X, Y, Z) arrays
        x and r in one unit.
    mask : (X, Y, Z) array of bool
        Voxels that count; the filter itself sees the whole volume.
    width : float
        Standard deviation of the Laplacian of Gaussian in voxels.

    Raises
    ------
    InputError
        If the shapes differ, the mask is empty, or the reference has no detail.

    Notes
    -----
    Reference: Langkammer et al. 2018, doi:10.1002/mrm.26830 (QSM challenge 2016).
    """
    x, r = (
        ndimage.gaussian_laplace(v, width, truncate=5.0)[mask]
        for v in checked(estimate, reference, mask)
    )
    size = float(np.linalg.norm(r))
    if not size > 0 or not math.isfinite(size):
        raise InputError("The reference has no fine detail in the mask; choose another one.")
    return 100 * float(np.linalg.norm(x - r)) / size
