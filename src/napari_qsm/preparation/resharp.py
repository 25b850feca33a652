"""RESHARP: the smallest field that has the same deviation from its means over balls."""

import torch

from napari_qsm.acquisition import Acquisition
from napari_qsm.preparation.background import GIVES, NEEDS, USES, BackgroundProblem
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.process import Parameters, Work, parameter
from napari_qsm.solvers.restricted import solve_restricted


class RESHARP(Parameters):
    """Parameters of RESHARP."""

    radius: float = parameter(
        4.0,
        "Radius of the balls: a larger one is more exact, but keeps less of the mask.",
        low=1,
        high=20,
        unit="mm",
    )
    regularization: float = parameter(
        1e-5,
        "Weight of a small field against the deviations (lambda): high values lose what is slow.",
        low=1e-8,
        high=1.0,
        log=True,
        alias="lambda",
    )
    tolerance: float = parameter(
        1e-2,
        "Stop when the residual of the deviations falls below this part of them.",
        low=1e-6,
        high=1e-1,
        log=True,
    )
    max_iterations: int = parameter(100, "Stop after this many iterations.", low=1, high=1000)


@stage(
    key="resharp",
    label="RESHARP",
    summary="Means over balls with Tikhonov regularisation: reliable, leaves out the mask's rim.",
    place=Place.BACKGROUND,
    parameters=RESHARP,
    references=("10.1002/mrm.24765", "10.1016/j.neuroimage.2010.10.070"),
    needs=NEEDS,
    uses=USES,
    gives=GIVES,
)
def resharp(acquisition: Acquisition, parameters: RESHARP, device: torch.device) -> Work:
    """Minimise ``|H (f - x)|^2 + lambda |x|^2`` over the local field x, ``H = m (1 - S)``.

    S is the mean over balls and m the voxels whose ball lies in the mask. The minimum is
    ``x = H.H u`` with ``(H H.H + lambda) u = H f``, and ``H H.H`` is a convolution restricted to
    m, which preconditioned conjugate gradients solve in a tenth of the iterations that the normal
    equations of x take. Reference: Sun & Wilman 2014.
    """
    radius = parameters.radius
    with BackgroundProblem(acquisition, device, "RESHARP", margin=radius) as problem:
        yield problem.step(0.0, "preparing")
        mean = problem.spherical_mean(radius)
        core, beyond = yield from problem.beyond_mean(mean)
        gram = mean.deviation.square()
        iterates = solve_restricted(
            gram,
            core,
            beyond,
            floor=problem.slowest(gram),
            shift=parameters.regularization,
        )
        del beyond
        dual = yield from problem.follow(
            iterates, tolerance=parameters.tolerance, max_iterations=parameters.max_iterations
        )
        local = yield from problem.filtered(dual, mean.deviation, 0.9, "computing the field")
        problem.notes.append(
            f"The balls have a radius of {mean.radius:g} mm; lambda = "
            f"{parameters.regularization:g}."
        )
        return (yield from problem.finish(local, core))
