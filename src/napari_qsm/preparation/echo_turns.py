"""Whole turns between echoes: unwrapping in space leaves each echo free by a multiple of 2 pi."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TURN = 2 * np.pi

STRAIGHT = 0.2
"""Turns by which an echo may miss the line of the others and still count as on it."""

_GUESSES: tuple[int, ...] = (0, 1, -1, 2, -2, 3, -3)


@dataclass(frozen=True)
class Alignment:
    """What brings echoes on a line.

    Parameters
    ----------
    turns : tuple[int, ...]
        Whole turns to add to each echo.
    misfit : float
        Turns by which the worst echo then still misses the line in most voxels.
    """

    turns: tuple[int, ...]
    misfit: float

    @property
    def straight(self) -> bool:
        """Whether all echoes lie on the line."""
        return self.misfit <= STRAIGHT


def align(
    phase: NDArray[np.float64], times: NDArray[np.float64], *, through_zero: bool
) -> Alignment:
    """Find the fewest whole turns that put the echoes of most voxels on a line in echo time.

    The second echo may lie any whole number of turns from where it is; each further echo gets the
    turns that bring it closest to the line through those before it, in the median over voxels.
    Where several answers fit, as for equal spacing, they differ by a constant field. Three echoes
    or more that lie on a line as they are get the same turns, if any: that the line misses zero
    may be an offset.

    Parameters
    ----------
    phase : (E, voxel) array
        Unwrapped phase in rad of some voxels, in the order of `times`.
    times : (E,) array
        Ascending echo times.
    through_zero : bool
        Whether the line passes through zero phase at echo time zero, as it does without a phase
        offset; then the turns of the first echo are found as well.
    """
    free = 1 if through_zero else 2
    if len(times) <= free:
        return Alignment((0,) * len(times), 0.0)
    guesses = _GUESSES
    if through_zero and len(times) > 2:
        line = align(phase, times, through_zero=False)
        guesses = (0,) if line.straight and not any(line.turns) else _GUESSES
    found = [_aligned(phase, times, guess, through_zero) for guess in guesses]
    return min(found, key=lambda a: (not a.straight, sum(abs(n) for n in a.turns)))


def _aligned(
    phase: NDArray[np.float64], times: NDArray[np.float64], guess: int, through_zero: bool
) -> Alignment:
    """Align with the second echo lifted by `guess` turns relative to the first."""
    design = times[:, None] if through_zero else np.stack([np.ones_like(times), times], axis=1)
    turns, misses = np.zeros(len(times), dtype=int), [0.0]
    turns[1] = guess
    if through_zero:
        slope = (phase[1] - phase[0] + TURN * guess) / (times[1] - times[0])
        first = float(np.median(slope * times[0] - phase[0])) / TURN
        turns[:2] += round(first)
        misses.append(first - round(first))
    lifted = phase + TURN * turns[:, None]
    for echo in range(2, len(times)):
        predicted = design[echo] @ np.linalg.pinv(design[:echo]) @ lifted[:echo]
        miss = float(np.median(predicted - phase[echo])) / TURN
        turns[echo] = round(miss)
        misses.append(miss - round(miss))
        lifted[echo] = phase[echo] + TURN * turns[echo]
    if not through_zero:  # a turn in all echoes is no turn of the field
        turns -= round(float(np.median(turns)))
    return Alignment(tuple(int(n) for n in turns), max(abs(miss) for miss in misses))
