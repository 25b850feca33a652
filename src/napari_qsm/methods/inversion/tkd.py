"""TKD: thresholded k-space division."""

from typing import Literal

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition
from napari_qsm.methods.field_error import field_error
from napari_qsm.methods.registry import Parameters, Reconstruction, method, parameter
from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics.fourier import mean_over_spectrum

ERROR_SHARE = 0.8
"""Threshold over the relative error of the field: within 5 % of the best on digital heads and
measured fields with relative errors of 0.09 to 0.5."""


class TKD(Parameters):
    """Parameters of thresholded k-space division."""

    threshold: float | None = parameter(
        None,
        "Where the dipole kernel is smaller than this it is not divided by: low values give "
        "streaks, high ones underestimate. By itself a share of the field's relative error.",
        low=0.01,
        high=0.6,
        typical=0.12,
    )
    variant: Literal["clamped", "zeroed"] = parameter(
        "clamped",
        "Below the threshold, divide by the threshold with the kernel's sign (clamped) or leave "
        "the frequency out (zeroed).",
    )
    correct_psf: bool = parameter(
        False,
        "Divide by the mean of the point spread: right mean values, more noise and streaks.",
    )


def truncated_inverse(symbol: Tensor, threshold: float, variant: str) -> Tensor:
    """``1/D`` where ``|D| > threshold``; ``sign(D)/threshold`` or 0 elsewhere, 0 where D = 0."""
    magnitude = symbol.abs()
    inverse = magnitude.clamp(min=threshold).reciprocal_().mul_(symbol.sign())
    if variant == "zeroed":
        inverse.masked_fill_(magnitude <= threshold, 0)
    return inverse


def symbol(space: Workspace, parameters: TKD) -> Tensor:
    """Return the filter D+ on the half grid."""
    kernel = space.dipole.spectrum
    threshold = parameters.threshold
    if threshold is None:
        relative = field_error(space).relative
        why = f"({ERROR_SHARE:g} times the relative error of the field, {relative:.2g})"
        threshold = space.choose("threshold", ERROR_SHARE * relative, why, TKD)
    inverse = truncated_inverse(kernel, threshold, parameters.variant)
    if parameters.correct_psf:
        inverse /= mean_over_spectrum(inverse * kernel, space.shape)
    return inverse


@method(
    key="tkd",
    label="TKD",
    summary="Thresholded k-space division: instant, streaks at the magic angle.",
    parameters=TKD,
    references=("10.1002/mrm.22135", "10.1002/mrm.24405"),
    tuning="threshold",
    symbol=symbol,
)
def tkd(acquisition: Acquisition, parameters: TKD, device: torch.device) -> Reconstruction:
    """Divide the field's spectrum by the dipole kernel wherever that is safe.

    ``chi = F^-1 D+ F f``, with ``D+`` from `truncated_inverse` (Shmueli et al. 2009). The mean of
    ``D+ D`` over k-space is the value at the centre of the point spread; dividing by it
    (Schweser et al. 2013) restores the size of small structures.
    """
    with Workspace(acquisition, device, "TKD") as space:
        estimate = yield from space.filtered(lambda: symbol(space, parameters))
        return (yield from space.finish(estimate))
