"""Gauss-Newton and iteratively reweighted least squares, one conjugate gradient at a time.

The classical scheme replaces a nonquadratic objective by a quadratic one, solves that by many
conjugate gradients, and begins again. The solver here renews the quadratic one before every single
conjugate gradient: nothing is spent on a model that is about to be replaced.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from napari_qsm.solvers.admm import slabs
from napari_qsm.solvers.fourier import scale_spectrum, to_volume
from napari_qsm.solvers.iteration import (
    DivergenceError,
    Iterate,
    Iterates,
    Pieces,
    pausing,
)

SHARP = 1e-5
"""Eigenvalue, relative to the largest, below which two directions count as one: single precision
cannot tell them apart."""


class Penalty(Protocol):
    """A function of the estimate that lies below a parabola through its value and slope."""

    def pull(self, estimate: Tensor, out: Tensor) -> Pieces:
        """Add the gradient at `estimate` to `out`; keep the parabola that touches there."""

    def curvatures(self, directions: Sequence[Tensor]) -> Pieces:
        """Return the curvatures ``<d_i, H d_j>`` of that parabola, in double precision."""


class Misfit:
    """How far a prediction is from the data: ``W^2 (1 - cos(s r)) / s^2``, or ``W^2 r^2 / 2``.

    The first one is ``1/2 |W (exp(i s y) - exp(i s f))|^2 / s^2`` for a residual ``r = y - f``: it
    does not see whole turns, and since a cosine never bends more than a parabola of curvature 1,
    ``W^2`` bounds the curvature of both.

    Parameters
    ----------
    residual : Tensor
        r at the start (X, Y, Z); overwritten.
    weights : Tensor
        W^2.
    scale : float, optional
        s in rad per unit of the data; the linear misfit if not given.
    """

    def __init__(self, residual: Tensor, weights: Tensor, *, scale: float | None = None) -> None:
        self.residual, self.weights, self._scale = residual, weights, scale

    def slope(self) -> Tensor:
        """Return the derivative by the residual, ``W^2 sin(s r) / s`` or ``W^2 r``."""
        if self._scale is None:
            return self.residual * self.weights
        slope = torch.mul(self.residual, self._scale).sin_()
        return slope.mul_(self.weights).mul_(1 / self._scale)

    def curvatures(self, images: Sequence[Tensor]) -> Pieces:
        """Return ``<d_i, W^2 d_j>`` for changes d of the residual, in double precision."""
        total = torch.zeros(len(images), len(images), dtype=torch.float64)
        for slab in slabs(self.weights):
            add_products(total, self.weights[slab], [image[slab] for image in images])
            yield
        return total

    def distances(self) -> Tensor:
        """Return what an observation is off by, ``|W (exp(i s r) - 1)| / s`` or ``|W r|``."""
        if self._scale is None:
            off = self.residual.abs()
        else:
            off = torch.mul(self.residual, self._scale / 2).sin_().abs_().mul_(2 / self._scale)
        return off.mul_(self.weights.sqrt())

    def discount_outliers(self, region: Tensor, deviations: float = 6.0) -> int:
        """Lower the weights of what is off by more than so many standard deviations; count it.

        Where the distance is rho times as long, W becomes ``W / rho^2``; the mean of W^2 stays.
        The deviation is that of the distances in a region of bool, where there are weights; nothing
        outside it is an outlier.
        """
        off = self.distances().mul_(region)
        count = int(torch.count_nonzero(self.weights * region))
        square = float(torch.linalg.vector_norm(off)) ** 2 / max(count, 1)
        spread = math.sqrt(max(square - float(off.sum() / max(count, 1)) ** 2, 0.0))
        if not spread > 0:
            return 0
        excess = off.div_(deviations * spread).clamp_(min=1)
        before = float(self.weights.sum())
        self.weights.div_(excess.square().square_())
        self.weights.mul_(before / float(self.weights.sum()))
        return int(torch.count_nonzero(excess > 1))


def gauss_newton(
    misfit: Misfit,
    penalties: Sequence[Penalty],
    symbol: Tensor,
    inverse: Tensor,
    estimate: Tensor,
) -> Iterates:
    """Minimise ``misfit(A x - f) + sum penalties(x)`` for as long as somebody asks.

    At x everything is replaced by parabolas that touch it from above; their sum has the Hessian
    ``H = A W^2 A + sum H_p``. It is minimised over the plane of two directions, the preconditioned
    gradient and the step before: for an H that stays this is the method of conjugate gradients, and
    for one that is renewed every time the objective still falls with every iteration, as the
    parabolas lie above it. An iteration takes two pairs of transforms, whether preconditioned or
    not.

    Parameters
    ----------
    misfit : Misfit
        With the residual ``A x - f`` that belongs to the start, kept up to date. Its weights may be
        changed between two iterations.
    penalties : sequence of Penalty
        What else the estimate costs.
    symbol : Tensor
        A, real, on the half grid of ``rfftn``.
    inverse : Tensor
        The preconditioner, on the same grid: about the inverse of H, up to a factor, and 0 for what
        is to stay as it is.
    estimate : Tensor
        Start (X, Y, Z); overwritten.

    Yields
    ------
    Iterate
        Once per iteration and at every pause inside one. Its `change` is that of the last step in
        the norm of H, relative to the penalties' part of the estimate's: what hardly matters to the
        objective, such as the weakly determined frequencies near the zeros of A, may go on drifting
        for long after the rest has settled.

    Raises
    ------
    DivergenceError
        If the objective leaves the finite numbers.

    Notes
    -----
    Reference: Chouzenoux, Idier & Moussaoui 2011, doi:10.1109/TIP.2010.2103083.
    """
    directions: list[Tensor] = []
    images: list[Tensor] = []
    pull = torch.empty_like(estimate)
    iteration, change = 0, 1.0
    while True:
        pause = Iterate(iteration, estimate, change, complete=False)
        slope = misfit.slope()
        pull.zero_()
        for penalty in penalties:
            yield from pausing(penalty.pull(estimate, pull), pause)
        transform = yield from pausing(_descent(slope, pull, symbol, inverse), pause)
        directions.insert(0, (yield from pausing(to_volume(transform, pull.shape), pause)))
        scale_spectrum(transform, symbol)
        images.insert(0, (yield from pausing(to_volume(transform, pull.shape), pause)))
        del transform
        slopes = [_dot(slope, i) + _dot(pull, d) for d, i in zip(directions, images, strict=True)]
        del slope
        yield pause
        curvatures = yield from pausing(misfit.curvatures(images), pause)
        for penalty in penalties:
            curvatures += yield from pausing(penalty.curvatures(directions), pause)
        shares = _lowest(curvatures, slopes)
        change = _ratio(shares @ curvatures @ shares, _dot(pull, estimate))
        for along, moved in ((directions, estimate), (images, misfit.residual)):
            along[:] = [_combined(along, shares.tolist())]
            moved.add_(along[0])
            yield pause
        iteration += 1
        yield Iterate(iteration, estimate, change)


def add_products(total: Tensor, weights: Tensor, volumes: Sequence[Tensor]) -> None:
    """Add ``<v_i, w v_j>`` to the symmetric matrix `total` for all pairs of volumes."""
    for i, volume in enumerate(volumes):
        weighted = volume * weights
        for j in range(i, len(volumes)):
            product = float(torch.dot(weighted.flatten(), volumes[j].flatten()))
            total[i, j] += product
            if i != j:
                total[j, i] += product


def _descent(slope: Tensor, pull: Tensor, symbol: Tensor, inverse: Tensor) -> Pieces:
    """Return the spectrum of the preconditioned gradient."""
    transform = torch.fft.rfftn(slope)
    yield
    scale_spectrum(transform, symbol).add_(torch.fft.rfftn(pull))
    yield
    return scale_spectrum(transform, inverse)


def _lowest(curvatures: Tensor, slopes: Sequence[float]) -> Tensor:
    """Return by how much of each direction a parabola is lowest; 0 of one that leads nowhere."""
    if not bool(torch.isfinite(curvatures).all()):
        raise DivergenceError(
            "The objective left the finite numbers; check the field for outliers."
        )
    sizes = curvatures.diagonal().clamp(min=0).sqrt()
    known = sizes > 0
    inverse = torch.where(known, sizes, 1).reciprocal() * known
    normal = curvatures * inverse[:, None] * inverse
    right = torch.tensor(slopes, dtype=curvatures.dtype) * inverse
    shares: Tensor = torch.linalg.pinv(normal, rtol=SHARP, hermitian=True) @ right
    return shares.mul_(inverse).neg_()


def _combined(along: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Combine directions in the memory of the first."""
    total = along[0].mul_(shares[0])
    for direction, share in zip(along[1:], shares[1:], strict=True):
        total.add_(direction, alpha=share)
    return total


def _ratio(step: Tensor, whole: float) -> float:
    """Return the root of one energy over that of another, at most 1: the first step is from 0."""
    square = max(float(step), 0.0)
    return math.sqrt(square / max(square, whole)) if square else 0.0


def _dot(one: Tensor, other: Tensor) -> float:
    """Inner product, summed in single precision over slabs only."""
    return sum(float(torch.dot(one[slab].flatten(), other[slab].flatten())) for slab in slabs(one))
