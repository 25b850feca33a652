"""NDI: nonlinear dipole inversion."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, InputError, Quantity
from napari_qsm.methods.phase import phase_scale, phase_scale_parameter
from napari_qsm.methods.power import best_count, measured_power
from napari_qsm.methods.registry import Parameters, Reconstruction, Step, method, parameter
from napari_qsm.methods.workspace import Weighting, Workspace
from napari_qsm.physics import fourier
from napari_qsm.solvers.fourier import scale_spectrum, to_volume
from napari_qsm.solvers.gradient_descent import gradient_descent, responses
from napari_qsm.solvers.iteration import Pieces

LARGEST_STEP = 1.45
"""Of accelerated descent, which is stable to two thirds of what plain descent is."""

MOST_ITERATIONS = {False: 1000, True: 200}
"""The largest number of iterations that is chosen, of plain and of accelerated descent."""


class NDI(Parameters):
    """Parameters of nonlinear dipole inversion."""

    iterations: int | None = parameter(
        None,
        "Stop after this many iterations: fewer blur, more add streaks. By itself where the error "
        "is predicted to be smallest.",
        low=1,
        high=1000,
        log=True,
        typical=40,
    )
    accelerated: bool = parameter(
        True, "Descend with momentum, which takes a sixth of the iterations."
    )
    preconditioned: bool = parameter(
        True, "Take shorter steps where the field's spectrum holds more noise than susceptibility."
    )
    support: bool = parameter(
        True, "Look for sources in the mask alone, where the local field's sources lie."
    )
    step: float = parameter(
        1.0,
        "Size of a step; it diverges from 2.25 on, with momentum from 1.5 on.",
        low=0.05,
        high=2.2,
    )
    regularization: float = parameter(
        0.0,
        "Weight of the susceptibility's square against the phase error (alpha): 0 leaves all to "
        "stopping early.",
        low=0.0,
        high=1.0,
        alias="alpha",
    )
    weights: Weighting = parameter(
        "auto",
        "How much each voxel of the field counts: by one over its noise variance, by the squared "
        "magnitude, equally in the mask, or equally everywhere, being zero outside the mask. By "
        "itself the first of these there is.",
    )
    tolerance: float = parameter(
        1e-4, "Stop when the relative change falls below this.", low=1e-6, high=1e-1, log=True
    )
    phase_scale: float | None = phase_scale_parameter()


class Descent:
    """The gradient of ``|W (exp(i s D chi) - exp(i s f))|^2 / 2 + alpha/2 |s chi|^2``.

    The unknown is ``s chi`` in rad. The gradient is filtered by the preconditioner and cut to the
    support, a positive semidefinite operator, so that what it leads to stays the same.
    """

    def __init__(
        self, space: Workspace, phase: Tensor, weights: Tensor, parameters: NDI, filter_: Tensor
    ) -> None:
        self._symbol = space.dipole.spectrum
        self._phase, self._weights = phase, weights
        self._alpha = parameters.regularization
        self._filter = filter_
        self._region = space.region().float() if parameters.support else None

    def __call__(self, estimate: Tensor) -> Pieces:
        """Return the gradient at a volume."""
        transform = torch.fft.rfftn(estimate)
        yield
        error = yield from to_volume(transform * self._symbol, estimate.shape)
        error.sub_(self._phase).sin_().mul_(self._weights)
        yield
        slope = scale_spectrum(torch.fft.rfftn(error), self._symbol)
        del error
        yield
        if self._alpha:
            slope.add_(transform, alpha=self._alpha)
        del transform
        gradient = yield from to_volume(scale_spectrum(slope, self._filter), estimate.shape)
        return gradient if self._region is None else gradient.mul_(self._region)


def _planned(
    parameters: NDI, space: Workspace, level: float
) -> Generator[Step, None, tuple[Tensor, int]]:
    """Return the preconditioner on the half grid and the number of iterations, chosen if need be.

    `level` is the mean of W^2 in the mask.
    """
    symbol = space.dipole.spectrum
    filter_ = torch.ones_like(symbol)
    if parameters.iterations is not None and not parameters.preconditioned:
        return filter_, parameters.iterations
    transform = fourier.spectrum(space.field())
    yield space.step(0.0, "reading the noise off the spectrum")
    power = yield from measured_power(space, transform)
    shells = torch.ones_like(power.ratio)
    if parameters.preconditioned:
        shells = power.ratio.min() / power.ratio
        filter_ = power.prior(symbol).reciprocal_().mul_(float(power.ratio.min()))
    if parameters.iterations is not None:
        return filter_, parameters.iterations
    # With alpha the descent ends at gram / (gram + alpha) of the susceptibility.
    normal = level * power.gram + parameters.regularization
    curvature = shells[:, None] * normal
    coming = responses(curvature, step=2 * parameters.step, accelerated=parameters.accelerated)
    passed = (part * (level * power.gram / normal) for part in coming)
    count = best_count(passed, power, limit=MOST_ITERATIONS[parameters.accelerated])
    chosen = space.choose(
        "iterations", count, "where the field's spectrum predicts the smallest error"
    )
    return filter_, int(chosen)


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

    ``chi <- chi - 2 tau/s R B D W^2 sin(s (D chi - f))`` with s in rad/ppm, W^2 with a maximum of
    1, and tau the step. The number of iterations is the regularisation: after N plain ones, at
    small phase and without R and B, a frequency has come to ``1 - (1 - 2 tau D^2)^N`` of its
    value. A start from an earlier susceptibility would undo that, so none is taken. R is the
    restriction to the mask; B slows down the ``|k|`` at which there is more noise than
    susceptibility (`napari_qsm.methods.power`), where the number of iterations is read, too.
    Reference: Polak et al. 2020.
    """
    with Workspace(acquisition, device, "NDI") as space:
        if parameters.accelerated and parameters.step > LARGEST_STEP:
            raise InputError(
                f"NDI was asked for steps of {parameters.step:g}, which diverge with momentum; "
                f"choose at most {LARGEST_STEP:g}, or plain descent."
            )
        yield space.step(0.0, "preparing")
        scale = phase_scale(acquisition, parameters.phase_scale, space)
        weighting = space.weighting(parameters.weights)
        if weighting == "none":
            weights, level = torch.ones(space.shape, device=device), 1.0
        else:
            weights = space.weights(weighting)
            level = 1 / float(weights.max())
            weights *= level
        filter_, iterations = yield from _planned(parameters, space, level)
        descent = Descent(space, space.field().mul_(scale), weights, parameters, filter_)
        del weights, filter_
        result = yield from space.follow(
            gradient_descent(
                descent,
                torch.zeros(space.shape, device=device),
                step=2 * parameters.step,
                accelerated=parameters.accelerated,
            ),
            tolerance=parameters.tolerance,
            max_iterations=iterations,
            view=lambda phase: phase / scale,
        )
        return (yield from space.finish(result))
