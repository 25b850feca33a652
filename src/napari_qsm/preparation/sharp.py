"""SHARP: what a field has beyond its mean over balls, deconvolved."""

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition
from napari_qsm.preparation.background import GIVES, NEEDS, USES, BackgroundProblem
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.process import Parameters, Work, parameter


class SHARP(Parameters):
    """Parameters of SHARP."""

    radius: float = parameter(
        6.0,
        "Radius of the balls: a larger one keeps more of slow variations, but less of the mask.",
        low=1,
        high=20,
        unit="mm",
    )
    threshold: float = parameter(
        0.03,
        "Frequencies that the balls leave less of than this are lost; less brings noise back.",
        low=1e-3,
        high=0.5,
        log=True,
    )


def truncated_inverse(symbol: Tensor, threshold: float) -> Tensor:
    """``1 / h`` where h > threshold, 0 elsewhere."""
    return torch.where(symbol > threshold, symbol.reciprocal(), 0)


@stage(
    key="sharp",
    label="SHARP",
    summary="Subtract means over balls and deconvolve: instant, leaves out the mask's rim.",
    place=Place.BACKGROUND,
    parameters=SHARP,
    references=("10.1016/j.neuroimage.2010.10.070",),
    needs=NEEDS,
    uses=USES,
    gives=GIVES,
)
def sharp(acquisition: Acquisition, parameters: SHARP, device: torch.device) -> Work:
    """Deconvolve ``f_L = F^-1 [F m (1 - S) f / (1 - s)]``, 0 where ``1 - s`` is small.

    S is the mean over balls, s its symbol, m the voxels whose ball lies in the mask. Reference:
    Schweser et al. 2011.
    """
    radius = parameters.radius
    with BackgroundProblem(acquisition, device, "SHARP", margin=radius) as problem:
        yield problem.step(0.0, "preparing")
        mean = problem.spherical_mean(radius)
        core, beyond = yield from problem.beyond_mean(mean)
        inverse = truncated_inverse(mean.deviation, parameters.threshold)
        local = yield from problem.filtered(beyond, inverse, 0.6, "deconvolving")
        problem.notes.append(f"The balls have a radius of {mean.radius:g} mm.")
        return (yield from problem.finish(local, core))
