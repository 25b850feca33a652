"""The echoes of a measurement as arrays with the echo axis last, checked against its times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import Acquisition, FloatArray, InputError, Quantity


def echoes(acquisition: Acquisition, quantity: Quantity) -> FloatArray:
    """View of a measured volume as (X, Y, Z, echo), with one echo for every echo time.

    Raises
    ------
    InputError
        If it has another number of echoes than there are echo times.
    """
    values: FloatArray = acquisition[quantity]
    shaped = values if values.ndim == 4 else values[..., None]
    count, times = shaped.shape[3], len(acquisition.echo_times)
    if count != times:
        raise InputError(
            f"The {quantity.label} has {count} echoes where {times} echo times are known; state "
            "one echo time for each echo."
        )
    return shaped


def magnitude_echoes(acquisition: Acquisition) -> FloatArray | None:
    """View of the magnitude as (X, Y, Z, echo), or None if there is none.

    One magnitude volume beside several echoes stands for all of them.
    """
    if Quantity.MAGNITUDE not in acquisition:
        return None
    values: FloatArray = acquisition[Quantity.MAGNITUDE]
    if values.ndim == 3 or values.shape[3] == 1:
        shaped = values if values.ndim == 3 else values[..., 0]
        count = max(1, len(acquisition.echo_times))
        return np.broadcast_to(shaped[..., None], (*shaped.shape, count))
    return echoes(acquisition, Quantity.MAGNITUDE)


def wrapped(phase: NDArray[np.floating]) -> NDArray[np.floating]:
    """Bring a phase in rad to [-pi, pi)."""
    turns: NDArray[np.floating] = phase - 2 * np.pi * np.floor(phase / (2 * np.pi) + 0.5)
    return turns
