"""Tikhonov: closed-form quadratic regularisation."""

from typing import Literal

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition
from napari_qsm.methods.field_error import field_error
from napari_qsm.methods.registry import Parameters, Reconstruction, method, parameter
from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics.gradient import Gradient

ERROR_SHARE = {"identity": 0.12, "gradient": 0.25}
"""lambda over the squared relative error of the field, the latter in mm^2: about 5 % from the
best or less on digital heads and measured fields with relative errors of 0.09 to 0.5."""


class Tikhonov(Parameters):
    """Parameters of quadratic regularisation."""

    regularization: float | None = parameter(
        None,
        "Weight of smoothness against the field (lambda): low values give streaks, high ones blur. "
        "By itself a share of the squared relative error of the field.",
        low=1e-6,
        high=1.0,
        log=True,
        alias="lambda",
        typical=2.5e-3,
    )
    regularizer: Literal["gradient", "identity"] = parameter(
        "identity",
        "Penalise susceptibility itself, or its gradient (per mm), which is better at high noise.",
    )


def symbol(space: Workspace, parameters: Tikhonov) -> Tensor:
    """Return the filter ``D / (D^2 + lambda Gamma^2)`` on the half grid, 0 at the origin."""
    kernel = space.dipole.spectrum
    weight = parameters.regularization
    if weight is None:
        share, relative = ERROR_SHARE[parameters.regularizer], field_error(space).relative
        why = f"({share:g} times the squared relative error of the field, {relative:.2g})"
        weight = space.choose("regularization", share * relative**2, why, Tikhonov)
    if parameters.regularizer == "gradient":
        penalty = Gradient(space.voxel_size).spectrum(space.shape, device=space.device)
    else:
        penalty = torch.ones_like(kernel)
    normal = kernel.square().add_(penalty, alpha=weight)
    return (kernel / normal).masked_fill_(normal == 0, 0)


@method(
    key="tikhonov",
    label="Tikhonov",
    summary="Quadratic smoothness in closed form: instant, smooth, loses contrast.",
    parameters=Tikhonov,
    references=("10.1002/mrm.25029", "10.1002/jmri.24365"),
    tuning="regularization",
    symbol=symbol,
)
def tikhonov(
    acquisition: Acquisition, parameters: Tikhonov, device: torch.device
) -> Reconstruction:
    """Minimise ``|D chi - f|^2 + lambda |Gamma chi|^2`` in closed form.

    ``chi = F^-1 D F f / (D^2 + lambda Gamma^2)``, where ``Gamma^2`` is the spectrum of the
    gradient (1/mm^2) or 1, and chi(k=0) = 0. Reference: Bilgic et al. 2014.
    """
    with Workspace(acquisition, device, "Tikhonov") as space:
        estimate = yield from space.filtered(lambda: symbol(space, parameters))
        return (yield from space.finish(estimate))
