"""The zero of a susceptibility map, which no field tells but relaxation does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

QUIET = 8.0
"""Percent of the mask that is taken to hold next to no sources."""


def grounding(
    chi: NDArray[np.float32], decay: NDArray[np.float32], mask: NDArray[np.bool_]
) -> float:
    """Return what to add to a map so that it is zero where nothing decays, in ppm.

    A field knows susceptibility up to a constant only, but where R2' is nothing both kinds of
    sources are nothing, and so is their difference: the median of chi over the voxels with the
    lowest R2' is the constant. On synthetic heads it is found within 2 to 4 ppb.

    Networks learn with it, and it also holds of R2* less a nominal R2, which bounds nothing. Where
    R2' is measured, `napari_qsm.methods.separation.shared.zero_of` asks what the bounds allow; on
    data without noise that is exact.

    Parameters
    ----------
    chi, decay : (X, Y, Z) arrays
        Susceptibility, and R2' / Dr, in ppm.
    mask : (X, Y, Z) array of bool
        Where they are known.
    """
    inside = decay[mask]
    quiet = inside <= np.percentile(inside, QUIET)
    return -float(np.median(chi[mask][quiet]))
