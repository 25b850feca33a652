"""How much phase a ppm is, for data terms that compare phases and not fields."""

from __future__ import annotations

from typing import Any

from napari_qsm.acquisition import Acquisition
from napari_qsm.methods.registry import parameter
from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics.units import radians_per_ppm

UNKNOWN_SCALE = 16.05
"""rad/ppm where B0 or the echo time is unknown: 20 ms at 3 T."""


def phase_scale_parameter() -> Any:
    """Declare the parameter ``phase_scale`` that nonlinear methods share."""
    return parameter(
        None,
        "Phase that 1 ppm counts as; by itself that of the mean echo time.",
        low=0.1,
        high=500,
        unit="rad/ppm",
        log=True,
        typical=UNKNOWN_SCALE,
    )


def phase_scale(acquisition: Acquisition, stated: float | None, space: Workspace) -> float:
    """Return the phase in rad that 1 ppm makes: stated, or that of the mean echo time; noted."""
    if stated is not None:
        return stated
    if acquisition.field_strength and acquisition.echo_times:
        echo_time = sum(acquisition.echo_times) / len(acquisition.echo_times)
        value = radians_per_ppm(acquisition.field_strength, echo_time)
        why = (
            f"rad/ppm ({acquisition.field_strength:g} T, mean echo time {1000 * echo_time:.3g} ms)"
        )
    else:
        value, why = UNKNOWN_SCALE, "rad/ppm (B0 or echo time unknown)"
    return space.choose("phase_scale", value, why)
