"""Log-linear fit: R2* as the slope of the signal's logarithm."""

from __future__ import annotations

import torch

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
from napari_qsm.process import Parameters, Work


class LogLinear(Parameters):
    """Parameters of the log-linear fit."""

    limit: float = limit()
    noise_floor: NoiseFloor = noise_floor()


@stage(
    key="loglinear",
    label="Log-linear fit",
    summary="A line through the logarithm, weighted by squared signal: any echoes, two or more.",
    place=Place.RELAXATION,
    parameters=LogLinear,
    references=("10.1002/mrm.25137",),
    needs=(Quantity.MAGNITUDE,),
    uses=(Quantity.MASK,),
    gives=(Quantity.R2STAR,),
    echoes=2,
)
def loglinear(acquisition: Acquisition, parameters: LogLinear, device: torch.device) -> Work:
    """Fit ``ln m = ln A - R2* TE`` by least squares weighted by the fitted signal squared.

    See `napari_qsm.physics.relaxation.log_linear`.
    """
    noise, notes = yield from floor(acquisition, parameters.noise_floor)
    return (
        yield from mapped(
            acquisition,
            device,
            lambda signal, times: relaxation.log_linear(signal, times, noise),
            parameters.limit,
            notes,
        )
    )
