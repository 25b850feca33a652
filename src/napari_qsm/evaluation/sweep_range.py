"""Over which values a method is swept."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import torch

from napari_qsm import process
from napari_qsm.acquisition import Acquisition, InputError, Maps
from napari_qsm.generators import relayed
from napari_qsm.methods.registry import Method
from napari_qsm.process import Number, Parameters, Step

POINTS = 8
"""Values of a sweep if nobody says otherwise."""

DECADE = 10.0
"""How far a range reaches to either side of the value a method uses by itself, as a factor."""


def tuned(method: Method[Any]) -> Number:
    """Return the numeric side of the parameter that a method is swept over.

    Raises
    ------
    InputError
        If it has none.
    """
    field = method.parameters.model_fields.get(method.tuning)
    found = process.number(field) if field is not None else None
    if found is None:
        raise InputError(f"{method.label} has no parameter to sweep; choose another method.")
    return found


def spaced(number: Number, low: float, high: float, points: int = POINTS) -> tuple[float, ...]:
    """Return values from `low` to `high` in equal ratios, ascending; whole ones where they must be.

    Raises
    ------
    InputError
        If the range is empty or reaches beyond the parameter's, or there are fewer than 2 points.
    """
    if not number.low <= low < high <= number.high:
        raise InputError(
            f"The range from {low:g} to {high:g} cannot be swept; it must rise and lie between "
            f"{number.low:g} and {number.high:g}."
        )
    if low <= 0:
        raise InputError(f"The range begins at {low:g}; a sweep goes by ratios, so begin above 0.")
    if points < 2:
        raise InputError(f"A sweep of {points} points was asked for; it takes 2 or more.")
    inner = np.geomspace(low, high, points)[1:-1]
    values = [low, *(float(f"{value:.3g}") for value in inner), high]
    return tuple(sorted({float(round(v)) if number.whole else v for v in values}))


def plan(
    method: Method[Any],
    acquisition: Acquisition,
    parameters: Parameters | None = None,
    device: torch.device | str = "cpu",
    *,
    low: float | None = None,
    high: float | None = None,
    points: int = POINTS,
) -> Generator[Step, None, tuple[float, ...]]:
    """Return the values of a sweep: ends that are not given lie a decade from what is usual.

    That is the value among `parameters`, or what the method chooses from the data.
    """
    number = tuned(method)
    if low is None or high is None:
        usual = yield from _usual(method, acquisition, parameters or method.parameters(), device)
        low = max(number.low, usual / DECADE) if low is None else low
        high = min(number.high, usual * DECADE) if high is None else high
    least = 1.0 if number.whole else np.finfo(float).tiny
    return spaced(number, max(low, least), high, points)


def _usual(
    method: Method[Any], acquisition: Acquisition, parameters: Parameters, device: Any
) -> Generator[Step, None, float]:
    """Return the parameter, or what a run of one iteration says that the method chooses."""
    stated = getattr(parameters, method.tuning)
    if stated is not None:
        return float(stated)
    short = {"max_iterations": 1} if "max_iterations" in method.parameters.model_fields else {}
    running = method.function(
        acquisition, parameters.model_copy(update=short), target_of(method, device)
    )
    maps: Maps = yield from relayed(
        running, lambda step: Step(0.0, f"Looking for the range: {step.message}")
    )
    return float(maps.provenance.chosen.get(method.tuning, tuned(method).typical))


def target_of(method: Method[Any], device: torch.device | str) -> torch.device:
    """Return the device a method runs on when it is asked to run on `device`."""
    return torch.device("cpu" if method.cpu_only else device)
