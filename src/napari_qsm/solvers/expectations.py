"""What a Gaussian with independent voxels expects of a misfit and of a variation.

With ``chi_i ~ N(mu_i, sigma_i^2)`` both have closed forms, so that variational inference needs no
samples; those are here as well, to check the closed forms by and to see what they spare. All are
modules without weights: what runs them beside a generator can stop between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

AXES = (-3, -2, -1)

LEAST = 1e-20
"""Variance below which a difference counts as known; far below that of any susceptibility in ppm,
and enough for its root to have a slope."""


class Misfit(nn.Module):
    """``E |W (A chi - f)|^2 / 2``: ``|W (A mu - f)|^2 / 2 + sum_i sigma_i^2 (d^2 * W^2)_i / 2``.

    A continues volumes with zeros, convolves them periodically with an even kernel d, and cuts
    them back. The second part is what every voxel's own variance adds; its factor
    ``diag(A.H W^2 A)`` is found once.

    Parameters
    ----------
    symbol : Tensor
        Of the convolution: real, on the half grid of `shape`.
    shape : sequence of int
        To which volumes are continued.
    data, weights : (X, Y, Z) tensors
        f and W^2.
    """

    symbol: Tensor
    data: Tensor
    weights: Tensor
    curvature: Tensor

    def __init__(self, symbol: Tensor, shape: Sequence[int], data: Tensor, weights: Tensor) -> None:
        super().__init__()
        self._shape = tuple(shape)
        self.register_buffer("symbol", symbol)
        self.register_buffer("data", data)
        self.register_buffer("weights", weights)
        self.register_buffer("curvature", diagonal(symbol, shape, weights))

    def residual(self, mean: Tensor) -> Tensor:
        """Return ``A mu - f`` for a mean (X, Y, Z)."""
        return _convolved(mean, self.symbol, self._shape) - self.data

    def forward(self, residual: Tensor) -> Tensor:
        """Return ``|W r|^2 / 2`` for the residual r of a mean."""
        return 0.5 * (self.weights * residual.square()).sum()

    def spread(self, sigma: Tensor) -> Tensor:
        """Return ``sum_i sigma_i^2 (d^2 * W^2)_i / 2``, which the variance adds to it."""
        return 0.5 * (self.curvature * sigma.square()).sum()


def diagonal(symbol: Tensor, shape: Sequence[int], weights: Tensor) -> Tensor:
    """Return ``diag(A.H W^2 A) = d^2 * W^2`` for W^2 (X, Y, Z); A as in `Misfit`."""
    kernel = torch.fft.irfftn(torch.complex(symbol, torch.zeros_like(symbol)), s=shape, dim=AXES)
    squared = torch.fft.rfftn(kernel.square_(), dim=AXES).real
    return _convolved(weights, squared, shape).clamp(min=0)  # rounding where no data are


def _convolved(volume: Tensor, symbol: Tensor, shape: Sequence[int]) -> Tensor:
    x, y, z = volume.shape
    transform = torch.fft.rfftn(volume, s=tuple(shape), dim=AXES) * symbol
    whole: Tensor = torch.fft.irfftn(transform, s=tuple(shape), dim=AXES)
    return whole[:x, :y, :z]


class Variation(nn.Module):
    """``E sum M |chi_j - chi_i| / v`` over neighbours along one axis, v being their distance.

    Parameters
    ----------
    selection : (X, Y, Z) tensor
        M of each voxel and the one behind it; that of the last plane is not looked at.
    axis : int
        -3, -2 or -1.
    distance : float
        v in mm.
    """

    selection: Tensor

    def __init__(self, selection: Tensor, axis: int, distance: float) -> None:
        super().__init__()
        first, _ = _neighbours(selection, axis)
        self.register_buffer("selection", first / distance)
        self._axis = axis

    def forward(self, mean: Tensor, sigma: Tensor | None = None) -> Tensor:
        """Return the expectation, or the variation of the mean itself without a `sigma`."""
        low, high = _neighbours(mean, self._axis)
        size = high - low
        if sigma is None:
            return (self.selection * size.abs()).sum()
        low, high = _neighbours(sigma, self._axis)
        spread = torch.sqrt(low.square() + high.square() + LEAST)
        return (self.selection * folded(size, spread)).sum()


def _neighbours(volume: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    count = volume.shape[axis] - 1
    return volume.narrow(axis, 0, count), volume.narrow(axis, 1, count)


def folded(mean: Tensor, deviation: Tensor) -> Tensor:
    """Return ``E |x| = s sqrt(2 / pi) exp(-q^2) + m erf(q)`` for ``x ~ N(m, s^2)``.

    Here ``q = m / (sqrt(2) s)``. Its slopes, ``erf(q)`` in m and ``sqrt(2 / pi) exp(-q^2)`` in s,
    never exceed 1, also where s is next to nothing. They have no slopes of their own here.

    Parameters
    ----------
    mean, deviation : tensors of one shape
        m and s > 0.
    """
    result: Tensor = _Folded.apply(mean, deviation)  # type: ignore[no-untyped-call]
    return result


class _Folded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mean: Tensor, deviation: Tensor) -> Tensor:
        ratio = mean / (math.sqrt(2) * deviation)
        sign = torch.erf(ratio)
        bell = ratio.square_().neg_().exp_().mul_(math.sqrt(2 / math.pi))
        ctx.save_for_backward(sign, bell)
        return torch.addcmul(bell * deviation, mean, sign)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor]:
        sign, bell = ctx.saved_tensors
        return slopes[0] * sign, slopes[0] * bell


class Terms(NamedTuple):
    """The terms of the negative ELBO, each a sum over voxels.

    `order` is ``-sum log sigma``, `variation` that of the prior times lambda, `misfit` that of the
    mean and `spread` what the variance adds to it.
    """

    order: Tensor
    variation: Tensor
    misfit: Tensor
    spread: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum."""
        return self.order + self.variation + self.misfit + self.spread


class FreeEnergy(nn.Module):
    """``-sum log sigma + lambda E |M G chi|_1 + E |W (A chi - f)|^2 / 2``, the negative ELBO.

    Minimised over mu and sigma it is the Gaussian with independent voxels that lies closest, in the
    sense of Kullback and Leibler, to the posterior under the noise 1/W and the prior
    ``exp(-lambda |M G chi|_1)``; constants are left out. Reference: Blei et al. 2017,
    doi:10.1080/01621459.2017.1285773, for the principle.

    Parameters
    ----------
    misfit : Misfit
        The data's part.
    selection : (3, X, Y, Z) tensor
        M, of the same volumes; see `Variation`.
    voxel_size : sequence of float
        In mm.
    strength : float
        lambda in mm per unit of chi.
    region : (X, Y, Z) tensor of bool
        Whose logarithms count; sigma must be positive there and zero elsewhere.
    """

    region: Tensor

    def __init__(
        self,
        misfit: Misfit,
        selection: Tensor,
        voxel_size: Sequence[float],
        strength: float,
        region: Tensor,
    ) -> None:
        super().__init__()
        self.misfit = misfit
        self.variations = nn.ModuleList(
            Variation(part, axis, size)
            for part, axis, size in zip(selection, AXES, voxel_size, strict=True)
        )
        self.strength = strength
        self.register_buffer("region", region)

    def forward(self, mean: Tensor, sigma: Tensor) -> Terms:
        """Return its terms in closed form for a mean and a standard deviation (X, Y, Z)."""
        misfit = self.misfit(self.misfit.residual(mean))
        variations = [variation(mean, sigma) for variation in self.variations]
        variation = self.strength * torch.stack(variations).sum()
        return Terms(self._order(sigma), variation, misfit, self.misfit.spread(sigma))

    def sampled(self, mean: Tensor, sigma: Tensor, count: int) -> Terms:
        """Return what `count` samples ``mu + sigma epsilon`` make of them, to be differentiated.

        The spread is within the misfit then.
        """
        misfit = variation = torch.zeros((), device=mean.device, dtype=mean.dtype)
        for _ in range(count):
            drawn = mean + sigma * torch.randn_like(mean)
            misfit = misfit + self.misfit(self.misfit.residual(drawn)) / count
            parts = torch.stack([part(drawn) for part in self.variations])
            variation = variation + self.strength / count * parts.sum()
        return Terms(self._order(sigma), variation, misfit, torch.zeros_like(misfit))

    def _order(self, sigma: Tensor) -> Tensor:
        order: Tensor = torch.where(self.region, sigma, 1.0).log().sum()
        return -order
