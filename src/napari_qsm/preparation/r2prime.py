"""R2' = R2* - R2: what the field within a voxel adds to the decay of a spin echo."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from napari_qsm.acquisition import (
    Acquisition,
    FloatArray,
    InputError,
    Maps,
    Provenance,
    Quantity,
)
from napari_qsm.preparation.registry import stage
from napari_qsm.preparation.voxels import sample
from napari_qsm.process import Parameters, Step, Work, parameter

LABEL = "R2'"

SLOWEST = 1.0
"""Median rate in 1/s below which no tissue lies; in 1/ms all of it does."""

TYPICAL = "10 to 40"
"""Rates of brain at 3 T, in 1/s."""

STILL = 0.05
"""The same for a map of R2', much of which is near zero."""

NOMINAL_R2 = 13.0
"""R2 of brain at 3 T in 1/s, for want of a measured one: what chi-separation's toolbox takes."""

NEGATIVE = 0.05
"""Part of the mask that may have R2 above R2* before something is said to be wrong."""

SWAPPED = 0.8
"""Part of the mask from which on nothing but swapped maps explains it."""

Unit = Literal["checked", "1/s", "1/ms"]

_PARAMETER = {Quantity.R2STAR: "r2star_unit", Quantity.R2: "r2_unit"}


def _unit(name: str) -> Unit:
    made: Unit = parameter(
        "checked",
        f"Unit of the {name}: 1/s, refused if its values look like 1/ms; or what you state.",
    )
    return made


class R2Prime(Parameters):
    """Parameters of R2'."""

    r2star_unit: Unit = _unit("R2*")
    r2_unit: Unit = _unit("R2")


@stage(
    key="r2prime",
    label=LABEL,
    summary="R2* less an R2 measured with spin echoes, never below zero; units are checked.",
    place=None,
    parameters=R2Prime,
    references=("10.1016/j.neuroimage.2021.118371",),
    needs=(Quantity.R2STAR, Quantity.R2),
    uses=(Quantity.MASK,),
    gives=(Quantity.R2PRIME,),
    cpu_only=True,
)
def r2prime(acquisition: Acquisition, parameters: R2Prime, device: torch.device) -> Work:
    """Compute ``R2' = max(R2* - R2, 0)`` in 1/s within the mask.

    Raises
    ------
    InputError
        If a rate is in 1/ms by the look of it and nobody said so, or R2 exceeds R2* nearly
        everywhere.
    """
    mask = acquisition.mask
    yield Step(0.0, "checking units")
    fast, first = _rate(acquisition, Quantity.R2STAR, parameters.r2star_unit)
    yield Step(0.3, "checking units")
    slow, second = _rate(acquisition, Quantity.R2, parameters.r2_unit)
    yield Step(0.6, "subtracting")
    difference = np.where(mask, fast - slow, np.float32(0))
    negative = int(np.count_nonzero(difference < 0))
    part = negative / int(np.count_nonzero(mask))
    if part > SWAPPED:
        raise InputError(
            f"R2 is above R2* in {part:.0%} of the mask where at most {NEGATIVE:.0%} was expected; "
            "exchange the two if they are swapped, and check that R2 is a rate and not T2."
        )
    yield Step(0.9, "subtracting")
    np.maximum(difference, 0, out=difference)
    notes = (*first, *second, _clipping("R2 is above R2*", part))
    return Maps(acquisition.grid, {Quantity.R2PRIME: difference}, Provenance(notes=notes))


def _clipping(found: str, part: float, checked: str = "both maps") -> str:
    """Say in how much of the mask something was `found` that made R2' zero there."""
    if part <= NEGATIVE or not checked:
        return f"{found} in {part:.1%} of the mask; R2' was set to 0 there."
    return (
        f"{found} in {part:.1%} of the mask where at most {NEGATIVE:.0%} was expected; "
        f"R2' was set to 0 there, and {checked} should be checked."
    )


def found_r2prime(
    acquisition: Acquisition, nominal_r2: float = NOMINAL_R2
) -> tuple[FloatArray, tuple[str, ...]]:
    """Return the best R2' an acquisition knows, and sentences that say which one it is.

    A given R2' is the best, then ``R2* - R2``, then R2* less one nominal R2 for all tissue. None
    of them is below zero afterwards.

    Parameters
    ----------
    acquisition : Acquisition
        With rates in 1/s, as all of them are inside the program.
    nominal_r2 : float
        In 1/s, for want of a measured R2.

    Returns
    -------
    r2prime : (X, Y, Z) array
        In 1/s, zero outside the mask.
    notes : tuple[str, ...]
        Which one it is, and in how much of the mask it had to be set to 0.

    Raises
    ------
    InputError
        If there is neither R2' nor R2*, a rate is zero everywhere or looks like 1/ms, or R2 exceeds
        R2* nearly everywhere.
    """
    mask = acquisition.mask
    if Quantity.R2PRIME in acquisition:
        rate, said = _believable(acquisition, Quantity.R2PRIME), "R2' is the given map."
        below, checked = "The given R2' is below 0", "the map"
    elif Quantity.R2STAR not in acquisition:
        raise InputError(
            "Neither R2' nor R2* is known, and one of them is needed to tell iron and myelin apart;"
            " choose a map, or let R2* be fitted to magnitudes at several echo times."
        )
    elif Quantity.R2 in acquisition:
        rate = _believable(acquisition, Quantity.R2STAR) - _believable(acquisition, Quantity.R2)
        below, checked = "R2 is above R2*", "both maps"
        said = "R2' is the given R2* less the given R2."
    else:
        rate = _believable(acquisition, Quantity.R2STAR) - np.float32(nominal_r2)
        below, checked = f"R2* is below {nominal_r2:g} 1/s", ""
        said = _without_r2(acquisition, nominal_r2)
    rate = np.where(mask, rate, np.float32(0))
    part = int(np.count_nonzero(rate < 0)) / int(np.count_nonzero(mask))
    if part > SWAPPED:
        raise InputError(
            f"{below} in {part:.0%} of the mask where at most {NEGATIVE:.0%} was expected; check "
            "that the right maps were chosen and that they are rates and not times."
        )
    if not part:
        return rate, (said,)
    return np.maximum(rate, 0, out=rate), (said, _clipping(below, part, checked))


def _without_r2(acquisition: Acquisition, nominal: float) -> str:
    """Say that a nominal R2 stands for a measured one, and what that is worth."""
    said = (
        f"R2' was taken to be R2* less a nominal R2 of {nominal:g} 1/s everywhere, since no R2 is "
        "known (R2*-surrogate): what tissues differ in R2 will be taken for susceptibility."
    )
    strength = acquisition.field_strength
    if nominal == NOMINAL_R2 and strength and abs(strength - 3) > 0.3:
        said += f" It is the nominal value at 3 T, and B0 is {strength:g} T."
    return said


def _believable(acquisition: Acquisition, quantity: Quantity) -> FloatArray:
    """Return a rate that is there; raise `InputError` if it is nothing or looks like 1/ms."""
    rate: FloatArray = acquisition[quantity]
    inside = rate.ravel()[sample(acquisition.mask)]
    inside = inside[inside > 0]
    if not inside.size:
        raise InputError(f"The {quantity.label} is zero in the whole mask; choose another map.")
    if (middle := float(np.median(inside))) < STILL:
        raise InputError(
            f"The {quantity.label} has a median of {middle:.3g} in the mask where {TYPICAL} 1/s "
            "were expected (R2': 1 to 10); it looks like 1/ms, so multiply it by 1000."
        )
    return rate


def _rate(
    acquisition: Acquisition, quantity: Quantity, unit: Unit
) -> tuple[FloatArray, tuple[str, ...]]:
    """Return a rate in 1/s, converted if that was asked for and refused if it looks wrong."""
    rate: FloatArray = acquisition[quantity]
    if unit == "1/ms":
        return rate * np.float32(1000), (f"{quantity.label} was converted from 1/ms to 1/s.",)
    if unit == "1/s":
        return rate, (f"{quantity.label} is in 1/s, as stated.",)
    inside = rate.ravel()[sample(acquisition.mask)]
    inside = inside[inside > 0]
    if not inside.size:
        raise InputError(f"The {quantity.label} is zero in the whole mask; choose another map.")
    if (middle := float(np.median(inside))) < SLOWEST:
        raise InputError(
            f"The {quantity.label} has a median of {middle:.3g} in the mask where {TYPICAL} 1/s "
            f"were expected; if it is in 1/ms, state {_PARAMETER[quantity]} = 1/ms, and 1/s if it "
            "is right as it is."
        )
    return rate, (f"{quantity.label} was taken to be in 1/s (median {middle:.3g} in the mask).",)
