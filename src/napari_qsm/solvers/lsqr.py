"""Weighted least squares for a convolution, as LSQR solves them.

In exact arithmetic LSQR's iterates are those of conjugate gradients on the normal equations
(Paige & Saunders 1982, doi:10.1145/355984.355989), whose relative residual is the ``|A.H r|`` by
which LSQR stops. The normal equations are what is applied here, because all that makes them, the
damping as well, passes through the same two pairs of transforms.
"""

import torch
from torch import Tensor

from napari_qsm.solvers.conjugate_gradient import conjugate_gradient
from napari_qsm.solvers.fourier import scale_spectrum, to_volume
from napari_qsm.solvers.iteration import Iterates, Pieces


class WeightedConvolution:
    """Minimise ``|W (A x - f)|^2 + |C x|^2`` over the x that vanish outside a region.

    A and C are convolutions, A with a real symbol. Its normal operator is
    ``R (A W^2 A + C.H C) R`` with R the restriction to the region.

    Parameters
    ----------
    symbol : Tensor
        A, on the half grid.
    weights : Tensor
        W^2, (X, Y, Z).
    damping : Tensor, optional
        ``|C|^2`` on the half grid; without it the iteration must stop early.
    region : Tensor, optional
        1 inside, 0 outside; x is free everywhere if not given.
    """

    def __init__(
        self,
        symbol: Tensor,
        weights: Tensor,
        *,
        damping: Tensor | None = None,
        region: Tensor | None = None,
    ) -> None:
        self._symbol, self._weights = symbol, weights
        self._damping, self._region = damping, region

    def normal(self, volume: Tensor) -> Pieces:
        """Apply the normal operator."""
        transform = torch.fft.rfftn(volume)
        yield
        weighted = yield from to_volume(transform * self._symbol, volume.shape)
        penalty = None if self._damping is None else scale_spectrum(transform, self._damping)
        del transform
        return (yield from self._collect(weighted.mul_(self._weights), penalty))

    def right(self, data: Tensor) -> Pieces:
        """Right-hand side ``R A W^2 f`` of the normal equations."""
        return (yield from self._collect(data * self._weights, None))

    def _collect(self, weighted: Tensor, penalty: Tensor | None) -> Pieces:
        transform = scale_spectrum(torch.fft.rfftn(weighted), self._symbol)
        if penalty is not None:
            transform.add_(penalty)
        yield
        result = yield from to_volume(transform, weighted.shape)
        return self._restrict(result)

    def preconditioner(self, volume: Tensor) -> Pieces:
        """Divide by what the normal operator would be with weights of 1 everywhere."""
        assert self._damping is not None
        transform = torch.fft.rfftn(volume)
        yield
        transform.div_(self._symbol.square().add_(self._damping))
        result = yield from to_volume(transform, volume.shape)
        return self._restrict(result)

    def _restrict(self, volume: Tensor) -> Tensor:
        return volume if self._region is None else volume.mul_(self._region)

    def solve(self, right: Tensor) -> Iterates:
        """Conjugate gradients on the normal equations from zero; `right` is overwritten.

        Preconditioned if there is damping; without it the early iterates count, which are LSQR's.
        """
        guide = None if self._damping is None else self.preconditioner
        return conjugate_gradient(self.normal, right, preconditioner=guide)
