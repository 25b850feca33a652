"""Total generalised variation of second order, split for ADMM.

``TGV(x) = min_w |G x - w|_1 + r |E w|_1`` with the symmetrised gradient
``(E w)_ij = (G_i w_j + G_j w_i) / 2``: w takes over the slope where x rises steadily, so that a
ramp costs nothing and is not turned into steps. With forward differences in both, the two terms
of ``(E w)_ij`` lie at the same point between the voxels, and a mirrored volume has the same
variation.

The unknowns are one tensor (4, X, Y, Z): x, then the three components of w.
"""

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from napari_qsm.solvers.admm import AXES, RELAXATION, Differences, shrink, slab_buffers, slabs
from napari_qsm.solvers.fourier import scale_spectrum, to_volume
from napari_qsm.solvers.iteration import Pieces

PAIRS = tuple(combinations_with_replacement(range(3), 2))
"""The six entries of a symmetric tensor; those off the diagonal stand for two."""


class GeneralisedSplit:
    """The splits ``z = G x - w`` and ``s = E w``, each kept as its v = z + u.

    Parameters
    ----------
    gradient : Differences
        G.
    threshold : float
        t1 = regularization / penalty, of the first split.
    order_ratio : float
        r, what E w costs relative to G x - w, a length.
    penalty_ratio : float
        k, the penalty of the second split relative to that of the first, a length squared.
    split : Tensor
        v of the first, then of the second split: (9, X, Y, Z); overwritten.
    relaxation : float
        See `admm.RELAXATION`.
    """

    def __init__(
        self,
        gradient: Differences,
        *,
        threshold: float,
        order_ratio: float,
        penalty_ratio: float,
        split: Tensor,
        relaxation: float = RELAXATION,
    ) -> None:
        self._gradient = gradient
        self._thresholds = threshold, threshold * order_ratio / penalty_ratio
        self._penalty_ratio, self._relaxation = penalty_ratio, relaxation
        self._slopes, self._bends = split[:3], split[3:]
        self._buffers = slab_buffers(split, 3)

    def update(self, estimate: Tensor, out: Tensor) -> Pieces:
        """Update both splits; write ``G.H a`` and ``k E.H b - a`` to `out`.

        a and b are ``z - u`` of the first and of the second split.
        """
        out.zero_()
        for slab in slabs(estimate):
            buffers = self._buffers[:, : slab.stop - slab.start]
            self._shrink_slopes(estimate, out, slab, buffers)
            yield
            for pair, split in zip(PAIRS, self._bends, strict=True):
                self._shrink_bend(estimate, out, slab, pair, split[slab], buffers)
                yield
        return out

    def _shrink_slopes(self, estimate: Tensor, out: Tensor, slab: slice, buffers: Tensor) -> None:
        x, pull = estimate[0], out[0]
        scratch, other, _ = buffers
        for n, (axis, split) in enumerate(zip(AXES, self._slopes, strict=True), 1):
            self._gradient.difference(x, axis, slab, scratch).sub_(estimate[n, slab])
            shrink(scratch, split[slab], self._thresholds[0], self._relaxation, other)
            self._gradient.add_adjoint(scratch, axis, slab, pull)
            out[n, slab].sub_(scratch)

    def _shrink_bend(
        self,
        estimate: Tensor,
        out: Tensor,
        slab: slice,
        pair: tuple[int, int],
        split: Tensor,
        buffers: Tensor,
    ) -> None:
        (i, j), w, pull = pair, estimate[1:], out[1:]
        scratch, other, dual = buffers
        self._gradient.difference(w[j], AXES[i], slab, scratch)
        if i != j:
            self._gradient.difference(w[i], AXES[j], slab, other)
            scratch.add_(other).div_(2)
        shrink(scratch, split, self._thresholds[1], self._relaxation, dual)
        scratch.mul_(self._penalty_ratio)
        self._gradient.add_adjoint(scratch, AXES[i], slab, pull[j])
        if i != j:
            self._gradient.add_adjoint(scratch, AXES[j], slab, pull[i])


class GeneralisedNormal:
    """`fourier.Normal` of TGV: x and w at once, in closed form.

    With g the symbol of G, ``E2 = g.H g`` and k, the equations

        ``(mu/rho A^2 + E2) x - g.H w = mu/rho A t + p``
        ``-g x + (1 + k/2 E2) w + k/2 g g.H w = c``

    leave, since ``g.H w = (g.H c + E2 x) / (1 + k E2)``,

        ``(mu/rho A^2 + k E2^2 / (1 + k E2)) x = mu/rho A t + p + g.H c / (1 + k E2)``,
        ``w = (c + g (x - k/2 g.H w)) / (1 + k/2 E2)``.

    Parameters
    ----------
    symbol, prior_symbol : Tensor
        A and E2.
    voxel_size : sequence of float
        Of the forward differences, in mm.
    shape : torch.Size
        Of a volume (X, Y, Z).
    ratio : float
        rho / mu.
    penalty_ratio : float
        k, in mm^2.
    """

    def __init__(
        self,
        symbol: Tensor,
        prior_symbol: Tensor,
        *,
        voxel_size: Sequence[float],
        shape: torch.Size,
        ratio: float,
        penalty_ratio: float,
    ) -> None:
        self._ratio, self._bend = ratio, penalty_ratio / 2
        self._laplacian = prior_symbol
        self._along = (prior_symbol * penalty_ratio).add_(1).reciprocal_()
        normal = prior_symbol.square().mul_(self._along).mul_(penalty_ratio * ratio)
        normal.addcmul_(symbol, symbol)
        self._inverse = normal.reciprocal().masked_fill_(normal == 0, 0)
        self._across = (prior_symbol * self._bend).add_(1).reciprocal_()
        self._gradient = _forward_differences(shape, voxel_size, symbol)

    def __call__(self, pulled: Tensor, target: Tensor) -> Pieces:
        """See `fourier.Normal`; `pulled` and the result are (4, X, Y, Z)."""
        shape = pulled.shape[-3:]
        bends = []
        divergence = torch.zeros_like(target)
        for component, symbol in zip(pulled[1:], self._gradient, strict=True):
            bends.append(torch.fft.rfftn(component))
            divergence.addcmul_(bends[-1], symbol.conj())
            yield
        target.add_(torch.fft.rfftn(pulled[0]), alpha=self._ratio)
        yield
        scale_spectrum(divergence, self._along)
        target.add_(divergence, alpha=self._ratio)
        scale_spectrum(target, self._inverse)
        yield
        divergence.addcmul_(target, self._laplacian * self._along)
        slope = divergence.mul_(-self._bend).add_(target)
        yield
        estimate = torch.empty_like(pulled)
        estimate[0] = yield from to_volume(target, shape)
        for n, symbol in enumerate(self._gradient):
            component = scale_spectrum(bends[n].addcmul_(slope, symbol), self._across)
            estimate[n + 1] = yield from to_volume(component, shape)
        return estimate


def _forward_differences(
    shape: torch.Size, voxel_size: Sequence[float], like: Tensor
) -> tuple[Tensor, ...]:
    """Symbols ``(exp(2 pi i n / N) - 1) / v`` on the half grid, shaped to broadcast."""
    symbols = []
    for axis, (n, size) in enumerate(zip(shape, voxel_size, strict=True)):
        count = n // 2 + 1 if axis == 2 else n
        angle = torch.arange(count, dtype=torch.float64) * (2 * math.pi / n)
        symbol = (torch.polar(torch.ones_like(angle), angle) - 1) / size
        along = [-1 if a == axis else 1 for a in range(3)]
        symbols.append(symbol.to(device=like.device, dtype=like.dtype.to_complex()).reshape(along))
    return tuple(symbols)
