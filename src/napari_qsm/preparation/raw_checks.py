"""What the program understood of a raw measurement, and what looks suspicious about it.

What cannot be used at all never arrives here: `assemble_raw` refuses it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import Acquisition, FloatArray, Grid, Quantity
from napari_qsm.preparation.finding import Finding, error, note, warning

_PAIRS = 500_000
"""About as many pairs of neighbours are looked at along each axis."""

_LATE, _EARLY = 0.2, 2e-4
"""Echo times in s beyond which a gradient echo holds nothing, or cannot be had."""


def inspect_raw(acquisition: Acquisition) -> Iterator[Finding]:
    """Say what was understood of phase and magnitude, and what to look at.

    Parameters
    ----------
    acquisition : Acquisition
        With PHASE in rad or TOTAL_FIELD in ppm, as `assemble_raw` and `assemble_total` make it.
    """
    yield note(understood(acquisition))
    strength = acquisition.field_strength
    if strength is None:
        yield error(
            "B0 is not known, so no phase can become a field in ppm; state it in tesla (3 for most "
            "scanners)."
        )
    elif not 0.2 <= strength <= 12:
        yield warning(f"B0 is {strength:g} T where 0.2 to 12 T were expected; check it.")
    if Quantity.PHASE in acquisition:
        yield from _phase(acquisition)


def _phase(acquisition: Acquisition) -> Iterator[Finding]:
    phase, signal = _with_echoes(acquisition[Quantity.PHASE]), None
    if Quantity.MAGNITUDE in acquisition:
        signal = _with_echoes(acquisition[Quantity.MAGNITUDE])
    inside = _signal_region(acquisition, signal)
    if acquisition.echo_times:
        yield from _times(acquisition)
    yield from _wraps(phase, inside)
    yield from _slices(phase, signal)
    if signal is None:
        yield warning(
            "There is no magnitude, so nothing tells reliable phase from noise; export it, too."
        )
    else:
        yield from _decay(signal, inside)


def understood(acquisition: Acquisition) -> str:
    """Say in one sentence which echoes were measured, at which B0, in which direction."""
    times = ", ".join(f"{1000 * time:.4g}" for time in acquisition.echo_times)
    count = len(acquisition.echo_times)
    echoes = f"{'1 echo' if count == 1 else f'{count} echoes'} at {times} ms"
    if not count:
        echoes = "a field map" if Quantity.TOTAL_FIELD in acquisition else "no echo times"
    strength = acquisition.field_strength
    field = f"{strength:.4g} T" if strength else "an unknown B0"
    return f"Understood: {echoes}, {field}, {direction(acquisition.grid)}."


def direction(grid: Grid) -> str:
    """Say in words where B0 lies among the voxel axes."""
    axis = int(np.argmax(np.abs(grid.b0_direction)))
    name = ("first", "second", "third")[axis]
    if grid.angle_to_b0 < 0.1:
        return f"B0 along the {name} voxel axis"
    vector = ", ".join(f"{b:.3f}" for b in grid.b0_direction)
    return f"B0 along ({vector}), {grid.angle_to_b0:.1f} degrees from the {name} voxel axis"


def wrap_shares(phase: FloatArray, inside: NDArray[np.bool_]) -> list[float]:
    """Return for each echo the part of neighbour pairs in a region that jump by more than pi.

    Parameters
    ----------
    phase : (X, Y, Z, E) array
        In rad.
    inside : (X, Y, Z) array of bool
        Where to look.
    """
    jumps = np.zeros(phase.shape[3])
    pairs = 0
    for axis in range(3):
        lower, upper = _pairs(inside.shape, axis)
        both = inside[lower] & inside[upper]
        pairs += int(np.count_nonzero(both))
        for index in range(phase.shape[3]):
            echo = phase[..., index]
            jumps[index] += np.count_nonzero(both & (np.abs(echo[upper] - echo[lower]) > math.pi))
    return [float(jump) / max(1, pairs) for jump in jumps]


def _with_echoes(values: FloatArray) -> FloatArray:
    return values if values.ndim == 4 else values[..., None]


def _pairs(shape: tuple[int, ...], axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where the neighbours along an axis lie, on lines some voxels apart."""
    others = [a for a in range(3) if a != axis]
    step = max(1, round(math.sqrt(math.prod(shape) / _PAIRS)))
    lower: list[slice] = [slice(None)] * 3
    for other in others:
        lower[other] = slice(None, None, min(step, max(1, shape[other] // 8)))
    upper = list(lower)
    lower[axis], upper[axis] = slice(None, -1), slice(1, None)
    return tuple(lower), tuple(upper)


def _signal_region(acquisition: Acquisition, signal: FloatArray | None) -> NDArray[np.bool_]:
    """Return the mask, else where the first magnitude is high, else where there is phase."""
    if Quantity.MASK in acquisition:
        return acquisition.mask
    if signal is None:
        return np.asarray(_with_echoes(acquisition[Quantity.PHASE])[..., 0] != 0)
    first = signal[..., 0]
    bright = float(np.percentile(first[::2, ::2, ::2], 98))
    region = first > 0.2 * bright
    return region if region.any() else np.ones(first.shape, bool)


def _times(acquisition: Acquisition) -> Iterator[Finding]:
    times = acquisition.echo_times
    if times[-1] > _LATE:
        yield warning(
            f"The last echo time reads {times[-1]:.4g} s, in which a gradient echo has faded away; "
            "check whether milliseconds were meant."
        )
    elif times[0] < _EARLY:
        yield warning(
            f"The first echo time reads {1000 * times[0]:.3g} ms, shorter than gradient echoes "
            "are; check whether it was converted from milliseconds twice."
        )
    gaps = np.diff(times)
    if gaps.size > 1 and gaps.max() > 1.02 * gaps.min():
        shown = ", ".join(f"{1000 * gap:.4g}" for gap in gaps)
        if gaps.max() > 1.8 * gaps.min():
            yield warning(f"The echoes lie {shown} ms apart; check whether one is missing.")
        else:
            yield note(f"The echoes lie {shown} ms apart, not evenly.")


def _wraps(phase: FloatArray, inside: NDArray[np.bool_]) -> Iterator[Finding]:
    shares = wrap_shares(phase, inside)
    shown = ", ".join(f"{share:.2%}" for share in shares)
    which = "the echo" if len(shares) == 1 else "the echoes in turn"
    if max(shares) > 0.2:
        yield warning(
            f"The phase jumps by more than pi between {shown} of the neighbours in {which}, as "
            "noise does (one in four); check that it is the phase, and the echo times."
        )
    elif max(shares) > 0:
        yield note(f"The phase wraps between {shown} of the neighbours in {which}.")
    else:
        yield note("The phase does not wrap where there is signal.")
    span = float(phase.max()) - float(phase.min())
    if max(shares) == 0 and span < math.pi:
        yield warning(
            f"The phase spans only {span:.2g} rad over all echoes, so its scale could not be "
            "confirmed; check that it is in radians."
        )


def _slices(phase: FloatArray, signal: FloatArray | None) -> Iterator[Finding]:
    """Look for slices that are empty or there twice, along every axis."""
    first = phase[..., 0]
    for axis, name in enumerate(("first", "second", "third")):
        empty = _empty_slices(first, axis)
        if signal is not None:
            empty &= _empty_slices(signal[..., 0], axis)
        filled = np.flatnonzero(~empty)
        if not filled.size:
            continue
        if count := int(empty[filled[0] : filled[-1]].sum()):
            yield warning(
                f"{_slices_are(count)} empty in the middle of the {name} axis; export the series "
                "again, since images are missing."
            )
        twice = _repeated_slices(first, axis) & ~empty[1:]
        if count := int(twice.sum()):
            yield warning(
                f"{_slices_are(count)} the same as the one before along the {name} axis; check the "
                "series for images that are there twice."
            )


def _slices_are(count: int) -> str:
    return "1 slice is" if count == 1 else f"{count} slices are"


def _empty_slices(values: NDArray[np.floating], axis: int) -> NDArray[np.bool_]:
    """Return which slices hold one number only."""
    others = tuple(a for a in range(3) if a != axis)
    return np.asarray(values.max(axis=others) == values.min(axis=others))


def _repeated_slices(values: NDArray[np.floating], axis: int) -> NDArray[np.bool_]:
    moved = np.moveaxis(values, axis, 0)
    return np.array([np.array_equal(a, b) for a, b in pairwise(moved)], bool)


def _decay(signal: FloatArray, inside: NDArray[np.bool_]) -> Iterator[Finding]:
    """Signal must fade from echo to echo, and echoes of one series have one brightness."""
    means = [float(signal[..., index][inside].mean()) for index in range(signal.shape[3])]
    for index in range(1, len(means)):
        if means[index] > 1.1 * means[index - 1]:
            yield warning(
                f"The magnitude grows from echo {index} to echo {index + 1} (mean "
                f"{means[index - 1]:.3g} to {means[index]:.3g}) where it should fade; check the "
                "order of the echoes and their times."
            )
            return
