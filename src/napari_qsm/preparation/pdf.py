"""PDF: the background as the field of dipoles outside the mask."""

import numpy as np
import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, InputError, Quantity
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.preparation.background import GIVES, NEEDS, USES, BackgroundProblem
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.process import Parameters, Work, parameter
from napari_qsm.solvers.conjugate_gradient import conjugate_gradient
from napari_qsm.solvers.iteration import Pieces
from napari_qsm.solvers.restricted import filtered

MARGIN_MM = 30.0
"""Room for dipoles between the mask and its periodic image: more changes nothing (measured)."""


class PDF(Parameters):
    """Parameters of the projection onto dipole fields."""

    tolerance: float = parameter(
        5e-3,
        "Stop when the residual falls below this part: low values fit the local field as well.",
        low=1e-5,
        high=1e-1,
        log=True,
    )
    max_iterations: int = parameter(40, "Stop after this many iterations.", low=1, high=1000)
    rim: float = parameter(
        2.0,
        "Width left out at the mask's edge, where dipoles next to it fit anything.",
        low=0,
        high=20,
        unit="mm",
    )


@stage(
    key="pdf",
    label="PDF",
    summary="Project onto the fields of dipoles outside the mask: keeps most of the mask.",
    place=Place.BACKGROUND,
    parameters=PDF,
    references=("10.1002/nbm.1670",),
    needs=NEEDS,
    uses=USES,
    gives=GIVES,
)
def pdf(acquisition: Acquisition, parameters: PDF, device: torch.device) -> Work:
    """Minimise ``|W (f - D (1 - m) x)|^2`` over dipoles x outside the mask m, and stop early.

    D is the dipole convolution with cuboid voxels and W one over the field's noise, or m where no
    noise is known. ``f_L = f - D (1 - m) x`` within the mask. Conjugate gradients take the strong
    background first; long before they end they fit the local field near the mask's edge. A
    constant is no dipole's field, so the mean of f goes first. Reference: Liu et al. 2011.
    """
    with BackgroundProblem(acquisition, device, "PDF", margin=MARGIN_MM) as problem:
        yield problem.step(0.0, "preparing")
        kept = problem.without_rim(parameters.rim)
        weights = _weights(acquisition, problem)
        yield problem.step(0.02, "preparing the dipoles")
        dipole = DipoleConvolution(
            problem, kernel="cuboid", padded_shape=problem.shape, device=device
        ).spectrum
        outside = 1 - problem.region

        def normal(sources: Tensor) -> Pieces:
            field = yield from filtered(sources, dipole)
            yield
            result = yield from filtered(field.mul_(weights), dipole)
            return result.mul_(outside)

        right = yield from problem.filtered(problem.field * weights, dipole, 0.05, "starting")
        iterates = conjugate_gradient(normal, right.mul_(outside))
        del right
        sources = yield from problem.follow(
            iterates, tolerance=parameters.tolerance, max_iterations=parameters.max_iterations
        )
        problem.notes.append(f"A rim of {parameters.rim:g} mm was left out of the mask.")
        background = yield from problem.filtered(sources, dipole, 0.9, "computing the field")
        return (yield from problem.finish(problem.field - background, kept))


def _weights(acquisition: Acquisition, problem: BackgroundProblem) -> Tensor:
    """Squared weights: 1, or one over the squared noise with a median of 1; noted.

    A noise of less than half its median counts as that half: the weights are to leave noisy voxels
    out, not to pick a few.
    """
    if Quantity.FIELD_NOISE not in acquisition:
        problem.notes.append("All voxels count the same (no field noise was given).")
        return problem.measured()
    noise = problem.boxed(Quantity.FIELD_NOISE)
    mask = acquisition.mask
    middle = float(np.median(acquisition[Quantity.FIELD_NOISE][mask]))
    if not middle > 0:
        raise InputError(
            "The field noise is zero in most of the mask; choose another one or run without it."
        )
    problem.notes.append("Voxels count by one over their squared field noise.")
    trust = np.square(middle / np.maximum(noise, middle / 2))
    return problem.place(trust).mul_(problem.measured())
