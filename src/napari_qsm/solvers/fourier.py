"""The quadratic steps of an ADMM whose operators are diagonal in Fourier space.

They are called with the right-hand side that the split of the prior pulls with and return the new
estimate, pausing between transforms. All symbols live on the half grid of ``torch.fft.rfftn``;
volumes are real (X, Y, Z).
"""

from collections.abc import Generator
from typing import Protocol

import torch
from torch import Tensor

from napari_qsm.solvers.admm import RELAXATION, slab_buffers, slabs
from napari_qsm.solvers.data_terms import DataTerm
from napari_qsm.solvers.iteration import Pieces


def scale_spectrum(spectrum: Tensor, symbol: Tensor) -> Tensor:
    """Multiply a complex `spectrum` by a real `symbol` in place, without a complex copy of it.

    On a CPU one part after the other takes a third of the time of both at once (measured): the
    latter is not vectorised.
    """
    parts = torch.view_as_real(spectrum)
    if spectrum.is_cpu:
        parts[..., 0].mul_(symbol)
        parts[..., 1].mul_(symbol)
    else:
        parts.mul_(symbol.unsqueeze(-1))
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
    ``a A x + (1 - a) y`` stands for ``A x`` in the update of y and u. With v, that prediction plus
    u, and the new u, the new y is ``v - u``: what is kept of both is ``(1 - a) y + u`` alone, to
    which ``a A x`` is added for the next v.

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
        self._relaxation, self._shape = relaxation, shape
        if predicted is None:
            predicted = torch.zeros(shape, dtype=symbol.dtype, device=symbol.device)
            self._kept = torch.zeros_like(predicted)
        else:
            self._kept = term.optimal(predicted).add_(predicted, alpha=1 - relaxation)
        self._prediction = _at_once(predicted)
        self._buffer = slab_buffers(predicted, 1)[0]

    def _renew(self, predicted: Tensor) -> Generator[None, None, None]:
        """Update y and u for a prediction and write ``y - u`` in its place."""
        for slab in slabs(predicted):
            target, moved = predicted[slab], self._kept[slab]
            dual = self._buffer[: slab.stop - slab.start]
            moved.add_(target, alpha=self._relaxation)
            self._term.dual(moved, target, slab, dual)
            torch.sub(moved, dual, alpha=2, out=target)
            moved.lerp_(dual, self._relaxation)
            yield

    def __call__(self, pulled: Tensor) -> Pieces:
        """Solve for the new estimate; `pulled` is what the prior's split pulls with."""
        predicted = yield from self._prediction
        yield from self._renew(predicted)
        transform = scale_spectrum(torch.fft.rfftn(predicted), self._symbol)
        del predicted  # its memory is needed for what replaces it
        yield
        estimate = yield from self._normal(pulled, transform)
        # Not before it is needed: nobody needs that of the last estimate.
        self._prediction = _applied(self._symbol, transform, self._shape)
        return estimate


def _at_once(volume: Tensor) -> Pieces:
    yield
    return volume


def _applied(symbol: Tensor, transform: Tensor, shape: torch.Size) -> Pieces:
    """Return the volume of a spectrum times a symbol; the spectrum is overwritten."""
    return (yield from to_volume(scale_spectrum(transform, symbol), shape))


def inverse_normal(symbol: Tensor, prior_symbol: Tensor, penalty: float) -> Tensor:
    """``1 / (A^2 + penalty E2)``, and 0 where that would divide by zero (the origin)."""
    normal = symbol.square().add_(prior_symbol, alpha=penalty)
    inverse = normal.reciprocal()
    return inverse.masked_fill_(normal == 0, 0)
