"""Which echo is which: volumes become 3D echoes with times, magnitudes are matched to phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from numpy.typing import NDArray

from napari_qsm.acquisition import Grid, InputError, Volume

SAME_TIME = 5e-5
"""Seconds by which two echo times may differ and mean the same echo."""


@dataclass(frozen=True, eq=False)
class Echo:
    """The 3D values of one echo, and its time in s where it is known."""

    values: NDArray[Any]
    time: float | None


def split(name: str, volumes: Sequence[Volume], grid: Grid) -> list[Echo]:
    """Split volumes into 3D echoes.

    Raises
    ------
    InputError
        If they do not lie on `grid`, or state another number of echo times than they have volumes.
    """
    echoes: list[Echo] = []
    for volume in volumes:
        if trouble := grid.mismatch(volume.grid):
            where = f" of echo {len(echoes) + 1}" if len(volumes) > 1 else ""
            raise InputError(
                f"The {name}{where} {trouble}; choose files of one measurement and export all its "
                "slices."
            )
        values = volume.data if volume.data.ndim == 4 else volume.data[..., None]
        count, times = values.shape[3], volume.echo_times
        if len(times) not in {0, count}:
            raise InputError(
                f"The {name} has {count} volumes, the echo times number {len(times)}; choose a "
                "multi-echo gradient-echo measurement, or state one time for each echo."
            )
        known = times or (None,) * count
        echoes += [Echo(values[..., i], time) for i, time in enumerate(known)]
    return echoes


def in_order(
    phases: list[Echo],
    magnitudes: list[Echo],
    stated: Sequence[float] | None,
    notes: list[str],
) -> tuple[tuple[float, ...], list[Echo], list[Echo]]:
    """Return the times in s in order, and phases and magnitudes in that order.

    Parameters
    ----------
    phases, magnitudes : list of Echo
        The magnitudes may be the same echoes in any order, a single one, or none.
    stated : sequence of float, optional
        Times of the phases that go before their own.
    notes : list of str
        Gets what was decided.

    Raises
    ------
    InputError
        If times are missing or equal, or an echo is missing in either.
    """
    magnitudes = _matched(phases, magnitudes, notes)
    times = _times(phases, magnitudes, stated)
    order = sorted(range(len(times)), key=times.__getitem__)
    for before, after in pairwise(order):
        if times[after] - times[before] < 1e-6:
            raise InputError(
                f"Echoes {before + 1} and {after + 1} have the same echo time of "
                f"{1000 * times[after]:g} ms; state the time of each echo."
            )
    if order != sorted(order):
        notes.append("The echoes were put in the order of their times.")
    if len(magnitudes) == len(phases):
        magnitudes = [magnitudes[i] for i in order]
    return tuple(times[i] for i in order), [phases[i] for i in order], magnitudes


def _times(
    phases: list[Echo], magnitudes: list[Echo], stated: Sequence[float] | None
) -> list[float]:
    count = len(phases)
    if stated is not None:
        if len(stated) != count:
            raise InputError(
                f"{len(stated)} echo times were stated where the phase has {count} echoes; state "
                "one for each echo."
            )
        return [float(time) for time in stated]
    candidates = [phases, magnitudes] if len(magnitudes) == count else [phases]
    for echoes in candidates:
        known = [echo.time for echo in echoes if echo.time is not None]
        if len(known) == count:
            return known
    known = [echo.time for echo in phases if echo.time is not None]
    found = f"only {len(known)} of {count} echo times" if known else "no echo time"
    asked = "state it" if count == 1 else f"state one for each of the {count} echoes"
    raise InputError(f"The files state {found}; {asked}, in seconds such as 0.004.")


def _matched(phases: list[Echo], magnitudes: list[Echo], notes: list[str]) -> list[Echo]:
    """Return the magnitudes in the order of the phases, or the one that stands for all."""
    if len(magnitudes) == 1 and len(phases) > 1:
        notes.append(f"One magnitude stands for all {len(phases)} echoes.")
        return magnitudes
    if not magnitudes or any(echo.time is None for echo in (*phases, *magnitudes)):
        if len(magnitudes) not in {0, len(phases)}:
            raise InputError(
                f"There are {len(phases)} phases and {len(magnitudes)} magnitudes; choose the same "
                "echoes of both."
            )
        return magnitudes
    matched = [_at(magnitudes, phase.time, "magnitude") for phase in phases]
    for magnitude in magnitudes:
        _at(phases, magnitude.time, "phase")
    if len(magnitudes) != len(phases):
        raise InputError(
            f"There are {len(phases)} phases and {len(magnitudes)} magnitudes; choose each echo "
            "once."
        )
    return matched


def _at(echoes: list[Echo], time: float | None, name: str) -> Echo:
    assert time is not None
    for echo in echoes:
        if echo.time is not None and abs(echo.time - time) <= SAME_TIME:
            return echo
    there = ", ".join(f"{1000 * (echo.time or 0):.4g}" for echo in echoes)
    raise InputError(
        f"The {name} of the echo at {1000 * time:.4g} ms is missing (there are {there} ms); export "
        "magnitude and phase of all echoes."
    )
