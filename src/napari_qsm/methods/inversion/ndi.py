"""NDI: nonlinear dipole inversion."""

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.phase import phase_scale, phase_scale_parameter
from napari_qsm.methods.registry import Parameters, Reconstruction, method, parameter
from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics import fourier
from napari_qsm.solvers.fourier import scale_spectrum
from napari_qsm.solvers.gradient_descent import gradient_descent
from napari_qsm.solvers.iteration import Pieces


class NDI(Parameters):
    """Parameters of nonlinear dipole inversion."""

    iterations: int = parameter(
        80, "Stop after this many iterations: fewer blur, more add streaks.", low=1, high=1000
    )
    step: float = parameter(1.0, "Size of a step; it diverges from 2.25 on.", low=0.05, high=2.2)
    tolerance: float = parameter(
        1e-3, "Stop when the relative change falls below this.", low=1e-6, high=1e-1, log=True
    )
    phase_scale: float | None = phase_scale_parameter()


@method(
    key="ndi",
    label="NDI",
    summary="Nonlinear dipole inversion: no regularisation but early stopping, robust to wraps.",
    parameters=NDI,
    references=("10.1002/nbm.4271",),
    uses=(Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE),
    tuning="iterations",
)
def ndi(acquisition: Acquisition, parameters: NDI, device: torch.device) -> Reconstruction:
    """Descend along the gradient of ``|W (exp(i s D chi) - exp(i s f))|^2``.

    ``chi <- chi - 2 tau/s D W^2 sin(s (D chi - f))`` with s in rad/ppm, W^2 the squared magnitude
    (or the mask) with a maximum of 1, and tau the step, stable below 2.25. The number of
    iterations is the regularisation: after N of them, at small phase, a frequency has come to
    ``1 - (1 - 2 tau D^2)^N`` of its value. A start from an earlier susceptibility would undo that,
    so none is taken. The iteration runs on the spectrum of chi, where it takes one pair of
    transforms instead of two. Reference: Polak et al. 2020.
    """
    with Workspace(acquisition, device, "NDI") as space:
        yield space.step(0.0, "preparing")
        scale = phase_scale(acquisition, parameters.phase_scale, space)
        symbol = space.dipole.spectrum
        weights = space.weights(space.weighting("auto"))
        weights /= weights.max()
        phase = space.field().mul_(scale)

        def gradient(transform: Tensor) -> Pieces:
            error = fourier.volume(transform * symbol, space.shape)
            yield
            error.sub_(phase).sin_().mul_(weights)
            slope = fourier.spectrum(error)
            yield
            return scale_spectrum(slope, symbol)

        start = torch.zeros(symbol.shape, dtype=torch.complex64, device=device)
        result = yield from space.follow(
            gradient_descent(gradient, start, step=2 * parameters.step),
            tolerance=parameters.tolerance,
            max_iterations=parameters.iterations,
            view=lambda transform: fourier.volume(transform, space.shape).div_(scale),
        )
        return (yield from space.finish(result))
