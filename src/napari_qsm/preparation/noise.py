"""How noisy a field is, read off the field itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE = 1_000_000
"""Voxels a median is taken over; more would not change its third digit."""


def field_noise(field: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    """Estimate the standard deviation of the noise in a field, in the field's unit.

    Differences along all axes in turn leave nothing of a field that is smooth over two voxels,
    and noise with ``sqrt(2)`` times its deviation for each axis; the median of their magnitude
    ignores vessels and lesions, ``sigma = 1.4826 median |d| / 2^(n/2)``. What the field holds at
    the finest scale is counted as noise, too.

    Parameters
    ----------
    field : (X, Y, Z) array
        A field map.
    mask : (X, Y, Z) array of bool
        Where it was measured.

    Returns
    -------
    float
        0 if the mask holds no two neighbours along every axis.

    Notes
    -----
    Reference: Donoho & Johnstone 1994, doi:10.1093/biomet/81.3.425, for the finest scale and the
    median.
    """
    difference, inside = np.asarray(field), mask
    axes = [axis for axis in range(3) if mask.shape[axis] > 1]
    for axis in axes:
        low, high = (_shifted(axis, start) for start in (0, 1))
        difference = difference[high] - difference[low]
        inside = inside[high] & inside[low]
    values = np.abs(difference[inside])
    if not values.size:
        return 0.0
    values = values[:: max(1, values.size // SAMPLE)]
    return float(1.4826 * np.median(values) / 2 ** (len(axes) / 2))


def field_spread(field: NDArray[Any]) -> float:
    """Return the root mean square of a field, but at most twice what its middle half says.

    ``min(rms f, 2 * 1.4826 median |f - median f|)``: the field of a haematoma is large in a few
    voxels, which should not decide the scale of all.

    Parameters
    ----------
    field : (N,) array
        Of the voxels that count.

    Returns
    -------
    float
        In the field's unit.
    """
    size = math.sqrt(float(np.square(field, dtype=np.float64).mean()))
    middle = 1.4826 * float(np.median(np.abs(field - np.median(field))))
    return min(size, 2 * middle) or size


def _shifted(axis: int, start: int) -> tuple[slice, ...]:
    slices = [slice(None)] * 3
    slices[axis] = slice(1, None) if start else slice(None, -1)
    return tuple(slices)
