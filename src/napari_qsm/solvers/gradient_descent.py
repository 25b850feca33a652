"""Gradient descent with a fixed step, plain or accelerated."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from napari_qsm.solvers.iteration import Iterate, Iterates, Pieces, pausing, ratio_of_norms


def momentum(iteration: int) -> float:
    """Part of the last update that Nesterov's iteration repeats before step `iteration` (from 1).

    ``(n - 1) / (n + 2)``. Reference: Nesterov 1983, Soviet Mathematics Doklady 27:372.
    """
    return (iteration - 1) / (iteration + 2)


def gradient_descent(
    gradient: Callable[[Tensor], Pieces],
    estimate: Tensor,
    *,
    step: float,
    accelerated: bool = False,
) -> Iterates:
    """Iterate ``x <- y - step * gradient(y)`` in place for as long as somebody asks.

    y is x, or if accelerated ``x + m (x - x')`` with the `momentum` m and the x' before, which
    comes in the root of the number of iterations to where plain descent does.

    Parameters
    ----------
    gradient : callable
        Computes the gradient in pieces; it must not return a buffer it writes to again.
    estimate : Tensor
        Start, real or complex; overwritten.
    step : float
        Fixed; stable below 2 / L with L the Lipschitz constant of the gradient, accelerated below
        4/3 / L.
    accelerated : bool
        Whether to use momentum.

    Yields
    ------
    Iterate
        Once per iteration and at every pause of `gradient`.
    """
    iteration, change = 0, 1.0
    update = torch.zeros_like(estimate) if accelerated else None
    while True:
        pause = Iterate(iteration, estimate, change, complete=False)
        iteration += 1
        if update is None:
            slope = yield from pausing(gradient(estimate), pause)
            estimate.sub_(slope, alpha=step)
            change = step * ratio_of_norms(slope, estimate)
        else:
            update.mul_(momentum(iteration))
            slope = yield from pausing(gradient(estimate + update), pause)
            update.sub_(slope, alpha=step)
            estimate.add_(update)
            change = ratio_of_norms(update, estimate)
        yield Iterate(iteration, estimate, change)


def responses(curvature: Tensor, *, step: float, accelerated: bool = False) -> Iterator[Tensor]:
    """Yield what part of the way to the minimum of a quadratic comes in 1, 2, ... iterations.

    From zero, along an eigenvector whose curvature is c, plain descent comes to
    ``1 - (1 - step c)^n``.

    Parameters
    ----------
    curvature : Tensor
        c, of any shape.
    step, accelerated
        See `gradient_descent`.
    """
    left, update = torch.ones_like(curvature), torch.zeros_like(curvature)
    iteration = 0
    while True:
        iteration += 1
        update = update * (momentum(iteration) if accelerated else 0.0)
        update = update - step * curvature * (left + update)
        left = left + update
        yield 1 - left
