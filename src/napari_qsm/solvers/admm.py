"""Total variation by the alternating direction method of multipliers (ADMM)."""

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


class Differences(Protocol):
    """A finite-difference operator that can work on a slab of planes at a time."""

    def difference(self, volume: Tensor, axis: int, slab: slice, out: Tensor) -> Tensor:
        """Write the differences of `volume` along `axis` at `slab` to `out` and return it."""

    def add_adjoint(self, component: Tensor, axis: int, slab: slice, total: Tensor) -> None:
        """Add the adjoint of `difference`, applied to `component`, to `total`."""


class ShrinkageSplit:
    """The split ``z = G x`` of ``|z|_1``, kept as its scaled dual u alone.

    With ``v = G x + u`` shrinkage gives ``z = v - clip(v, t)``, and by Moreau's identity the new
    dual is ``u = clip(v, t)``. So z need not be stored, and the next quadratic step pulls with
    ``G.H (z - u) = G.H (v - 2 u)``.

    Parameters
    ----------
    gradient : Differences
        G.
    threshold : float
        t = regularization / penalty.
    dual : Tensor
        u, shaped (3, X, Y, Z); zeros for a cold start; overwritten.
    """

    def __init__(self, gradient: Differences, *, threshold: float, dual: Tensor) -> None:
        self._gradient = gradient
        self._threshold = threshold
        self._dual = dual
        planes, *plane = dual.shape[1:]
        thickness = planes if dual.is_cuda else -(-SLAB_VOXELS // (plane[0] * plane[1]))
        self._scratch = dual.new_empty((min(planes, thickness), *plane))

    def _slabs(self) -> Iterator[slice]:
        planes, thickness = self._dual.shape[1], self._scratch.shape[0]
        for start in range(0, planes, thickness):
            yield slice(start, min(start + thickness, planes))

    def update(self, estimate: Tensor, out: Tensor) -> Pieces:
        """Update the dual for `estimate` and write ``G.H (z - u)`` to `out`, slab by slab."""
        out.zero_()
        for slab in self._slabs():
            scratch = self._scratch[: slab.stop - slab.start]
            for axis, component in zip(AXES, self._dual, strict=True):
                dual = component[slab]
                self._gradient.difference(estimate, axis, slab, scratch).add_(dual)
                torch.clamp(scratch, -self._threshold, self._threshold, out=dual)
                self._gradient.add_adjoint(scratch.sub_(dual, alpha=2), axis, slab, out)
            yield
        return out


def total_variation(
    quadratic_step: Callable[[Tensor], Pieces],
    gradient: Differences,
    estimate: Tensor,
    *,
    threshold: float,
    dual: Tensor | None = None,
    region: Tensor | None = None,
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
    dual : Tensor, optional
        Scaled dual to start from (3, X, Y, Z), within +-threshold; overwritten. Zeros if not
        given.
    region : Tensor, optional
        True where changes count; everywhere if not given. Where no data lie
        the estimate goes on drifting long after it has settled where they do.

    Yields
    ------
    Iterate
        Once per iteration and at every pause inside one.

    Notes
    -----
    Reference: Boyd et al. 2011, doi:10.1561/2200000016.
    """
    if dual is None:
        dual = estimate.new_zeros((3, *estimate.shape))
    split = ShrinkageSplit(gradient, threshold=threshold, dual=dual)
    pulled = torch.empty_like(estimate)
    iteration, change = 0, 1.0
    while True:
        pause = Iterate(iteration, estimate, change, complete=False)
        yield from pausing(split.update(estimate, pulled), pause)
        renewed = yield from pausing(quadratic_step(pulled), pause)
        update = estimate.sub_(renewed)
        change = ratio_of_norms(update if region is None else update.mul_(region), renewed)
        estimate = renewed
        del pause, update, renewed  # they hold the old estimate's memory
        iteration += 1
        yield Iterate(iteration, estimate, change)
