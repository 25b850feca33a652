"""Gradient descent with a fixed step."""

from collections.abc import Callable

from torch import Tensor

from napari_qsm.solvers.iteration import Iterate, Iterates, Pieces, pausing, ratio_of_norms


def gradient_descent(
    gradient: Callable[[Tensor], Pieces], estimate: Tensor, *, step: float
) -> Iterates:
    """Iterate ``x <- x - step * gradient(x)`` in place for as long as somebody asks.

    Parameters
    ----------
    gradient : callable
        Computes the gradient at x in pieces; it must not return a buffer it writes to again.
    estimate : Tensor
        Start, real or complex; overwritten.
    step : float
        Fixed; stable below 2 / L with L the Lipschitz constant of the gradient.

    Yields
    ------
    Iterate
        Once per iteration and at every pause of `gradient`.
    """
    iteration, change = 0, 1.0
    while True:
        pause = Iterate(iteration, estimate, change, complete=False)
        slope = yield from pausing(gradient(estimate), pause)
        estimate.sub_(slope, alpha=step)
        iteration += 1
        change = step * ratio_of_norms(slope, estimate)
        yield Iterate(iteration, estimate, change)
