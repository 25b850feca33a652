"""HD-QSM: absolute misfits to find the outliers, squared ones for the rest."""

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.registry import Parameters, Reconstruction, method, parameter
from napari_qsm.methods.variation import (
    ERROR_SHARE,
    FIRMNESS,
    Variation,
    chosen_regularization,
    data_weights,
    regularization_parameter,
    robust_scale,
    tolerance_parameter,
    weights_parameter,
)
from napari_qsm.methods.workspace import Weighting, Workspace
from napari_qsm.solvers.data_terms import DataTerm, LeastAbsolute, LeastSquares
from napari_qsm.solvers.iteration import Iterates


class HD(Parameters):
    """Parameters of HD-QSM."""

    regularization: float | None = regularization_parameter()
    weights: Weighting = weights_parameter()
    first_iterations: int = parameter(
        20,
        "Iterations with absolute misfits, before outliers are discounted; a fifth of them where a "
        "susceptibility is given, which shows most outliers.",
        low=1,
        high=200,
    )
    tolerance: float = tolerance_parameter()
    max_iterations: int = parameter(
        60, "Stop after this many iterations in both stages together.", low=1, high=1000
    )


def discounted(weights: Tensor, error: Tensor) -> Tensor:
    """Return ``W^2 (1 - |r| / max |r|)^2`` for the errors r that the first stage left.

    The largest error is looked for where the weights are not zero.
    """
    size = error.abs().mul_(weights > 0)
    largest = float(size.max())
    return weights * size.div_(-largest or 1.0).add_(1).square_()


def two_stages(
    variation: Variation,
    first: DataTerm,
    second: Callable[[Tensor], DataTerm],
    *,
    first_iterations: int,
) -> Iterates:
    """Iterate with one data term, then with another that is made for what came out.

    What the first stage hands out is marked as incomplete, as a pause of the whole is, so that
    nothing stops there.
    """
    with closing(variation.iterates(first)) as iterates:
        for iterate in iterates:
            yield replace(iterate, complete=False)
            if iterate.complete and iterate.iteration == first_iterations:
                break
    estimate = iterate.estimate
    del first, iterate
    for later in variation.iterates(second(estimate), estimate):
        yield replace(later, iteration=later.iteration + first_iterations)


@method(
    key="hd",
    label="HD-QSM",
    summary="Hybrid of absolute and squared misfits: finds outliers, then fits the rest.",
    parameters=HD,
    references=("10.1002/mrm.29218",),
    uses=(Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE, Quantity.CHI),
    tuning="regularization",
)
def hd(acquisition: Acquisition, parameters: HD, device: torch.device) -> Reconstruction:
    """Minimise ``1/2 |V (D chi - f)|^2 + lambda |G chi|_1`` with V from a robust first stage.

    The first stage minimises ``sigma |W (D chi - f)|_1 + lambda |G chi|_1``, with sigma such that
    lambda means the same in both (`robust_scale`); what it leaves, r, discounts the weights of
    the second, ``V = W (1 - |r| / max |r|)``. Reference: Lambert et al. 2022.
    """
    with Workspace(acquisition, device, "HD-QSM") as space:
        yield space.step(0.0, "preparing")
        weighting = space.weighting(parameters.weights)
        strength = yield from chosen_regularization(
            parameters.regularization, ERROR_SHARE, HD, space, weighting
        )
        variation = Variation(acquisition, space, strength)
        yield space.step(0.0, "preparing the data")
        field, weights = space.field(), data_weights(weighting, space)
        penalty = variation.data_penalty

        def second(estimate: Tensor) -> DataTerm:
            error = space.dipole(estimate).sub_(field)
            return LeastSquares(field, discounted(weights, error), penalty=penalty)

        count = parameters.first_iterations
        if Quantity.CHI in acquisition:
            count = math.ceil(count / FIRMNESS)
            space.notes.append(f"The first stage took {count} iterations, starting from it.")
        yield space.step(0.0, "starting")
        first = LeastAbsolute(field, weights, scale=robust_scale(space), penalty=penalty)
        iterates = two_stages(variation, first, second, first_iterations=count)
        del first, variation
        result = yield from space.follow(
            iterates, tolerance=parameters.tolerance, max_iterations=parameters.max_iterations
        )
        return (yield from space.finish(result))
