"""LBV: the background as a boundary value problem."""

import torch

from napari_qsm.acquisition import Acquisition
from napari_qsm.physics.laplacian import laplacian_symbol
from napari_qsm.physics.spherical_mean import eroded
from napari_qsm.preparation.background import GIVES, NEEDS, USES, BackgroundProblem
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.process import Parameters, Work, parameter
from napari_qsm.solvers.restricted import solve_restricted

NEIGHBOURS = torch.ones((2, 2, 2))
NEIGHBOURS[1, 1, 1] = 0
"""The voxels that the Laplacian at a voxel takes into account, for `eroded`: all around it but the
eight at the corners."""


class LBV(Parameters):
    """Parameters of the Laplacian boundary value method."""

    rim: float = parameter(
        3.0,
        "Width taken off the mask first, since all rests on the field at its edge.",
        low=0,
        high=20,
        unit="mm",
    )
    tolerance: float = parameter(
        1e-2,
        "Stop when the residual of the Laplacian falls below this part of it.",
        low=1e-6,
        high=1e-1,
        log=True,
    )
    max_iterations: int = parameter(60, "Stop after this many iterations.", low=1, high=1000)


@stage(
    key="lbv",
    label="LBV",
    summary="Continue the field of the mask's edge inwards: nothing to tune, trusts the edge.",
    place=Place.BACKGROUND,
    parameters=LBV,
    references=("10.1002/nbm.3064",),
    needs=NEEDS,
    uses=USES,
    gives=GIVES,
)
def lbv(acquisition: Acquisition, parameters: LBV, device: torch.device) -> Work:
    """Solve ``lap x = lap f`` inside the mask, with x = 0 on the voxels at its edge.

    The background ``f - x`` is then harmonic inside and takes the values of f at the edge. The
    Laplacian of f uses no value from outside the mask. Reference: Zhou et al. 2014.
    """
    rim = parameters.rim
    margin = rim + max(acquisition.grid.voxel_size)
    with BackgroundProblem(acquisition, device, "LBV", margin=margin) as problem:
        yield problem.step(0.0, "preparing")
        trusted = problem.without_rim(rim)
        yield problem.step(0.02, "taking the rim off")
        inside = eroded(trusted, NEIGHBOURS)
        if not inside.any():
            raise problem.nothing_left(margin)
        symbol = laplacian_symbol(problem.shape, problem.voxel_size, device=device)
        sources = yield from problem.filtered(problem.field, symbol, 0.05, "taking the Laplacian")
        iterates = solve_restricted(
            symbol, inside, sources.mul_(inside), floor=problem.slowest(symbol)
        )
        del sources
        local = yield from problem.follow(
            iterates, tolerance=parameters.tolerance, max_iterations=parameters.max_iterations
        )
        problem.notes.append(
            f"A rim of {rim:g} mm was taken off the mask; the local field is zero at what is left."
        )
        return (yield from problem.finish(local, inside))
