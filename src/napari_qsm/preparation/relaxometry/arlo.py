"""ARLO: R2* in closed form from equally spaced echoes."""

from __future__ import annotations

import torch

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.physics import relaxation
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.preparation.relaxometry.decay import equal_spacing, limit, mapped
from napari_qsm.process import Parameters, Work

LABEL = "ARLO"


class ARLO(Parameters):
    """Parameters of ARLO."""

    limit: float = limit()


@stage(
    key="arlo",
    label=LABEL,
    summary="Closed form for equally spaced echoes: fast, and nearly as good as a fit.",
    place=Place.RELAXATION,
    parameters=ARLO,
    references=("10.1002/mrm.25137",),
    needs=(Quantity.MAGNITUDE,),
    uses=(Quantity.MASK,),
    gives=(Quantity.R2STAR,),
    echoes=3,
)
def arlo(acquisition: Acquisition, parameters: ARLO, device: torch.device) -> Work:
    """Compare integral and drop of the signal over every three echoes.

    See `napari_qsm.physics.relaxation.arlo` for the equation. Reference: Pei et al. 2015.
    """
    spacing = equal_spacing(acquisition.echo_times, LABEL)
    note = f"Echoes are {1000 * spacing:.4g} ms apart; every one was taken for signal."
    return (
        yield from mapped(
            acquisition,
            device,
            lambda signal, times: relaxation.arlo(signal, spacing),
            parameters.limit,
            (note,),
        )
    )
