"""How much phase a ppm is, for data terms that compare phases and not fields."""

from __future__ import annotations

from typing import Any

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.registry import parameter
from napari_qsm.methods.workspace import Workspace
from napari_qsm.preparation.strong_field import (
    UNKNOWN_SCALE,
    beyond_half_turn,
    measured_scale,
    unreliable,
)

SCALES = (0.1, 500.0)
"""Range of the parameter in rad/ppm."""


def phase_scale_parameter() -> Any:
    """Declare the parameter ``phase_scale`` that nonlinear methods share."""
    return parameter(
        None,
        "Phase that 1 ppm counts as. By itself that of the mean echo time, or less where the "
        "field is so strong that its phase would pass half a turn.",
        low=SCALES[0],
        high=SCALES[1],
        unit="rad/ppm",
        log=True,
        typical=UNKNOWN_SCALE,
    )


def phase_scale(acquisition: Acquisition, stated: float | None, space: Workspace) -> float:
    """Return the phase in rad that 1 ppm counts as; noted, and guarded against strong fields.

    What is stated is taken. Otherwise it is that of the mean echo time, or where the field's phase
    would then pass half a turn (`napari_qsm.preparation.strong_field`) the largest scale at which
    it stays well below: since the field is unwrapped, any scale is right. Either way the voxels
    beyond half a turn go into the result as `Quantity.UNRELIABLE`.
    """
    scale, why = _wanted(acquisition, stated)
    found = beyond_half_turn(acquisition, scale)
    if found is not None:
        space.extras[Quantity.UNRELIABLE] = unreliable(acquisition, scale)
        if stated is not None:
            space.notes.append(
                f"{found}; a nonlinear method ends a whole turn off there, so leave the phase "
                f"scale to it or state at most {found.safe_scale:.2g} rad/ppm."
            )
        else:
            space.notes.append(
                f"{found}; a nonlinear method would end a whole turn off there, so a smaller phase "
                "scale was taken."
            )
            scale = min(max(found.safe_scale, SCALES[0]), SCALES[1])
            why = "rad/ppm, at which the field stays within half a turn"
    return scale if stated is not None else space.choose("phase_scale", scale, why)


def _wanted(acquisition: Acquisition, stated: float | None) -> tuple[float, str]:
    """Return the scale without a guard, and the reason for it."""
    if stated is not None:
        return stated, "stated"
    if (measured := measured_scale(acquisition)) is None:
        return UNKNOWN_SCALE, "rad/ppm (B0 or echo time unknown)"
    echo_time = sum(acquisition.echo_times) / len(acquisition.echo_times)
    why = f"rad/ppm ({acquisition.field_strength:g} T, mean echo time {1000 * echo_time:.3g} ms)"
    return measured, why
