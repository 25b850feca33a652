"""The quadratic step of an ADMM whose operators are diagonal in Fourier space.

Both classes are called with the right-hand side that the split of the prior pulls with and
return the new estimate, pausing between transforms. All symbols live on the half grid of
``torch.fft.rfftn``; volumes are real (X, Y, Z).
"""

import torch
from torch import Tensor

from napari_qsm.solvers.iteration import Pieces


def scale_spectrum(spectrum: Tensor, symbol: Tensor) -> Tensor:
    """Multiply a complex `spectrum` by a real `symbol` in place, without a complex copy of it."""
    torch.view_as_real(spectrum).mul_(symbol.unsqueeze(-1))
    return spectrum


def _volume(transform: Tensor, shape: torch.Size) -> Pieces:
    """Transform back to a volume, in the two halves ``irfftn`` consists of.

    Into new memory: given some to write to, the transform would only copy its result there.
    """
    half = torch.fft.ifftn(transform, dim=(-3, -2))
    yield
    volume: Tensor = torch.fft.irfft(half, n=shape[-1])
    yield
    return volume


class QuadraticStep:
    """Minimise ``1/2 |A x - f|^2 + penalty/2 |G x - s|^2`` over x, given ``G.H s``.

    In Fourier space ``x = (penalty F G.H s + A F f) / (A^2 + penalty E2)``; x(0) = 0.

    Parameters
    ----------
    data : Tensor
        f.
    symbol, prior_symbol : Tensor
        A (real, so A is self-adjoint) and E2, the symbol of ``G.H G``.
    penalty : float
        rho.
    """

    def __init__(
        self, data: Tensor, symbol: Tensor, prior_symbol: Tensor, *, penalty: float
    ) -> None:
        inverse = inverse_normal(symbol, prior_symbol, penalty)
        self._pull = scale_spectrum(torch.fft.rfftn(data), symbol)
        scale_spectrum(self._pull, inverse)
        self._share = inverse.mul_(penalty)

    def __call__(self, pulled: Tensor) -> Pieces:
        """Solve for the new estimate; `pulled` is G.H s."""
        transform = torch.fft.rfftn(pulled)
        yield
        scale_spectrum(transform, self._share).add_(self._pull)
        return (yield from _volume(transform, pulled.shape))


class WeightedQuadraticStep:
    """Minimise ``1/2 |W (A x - f)|^2 + penalty/2 |G x - s|^2`` over x, given ``G.H s``.

    W is not diagonal in Fourier space, so ``y = A x`` is split off with its own scaled dual u
    (penalty `data_penalty`, written mu): with ``q = W^2 / (W^2 + mu)`` the dual update is
    ``u <- q (A x + u - f)`` and the next step pulls with ``mu A F (y - u)``.

    Parameters
    ----------
    data, weights : Tensor
        f and W^2.
    symbol, prior_symbol : Tensor
        A and E2.
    penalty, data_penalty : float
        rho and mu.
    estimate : Tensor
        Where the iteration starts.
    """

    def __init__(
        self,
        data: Tensor,
        weights: Tensor,
        symbol: Tensor,
        prior_symbol: Tensor,
        *,
        penalty: float,
        data_penalty: float,
        estimate: Tensor,
    ) -> None:
        self._ratio = penalty / data_penalty
        self._inverse = inverse_normal(symbol, prior_symbol, self._ratio)
        self._symbol = symbol
        self._trust = weights / (weights + data_penalty)
        self._trusted = self._trust * data
        predicted = scale_spectrum(torch.fft.rfftn(estimate), symbol)
        self._predicted = torch.fft.irfftn(predicted, s=estimate.shape)
        # What is optimal with this estimate: the gradient of the data term over the penalty.
        self._dual = (self._predicted - data).mul_(weights).div_(data_penalty)

    def __call__(self, pulled: Tensor) -> Pieces:
        """Solve for the new estimate; `pulled` is G.H s."""
        pull = torch.fft.rfftn(pulled)
        yield
        target = self._predicted.add_(self._dual)
        torch.mul(target, self._trust, out=self._dual).sub_(self._trusted)
        target.sub_(self._dual, alpha=2)
        yield
        transform = torch.fft.rfftn(target)
        del target, self._predicted  # their memory is needed for what replaces them
        yield
        scale_spectrum(transform, self._symbol).add_(pull, alpha=self._ratio)
        scale_spectrum(transform, self._inverse)
        del pull
        estimate = yield from _volume(transform, pulled.shape)
        scale_spectrum(transform, self._symbol)
        self._predicted = yield from _volume(transform, pulled.shape)
        return estimate


def inverse_normal(symbol: Tensor, prior_symbol: Tensor, penalty: float) -> Tensor:
    """``1 / (A^2 + penalty E2)``, and 0 where that would divide by zero (the origin)."""
    normal = symbol.square().add_(prior_symbol, alpha=penalty)
    inverse = normal.reciprocal()
    return inverse.masked_fill_(normal == 0, 0)
