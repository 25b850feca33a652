"""Nonlinear fit: R2* of the exponential that lies closest to the magnitudes themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.physics import relaxation
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.preparation.relaxometry.decay import (
    NoiseFloor,
    floor,
    limit,
    mapped,
    noise_floor,
)
from napari_qsm.process import Parameters, Work, parameter


class Nonlinear(Parameters):
    """Parameters of the nonlinear fit."""

    limit: float = limit()
    noise_floor: NoiseFloor = noise_floor()
    iterations: int = parameter(
        8, "Damped Gauss-Newton steps from the log-linear fit.", low=1, high=100
    )


@stage(
    key="nonlinear",
    label="Nonlinear fit",
    summary="An exponential through the magnitudes, with the noise floor in the model: slowest.",
    place=Place.RELAXATION,
    parameters=Nonlinear,
    references=("10.1002/mrm.25137",),
    needs=(Quantity.MAGNITUDE,),
    uses=(Quantity.MASK,),
    gives=(Quantity.R2STAR,),
    echoes=3,
)
def nonlinear(acquisition: Acquisition, parameters: Nonlinear, device: torch.device) -> Work:
    """Fit ``m = A exp(-R2* TE)``, or the mean of it with noise, by least squares.

    See `napari_qsm.physics.relaxation.exponential`.
    """
    noise, notes = yield from floor(acquisition, parameters.noise_floor)

    def fit(signal: Tensor, times: Tensor) -> Tensor:
        start = relaxation.log_linear(signal, times, noise).nan_to_num_(0, 0, 0)
        return relaxation.exponential(
            signal,
            times,
            start.clamp_(0, parameters.limit),
            noise=noise,
            iterations=parameters.iterations,
        )

    return (yield from mapped(acquisition, device, fit, parameters.limit, notes))
