"""The quadratic steps of an ADMM whose operators are diagonal in Fourier space.

They are called with the right-hand side that the split of the prior pulls with and return the new
estimate, pausing between transforms. All symbols live on the half grid of ``torch.fft.rfftn``;
volumes are real (X, Y, Z).
"""

from typing import Protocol

import torch
from torch import Tensor

from napari_qsm.solvers.admm import RELAXATION, slabs
from napari_qsm.solvers.data_terms import DataTerm
from napari_qsm.solvers.iteration import Pieces


def scale_spectrum(spectrum: Tensor, symbol: Tensor) -> Tensor:
    """Multiply a complex `spectrum` by a real `symbol` in place, without a complex copy of it."""
    torch.view_as_real(spectrum).mul_(symbol.unsqueeze(-1))
    return spectrum


def to_volume(transform: Tensor, shape: torch.Size) -> Pieces:
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
        return (yield from to_volume(transform, pulled.shape))


class Normal(Protocol):
    """Solves ``(mu A.H A + rho K.H K) x = mu A.H t + rho p`` for the x of a prior ``|K x|_1``."""

    def __call__(self, pulled: Tensor, target: Tensor) -> Pieces:
        """Return x; `pulled` is p.

        `target` is the spectrum of ``A.H t`` and becomes that of the first volume of x.
        """


class GradientNormal:
    """`Normal` of total variation: ``x = (A t + rho/mu p) / (A^2 + rho/mu E2)``, x(0) = 0.

    Parameters
    ----------
    symbol, prior_symbol : Tensor
        A and E2.
    ratio : float
        rho / mu.
    """

    def __init__(self, symbol: Tensor, prior_symbol: Tensor, *, ratio: float) -> None:
        self._ratio = ratio
        self._inverse = inverse_normal(symbol, prior_symbol, ratio)

    def __call__(self, pulled: Tensor, target: Tensor) -> Pieces:
        """See `Normal`."""
        target.add_(torch.fft.rfftn(pulled), alpha=self._ratio)
        yield
        scale_spectrum(target, self._inverse)
        return (yield from to_volume(target, pulled.shape))


class SplitStep:
    """Minimise ``data(A x)`` and a prior's penalty over x, whatever the data term.

    ``y = A x`` is split off with its own scaled dual u and penalty mu; the data term's proximal
    is done voxel by voxel, the rest in Fourier space. The relaxed prediction
    ``a A x + (1 - a) y`` stands for ``A x`` in the update of y and u.

    Parameters
    ----------
    term : DataTerm
        Made for mu.
    symbol : Tensor
        A.
    normal : Normal
        Made for A and mu.
    shape : torch.Size
        Of a volume (X, Y, Z).
    predicted : Tensor, optional
        ``A x`` of the x the iteration starts from (X, Y, Z), with the dual that is optimal with
        it; overwritten. If not given it starts from zero, and so does the dual: the optimal one
        would pull at once with all of the data over mu.
    relaxation : float
        a.
    """

    def __init__(
        self,
        term: DataTerm,
        symbol: Tensor,
        normal: Normal,
        *,
        shape: torch.Size,
        predicted: Tensor | None = None,
        relaxation: float = RELAXATION,
    ) -> None:
        self._term, self._symbol, self._normal = term, symbol, normal
        self._relaxation = relaxation
        if predicted is None:
            self._predicted = torch.zeros(shape, dtype=symbol.dtype, device=symbol.device)
            self._dual = torch.zeros_like(self._predicted)
        else:
            self._predicted, self._dual = predicted, term.optimal(predicted)
        self._copy = self._predicted.clone()

    def _renew(self) -> Pieces:
        """Update y and u; return ``y - u`` in the prediction's place."""
        for slab in slabs(self._predicted):
            target, copy, dual = self._predicted[slab], self._copy[slab], self._dual[slab]
            copy.lerp_(target, self._relaxation)
            torch.add(copy, dual, out=target)
            self._term.renew(dual, copy, slab)
            torch.sub(target, dual, out=copy)
            torch.sub(copy, dual, out=target)
            yield
        return self._predicted

    def __call__(self, pulled: Tensor) -> Pieces:
        """Solve for the new estimate; `pulled` is what the prior's split pulls with."""
        target = yield from self._renew()
        shape = target.shape
        transform = scale_spectrum(torch.fft.rfftn(target), self._symbol)
        del target, self._predicted  # their memory is needed for what replaces them
        yield
        estimate = yield from self._normal(pulled, transform)
        scale_spectrum(transform, self._symbol)
        self._predicted = yield from to_volume(transform, shape)
        return estimate


def inverse_normal(symbol: Tensor, prior_symbol: Tensor, penalty: float) -> Tensor:
    """``1 / (A^2 + penalty E2)``, and 0 where that would divide by zero (the origin)."""
    normal = symbol.square().add_(prior_symbol, alpha=penalty)
    inverse = normal.reciprocal()
    return inverse.masked_fill_(normal == 0, 0)
