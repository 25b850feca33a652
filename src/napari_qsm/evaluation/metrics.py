"""Distance of a susceptibility map from its reference, in a mask."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import FloatArray, InputError

Detrend = Literal["none", "mean", "line"]


def nrmse(
    estimate: NDArray[Any],
    reference: NDArray[Any],
    mask: NDArray[np.bool_],
    *,
    detrend: Detrend = "mean",
) -> float:
    """Root mean square error in percent of the reference's root mean square, in the mask.

    ``100 |x - r| / |r|``

    Parameters
    ----------
    estimate, reference : (X, Y, Z) arrays
        x and r in the same unit.
    mask : (X, Y, Z) array of bool
        Voxels that count.
    detrend : {"none", "mean", "line"}
        ``"none"`` compares as they are; ``"mean"`` subtracts the mean in the mask from both,
        because a dipole inversion cannot know it; ``"line"`` also takes the regression of x on r
        out of x, which forgives a wrong scale (QSM challenge 2.0, doi:10.1002/mrm.28754).

    Raises
    ------
    InputError
        If the shapes differ, the mask is empty, or the reference does not vary where it must.
    """
    if not estimate.shape == reference.shape == mask.shape:
        raise InputError(
            f"The map has shape {estimate.shape}, the reference {reference.shape} and the mask "
            f"{mask.shape}; bring them to one grid."
        )
    if not mask.any():
        raise InputError("The mask is empty; choose one that covers the brain.")
    x, r = (values[mask].astype(np.float64) for values in (estimate, reference))
    if detrend != "none":
        x, r = x - x.mean(), r - r.mean()
    size = float(np.linalg.norm(r))
    if size == 0:
        raise InputError("The reference is the same everywhere in the mask; choose another one.")
    if detrend == "line":
        slope = float(x @ r) / size**2
        if slope == 0:
            raise InputError("The map does not follow the reference at all; no line fits them.")
        x = x / slope
    return 100 * float(np.linalg.norm(x - r)) / size


def error_map(
    estimate: NDArray[Any], reference: NDArray[Any], mask: NDArray[np.bool_]
) -> FloatArray:
    """Estimate minus reference, both less their mean over the mask, zero outside; in their unit."""
    difference = np.where(mask, np.asarray(estimate) - np.asarray(reference), 0).astype(np.float32)
    difference[mask] -= difference[mask].mean(dtype=np.float64)
    return difference
