"""FANSI: variation against a data term that sees wrapped phase."""

from typing import Literal

import torch

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.phase import phase_scale, phase_scale_parameter
from napari_qsm.methods.registry import Parameters, Reconstruction, method, parameter
from napari_qsm.methods.variation import (
    ERROR_SHARE,
    Variation,
    chosen_regularization,
    data_weights,
    iterations_parameter,
    regularization_parameter,
    tolerance_parameter,
    weights_parameter,
)
from napari_qsm.methods.workspace import Weighting, Workspace
from napari_qsm.solvers.data_terms import DataTerm, LeastSquares, Wrapped


class FANSI(Parameters):
    """Parameters of FANSI."""

    regularization: float | None = regularization_parameter()
    regularizer: Literal["TV", "TGV"] = parameter(
        "TV",
        "Total variation makes pieces of constant susceptibility, total generalised variation "
        "also lets it rise steadily, at three times the cost.",
    )
    order_ratio: float = parameter(
        2.0,
        "What a change of slope costs relative to a slope (alpha0 over alpha1), for TGV.",
        low=0.1,
        high=100,
        log=True,
        unit="mm",
    )
    data: Literal["nonlinear", "linear"] = parameter(
        "nonlinear",
        "Compare signals, which do not see whole turns of the phase and discount voxels that "
        "contradict all others, or fields.",
    )
    weights: Weighting = weights_parameter()
    phase_scale: float | None = phase_scale_parameter()
    tolerance: float = tolerance_parameter()
    max_iterations: int = iterations_parameter()


@method(
    key="fansi",
    label="FANSI",
    summary="Total (generalised) variation with a nonlinear data term, robust to wraps.",
    parameters=FANSI,
    references=("10.1002/mrm.27073",),
    uses=(Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE, Quantity.CHI),
    tuning="regularization",
)
def fansi(acquisition: Acquisition, parameters: FANSI, device: torch.device) -> Reconstruction:
    """Minimise ``1/2 |W (exp(i s D chi) - exp(i s f))|^2 / s^2 + lambda R(chi)`` by ADMM.

    R is total variation ``|G chi|_1`` or the generalised one,
    ``min_w |G chi - w|_1 + r |E w|_1``; s is the phase in rad that 1 ppm makes. Divided by s^2
    the data term is that of the linear method wherever the misfit is small, and lambda means the
    same in both. Reference: Milovic et al. 2018.
    """
    with Workspace(acquisition, device, "FANSI") as space:
        yield space.step(0.0, "preparing")
        weighting = space.weighting(parameters.weights)
        strength = yield from chosen_regularization(
            parameters.regularization, ERROR_SHARE, FANSI, space, weighting
        )
        order_ratio = parameters.order_ratio if parameters.regularizer == "TGV" else None
        variation = Variation(acquisition, space, strength, order_ratio=order_ratio)
        yield space.step(0.0, "preparing the data")
        field, weights = space.field(), data_weights(weighting, space)
        term: DataTerm
        if parameters.data == "linear":
            term = LeastSquares(field, weights, penalty=variation.data_penalty)
        else:
            scale = phase_scale(acquisition, parameters.phase_scale, space)
            term = Wrapped(field, weights, scale=scale, penalty=variation.data_penalty)
        del field, weights
        yield space.step(0.0, "starting")
        iterates = variation.iterates(term)
        del term, variation
        result = yield from space.follow(
            iterates, tolerance=parameters.tolerance, max_iterations=parameters.max_iterations
        )
        return (yield from space.finish(result))
