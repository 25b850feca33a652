"""TV: total variation by ADMM."""

from collections.abc import Generator

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.registry import Parameters, Reconstruction, Step, method, parameter
from napari_qsm.methods.variation import (
    ERROR_SHARE,
    FIRMNESS,
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
from napari_qsm.solvers.fourier import QuadraticStep, WeightedQuadraticStep

DATA_PENALTY = 0.15
"""Penalty of the weighted data split; 0.1 to 1 all converge, this soonest (measured)."""


class TV(Parameters):
    """Parameters of total variation."""

    regularization: float | None = regularization_parameter()
    weights: Weighting = weights_parameter()
    penalty_ratio: float = parameter(
        300.0,
        "Penalty of the split relative to lambda: changes the speed, not the answer.",
        low=10,
        high=1000,
        log=True,
        unit="mm",
    )
    tolerance: float = tolerance_parameter()
    max_iterations: int = parameter(60, "Stop after this many iterations.", low=1, high=1000)


def _start(
    acquisition: Acquisition, space: Workspace, gradient: Gradient, threshold: float
) -> tuple[Tensor | None, Tensor | None]:
    """Estimate and split to start from: those of a given susceptibility, or none."""
    if Quantity.CHI not in acquisition:
        return None, None
    estimate = space.place(acquisition[Quantity.CHI])
    space.notes.append("Started from the given susceptibility.")
    return estimate, split_of(gradient, estimate, threshold=threshold, steepness=STEEPNESS)


def _data_term(
    weighting: Weighting,
    space: Workspace,
    gradient: Gradient,
    penalty: float,
    data_penalty: float,
    estimate: Tensor | None,
) -> Generator[Step, None, QuadraticStep | WeightedQuadraticStep]:
    """Return the data term for a weighting, pausing on the way."""
    symbol = space.dipole.spectrum
    prior = gradient.spectrum(space.shape, device=space.device)
    field = space.field()
    yield space.step(0.0, "preparing the data")
    if weighting == "none":
        return QuadraticStep(field, symbol, prior, penalty=penalty)
    weights = data_weights(weighting, space)
    yield space.step(0.0, "preparing the data")
    return WeightedQuadraticStep(
        field,
        weights,
        symbol,
        prior,
        penalty=penalty,
        data_penalty=data_penalty,
        estimate=estimate,
    )


@method(
    key="tv",
    label="TV",
    summary="Total variation: sharp edges, few streaks, seconds.",
    parameters=TV,
    references=("10.1002/mrm.25029", "10.1002/mrm.27073"),
    uses=(Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE, Quantity.CHI),
    tuning="regularization",
)
def tv(acquisition: Acquisition, parameters: TV, device: torch.device) -> Reconstruction:
    """Minimise ``1/2 |W (D chi - f)|^2 + lambda |G chi|_1`` by ADMM.

    G is the gradient in 1/mm and |.|_1 the anisotropic norm, so lambda is in ppm mm. A
    susceptibility in the acquisition is where the iteration starts. References: Bilgic et al. 2014
    for the closed-form inner step, Milovic et al. 2018 for the weighted split.
    """
    with Workspace(acquisition, device, "TV") as space:
        yield space.step(0.0, "preparing")
        weighting = space.weighting(parameters.weights)
        firmness = FIRMNESS if Quantity.CHI in acquisition else 1.0
        ratio, data_penalty = parameters.penalty_ratio * firmness, DATA_PENALTY * firmness
        strength = chosen_regularization(
            parameters.regularization, ERROR_SHARE, TV, space, weighting
        )
        penalty, threshold = ratio * strength, 1 / ratio
        gradient = Gradient(space.voxel_size)
        estimate, split = _start(acquisition, space, gradient, threshold)
        yield space.step(0.0, "preparing the data")
        step = yield from _data_term(weighting, space, gradient, penalty, data_penalty, estimate)
        yield space.step(0.0, "starting")
        if estimate is None:
            estimate = torch.zeros(space.shape, device=device)
        iterates = total_variation(
            step, gradient, estimate, threshold=threshold, split=split, region=space.region()
        )
        del step, estimate, split
        result = yield from space.follow(
            iterates, tolerance=parameters.tolerance, max_iterations=parameters.max_iterations
        )
        return (yield from space.finish(result))
