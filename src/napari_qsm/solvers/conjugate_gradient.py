"""Conjugate gradients for symmetric positive definite operators."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from napari_qsm.solvers.iteration import DivergenceError, Iterate, Iterates, Pieces, pausing

Operator = Callable[[Tensor], Pieces]
"""Applies a linear operator in pieces and returns new memory."""


def conjugate_gradient(
    operator: Operator, right: Tensor, *, preconditioner: Operator | None = None
) -> Iterates:
    """Solve ``A x = b`` from ``x = 0`` for as long as somebody asks.

    To start elsewhere, solve for the difference with ``b - A x0``.

    Parameters
    ----------
    operator : callable
        A, symmetric and positive definite, or semidefinite with b in its range.
    right : Tensor
        b, real, of any shape; overwritten, it becomes the residual.
    preconditioner : callable, optional
        An approximate inverse of A, symmetric and positive definite.

    Yields
    ------
    Iterate
        The start, then once per iteration and at every pause inside one. Its `change` is the
        residual as the recursion knows it, ``|b - A x| / |b|``.

    Raises
    ------
    DivergenceError
        If A turns out to be indefinite.

    Notes
    -----
    Reference: Hestenes & Stiefel 1952, doi:10.6028/jres.049.044.
    """
    estimate, direction = torch.zeros_like(right), torch.zeros_like(right)
    scale = _norm(right)
    iteration, power, error = 0, math.inf, 1.0 if scale else 0.0
    yield Iterate(iteration, estimate, error)
    while True:
        pause = Iterate(iteration, estimate, error, complete=False)
        if preconditioner is None:
            pulled = right
        else:
            pulled = yield from pausing(preconditioner(right), pause)
        before, power = power, _dot(right, pulled)
        direction.mul_(power / before if before else 0.0).add_(pulled)
        del pulled
        yield pause
        image = yield from pausing(operator(direction), pause)
        step = _step(power, _dot(direction, image))
        estimate.add_(direction, alpha=step)
        right.sub_(image, alpha=step)
        del image, pause
        iteration += 1
        error = _norm(right) / scale if scale else 0.0
        yield Iterate(iteration, estimate, error)


def _step(power: float, curvature: float) -> float:
    """How far to go: 0 once rounding leaves nothing to go for."""
    if curvature < 0:
        raise DivergenceError("The operator of a conjugate gradient is not positive definite.")
    return power / curvature if curvature else 0.0


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor))


def _dot(one: Tensor, other: Tensor) -> float:
    return float(torch.dot(one.flatten(), other.flatten()))
