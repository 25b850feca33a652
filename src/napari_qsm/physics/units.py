"""Constants and unit conversions of field measurements; the only place where they happen.

Inside the program a field is in ppm of B0, a time in seconds, a length in mm and a rate in 1/s.
"""

import math
from enum import Enum

GAMMA_BAR_MHZ_PER_T = 42.577478518
"""Proton gyromagnetic ratio over 2 pi in MHz/T (CODATA 2018, doi:10.1103/RevModPhys.93.025010)."""


class FieldUnit(Enum):
    """A unit in which a field map may arrive."""

    PPM = "ppm"
    PPB = "ppb"
    HZ = "Hz"
    RAD = "rad"
    RAD_PER_S = "rad/s"

    @classmethod
    def parse(cls, text: str) -> "FieldUnit":
        """Read a unit as people write it (``hz``, ``Hz``, ``rad/s``, ``ppm`` ...).

        Raises
        ------
        ValueError
            If the text names no unit of a field.
        """
        wanted = text.strip().lower().replace(" ", "").replace("radians", "rad")
        for unit in cls:
            if unit.value.lower() == wanted:
                return unit
        known = ", ".join(unit.value for unit in cls)
        raise ValueError(f"'{text}' is not a unit of a field; use one of {known}.")


def ppm_per_unit(
    unit: FieldUnit, *, field_strength: float | None = None, echo_time: float | None = None
) -> float:
    """Factor that brings a field in `unit` to ppm of B0.

    With gamma_bar in MHz/T and B0 in T: Hz / (gamma_bar B0); rad / (2 pi TE gamma_bar B0);
    rad/s / (2 pi gamma_bar B0). At 3 T, 1 ppm = 127.732 Hz.

    Parameters
    ----------
    unit : FieldUnit
        The unit to convert from.
    field_strength : float, optional
        B0 in tesla; needed for Hz, rad and rad/s.
    echo_time : float, optional
        TE (or the echo spacing of combined echoes) in seconds; needed for rad.

    Raises
    ------
    ValueError
        If B0 or TE is needed and missing or not positive.
    """
    if unit is FieldUnit.PPM:
        return 1.0
    if unit is FieldUnit.PPB:
        return 1e-3
    if not field_strength or field_strength <= 0:
        raise ValueError(
            f"A field in {unit.value} needs B0 in tesla to become ppm; none was given."
        )
    hertz_per_ppm = GAMMA_BAR_MHZ_PER_T * field_strength
    if unit is FieldUnit.HZ:
        return 1.0 / hertz_per_ppm
    if unit is FieldUnit.RAD_PER_S:
        return 1.0 / (2 * math.pi * hertz_per_ppm)
    if not echo_time or echo_time <= 0:
        raise ValueError(
            "A field in rad needs the echo time in seconds to become ppm; none was given."
        )
    return 1.0 / (2 * math.pi * echo_time * hertz_per_ppm)


def radians_per_ppm(field_strength: float, echo_time: float) -> float:
    """Phase in rad that 1 ppm of field leaves after `echo_time` s at `field_strength` T."""
    return 1.0 / ppm_per_unit(FieldUnit.RAD, field_strength=field_strength, echo_time=echo_time)
