"""What a map leaves unexplained of the field, filtered and added: fine structure comes back."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

from napari_qsm.generators import relayed
from napari_qsm.methods.field_error import field_error
from napari_qsm.methods.workspace import Workspace
from napari_qsm.networks.background import in_background
from napari_qsm.physics import fourier
from napari_qsm.process import Parameters, Step, parameter

MOST = 20.0
"""Largest tau chosen by itself. On two measured slabs the errors of maps rise from 15 on, whatever
made them."""

BINS = 256
"""Of |D| that the power of a residual is counted in."""

TOLD = "letting the field correct the map"


def ratio_parameter() -> Any:
    """Declare the parameter tau that methods with a correction share."""
    return parameter(
        None,
        "How far the measured field corrects the finished map (tau): the square of the map's error "
        "over the field's. 0 leaves the map, high values follow the field and its noise. By itself "
        "so that the field's error is left.",
        low=0.0,
        high=100.0,
        typical=5.0,
        alias="tau",
    )


def corrected(
    space: Workspace,
    chi: Tensor,
    ratio: float | None,
    name: str,
    model: type[Parameters] | None = None,
) -> Generator[Step, None, Tensor]:
    """Return ``chi + F^-1 [ tau D / (tau D^2 + 1)  F m (f - D chi) ]``, chi made to suit the field.

    With errors of chi and f that are white, and tau the ratio of their variances, it is the most
    probable map between both. Along the cone, where D is 0, chi stays. Only the residual in the
    mask is inverted, so that what the mask cuts off is not taken for susceptibility. A network or
    a variation smooths away what it cannot tell from noise; part of that comes back.

    Parameters
    ----------
    space : Workspace
        With a field.
    chi : Tensor
        In ppm, padded.
    ratio : float or None
        tau; by itself that of `agreement`, which is noted.
    name : str
        Of the parameter it comes from.
    model : type[Parameters], optional
        That has the parameter.
    """
    if ratio == 0:
        return chi
    yield space.step(0.95, TOLD, lambda: chi)
    residual = (space.field() - space.dipole(chi)) * space.region()
    yield space.step(0.95, TOLD, lambda: chi)
    kernel = space.dipole.spectrum
    transform = fourier.spectrum(residual)
    yield space.step(0.95, TOLD, lambda: chi)
    if ratio is None:
        ratio = yield from _chosen(space, chi, residual, transform, name, model)
        if ratio == 0:
            return chi
    transform.mul_(ratio * kernel / (ratio * kernel.square() + 1))
    yield space.step(0.95, TOLD, lambda: chi)
    space.notes.append(
        f"The field corrected the map, whose error was taken to be {ratio**0.5:.2g} times the "
        "field's."
    )
    return chi + fourier.volume(transform, space.shape)


def _chosen(
    space: Workspace,
    chi: Tensor,
    residual: Tensor,
    transform: Tensor,
    name: str,
    model: type[Parameters] | None,
) -> Generator[Step, None, float]:
    """Return tau by `agreement`, noted."""

    def measured() -> tuple[float, float, float]:
        size = float(residual.square().sum() / space.region().sum()) ** 0.5
        error = field_error(space).error
        return (
            size,
            error,
            agreement(transform, space.dipole.spectrum, space.shape, error / max(size, 1e-12)),
        )

    running = in_background(measured)
    alive = relayed(running, lambda _: space.step(0.95, TOLD, lambda: chi))
    size, error, ratio = yield from alive
    if ratio == 0:
        space.chosen[name] = 0.0
        space.notes.append(
            f"The map leaves {1e3 * size:.3g} ppb of the field, whose error is {1e3 * error:.3g}: "
            "there is nothing to correct."
        )
        return 0.0
    why = (
        f"(tau), so that of {1e3 * size:.3g} ppb that the map leaves of the field its error of "
        f"{1e3 * error:.3g} is left"
    )
    return space.choose(name, ratio, why, model)


def agreement(transform: Tensor, kernel: Tensor, shape: fourier.Shape, share: float) -> float:
    """Return tau with which a correction leaves a share of a residual.

    Of a residual r is left ``F r / (tau D^2 + 1)``; its norm falls with tau. This is the principle
    of discrepancy (Morozov 1984, doi:10.1007/978-1-4612-5280-1): a map should explain a field to
    within its error, no better.

    Parameters
    ----------
    transform, kernel : Tensor
        F r and D on the half grid.
    shape : tuple[int, int, int]
        Of the whole one.
    share : float
        Of the norm; from 1 on nothing is corrected.

    Returns
    -------
    float
        At most `MOST`.
    """
    if share >= 1:
        return 0.0
    places = (kernel.abs() * (1.5 * BINS)).long().clamp_(max=BINS - 1)
    power = torch.view_as_real(transform).square().sum(-1).double()
    power *= fourier.multiplicity(shape, power.device)
    table = torch.bincount(places.flatten(), power.flatten(), minlength=BINS).cpu()
    gram = ((torch.arange(BINS, dtype=torch.float64) + 0.5) * (2 / 3 / BINS)).square()
    low, high = 0.0, MOST
    for _ in range(40):
        middle = (low + high) / 2
        left = math.sqrt(float((table / (middle * gram + 1).square()).sum() / table.sum()))
        low, high = (middle, high) if left > share else (low, middle)
    return high
