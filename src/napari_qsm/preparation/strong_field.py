"""Where a field is so strong that its phase passes half a turn: haemorrhage, calcification, air.

A nonlinear data term compares phases, ``|exp(i s D chi) - exp(i s f)|``. It starts at chi = 0, so
where ``s |f|`` passes half a turn it runs down the wrong side and ends a whole turn off. Measured
on the digital head with a haemorrhage: while the phase of `strongest_field` stays below half a turn
the error is that of a small scale within two points. Beyond it plain NDI (TE 4 to 30 ms, voxels of
2 and 3 mm) is 7 to 19 points worse at 1.25 half turns, and at TE 20 ms and 3 mm FANSI is 34 worse
at 1.1, MEDI 61 at 1.5 and NDI with momentum 11 at 1.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import Acquisition, FloatArray, Quantity
from napari_qsm.physics.units import radians_per_ppm

UNKNOWN_SCALE = 16.05
"""rad/ppm where B0 or the echo time is unknown: 20 ms at 3 T."""

SAFE_PHASE = 0.8 * math.pi
"""What the strongest field may count as, in rad: single voxels reach a fifth more than it."""


@dataclass(frozen=True)
class BeyondHalfTurn:
    """A field whose phase passes half a turn.

    Parameters
    ----------
    scale : float
        Phase in rad that 1 ppm counts as.
    strongest : float
        The `strongest_field` in ppm.
    voxels : int
        How many voxels lie beyond half a turn.
    """

    scale: float
    strongest: float
    voxels: int

    @property
    def safe_scale(self) -> float:
        """The largest scale in rad/ppm that keeps the field well within half a turn."""
        return SAFE_PHASE / self.strongest

    def __str__(self) -> str:
        return (
            f"The field is so strong ({self.strongest:.2g} ppm, as near a haemorrhage, a "
            f"calcification or air) that at {self.scale:.3g} rad/ppm its phase reaches "
            f"{self.scale * self.strongest:.2g} rad where half a turn is the limit "
            f"({self.voxels} voxels)"
        )


def measured_scale(acquisition: Acquisition) -> float | None:
    """Return the phase in rad that 1 ppm makes until the mean echo time; None if unknown."""
    if not acquisition.field_strength or not acquisition.echo_times:
        return None
    echo_time = sum(acquisition.echo_times) / len(acquisition.echo_times)
    return radians_per_ppm(acquisition.field_strength, echo_time)


def beyond_half_turn(acquisition: Acquisition, scale: float) -> BeyondHalfTurn | None:
    """Return what there is to say of a local field whose phase passes half a turn, else None.

    Parameters
    ----------
    acquisition : Acquisition
        With a local field in ppm.
    scale : float
        Phase in rad that 1 ppm counts as.
    """
    field, mask, limit = acquisition[Quantity.LOCAL_FIELD], acquisition.mask, math.pi / scale
    if not (strongest := strongest_field(field, mask, above=limit)):
        return None
    voxels = int(np.count_nonzero((np.abs(field) > limit) & mask))
    return BeyondHalfTurn(scale, strongest, voxels)


def unreliable(acquisition: Acquisition, scale: float) -> FloatArray:
    """Return 1 where the phase of the local field passes half a turn in the mask, 0 elsewhere."""
    beyond = np.abs(acquisition[Quantity.LOCAL_FIELD]) > math.pi / scale
    found: FloatArray = (beyond & acquisition.mask).astype(np.float32)
    return found


def strongest_field(field: NDArray[Any], mask: NDArray[np.bool_], *, above: float) -> float:
    """Return the largest magnitude that three neighbours have in common, 0 if none is `above`.

    The three share faces, in a row or round a corner, and the field's sign: a voxel counts as
    ``min(|f|, second largest |f| of its six neighbours)``. So a bleed of a few voxels is found, and
    voxels that are noisy one by one are not.

    Parameters
    ----------
    field : (X, Y, Z) array
        In ppm.
    mask : (X, Y, Z) array of bool
        Voxels that count.
    above : float
        In ppm; only voxels beyond it are looked at, which are few.
    """
    padded = np.zeros(np.add(field.shape, 2), np.float32)
    np.copyto(padded[1:-1, 1:-1, 1:-1], field, where=mask)
    flat = padded.ravel()
    voxels = np.flatnonzero(np.abs(flat) > above)
    if not voxels.size:
        return 0.0
    own = flat[voxels]
    strides = [side * stride // flat.itemsize for stride in padded.strides for side in (-1, 1)]
    around = np.stack([np.copysign(1, own) * flat[voxels + stride] for stride in strides])
    second = np.partition(around, -2, axis=0)[-2]
    strongest = float(np.minimum(np.abs(own), second).max())
    return strongest if strongest > above else 0.0
