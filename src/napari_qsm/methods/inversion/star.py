"""STAR-like: strong sources by strong regularisation first, the rest by weak."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.registry import Parameters, Reconstruction, Step, method, parameter
from napari_qsm.methods.variation import (
    DATA_PENALTY,
    ERROR_SHARE,
    FIRMNESS,
    PENALTY_RATIO,
    STEEPNESS,
    chosen_regularization,
    data_weights,
    regularization_parameter,
    tolerance_parameter,
    weights_parameter,
)
from napari_qsm.methods.workspace import Weighting, Workspace
from napari_qsm.physics.gradient import Gradient
from napari_qsm.solvers.admm import split_of, total_variation
from napari_qsm.solvers.fourier import WeightedQuadraticStep

NO_SOURCES = 100.0
"""Threshold in ppm that nothing reaches; the first level is left out then."""


class STAR(Parameters):
    """Parameters of the two-level total variation."""

    regularization: float | None = regularization_parameter()
    strength: float = parameter(
        10.0,
        "How many times larger lambda is while strong sources are looked for.",
        low=1,
        high=100,
        log=True,
    )
    threshold: float = parameter(
        0.15,
        "What departs from the mean by more than this then is a strong source; none does at the "
        "highest value, which leaves one total variation.",
        low=0.02,
        high=NO_SOURCES,
        unit="ppm",
        log=True,
    )
    weights: Weighting = weights_parameter()
    tolerance: float = tolerance_parameter()
    max_iterations: int = parameter(
        100, "Stop each of the two levels after this many iterations.", low=1, high=1000
    )


class _Levels:
    """Total variation of one problem for several fields and several lambda."""

    def __init__(self, space: Workspace, weights: Tensor, parameters: STAR) -> None:
        self._space, self._weights, self._parameters = space, weights, parameters

    def __call__(
        self, field: Tensor, regularization: float, start: Tensor | None, base: Tensor | float
    ) -> Generator[Step, None, Tensor]:
        """Return the minimum for a field; previews show it on top of `base`."""
        space, gradient = self._space, Gradient(self._space.voxel_size)
        firmness = 1.0 if start is None else FIRMNESS
        threshold = 1 / (PENALTY_RATIO * firmness)
        split = None
        if start is not None:
            split = split_of(gradient, start, threshold=threshold, steepness=STEEPNESS)
        step = WeightedQuadraticStep(
            field,
            self._weights,
            space.dipole.spectrum,
            gradient.spectrum(space.shape, device=space.device),
            penalty=regularization * PENALTY_RATIO * firmness,
            data_penalty=DATA_PENALTY * firmness,
            estimate=start,
        )
        yield space.step(0.0, "starting")
        iterates = total_variation(
            step,
            gradient,
            torch.zeros(space.shape, device=space.device) if start is None else start,
            threshold=threshold,
            split=split,
            region=space.region(),
        )
        del step, split, start, field
        return (
            yield from space.follow(
                iterates,
                tolerance=self._parameters.tolerance,
                max_iterations=self._parameters.max_iterations,
                view=lambda estimate: estimate + base,
            )
        )


def strong_part(estimate: Tensor, region: Tensor, threshold: float) -> Tensor:
    """Return what departs from the mean in a region by more than a threshold, zero elsewhere."""
    departure = estimate - (estimate * region).sum() / region.sum()
    return departure.mul_(region).masked_fill_(departure.abs() <= threshold, 0)


@method(
    key="star",
    label="STAR-like",
    summary="Total variation in two levels: strong sources first, so that they leave no streaks.",
    parameters=STAR,
    references=("10.1002/nbm.3383",),
    uses=(Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE, Quantity.CHI),
    tuning="regularization",
)
def star(acquisition: Acquisition, parameters: STAR, device: torch.device) -> Reconstruction:
    """Minimise ``1/2 |W (D chi - f)|^2 + lambda |G chi|_1`` in two levels.

    With lambda times the strength only strong sources survive, and without streaks. What departs
    from the mean by more than the threshold there is kept, its field subtracted, and what is left
    is inverted at lambda; both are added. Like the two levels of STAR-QSM, whose program is
    closed; its details are not known to be these. A susceptibility in the acquisition is where both
    levels start. Reference: Wei et al. 2015.
    """
    with Workspace(acquisition, device, "STAR-like") as space:
        yield space.step(0.0, "preparing")
        weighting = space.weighting(parameters.weights)
        weak = chosen_regularization(parameters.regularization, ERROR_SHARE, STAR, space, weighting)
        given = None
        if Quantity.CHI in acquisition:
            given = space.place(acquisition[Quantity.CHI])
            space.notes.append("Started from the given susceptibility.")
        levels = _Levels(space, data_weights(weighting, space), parameters)
        field, strong = space.field(), torch.zeros(space.shape, device=device)
        yield space.step(0.0, "preparing the data")
        if parameters.threshold < NO_SOURCES:
            begin = None if given is None else given.clone()
            first = yield from levels(field, parameters.strength * weak, begin, 0.0)
            strong = strong_part(first, space.region(), parameters.threshold)
            count = int(torch.count_nonzero(strong))
            space.notes.append(f"{count} voxels held strong sources.")
            field -= space.dipole(strong)
            del first
        yield space.step(0.0, "subtracting strong sources")
        begin = None if given is None else given - strong
        del given
        result = yield from levels(field, weak, begin, strong)
        return (yield from space.finish(result))
