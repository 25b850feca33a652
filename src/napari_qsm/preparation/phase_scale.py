"""What stored numbers mean as a phase: one decision for all echoes of a measurement, in words.

Scanners store phase as radians, milliradians or whole numbers that share one turn. The decision
rests on the range of the numbers: noise in air fills a turn from end to end, so the observed range
is the nominal one. A smaller range, as masking leaves it, is never stretched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import FloatArray, InputError

PhaseScale = Literal["auto", "rad", "range"]
"""How stored numbers become a phase: as they look, as rad, or by mapping their nominal range."""

TURN = 2 * math.pi

_FIELD_UNITS = {"hz", "ppm", "ppb", "rad/s", "t", "tesla"}

_TOLERANCE = 0.02
"""Part of a turn by which a range may miss its nominal one."""

_SAMPLE = 200_000
"""Voxels of an echo that are looked at to tell whole numbers from others."""


@dataclass(frozen=True)
class Nominal:
    """A range of numbers over which scanners and programs spread one turn.

    Parameters
    ----------
    low, high : float
        What means the begin and the end of the turn.
    name : str
        What people call it.
    """

    low: float
    high: float
    name: str

    @property
    def zero(self) -> float:
        """The number that means 0 rad: the middle, or 0 itself for angles from 0 upwards."""
        return 0.0 if self in (_DEGREES, _RADIANS) else (self.low + self.high) / 2

    @property
    def factor(self) -> float:
        """Radians of one unit."""
        return TURN / (self.high - self.low)

    def fits(self, low: float, high: float) -> bool:
        """Whether an observed range is this one."""
        slack = _TOLERANCE * (self.high - self.low)
        return abs(low - self.low) <= slack and abs(high - self.high) <= slack

    def holds(self, low: float, high: float) -> bool:
        """Whether an observed range lies inside this one."""
        slack = 1e-3 * (self.high - self.low)
        return self.low - slack <= low and high <= self.high + slack


_RADIANS = Nominal(0.0, TURN, "radians from 0 to 2 pi")
_DEGREES = Nominal(0.0, 360.0, "degrees from 0 to 360")
_MILLIRADIANS = Nominal(-1000 * math.pi, 1000 * math.pi, "milliradians")
_SIGNED_13 = Nominal(-4096.0, 4096.0, "-4096 to 4095")
_UNSIGNED_12 = Nominal(0.0, 4096.0, "0 to 4095")
_FRACTIONS = (
    Nominal(-1.0, 1.0, "fractions of half a turn"),
    Nominal(0.0, 1.0, "fractions of a turn"),
)
NOMINAL = (
    Nominal(-180.0, 180.0, "degrees from -180 to 180"),
    _DEGREES,
    Nominal(-2048.0, 2048.0, "-2048 to 2047"),
    _UNSIGNED_12,
    _MILLIRADIANS,
    _SIGNED_13,
    Nominal(-32768.0, 32768.0, "-32768 to 32767"),
    Nominal(0.0, 65536.0, "0 to 65535"),
)
"""Nominal ranges, the narrowest first."""


@dataclass(frozen=True)
class Scaling:
    """A decision: ``phase = (stored - zero) factor``, wrapped.

    Parameters
    ----------
    zero, factor : float
        The stored number that means 0 rad, and the radians of one unit.
    note : str
        The decision and its reason in one sentence.
    """

    zero: float
    factor: float
    note: str

    def __call__(self, stored: NDArray[Any]) -> FloatArray:
        """Return the phase in rad in [-pi, pi); what is in there already stays bit for bit."""
        phase = stored.astype(np.float32)
        if self.zero:
            phase -= np.float32(self.zero)
        if self.factor != 1:
            phase *= np.float32(self.factor)
        half = np.float32(math.pi)
        beyond = (phase < -half) | (phase >= half)
        turns = phase[beyond].astype(np.float64)
        # A half turn that rounding would put on the upper end belongs to the lower one.
        inside = (turns - TURN * np.floor(turns / TURN + 0.5)).astype(np.float32)
        phase[beyond] = np.where(inside >= half, -half, inside)
        return phase


def decide(
    echoes: Sequence[NDArray[Any]],
    chosen: PhaseScale = "auto",
    *,
    manufacturer: str = "",
    unit: str | None = None,
) -> Scaling:
    """Decide what the numbers of a measurement mean.

    Parameters
    ----------
    echoes : sequence of (X, Y, Z) arrays
        The stored numbers of every echo, after the header's slope and intercept; NaN is ignored.
    chosen : {"auto", "rad", "range"}
        ``rad`` takes the numbers as radians, ``range`` maps the narrowest nominal range that holds
        them; ``auto`` decides, and refuses where the numbers leave more than one meaning.
    manufacturer : str
        Settles which of two nominal ranges is meant when masking left too little to see it.
    unit : str, optional
        The unit that the files state; a contradiction is noted.

    Raises
    ------
    InputError
        If all numbers are the same, or no scale or more than one is possible.
    """
    if unit and unit.strip().lower() in _FIELD_UNITS:
        raise InputError(
            f"The phase is said to be in {unit}, the unit of a field map; choose the phase, or "
            "name the file _fieldmap."
        )
    low, high = _range(echoes)
    whole = all(_whole(echo) for echo in echoes)
    if chosen == "rad":
        return _stated_rad(low, high)
    if chosen == "range":
        return _mapped(_narrowest(low, high), low, high, "as was asked for")
    scaling = _radians(low, high, whole) or _by_range(low, high, whole, manufacturer)
    if unit and unit.lower().startswith("rad") and scaling.factor != 1:
        lie = f"The files state {unit}, which the numbers contradict."
        return Scaling(scaling.zero, scaling.factor, f"{scaling.note} {lie}")
    return scaling


def _range(echoes: Iterable[NDArray[Any]]) -> tuple[float, float]:
    """Return the smallest and the largest number; refuse empty echoes and mixed scales."""
    lows, highs = [], []
    for index, echo in enumerate(echoes, start=1):
        # fmin and fmax pass NaN over without a copy.
        low, high = float(np.fmin.reduce(echo, axis=None)), float(np.fmax.reduce(echo, axis=None))
        if not math.isfinite(low) or not math.isfinite(high):
            raise InputError(f"The phase of echo {index} holds no numbers; export it again.")
        if low == high:
            raise InputError(
                f"The phase of echo {index} is {low + 0.0:g} in every voxel; choose the volume "
                "that holds the phase, or export it again."
            )
        lows.append(low)
        highs.append(high)
    spans = [high - low for low, high in zip(lows, highs, strict=True)]
    if max(spans) > 50 * min(spans):
        raise InputError(
            f"The phase spans {min(spans):.4g} in one echo and {max(spans):.4g} in another, so the "
            "echoes are stored in different scales; export all of them in the same way."
        )
    return min(lows), max(highs)


def _whole(values: NDArray[Any]) -> bool:
    if values.dtype.kind in "iub":
        return True
    flat = values.ravel(order="K")
    sample = flat[:: max(1, flat.size // _SAMPLE)]
    sample = sample[np.isfinite(sample)]
    return bool((sample == np.rint(sample)).all())


def _stated_rad(low: float, high: float) -> Scaling:
    if high - low > 200 * TURN:
        raise InputError(
            f"The phase was said to be in rad, but its numbers run from {low:.4g} to {high:.4g}; "
            "leave its scale to the program or map its range."
        )
    return Scaling(0, 1, f"The phase was taken in rad ({low:.4g} to {high:.4g}) as was asked for.")


def _radians(low: float, high: float, whole: bool) -> Scaling | None:
    """Recognise radians; None if the numbers are something else."""
    span, found = high - low, f"from {low:.4g} to {high:.4g}"
    if whole and span <= 10:
        raise InputError(
            f"The phase holds whole numbers {found} only, so it was rounded when it was saved; "
            "export it again as real numbers."
        )
    if span > 10:
        return None
    if span < 0.01:
        raise InputError(
            f"The phase runs {found} only, as the wrong slope of a header makes it; export it "
            "again without scaling."
        )
    if any(fraction.fits(low, high) and _sharp(fraction, low, high) for fraction in _FRACTIONS):
        raise InputError(
            f"The phase runs {found}, which may be fractions of a turn or radians; state that it "
            "is in rad or that its range is one turn."
        )
    if abs(span - TURN) <= _TOLERANCE * TURN:
        return Scaling(0, 1, f"The phase is in rad: its numbers span one turn ({found}).")
    if span < TURN:
        return Scaling(
            0, 1, f"The phase was taken in rad and not stretched: its numbers run {found} only."
        )
    return Scaling(
        0, 1, f"The phase was taken in rad: its numbers run {found}, beyond one turn, and were "
        "wrapped."
    )  # fmt: skip


def _sharp(fraction: Nominal, low: float, high: float) -> bool:
    return abs(low - fraction.low) < 2e-3 and abs(high - fraction.high) < 2e-3


def _by_range(low: float, high: float, whole: bool, manufacturer: str) -> Scaling:
    """Recognise a nominal range that is filled, or that the manufacturer is known for."""
    if full := [nominal for nominal in NOMINAL if nominal.fits(low, high)]:
        best = min(full, key=lambda n: (abs(low - n.low) + abs(high - n.high)) * n.factor)
        return _mapped(best, low, high, "which they fill")
    maker = manufacturer.strip().split(" ")[0].capitalize()
    likely = _usual(maker, low)
    if likely is not None and likely.holds(low, high):
        return _mapped(likely, low, high, f"as {maker} stores phase")
    if whole and low >= 0 and high >= 1024 and _UNSIGNED_12.holds(low, high):
        return _mapped(_UNSIGNED_12, low, high, "the usual range of whole numbers from 0")
    raise InputError(
        f"The phase runs from {low:.5g} to {high:.5g}, which fills no range that scanners use; "
        "state that it is in rad or that its nominal range is one turn."
    )


def _usual(maker: str, low: float) -> Nominal | None:
    if maker == "Siemens":
        return _SIGNED_13 if low < 0 else _UNSIGNED_12
    if maker in {"Philips", "Ge"}:
        return _MILLIRADIANS if low < 0 else _UNSIGNED_12
    return None


def _narrowest(low: float, high: float) -> Nominal:
    radians = Nominal(-math.pi, math.pi, "radians from -pi to pi")
    for nominal in (*_FRACTIONS[::-1], radians, _RADIANS, *NOMINAL):
        if nominal.holds(low, high):
            return nominal
    raise InputError(
        f"The phase runs from {low:.5g} to {high:.5g}, wider than every range that scanners use; "
        "choose the volume that holds the phase."
    )


def _mapped(nominal: Nominal, low: float, high: float, reason: str) -> Scaling:
    return Scaling(
        nominal.zero,
        nominal.factor,
        f"The phase was scaled to rad: {nominal.name} are one turn, {reason} (the numbers run from "
        f"{low:.5g} to {high:.5g}).",
    )
