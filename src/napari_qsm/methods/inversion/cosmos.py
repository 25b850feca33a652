"""COSMOS: several orientations of a head, which together leave no frequency out."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, InputError, Quantity
from napari_qsm.generators import relayed
from napari_qsm.methods.registry import Parameters, Reconstruction, Step, method, parameter
from napari_qsm.methods.workspace import Weighting, Workspace
from napari_qsm.physics import fourier
from napari_qsm.preparation.orientations import conditioning
from napari_qsm.solvers.conjugate_gradient import Operator, conjugate_gradient
from napari_qsm.solvers.fourier import scale_spectrum, to_volume
from napari_qsm.solvers.iteration import Pieces
from napari_qsm.solvers.restricted import filtered

MISFIT = 1.5
"""A field that fits so many times worse than the median one is likely to be misplaced."""


class COSMOS(Parameters):
    """Parameters of COSMOS."""

    weights: Weighting = parameter(
        "mask",
        "How much each voxel counts: equally in the mask all orientations share, by one over the "
        "noise variance, by the squared magnitude, or equally everywhere, the fields being zero "
        "outside it, which is the closed form.",
    )
    floor: float = parameter(
        0.01,
        "Where the sum of the squared kernels is smaller than this, it counts as this. Well chosen "
        "orientations come nowhere near it; two alone do, since their cones of zeros intersect.",
        low=1e-6,
        high=0.1,
        log=True,
    )
    tolerance: float = parameter(
        1e-2,
        "Stop when the residual of the normal equations falls below this part; lower ones fit the "
        "noise.",
        low=1e-6,
        high=1e-1,
        log=True,
    )
    max_iterations: int = parameter(20, "Stop after this many iterations.", low=1, high=200)


def shared(acquisition: Acquisition) -> tuple[tuple[Acquisition, ...], str]:
    """Return all orientations, in the mask that they share, and a note of what that cost.

    Raises
    ------
    InputError
        If they share no voxel.
    """
    every = (acquisition, *acquisition.others)
    mask = np.logical_and.reduce([one.mask for one in every])
    if not (count := np.count_nonzero(mask)):
        raise InputError(
            f"The masks of the {len(every)} orientations share no voxel; register the fields to "
            "the first one."
        )
    part = count / np.count_nonzero(acquisition.mask)
    note = (
        f"The map covers the {count} voxels that all {len(every)} orientations share, {part:.1%} "
        "of the first one's mask."
    )
    return tuple(replace(one.with_volumes({Quantity.MASK: mask}), others=()) for one in every), note


def pulled(symbols: Sequence[Tensor], fields: Iterable[Tensor]) -> Pieces:
    """``sum_i D_i F f_i`` on the half grid, one field after the other."""
    total = torch.zeros_like(symbols[0], dtype=symbols[0].dtype.to_complex())
    for symbol, field in zip(symbols, fields, strict=True):
        total += scale_spectrum(fourier.spectrum(field), symbol)
        yield
    return total


def inverse_sum(symbols: Sequence[Tensor], floor: float) -> Tensor:
    """``1 / max(sum_i D_i^2, floor)`` on the half grid, 0 at the origin."""
    total = torch.zeros_like(symbols[0])
    for symbol in symbols:
        total.addcmul_(symbol, symbol)
    inverse = total.clamp_(min=floor).reciprocal_()
    inverse[0, 0, 0] = 0
    return inverse


def normal(symbols: Sequence[Tensor], weights: Sequence[Tensor], half: Tensor) -> Operator:
    """Return the operator ``P F^-1 (sum_i D_i F W_i^2 F^-1 D_i) P F``, with P a symbol.

    With P the root of a preconditioner, conjugate gradients on it are preconditioned ones, and
    the preconditioner takes no transform.
    """

    def apply(volume: Tensor) -> Pieces:
        transform = scale_spectrum(fourier.spectrum(volume), half)
        yield
        total = torch.zeros_like(transform)
        for symbol, weight in zip(symbols, weights, strict=True):
            seen = yield from to_volume(transform * symbol, volume.shape)
            total += scale_spectrum(fourier.spectrum(seen.mul_(weight)), symbol)
            yield
        return (yield from to_volume(scale_spectrum(total, half), volume.shape))

    return apply


def _weights(
    weighting: Weighting, every: Sequence[Acquisition], spaces: Sequence[Workspace]
) -> Generator[Step, None, list[Tensor]]:
    """W^2 of every orientation: noise compares them, a magnitude counts the same in each."""
    first = spaces[0]
    if weighting not in ("noise", "magnitude"):
        return [first.weights(weighting)] * len(spaces)
    quantity = {"noise": Quantity.FIELD_NOISE, "magnitude": Quantity.MAGNITUDE}[weighting]
    if bare := [n for n, one in enumerate(every, start=1) if quantity not in one]:
        without = ", ".join(map(str, bare))
        first.notes.append(f"The first {quantity.label} stands for orientation {without}, too.")
    weights = []
    for one, space in zip(every, spaces, strict=True):
        yield first.step(0.0, "weighing the orientations")
        if quantity not in one:
            weights.append(first.weights(weighting))
            continue
        weights.append(space.weights(weighting))
        if weighting == "noise":
            ratio = np.median(every[0][quantity][one.mask]) / np.median(one[quantity][one.mask])
            weights[-1] *= float(ratio) ** 2
    return weights


def _closed_form(spaces: Sequence[Workspace], parameters: COSMOS) -> Generator[Step, None, Tensor]:
    """``F^-1 sum_i D_i F f_i / sum_i D_i^2``."""
    space = spaces[0]
    symbols = [one.dipole.spectrum for one in spaces]
    inverse = inverse_sum(symbols, parameters.floor)
    total = yield from _told(
        pulled(symbols, (one.field() for one in spaces)), space, "transforming the fields"
    )
    return fourier.volume(scale_spectrum(total, inverse), space.shape)


def _weighted(
    spaces: Sequence[Workspace], weights: Sequence[Tensor], parameters: COSMOS
) -> Generator[Step, None, Tensor]:
    """Conjugate gradients on the normal equations, the closed form preconditioning them."""
    space = spaces[0]
    symbols = [one.dipole.spectrum for one in spaces]
    half = inverse_sum(symbols, parameters.floor).sqrt_()
    yield space.step(0.0, "preparing the data")
    seen = (one.field().mul_(weight) for one, weight in zip(spaces, weights, strict=True))
    total = yield from _told(pulled(symbols, seen), space, "preparing the data")
    right = fourier.volume(scale_spectrum(total, half), space.shape)
    del total
    yield space.step(0.0, "starting")
    return (
        yield from space.follow(
            conjugate_gradient(normal(symbols, weights, half), right),
            tolerance=parameters.tolerance,
            max_iterations=parameters.max_iterations,
            view=lambda v: fourier.volume(scale_spectrum(fourier.spectrum(v), half), space.shape),
        )
    )


def _told(pieces: Pieces, space: Workspace, message: str) -> Generator[Step, None, Tensor]:
    """Run a computation in pieces with a sign of life at each pause."""
    return (yield from relayed(pieces, lambda _: space.step(0.0, message)))


def _compare(spaces: Sequence[Workspace], estimate: Tensor) -> Generator[Step, None, None]:
    """Note how far each field is from that of the map; a wrong registration stands out."""
    space = spaces[0]
    region = space.region()
    misfits = []
    for one in spaces:
        field = one.field()
        size = float(torch.linalg.vector_norm(field))
        made = filtered(estimate, one.dipole.spectrum)
        error = (yield from _told(made, space, "comparing the orientations")).mul_(region)
        error -= field
        misfits.append(float(torch.linalg.vector_norm(error)) / size if size else 0.0)
    shown = ", ".join(f"{100 * misfit:.0f} %" for misfit in misfits)
    space.notes.append(f"Misfit of the orientations in the mask: {shown} of their fields.")
    worst = int(np.argmax(misfits))
    if len(misfits) > 2 and misfits[worst] > MISFIT * float(np.median(misfits)):
        space.notes.append(
            f"Orientation {worst + 1} fits worst by far; check its registration and the direction "
            "of its B0."
        )


@method(
    key="cosmos",
    label="COSMOS",
    summary="Least squares over several orientations: from three on, neither streaks nor blur.",
    parameters=COSMOS,
    references=("10.1002/mrm.21828",),
    uses=(Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE),
    orientations=2,
)
def cosmos(acquisition: Acquisition, parameters: COSMOS, device: torch.device) -> Reconstruction:
    """Minimise ``sum_i |W_i (D_i chi - f_i)|^2`` over the orientations i.

    Each field is on the grid of the first, and D_i the dipole kernel for its own B0. Without
    weights, ``chi = F^-1 sum_i D_i F f_i / sum_i D_i^2`` with chi(k=0) = 0; with them, the mask
    alone being one, conjugate gradients that the closed form preconditions, at N + 1 pairs of
    transforms an iteration. Two or three iterations are enough and more fit the noise, so an
    earlier susceptibility is not started from. Reference: Liu et al. 2009.
    """
    every, note = shared(acquisition)
    with ExitStack() as stack:
        spaces: list[Workspace] = []
        for one in every:
            spaces.append(stack.enter_context(Workspace(one, device, "COSMOS")))
            yield spaces[0].step(0.0, "preparing")
        space = spaces[0]
        directions = [one.grid.b0_direction for one in every]
        space.notes += [conditioning(directions).sentence, note]
        weighting = space.weighting(parameters.weights)
        if weighting == "none":
            estimate = yield from _closed_form(spaces, parameters)
        else:
            weights = yield from _weights(weighting, every, spaces)
            estimate = yield from _weighted(spaces, weights, parameters)
        yield from _compare(spaces, estimate)
        return (yield from space.finish(estimate))
