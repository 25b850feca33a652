"""Distance of a susceptibility map from its reference, in a mask."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import FloatArray, InputError

Detrend = Literal["none", "mean", "line"]

Values = NDArray[np.float64]


def checked(
    estimate: NDArray[Any], reference: NDArray[Any], mask: NDArray[np.bool_]
) -> tuple[Values, Values]:
    """Return both maps in double precision.

    Raises
    ------
    InputError
        If the shapes differ or the mask is empty.
    """
    if not estimate.shape == reference.shape == mask.shape:
        raise InputError(
            f"The map has shape {estimate.shape}, the reference {reference.shape} and the mask "
            f"{mask.shape}; bring them to one grid."
        )
    if not mask.any():
        raise InputError("The mask is empty; choose one that covers the brain.")
    return np.asarray(estimate, np.float64), np.asarray(reference, np.float64)


def _compared(
    estimate: NDArray[Any], reference: NDArray[Any], mask: NDArray[np.bool_], detrend: Detrend
) -> tuple[Values, Values]:
    """Return the values in the mask with their trend taken out."""
    x, r = (values[mask] for values in checked(estimate, reference, mask))
    if detrend == "none":
        return x, r
    x, r = x - x.mean(), r - r.mean()
    if detrend == "line":
        slope = float(x @ r) / float(r @ r or 1)
        if slope == 0:
            raise InputError("The map does not follow the reference at all; no line fits them.")
        x = x / slope
    return x, r


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
    x, r = _compared(estimate, reference, mask, detrend)
    size = float(np.linalg.norm(r))
    if size == 0:
        raise InputError("The reference is the same everywhere in the mask; choose another one.")
    return 100 * float(np.linalg.norm(x - r)) / size


def rmse(
    estimate: NDArray[Any],
    reference: NDArray[Any],
    mask: NDArray[np.bool_],
    *,
    detrend: Detrend = "mean",
) -> float:
    """Root mean square error in the maps' unit, in the mask; see `nrmse`."""
    x, r = _compared(estimate, reference, mask, detrend)
    return float(np.sqrt(np.mean(np.square(x - r))))


def psnr(
    estimate: NDArray[Any],
    reference: NDArray[Any],
    mask: NDArray[np.bool_],
    *,
    detrend: Detrend = "mean",
) -> float:
    """Peak signal-to-noise ratio in dB, ``20 log10(range(r) / rmse)``, in the mask.

    Infinite for equal maps; see `nrmse` for the parameters and errors.
    """
    x, r = _compared(estimate, reference, mask, detrend)
    error, peak = float(np.sqrt(np.mean(np.square(x - r)))), float(np.ptp(r))
    if peak == 0:
        raise InputError("The reference is the same everywhere in the mask; choose another one.")
    return float("inf") if error == 0 else 20 * float(np.log10(peak / error))


def correlation(estimate: NDArray[Any], reference: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    """Pearson's correlation in the mask; 0 if one of the maps does not vary there."""
    x, r = _compared(estimate, reference, mask, "mean")
    size = float(np.linalg.norm(x) * np.linalg.norm(r))
    return float(x @ r) / size if size > 0 else 0.0


def error_map(
    estimate: NDArray[Any], reference: NDArray[Any], mask: NDArray[np.bool_]
) -> FloatArray:
    """Estimate minus reference, both less their mean over the mask, zero outside; in their unit."""
    difference = np.where(mask, np.asarray(estimate) - np.asarray(reference), 0).astype(np.float32)
    difference[mask] -= difference[mask].mean(dtype=np.float64)
    return difference
