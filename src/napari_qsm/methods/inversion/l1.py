"""L1-QSM: variation against a data term that gives outliers up."""

import math
from typing import Literal

import torch

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.field_error import measured_error
from napari_qsm.methods.phase import phase_scale, phase_scale_parameter
from napari_qsm.methods.registry import Parameters, Reconstruction, method, parameter
from napari_qsm.methods.variation import (
    Variation,
    data_weights,
    iterations_parameter,
    regularization_parameter,
    robust_scale,
    share_of_noise,
    tolerance_parameter,
    weights_parameter,
)
from napari_qsm.methods.workspace import Weighting, Workspace
from napari_qsm.solvers.data_terms import LeastAbsolute

NOISE_SHARE = 0.14
"""lambda over the noise of the field, in mm, for a field that is nothing but error. Absolute
misfits are weighted by the noise, too (`robust_scale`), so lambda follows it and depends little on
what else is wrong: as the cube root of the relative error (observed, docs/benchmarks.md)."""


class L1(Parameters):
    """Parameters of L1-QSM."""

    regularization: float | None = regularization_parameter()
    data: Literal["nonlinear", "linear"] = parameter(
        "nonlinear",
        "Count misfits modulo one turn of the phase, or as they are.",
    )
    weights: Weighting = weights_parameter()
    phase_scale: float | None = phase_scale_parameter()
    tolerance: float = tolerance_parameter()
    max_iterations: int = iterations_parameter()


@method(
    key="l1",
    label="L1-QSM",
    summary="Total variation with absolute misfits: bleedings and bad voxels leave no streaks.",
    parameters=L1,
    references=("10.1002/mrm.28957",),
    uses=(Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE, Quantity.CHI),
    tuning="regularization",
)
def l1(acquisition: Acquisition, parameters: L1, device: torch.device) -> Reconstruction:
    """Minimise ``sigma |W (D chi - f)|_1 + lambda |G chi|_1`` by ADMM.

    sigma is what makes lambda mean what it means with squared misfits, see `robust_scale`. The
    nonlinear variant counts the misfit modulo ``2 pi / s``, one turn of the phase, s being the
    phase in rad that 1 ppm makes. Reference: Milovic et al. 2022, whose nonlinear misfit, the
    chord between two signals, is the arc here.
    """
    with Workspace(acquisition, device, "L1-QSM") as space:
        yield space.step(0.0, "preparing")
        weighting = space.weighting(parameters.weights)
        error = yield from measured_error(space, weighting)
        share = round(NOISE_SHARE * math.cbrt(error.relative), 3)
        strength = share_of_noise(parameters.regularization, share, L1, space)
        variation = Variation(acquisition, space, strength)
        yield space.step(0.0, "preparing the data")
        period = math.inf
        if parameters.data == "nonlinear":
            period = 2 * math.pi / phase_scale(acquisition, parameters.phase_scale, space)
        term = LeastAbsolute(
            space.field(),
            data_weights(weighting, space),
            scale=robust_scale(space),
            penalty=variation.data_penalty,
            period=period,
        )
        yield space.step(0.0, "starting")
        iterates = variation.iterates(term)
        del term, variation
        result = yield from space.follow(
            iterates, tolerance=parameters.tolerance, max_iterations=parameters.max_iterations
        )
        return (yield from space.finish(result))
