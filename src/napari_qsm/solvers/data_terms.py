"""Data terms of a splitting, each as what it does to the dual of ``y = A x``.

The split has y, a copy of what the model predicts, and the scaled dual u. Given v, the (relaxed)
prediction plus u, the data term's proximal at v is the new y, and what it takes away is the new
dual: ``u <- v - y``. Each class below writes that u, slab by slab, and knows nothing of Fourier
space.
Fields and weights are volumes (X, Y, Z).
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from napari_qsm.solvers.admm import slabs


class DataTerm(Protocol):
    """How far a prediction is from the data, known by its proximal."""

    def dual(self, moved: Tensor, predicted: Tensor, slab: slice, out: Tensor) -> None:
        """Write the scaled dual at the planes `slab` to `out`.

        There v is `moved`, and the prediction itself is `predicted`, where a term that is not a
        parabola is replaced by one.
        """

    def optimal(self, predicted: Tensor) -> Tensor:
        """Return the scaled dual that belongs to an optimum that predicts `predicted`."""


class LeastSquares:
    """``1/2 |W (y - f)|^2``: with ``q = W^2 / (W^2 + mu)`` the dual is ``u <- q (v - f)``.

    Parameters
    ----------
    data, weights : Tensor
        f and W^2.
    penalty : float
        mu, of the split.
    """

    def __init__(self, data: Tensor, weights: Tensor, *, penalty: float) -> None:
        self._data = data
        self._trust = weights / (weights + penalty)

    def dual(self, moved: Tensor, predicted: Tensor, slab: slice, out: Tensor) -> None:
        """See `DataTerm`."""
        torch.sub(moved, self._data[slab], out=out).mul_(self._trust[slab])

    def optimal(self, predicted: Tensor) -> Tensor:
        """``W^2 (p - f) / mu``; with ``q / (1 - q) = W^2 / mu``."""
        dual = torch.sub(predicted, self._data)
        for slab in slabs(dual):
            dual[slab].mul_(self._trust[slab]).div_(1 - self._trust[slab])
        return dual


class Wrapped:
    """``W^2 (1 - cos(s (y - f))) / s^2``: what signals of the same magnitude W differ by.

    Whole turns of the phase ``s f`` cannot be seen. The proximal has no closed form; one step of
    majorisation per iteration, started where the prediction is, follows it closely enough. By
    Cusa's inequality, ``sin r / r <= (2 + cos r) / 3``, a parabola of the curvature
    ``c = (2 + cos r) / 3`` through the value and slope at r lies above the cosine everywhere, so
    that no step overshoots and nothing is divided by zero, as happens to Newton's method from a
    quarter turn on. The dual is ``u <- W^2 (c u + sin(r) / s) / (W^2 c + mu)`` with
    ``r = s (p - f)``.

    Parameters
    ----------
    data, weights : Tensor
        f and W^2.
    scale : float
        s, phase per unit of the data, in rad.
    penalty : float
        mu, of the split.
    """

    def __init__(self, data: Tensor, weights: Tensor, *, scale: float, penalty: float) -> None:
        self._data, self._weights = data, weights
        self._scale, self._penalty = scale, penalty

    def dual(self, moved: Tensor, predicted: Tensor, slab: slice, out: Tensor) -> None:
        """See `DataTerm`."""
        angle = torch.sub(predicted, self._data[slab]).mul_(self._scale)
        slope = angle.sin()
        curvature = angle.cos_().add_(2).mul_(self._weights[slab]).div_(3)
        slope.mul_(self._weights[slab])
        torch.sub(moved, predicted, out=out).mul_(curvature).add_(slope, alpha=1 / self._scale)
        out.div_(curvature.add_(self._penalty))

    def optimal(self, predicted: Tensor) -> Tensor:
        """``W^2 sin(s (p - f)) / (s mu)``."""
        angle = torch.sub(predicted, self._data).mul_(self._scale)
        return angle.sin_().mul_(self._weights).div_(self._scale * self._penalty)


class LeastAbsolute:
    """``sigma |W (y - f)|_1``: outliers pull no harder than their neighbours.

    The dual is ``u <- clip(v - f, +-sigma W / mu)``: where it is at its bound the datum has
    been given up. With a `period` the difference counts modulo it, so that whole turns of the
    phase cannot be seen; the proximal is then that of the nearest turn.

    Parameters
    ----------
    data, weights : Tensor
        f and W^2.
    scale : float
        sigma.
    penalty : float
        mu, of the split.
    period : float
        Of the data; infinite if they do not wrap.
    """

    def __init__(
        self,
        data: Tensor,
        weights: Tensor,
        *,
        scale: float,
        penalty: float,
        period: float = math.inf,
    ) -> None:
        self._data, self._period = data, period
        self._bound = weights.sqrt().mul_(scale / penalty)

    def dual(self, moved: Tensor, predicted: Tensor, slab: slice, out: Tensor) -> None:
        """See `DataTerm`."""
        data, bound = self._data[slab], self._bound[slab]
        torch.sub(moved, data, out=out)
        if math.isfinite(self._period):
            out.sub_(self._turns(predicted, data), alpha=self._period)
        out.clamp_(-bound, bound)

    def _turns(self, predicted: Tensor, data: Tensor) -> Tensor:
        return torch.sub(predicted, data).div_(self._period).round_()

    def optimal(self, predicted: Tensor) -> Tensor:
        """``sigma W sign(p - f) / mu``, less where the error is too small to tell its sign.

        At an optimum any dual within the bounds may go with an error of zero. The error itself,
        cut off at the bound, is right where it is large and does little harm where it is not.
        """
        error = torch.sub(predicted, self._data)
        if math.isfinite(self._period):
            error.sub_(self._turns(predicted, self._data), alpha=self._period)
        return error.clamp_(-self._bound, self._bound)
