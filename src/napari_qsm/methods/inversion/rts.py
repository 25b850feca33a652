"""RTS: a safe division first, then total variation fills what was left out."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.inversion.tkd import truncated_inverse
from napari_qsm.methods.registry import Parameters, Reconstruction, method, parameter
from napari_qsm.methods.variation import regularization_parameter, share_of_noise
from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics import fourier
from napari_qsm.physics.gradient import Gradient
from napari_qsm.solvers.admm import split_of, total_variation
from napari_qsm.solvers.fourier import QuadraticStep, scale_spectrum

NOISE_SHARE = 2.0
"""lambda over the noise of the field, in mm. Near the best on the digital head and in vivo."""

PENALTY_RATIO = 100.0
"""Penalty of the split over lambda, in mm: changes the speed, not the answer."""

STEEPNESS = 10.0
"""Slope of the dual one starts with over the gradient one starts with."""


class RTS(Parameters):
    """Parameters of the two-step method."""

    regularization: float | None = regularization_parameter()
    threshold: float = parameter(
        0.12,
        "Where the dipole kernel is smaller than this the field is not looked at, and total "
        "variation decides.",
        low=0.01,
        high=0.33,
    )
    tolerance: float = parameter(
        1e-3,
        "Stop when the change in the mask falls below this part of the map.",
        low=1e-6,
        high=1e-1,
        log=True,
    )
    max_iterations: int = parameter(60, "Stop after this many iterations.", low=1, high=1000)


def divided(space: Workspace, band: Tensor, threshold: float) -> Tensor:
    """Susceptibility of the field in a band of well-determined frequencies, and nothing else."""
    transform = fourier.spectrum(space.field())
    inverse = truncated_inverse(space.dipole.spectrum, threshold, "zeroed")
    return fourier.volume(scale_spectrum(transform, inverse.mul_(band)), space.shape)


@method(
    key="rts",
    label="RTS",
    summary="Two steps: division where it is safe, total variation elsewhere; fast.",
    parameters=RTS,
    references=("10.1016/j.neuroimage.2017.11.018",),
    uses=(Quantity.MASK, Quantity.CHI),
    tuning="regularization",
)
def rts(acquisition: Acquisition, parameters: RTS, device: torch.device) -> Reconstruction:
    """Minimise ``1/2 |M (chi - D^-1 f)|^2 + lambda |G chi|_1``, M the band ``|D| > threshold``.

    In the band the field is divided by the dipole kernel, which a few Krylov steps come close to
    in the original; outside it only the variation counts. At small lambda the band stays as it
    was divided, with its noise; a lambda that follows the noise smooths the band, too. A
    susceptibility in the acquisition is where the iteration starts. Reference: Kames et al. 2018.
    """
    with Workspace(acquisition, device, "RTS") as space:
        yield space.step(0.0, "preparing")
        strength = share_of_noise(parameters.regularization, NOISE_SHARE, RTS, space)
        band = (space.dipole.spectrum.abs() > parameters.threshold).float()
        yield space.step(0.0, "dividing")
        first = divided(space, band, parameters.threshold)
        yield space.step(0.0, "preparing")
        gradient = Gradient(space.voxel_size)
        prior = gradient.spectrum(space.shape, device=device)
        step = QuadraticStep(first, band, prior, penalty=PENALTY_RATIO * strength)
        del band, prior
        split = None
        if Quantity.CHI in acquisition:
            first = space.place(acquisition[Quantity.CHI])
            split = split_of(gradient, first, threshold=1 / PENALTY_RATIO, steepness=STEEPNESS)
            space.notes.append("Started from the given susceptibility.")
        yield space.step(0.0, "starting")
        iterates = total_variation(
            step,
            gradient,
            first.clone(),
            threshold=1 / PENALTY_RATIO,
            split=split,
            region=space.region(),
        )
        del step, first, split
        result = yield from space.follow(
            iterates, tolerance=parameters.tolerance, max_iterations=parameters.max_iterations
        )
        return (yield from space.finish(result))
