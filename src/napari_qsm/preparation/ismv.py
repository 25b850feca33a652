"""iSMV: the background as the field that is its own mean over balls."""

import torch

from napari_qsm.acquisition import Acquisition
from napari_qsm.preparation.background import GIVES, NEEDS, USES, BackgroundProblem
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.process import Parameters, Work, parameter
from napari_qsm.solvers.restricted import solve_restricted


class ISMV(Parameters):
    """Parameters of the iterative spherical mean value."""

    radius: float = parameter(
        5.0,
        "Radius of the balls: in a rim of this width the local field counts as background.",
        low=1,
        high=20,
        unit="mm",
    )
    tolerance: float = parameter(
        1e-2,
        "Stop when the residual of the means falls below this part of them.",
        low=1e-6,
        high=1e-1,
        log=True,
    )
    max_iterations: int = parameter(60, "Stop after this many iterations.", low=1, high=1000)


@stage(
    key="ismv",
    label="iSMV",
    summary="Take means over balls until nothing changes: simple, needs a wide rim.",
    place=Place.BACKGROUND,
    parameters=ISMV,
    references=("10.1002/mrm.24998",),
    needs=NEEDS,
    uses=USES,
    gives=GIVES,
)
def ismv(acquisition: Acquisition, parameters: ISMV, device: torch.device) -> Work:
    """Find the background b that equals its means, ``b = S b`` in m and ``b = f`` around it.

    S is the mean over balls and m the voxels whose ball lies in the mask. The paper takes means of
    m until they no longer change; the same fixed point solves ``m (1 - S) m x = m (1 - S) f`` for
    the local field x = f - b, which preconditioned conjugate gradients reach in a few iterations.
    Reference: Wen et al. 2014.
    """
    radius = parameters.radius
    with BackgroundProblem(acquisition, device, "iSMV", margin=radius) as problem:
        yield problem.step(0.0, "preparing")
        mean = problem.spherical_mean(radius)
        core, beyond = yield from problem.beyond_mean(mean)
        symbol = mean.deviation
        iterates = solve_restricted(symbol, core, beyond, floor=problem.slowest(symbol))
        del beyond
        local = yield from problem.follow(
            iterates, tolerance=parameters.tolerance, max_iterations=parameters.max_iterations
        )
        problem.notes.append(f"The balls have a radius of {mean.radius:g} mm.")
        return (yield from problem.finish(local, core))
