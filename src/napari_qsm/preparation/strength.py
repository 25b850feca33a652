"""How strong the signal is over all echoes, which is what masks are drawn in."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from napari_qsm.acquisition import Acquisition, FloatArray, InputError, Quantity

PIECE = 2**18
"""Voxels combined at once."""


def signal_strength(acquisition: Acquisition) -> Generator[None, None, FloatArray]:
    """Return the root of the sum of the squared magnitudes of all echoes; pauses on the way.

    It is the best of the combinations for a mask: early echoes show where air and bone are near,
    and all of them average the noise.

    Raises
    ------
    InputError
        If the magnitude is negative somewhere or the same everywhere.
    """
    magnitude: FloatArray = acquisition[Quantity.MAGNITUDE]
    strength = np.empty(acquisition.grid.shape, dtype=np.float32)
    planes = max(1, PIECE * len(strength) // strength.size)
    lowest = np.inf
    for start in range(0, len(strength), planes):
        part = magnitude[start : start + planes]
        lowest = min(lowest, float(part.min()))
        strength[start : start + planes] = total_signal(part)
        yield
    if lowest < 0:
        raise InputError(
            f"The magnitude reaches down to {lowest:.3g} where none is negative; check that it is "
            "not the phase or one part of a complex image."
        )
    if not np.ptp(strength) > 0:
        raise InputError(
            "The magnitude is the same everywhere, so no mask can be drawn in it; choose another."
        )
    return strength


def total_signal(magnitude: FloatArray) -> FloatArray:
    """Return the root of the sum of squares over the echoes, if there is such an axis."""
    if magnitude.ndim == 3:
        return magnitude
    power: FloatArray = np.einsum("...e,...e->...", magnitude, magnitude)
    return np.sqrt(power, out=power)


def combination_note(acquisition: Acquisition) -> str:
    """Say in a few words what `signal_strength` was made of."""
    magnitude = acquisition[Quantity.MAGNITUDE]
    if magnitude.ndim == 3 or magnitude.shape[3] == 1:
        return "the magnitude"
    return f"the root sum of squares of {magnitude.shape[3]} magnitudes"
