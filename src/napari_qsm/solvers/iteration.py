"""What every iterative solver hands out, and the rule by which it stops, written once."""

import math
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_qsm.generators import relayed

Pieces = Generator[None, None, Tensor]
"""A computation that pauses between its pieces, so that nobody waits for all of it to cancel."""


class DivergenceError(ArithmeticError):
    """An iteration left the finite numbers; its text is one sentence meant for the user."""


@dataclass(frozen=True)
class Iterate:
    """The state of a solver after a piece of work.

    Parameters
    ----------
    iteration : int
        Completed iterations.
    estimate : Tensor
        The current estimate. It belongs to the solver: copy what must outlive the next step.
    change : float
        Norm of the last update relative to that of the estimate; 1 before the first iteration.
    complete : bool
        False if this is a pause inside an iteration.
    """

    iteration: int
    estimate: Tensor
    change: float = 1.0
    complete: bool = True


Iterates = Generator[Iterate, None, None]


def ratio_of_norms(update: Tensor, estimate: Tensor) -> float:
    """``|update| / |estimate|``: 0 if both vanish, inf if the estimate is 0 alone or infinite."""
    above, below = _norm(update), _norm(estimate)
    if above == below == 0:
        return 0.0
    return above / below if below > 0 and math.isfinite(below) else math.inf


def _norm(tensor: Tensor) -> float:
    # The norm of complex numbers takes a square root for each.
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return float(torch.linalg.vector_norm(real))


def pausing(pieces: Pieces, state: Iterate) -> Generator[Iterate, None, Tensor]:
    """Run `pieces` to their result, handing out `state` at every pause."""
    return (yield from relayed(pieces, lambda _: state))


def until_converged(
    iterates: Iterates, *, tolerance: float, max_iterations: int
) -> Generator[Iterate, None, Iterate]:
    """Pass `iterates` on until the relative change is at most `tolerance`; return the last one.

    Closing this generator closes the solver.

    Raises
    ------
    DivergenceError
        If the change is not a finite number.
    """
    with closing(iterates):
        for iterate in iterates:
            if not math.isfinite(iterate.change):
                raise DivergenceError(
                    f"Iteration {iterate.iteration} left the finite numbers; use a smaller step or "
                    "more regularisation, and check the field for outliers."
                )
            yield iterate
            if iterate.complete and (
                iterate.change <= tolerance or iterate.iteration >= max_iterations
            ):
                return iterate
    raise RuntimeError("The solver ended before it converged.")
