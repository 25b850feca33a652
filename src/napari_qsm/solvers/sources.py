"""Two maps of sources >= 0 that share one field and one relaxation, solved for by an ADMM.

The unknowns are the difference ``d = chi+ - chi-``, which makes the field, and the sum
``s = chi+ + chi-``, which makes most of the relaxation: in Fourier space they hardly know of each
other. Priors and signs concern ``chi+ = (s + d) / 2`` and ``chi- = (s - d) / 2``.
"""

import torch
from torch import Tensor

from napari_qsm.solvers.admm import (
    RELAXATION,
    Differences,
    ShrinkageSplit,
    slab_buffers,
    slabs,
)
from napari_qsm.solvers.fourier import scale_spectrum, to_volume
from napari_qsm.solvers.iteration import Pieces


def sources_of(estimate: Tensor, out: Tensor | None = None) -> Tensor:
    """Return chi+ and chi- (2, ...) of a difference and a sum (2, ...)."""
    difference, total = estimate
    made = torch.empty_like(estimate) if out is None else out
    torch.add(total, difference, out=made[0]).mul_(0.5)
    torch.sub(total, difference, out=made[1]).mul_(0.5)
    return made


class SourceSplit:
    """The splits ``z = G chi`` and ``y = chi >= 0`` of both maps, each with its scaled dual.

    Of y and its dual w only ``v = y + w`` is kept, since ``y = max(v, 0)`` and ``w = min(v, 0)``;
    what pulls the next estimate is ``y - w = |v|``.

    Parameters
    ----------
    sources : Tensor
        chi+ and chi- to start from (2, X, Y, Z); overwritten.
    barrier : float
        Penalty of y relative to that of z (1/mm^2 where G is in 1/mm).
    gradient : Differences, optional
        G; without it only the signs are split off.
    threshold : float
        regularization / penalty.
    selection : Tensor, optional
        1 where a difference counts, 0 where it is free (3, X, Y, Z); all count if not given.
    relaxation : float
        See `napari_qsm.solvers.admm.RELAXATION`.
    """

    def __init__(
        self,
        sources: Tensor,
        *,
        barrier: float,
        gradient: Differences | None = None,
        threshold: float = 0.0,
        selection: Tensor | None = None,
        relaxation: float = RELAXATION,
    ) -> None:
        self._barrier, self._relaxation = barrier, relaxation
        self._variations: list[ShrinkageSplit] = []
        if gradient is not None:
            self._variations = [
                ShrinkageSplit(
                    gradient,
                    threshold=threshold,
                    split=source.new_zeros((3, *source.shape)),
                    relaxation=relaxation,
                    selection=selection,
                )
                for source in sources
            ]
        self.kept = sources
        """v of both maps."""
        self._sources = torch.empty_like(sources)
        self._buffer = slab_buffers(sources[0], 1)[0]

    def sources(self) -> Tensor:
        """Return y, chi+ and chi- as they are without breaking the sign: (2, X, Y, Z)."""
        return self.kept.clamp(min=0)

    def update(self, estimate: Tensor, out: Tensor) -> Pieces:
        """Update all splits for (d, s) and write twice what pulls d and s to `out`."""
        sources_of(estimate, self._sources)
        yield
        if self._variations:
            for variation, source, pull in zip(self._variations, self._sources, out, strict=True):
                yield from variation.update(source, pull)
        else:
            out.zero_()
        for slab in slabs(estimate):
            scratch = self._buffer[: slab.stop - slab.start]
            for kept, source, pull in zip(self.kept, self._sources, out, strict=True):
                moved = kept[slab]
                torch.clamp(moved, min=0, out=scratch)
                moved.add_(source[slab].sub_(scratch), alpha=self._relaxation)
                pull[slab].add_(torch.abs(moved, out=scratch), alpha=self._barrier)
            positive, negative = out[0, slab], out[1, slab]
            torch.add(positive, negative, out=scratch)
            positive.sub_(negative)
            negative.copy_(scratch)
            yield
        return out


class SourceNormal:
    """`napari_qsm.solvers.fourier.Normal` of two sources, with the relaxation as further data.

    Minimises over d and s, whatever the split of the field ``A d`` (target t, penalty mu) and
    that of a prior K of both maps (penalty rho) pull with,

        ``mu/2 |A d - t|^2 + beta/2 |s + delta d - r|^2 + gamma/2 |C (d - c)|^2
        + rho/2 (|K chi+ - p+|^2 + |K chi- - p-|^2)``.

    At every frequency these are two equations, ``[[X, b delta], [b delta, b + q]]`` with
    ``b = beta/mu``, ``q = rho/mu K.H K / 2`` and ``X = A^2 + gamma/mu C^2 + b delta^2 + q``.

    Parameters
    ----------
    symbol, prior_symbol : Tensor
        A, and the symbol of ``K.H K``.
    relaxation : Tensor
        r, R2' over the mean relaxivity in ppm (X, Y, Z).
    balance : float
        beta, how much the relaxation counts relative to the field.
    imbalance : float
        ``delta = (Dr+ - Dr-) / (Dr+ + Dr-)``.
    ratio : float
        rho / mu.
    penalty : float
        mu.
    anchor : tuple of Tensor, optional
        c (X, Y, Z), and ``gamma C^2`` on the half grid: a map of the difference that is trusted.
    """

    def __init__(
        self,
        symbol: Tensor,
        prior_symbol: Tensor,
        relaxation: Tensor,
        *,
        balance: float,
        imbalance: float,
        ratio: float,
        penalty: float,
        anchor: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self._half_ratio = ratio / 2
        b = balance / penalty
        prior = prior_symbol * self._half_ratio
        field = symbol.square() + prior
        pull = torch.fft.rfftn(relaxation).mul_(b)
        self._pulls: tuple[Tensor | None, Tensor] = (imbalance * pull if imbalance else None, pull)
        if anchor is not None:
            trusted = anchor[1] / penalty
            field.add_(trusted)
            drawn = scale_spectrum(torch.fft.rfftn(anchor[0]), trusted)
            self._pulls = (drawn if self._pulls[0] is None else drawn.add_(self._pulls[0]), pull)
        # The determinant without the terms that cancel.
        determinant = field * (prior + b) + prior * (b * imbalance**2)
        inverse = determinant.reciprocal_()
        self._difference = (prior + b).mul_(inverse)
        self._total = field.add_(b * imbalance**2).mul_(inverse)
        self._mixed = inverse.mul_(-b * imbalance) if imbalance else None

    def __call__(self, pulled: Tensor, target: Tensor) -> Pieces:
        """See `napari_qsm.solvers.fourier.Normal`; `pulled` and the result are (2, X, Y, Z)."""
        target.add_(torch.fft.rfftn(pulled[0]), alpha=self._half_ratio)
        if self._pulls[0] is not None:
            target.add_(self._pulls[0])
        yield
        total = torch.fft.rfftn(pulled[1]).mul_(self._half_ratio).add_(self._pulls[1])
        yield
        mixed = None
        if self._mixed is not None:
            mixed = [scale_spectrum(one.clone(), self._mixed) for one in (total, target)]
        scale_spectrum(target, self._difference)
        scale_spectrum(total, self._total)
        if mixed is not None:
            target.add_(mixed[0])
            total.add_(mixed[1])
        yield
        estimate = torch.empty_like(pulled)
        estimate[0] = yield from to_volume(target, pulled.shape[-3:])
        estimate[1] = yield from to_volume(total, pulled.shape[-3:])
        return estimate
