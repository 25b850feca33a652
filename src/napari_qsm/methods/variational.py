"""What adapting a network to measured fields shares, for one patient or a cohort.

The network gives a Gaussian with independent voxels; how far it is from the posterior that MEDI's
prior and the field's error leave is its free energy, `napari_qsm.solvers.expectations.FreeEnergy`.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.edges import spared
from napari_qsm.methods.field_error import field_error
from napari_qsm.methods.learned import MARGIN, Seen, seen, working
from napari_qsm.methods.registry import Parameters, parameter
from napari_qsm.methods.variation import chosen_regularization
from napari_qsm.methods.workspace import Weighting, Workspace
from napari_qsm.networks.inverter import Inverter
from napari_qsm.networks.precision import Precision, autocast, chosen
from napari_qsm.physics.fourier import AXES
from napari_qsm.physics.gradient import Gradient
from napari_qsm.process import Step
from napari_qsm.solvers.expectations import FreeEnergy, Misfit

SHARE = 0.1
"""lambda in mm over `FieldError.weight`, a quarter of MEDI's. It was picked on one crop of one
measured field, with weights at the beginning of their training, because sigma there covered more of
the errors than with MEDI's: a calibration on a single case, which no other has confirmed."""

Estimator = Literal["analytic", "mc"]


class Posterior(Parameters):
    """Parameters of the posterior that a network is brought to."""

    regularization: float | None = parameter(
        None,
        "Weight of susceptibility's edges that the magnitude lacks against the field (lambda), as "
        "that of MEDI: high values flatten fine structures. By itself chosen from the field's "
        "error.",
        low=1e-6,
        high=1e-2,
        log=True,
        unit="ppm mm",
        alias="lambda",
        typical=5e-5,
    )
    error: float | None = parameter(
        None,
        "Error of the field, noise and what no susceptibility explains, averaged over the mask: "
        "low values make sigma low and follow the field closely. By itself read off the field.",
        low=1e-4,
        high=0.1,
        log=True,
        unit="ppm",
        typical=4e-3,
    )
    weighting: Weighting = parameter(
        "auto",
        "How much each voxel of the field counts: by one over its noise variance, by the squared "
        "magnitude, or equally in the mask. By itself the first of these there is.",
    )
    edges: float = parameter(
        0.3,
        "Part of the pairs of neighbours in the mask that count as edges of the magnitude, where "
        "susceptibility may jump for free.",
        low=0.0,
        high=0.9,
    )


@dataclass(frozen=True, eq=False)
class Problem:
    """What a network is brought to suit: one field, as it sees it, and the free energy.

    Parameters
    ----------
    inputs, mask : (1, C, X, Y, Z) and (1, 1, X, Y, Z) tensors
        See `napari_qsm.methods.learned.Seen`.
    energy : FreeEnergy
        Of volumes without the margin.
    """

    inputs: Tensor
    mask: Tensor
    energy: FreeEnergy

    def loss(
        self,
        network: Inverter,
        *,
        samples: int = 0,
        floor: float = 0.0,
        precision: Precision = "auto",
    ) -> tuple[Tensor, dict[str, float], Tensor]:
        """Pass the network; return the free energy per voxel, figures, and the mean.

        Parameters
        ----------
        network : Inverter
            With a standard deviation.
        samples : int
            The expectation is taken over so many; in closed form if 0.
        floor : float
            Standard deviation in ppm that is added, in squares.
        precision : {"auto", "bfloat16", "float32"}
            Of the convolutions.
        """
        device = self.inputs.device
        with autocast(device, chosen(device, precision)):
            estimate = network(self.inputs)
        inside, count = self._cut(self.mask), float(self.mask.sum())
        mean = self._cut(estimate.mean) * inside
        sigma = torch.sqrt(self._cut(estimate.sigma).square() + floor**2) * inside
        energy = self.energy
        terms = energy.sampled(mean, sigma, samples) if samples else energy(mean, sigma)
        loss = terms.total / count
        misfit = terms.misfit.detach()
        figures = {
            "elbo": -float(loss.detach()),
            "residual": math.sqrt(2 * float(misfit) / count),
            "sigma": float(sigma.detach().sum()) / count,
        }
        return loss, figures, mean.detach()

    @staticmethod
    def _cut(volume: Tensor) -> Tensor:
        """Return (1, 1, X, Y, Z) without the margin as a volume."""
        inner = slice(MARGIN, -MARGIN)
        return volume[0, 0, inner, inner, inner]


def problem(
    acquisition: Acquisition,
    space: Workspace,
    network: Inverter,
    parameters: Posterior,
    *,
    share: float,
) -> Generator[Step, None, tuple[Problem, Seen]]:
    """Make what a network is brought to suit; `share` is its part of the whole work."""
    weighting = space.weighting(parameters.weighting)
    sigma = yield from working(
        space,
        lambda: _error(acquisition, parameters, space, weighting),
        fraction=0.0,
        message="measuring the field's error",
    )
    kind, stated = type(parameters), parameters.regularization
    strength = yield from chosen_regularization(stated, SHARE, kind, space, weighting)
    view = yield from seen(acquisition, network, space, share=share)
    yield space.step(share, "preparing the posterior")
    gradient = Gradient(space.voxel_size)
    selection = yield from spared(acquisition, space, gradient, parameters.edges)
    energy = yield from working(
        space,
        lambda: _energy(space, view.shape, selection, weighting, sigma, strength),
        fraction=share,
        message="preparing the posterior",
    )
    return Problem(view.inputs, view.mask, energy), view


def _energy(
    space: Workspace,
    shape: tuple[int, int, int],
    selection: Tensor,
    weighting: Weighting,
    sigma: float,
    strength: float,
) -> FreeEnergy:
    """Return the free energy of volumes of the mask's bounding box."""
    inner = tuple(slice(0, n) for n in shape)
    region = space.region()[inner].contiguous()
    selection = selection[(slice(None), *inner)]
    for axis, part in zip(AXES, selection, strict=True):
        part.mul_(region & region.roll(-1, axis))  # beyond the mask nothing is estimated
    weights = space.weights(weighting)[inner] * (region / sigma**2)
    field = space.field()[inner].contiguous()
    misfit = Misfit(space.dipole.spectrum, space.shape, field, weights)
    return FreeEnergy(misfit, selection, space.voxel_size, strength / sigma**2, region)


def _error(
    acquisition: Acquisition, parameters: Posterior, space: Workspace, weighting: Weighting
) -> float:
    """Return sigma_b in ppm for weights with a mean of 1: stated, or read off the field; noted."""
    if parameters.error is not None:
        return parameters.error
    measured = field_error(space, weighting).error
    why = "ppm (sigma_b), read off the field where no susceptibility reaches it"
    sigma = space.choose("error", measured, why, type(parameters))
    known, told = space.noise(), "differences of neighbours say"
    if weighting == "noise":
        noise = acquisition[Quantity.FIELD_NOISE][acquisition.mask].astype(np.float64)
        power = np.square(1 / noise[noise > 0])
        known = float(np.minimum(power, np.percentile(power, 99)).mean() ** -0.5)
        told = "the map of its noise says"
    if known > 0:
        space.notes.append(
            f"That is {sigma / known:.2g} times the noise of {known:.2g} ppm that {told}; the rest "
            "is what no susceptibility explains, and counts like noise."
        )
    return sigma


def figures_told(first: dict[str, float], last: dict[str, float]) -> str:
    """Say in one sentence what an adaptation has changed."""
    return (
        f"The ELBO per voxel went from {first['elbo']:.3f} to {last['elbo']:.3f}, the residual "
        f"from {first['residual']:.2f} to {last['residual']:.2f} times the field's error, and the "
        f"mean sigma from {1e3 * first['sigma']:.1f} to {1e3 * last['sigma']:.1f} ppb."
    )
