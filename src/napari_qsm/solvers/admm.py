"""The alternating direction method of multipliers (ADMM), and total variation by it."""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from napari_qsm.solvers.iteration import Iterate, Iterates, Pieces, pausing, ratio_of_norms

AXES = (-3, -2, -1)
SLAB_VOXELS = 2**20
"""Voxels worked on at once on a CPU. A few such buffers fit the shared cache; with smaller slabs
two threads spend more time waiting for each other than working (measured at 128^3 and 160^3: at
2^16 eight times as long)."""

RELAXATION = 1.6
"""Over-relaxation of all splits: 1 is the plain method, below 2 it converges."""


def slabs(volume: Tensor) -> Iterator[slice]:
    """Cut the planes of a volume (..., X, Y, Z) into slabs that stay in a processor's cache."""
    planes, *plane = volume.shape[-3:]
    thickness = planes if volume.is_cuda else -(-SLAB_VOXELS // (plane[0] * plane[1]))
    for start in range(0, planes, thickness):
        yield slice(start, min(start + thickness, planes))


def slab_buffers(volume: Tensor, count: int) -> Tensor:
    """Return memory for `count` slabs of a volume; asking for it anew costs as much as the work."""
    first = next(slabs(volume))
    return volume.new_empty((count, first.stop, *volume.shape[-2:]))


class Differences(Protocol):
    """A finite-difference operator that can work on a slab of planes at a time."""

    @property
    def voxel_size(self) -> tuple[float, ...]:
        """Sides of a voxel: what steps are divided by."""

    def steps(self, volume: Tensor, axis: int, slab: slice, out: Tensor) -> Tensor:
        """Write by how much `volume` rises from voxel to voxel to `out` and return it."""

    def difference(self, volume: Tensor, axis: int, slab: slice, out: Tensor) -> Tensor:
        """Write the differences of `volume` along `axis` at `slab` to `out` and return it."""

    def add_adjoint(self, component: Tensor, axis: int, slab: slice, total: Tensor) -> None:
        """Add the adjoint of `difference`, applied to `component`, to `total`."""


class Prior(Protocol):
    """A prior ``|K x|_1`` split off as ``z = K x``."""

    def update(self, estimate: Tensor, out: Tensor) -> Pieces:
        """Shrink for `estimate`; write what the quadratic step is pulled with to `out`."""


def shrink(
    differences: Tensor,
    split: Tensor,
    threshold: float,
    relaxation: float,
    scratch: Tensor,
    scale: float = 1.0,
    selection: Tensor | None = None,
) -> Tensor:
    """Update ``v = z + u`` of one split for new `differences` and return ``z - u`` in their place.

    ``K x`` is `scale` times the differences: multiplied here, it takes no pass of its own. Where a
    `selection` is 0 differences are free, and there ``u = 0``.

    With ``z = v - clip(v, t)`` and ``u = clip(v, t)``, by Moreau's identity, z and u need not be
    stored. The relaxed update ``v <- v + a (K x - z)`` is the plain one, ``v <- K x + u``, for
    a = 1 (Eckstein & Bertsekas 1992, doi:10.1007/BF01581204).
    """
    dual = torch.clamp(split, -threshold, threshold, out=scratch)
    if selection is not None:
        dual.mul_(selection)
    split.lerp_(torch.add(dual, differences, alpha=scale, out=differences), relaxation)
    torch.clamp(split, -threshold, threshold, out=dual)
    if selection is not None:
        dual.mul_(selection)
    return torch.sub(split, dual, alpha=2, out=differences)


class ShrinkageSplit:
    """The split ``z = G x`` of ``|z|_1`` with its scaled dual u, kept as ``v = z + u`` alone.

    Parameters
    ----------
    gradient : Differences
        G.
    threshold : float
        t = regularization / penalty.
    split : Tensor
        v to start from, shaped (3, X, Y, Z); zeros for a cold start; overwritten.
    relaxation : float
        See `RELAXATION`.
    selection : Tensor, optional
        1 where a difference counts, 0 where it is free (3, X, Y, Z); all count if not given.
    """

    def __init__(
        self,
        gradient: Differences,
        *,
        threshold: float,
        split: Tensor,
        relaxation: float = RELAXATION,
        selection: Tensor | None = None,
    ) -> None:
        self._gradient, self._selection = gradient, selection
        self._threshold, self._relaxation = threshold, relaxation
        self._split = split
        self._buffers = slab_buffers(split, 2)

    def update(self, estimate: Tensor, out: Tensor) -> Pieces:
        """Update v for `estimate` and write ``G.H (z - u)`` to `out`, slab by slab."""
        out.zero_()
        for slab in slabs(estimate):
            scratch, other = self._buffers[:, : slab.stop - slab.start]
            for axis, size, split in zip(AXES, self._gradient.voxel_size, self._split, strict=True):
                self._gradient.steps(estimate, axis, slab, scratch)
                free = None if self._selection is None else self._selection[axis][slab]
                shrink(
                    *(scratch, split[slab], self._threshold, self._relaxation, other),
                    scale=1 / size,
                    selection=free,
                )
                self._gradient.add_adjoint(scratch, axis, slab, out)
            yield
        return out


def split_of(
    gradient: Differences, estimate: Tensor, *, threshold: float, steepness: float
) -> Tensor:
    """Return the ``v = G x + u`` that goes with an estimate of the minimum.

    At the minimum u is ``threshold * sign(G x)`` wherever the gradient is not zero, which a
    clipped large multiple of the gradient, `steepness` times it, comes close to.
    """
    split = estimate.new_empty((3, *estimate.shape))
    dual = slab_buffers(estimate, 1)[0]
    for slab in slabs(estimate):
        clipped = dual[: slab.stop - slab.start]
        for axis, component in zip(AXES, split, strict=True):
            difference = gradient.difference(estimate, axis, slab, component[slab])
            # The limit is divided rather than the gradient multiplied: that takes no pass.
            limit = threshold / steepness
            torch.clamp(difference, -limit, limit, out=clipped)
            difference.add_(clipped, alpha=steepness)
    return split


def admm(
    prior: Prior,
    quadratic_step: Callable[[Tensor], Pieces],
    estimate: Tensor,
    *,
    region: Tensor | None = None,
    counting: int = 1,
) -> Iterates:
    """Alternate between the split of a prior and a quadratic step for as long as somebody asks.

    Parameters
    ----------
    prior : Prior
        Takes an estimate, gives what pulls the next.
    quadratic_step : callable
        Takes what pulls, gives the next estimate in new memory; it holds the data.
    estimate : Tensor
        Start, (X, Y, Z), or (N, X, Y, Z) if there are unknowns behind the first volume, which is
        the one that is handed out; overwritten.
    region : Tensor, optional
        True where changes count; everywhere if not given. Where no data lie the estimate goes on
        drifting long after it has settled where they do.
    counting : int
        How many volumes' changes count, from the first on.

    Yields
    ------
    Iterate
        Once per iteration and at every pause inside one.

    Notes
    -----
    Reference: Boyd et al. 2011, doi:10.1561/2200000016.
    """
    pulled = torch.empty_like(estimate)
    if region is not None:
        region = region.to(estimate.dtype)  # multiplying by bools takes four times as long
    iteration, change = 0, 1.0
    while True:
        pause = Iterate(iteration, _first(estimate), change, complete=False)
        yield from pausing(prior.update(estimate, pulled), pause)
        renewed = yield from pausing(quadratic_step(pulled), pause)
        new = _first(renewed, counting)
        update = _first(estimate, counting).sub_(new)
        change = ratio_of_norms(update if region is None else update.mul_(region), new)
        estimate = renewed
        del pause, update, new, renewed  # they hold the old estimate's memory
        iteration += 1
        yield Iterate(iteration, _first(estimate), change)


def _first(volumes: Tensor, count: int = 1) -> Tensor:
    if volumes.ndim == 3:
        return volumes
    return volumes[0] if count == 1 else volumes[:count]


def total_variation(
    quadratic_step: Callable[[Tensor], Pieces],
    gradient: Differences,
    estimate: Tensor,
    *,
    threshold: float,
    split: Tensor | None = None,
    region: Tensor | None = None,
    relaxation: float = RELAXATION,
) -> Iterates:
    """Minimise ``data(x) + regularization |G x|_1`` for as long as somebody asks.

    Parameters
    ----------
    quadratic_step : callable
        Minimises ``data(x) + penalty/2 |G x - s|^2`` given ``G.H s``; see
        `napari_qsm.solvers.fourier`.
    gradient : Differences
        G.
    estimate : Tensor
        Start (X, Y, Z); overwritten.
    threshold : float
        regularization / penalty.
    split : Tensor, optional
        ``G x + u`` to start from (3, X, Y, Z), see `split_of`; overwritten. Zeros if not given.
    region : Tensor, optional
        True where changes count, see `admm`.
    relaxation : float
        See `RELAXATION`.

    Yields
    ------
    Iterate
        Once per iteration and at every pause inside one.
    """
    if split is None:
        split = estimate.new_zeros((3, *estimate.shape))
    prior = ShrinkageSplit(gradient, threshold=threshold, split=split, relaxation=relaxation)
    return admm(prior, quadratic_step, estimate, region=region)
