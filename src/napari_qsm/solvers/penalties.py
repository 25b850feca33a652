"""Penalties of an estimate for `napari_qsm.solvers.gauss_newton`, each with its parabola."""

from collections.abc import Sequence

import torch
from torch import Tensor

from napari_qsm.solvers.admm import AXES, Differences, slabs
from napari_qsm.solvers.gauss_newton import add_products
from napari_qsm.solvers.iteration import Pieces


class SmoothedNorm:
    """``lambda sum M sqrt((G x)^2 + eps^2)``: the anisotropic norm of differences, made smooth.

    It lies below the parabola of curvature ``lambda V = lambda M / sqrt((G x)^2 + eps^2)`` that
    touches it at x, which is what reweighted least squares are.

    Parameters
    ----------
    gradient : Differences
        G.
    selection : Tensor
        M, (3, X, Y, Z) of zeros and ones: which differences count; overwritten.
    weight, smoothing : float
        lambda and eps; differences well below eps count quadratically.
    """

    def __init__(
        self, gradient: Differences, selection: Tensor, *, weight: float, smoothing: float
    ) -> None:
        self._gradient, self._weight, self._smoothing = gradient, weight, smoothing
        self._weights = selection  # becomes lambda V, which is not zero where M is one

    def value(self, estimate: Tensor) -> float:
        """Return what an estimate costs, in double precision."""
        total = 0.0
        for slab in slabs(estimate):
            for axis, weights in zip(AXES, self._weights, strict=True):
                scratch = torch.empty_like(estimate[slab])
                slope = self._gradient.difference(estimate, axis, slab, scratch)
                length = slope.square_().add_(self._smoothing**2).sqrt_()
                total += float((length * weights[slab].sign()).sum(dtype=torch.float64))
        return self._weight * total

    def pull(self, estimate: Tensor, out: Tensor) -> Pieces:
        """Renew V for `estimate` and add ``lambda G.H V G x`` to `out`, slab by slab."""
        share = 1 / self._weight**2
        least = torch.as_tensor(self._smoothing**2 * share).to(estimate)
        for slab in slabs(estimate):
            scratch, inverse = (torch.empty_like(estimate[slab]) for _ in range(2))
            for axis, component in zip(AXES, self._weights, strict=True):
                slope = self._gradient.difference(estimate, axis, slab, scratch)
                torch.addcmul(least, slope, slope, value=share, out=inverse).rsqrt_()
                weights = component[slab].sign_().mul_(inverse)
                self._gradient.add_adjoint(slope.mul_(weights), axis, slab, out)
            yield
        return out

    def curvatures(self, directions: Sequence[Tensor]) -> Pieces:
        """Return ``lambda <G d_i, V G d_j>`` in double precision."""
        total = torch.zeros(len(directions), len(directions), dtype=torch.float64)
        for slab in slabs(directions[0]):
            scratch = [torch.empty_like(directions[0][slab]) for _ in directions]
            for axis, weights in zip(AXES, self._weights, strict=True):
                slopes = [
                    self._gradient.difference(direction, axis, slab, part)
                    for direction, part in zip(directions, scratch, strict=True)
                ]
                add_products(total, weights[slab], slopes)
            yield
        return total


class Uniformity:
    """``lambda/2 sum (x - mean x)^2`` over a region: what should have one value there.

    Parameters
    ----------
    region : Tensor
        True in the region (X, Y, Z).
    weight : float
        lambda.
    """

    def __init__(self, region: Tensor, *, weight: float) -> None:
        self._voxels = region.flatten().nonzero().squeeze(1)
        self._weight = weight

    def pull(self, estimate: Tensor, out: Tensor) -> Pieces:
        """Add ``lambda (x - mean x)`` in the region to `out`."""
        pull = self._departure(estimate).mul_(self._weight)
        out.view(-1).index_add_(0, self._voxels, pull)
        yield
        return out

    def curvatures(self, directions: Sequence[Tensor]) -> Pieces:
        """Return ``lambda <d_i - mean d_i, d_j - mean d_j>`` in double precision."""
        departures = torch.stack([self._departure(direction) for direction in directions]).double()
        yield
        return (departures @ departures.T).mul_(self._weight).cpu()

    def _departure(self, volume: Tensor) -> Tensor:
        values = volume.view(-1)[self._voxels]
        return values - values.mean()
