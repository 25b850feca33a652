"""The regions of a result as the text of a CSV file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import InputError, Maps, Quantity
from napari_qsm.evaluation.regions import region_csv, region_table

_DESCRIBED = (Quantity.CHI, Quantity.CHI_POS, Quantity.CHI_NEG)


def result_table(
    maps: Maps,
    labels: NDArray[Any],
    *,
    mask: NDArray[np.bool_] | None = None,
    names: Mapping[int, str] | None = None,
) -> str:
    """Return what a result says of labelled regions, with standard errors where it has a sigma.

    Parameters
    ----------
    maps : Maps
        Susceptibility, of paramagnetic and diamagnetic sources too if it is there, and its sigma.
    labels : (X, Y, Z) array
        Whole numbers on the grid of the maps.
    mask, names
        As for `napari_qsm.evaluation.regions.region_table`. Without a mask only voxels count in
        which there is susceptibility.

    Raises
    ------
    InputError
        If the result holds no susceptibility, or the labels do not fit.
    """
    found = {quantity.key: maps[quantity] for quantity in _DESCRIBED if quantity in maps}
    if not found:
        raise InputError("The result holds no susceptibility; choose a map of susceptibility.")
    if mask is None:
        mask = np.logical_or.reduce([values != 0 for values in found.values()])
    sigma = {Quantity.CHI.key: maps[Quantity.SIGMA]} if Quantity.SIGMA in maps else {}
    size = maps.grid.voxel_size
    if labels.shape != maps.grid.shape:
        raise InputError(
            f"The labels have shape {labels.shape} and the result {maps.grid.shape}; choose "
            "labels of the same measurement."
        )
    return region_csv(region_table(found, labels, size, mask=mask, sigma=sigma, names=names))
