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
"""Room for dipoles between the mask and its periodic image: twice as much takes twice the time and
a thirtieth off the error, on coarse oblique voxels a tenth (measured)."""


SAMPLE = 50_000
"""Voxels that harmonic polynomials are fitted to."""


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
    background first; long before they end they fit the local field near the mask's edge. The fields
    of shim coils, which dipoles nearby hardly make, go first: harmonic polynomials of second
    order, closest to f over the mask. Reference: Liu et al. 2011.
    """
    with BackgroundProblem(acquisition, device, "PDF", margin=MARGIN_MM) as problem:
        yield problem.step(0.0, "preparing")
        kept = problem.without_rim(parameters.rim)
        weights = _weights(acquisition, problem)
        yield problem.step(0.02, "taking the shim's field out")
        field = problem.field - _shim(problem)
        yield problem.step(0.02, "preparing the dipoles")
        dipole = DipoleConvolution(
            problem, kernel="cuboid", padded_shape=problem.shape, device=device
        ).spectrum
        outside = 1 - problem.region

        def normal(sources: Tensor) -> Pieces:
            made = yield from filtered(sources, dipole)
            yield
            result = yield from filtered(made.mul_(weights), dipole)
            return result.mul_(outside)

        right = yield from problem.filtered(field * weights, dipole, 0.05, "starting")
        iterates = conjugate_gradient(normal, right.mul_(outside))
        del right
        sources = yield from problem.follow(
            iterates, tolerance=parameters.tolerance, max_iterations=parameters.max_iterations
        )
        problem.notes.append("A harmonic polynomial of second order was taken out first.")
        problem.notes.append(f"A rim of {parameters.rim:g} mm was left out of the mask.")
        background = yield from problem.filtered(sources, dipole, 0.9, "computing the field")
        return (yield from problem.finish(field - background, kept))


def _polynomials(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, ...]:
    """All harmonic polynomials of up to second order."""
    one = torch.ones_like(x)
    return one, x, y, z, x * y, y * z, z * x, x**2 - y**2, 2 * z**2 - x**2 - y**2


def _shim(problem: BackgroundProblem) -> Tensor:
    """Return the harmonic polynomial closest to the field over a regular sample of the mask."""
    longest = max(n * size for n, size in zip(problem.shape, problem.voxel_size, strict=True))
    x, y, z = (
        (torch.arange(n, device=problem.device) - n / 2) * (2 * size / longest)
        for n, size in zip(problem.shape, problem.voxel_size, strict=True)
    )
    inside = problem.measured().flatten().nonzero().flatten()
    inside = inside[:: max(1, len(inside) // SAMPLE)]
    i, j, k = torch.unravel_index(inside, problem.shape)
    basis = torch.stack(_polynomials(x[i], y[j], z[k]), 1).double().cpu()
    values = problem.field[i, j, k, None].double().cpu()
    shares = torch.linalg.lstsq(basis, values, driver="gelsy").solution.flatten().tolist()
    total = torch.zeros(problem.shape, device=problem.device)
    for share, term in zip(shares, _polynomials(x[:, None, None], y[:, None], z), strict=True):
        total.add_(term, alpha=share)
    return total


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
