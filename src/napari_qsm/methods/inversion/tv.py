"""TV: total variation by ADMM."""

import torch

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.registry import Parameters, Reconstruction, method, parameter
from napari_qsm.methods.variation import (
    ERROR_SHARE,
    PENALTY_RATIO,
    Variation,
    chosen_regularization,
    data_weights,
    iterations_parameter,
    regularization_parameter,
    tolerance_parameter,
    weights_parameter,
)
from napari_qsm.methods.workspace import Weighting, Workspace
from napari_qsm.solvers.data_terms import LeastSquares


class TV(Parameters):
    """Parameters of total variation."""

    regularization: float | None = regularization_parameter()
    weights: Weighting = weights_parameter()
    penalty_ratio: float = parameter(
        PENALTY_RATIO,
        "Penalty of the split relative to lambda: changes the speed, not the answer.",
        low=10,
        high=1000,
        log=True,
        unit="mm",
    )
    tolerance: float = tolerance_parameter()
    max_iterations: int = iterations_parameter()


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
        strength = yield from chosen_regularization(
            parameters.regularization, ERROR_SHARE, TV, space, weighting
        )
        variation = Variation(acquisition, space, strength, penalty_ratio=parameters.penalty_ratio)
        yield space.step(0.0, "preparing the data")
        field = space.field()
        if weighting == "none":
            iterates = variation.unweighted(field)
        else:
            weights = data_weights(weighting, space)
            term = LeastSquares(field, weights, penalty=variation.data_penalty)
            iterates = variation.iterates(term)
            del weights, term
        del field, variation
        yield space.step(0.0, "starting")
        result = yield from space.follow(
            iterates, tolerance=parameters.tolerance, max_iterations=parameters.max_iterations
        )
        return (yield from space.finish(result))
