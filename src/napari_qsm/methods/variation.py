"""What the methods that penalise variation share: lambda, where they start, and the splitting.

They differ in the data term only, which is one of `napari_qsm.solvers.data_terms`.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.field_error import field_error, measured_error
from napari_qsm.methods.registry import Parameters, parameter
from napari_qsm.methods.workspace import Weighting, Workspace
from napari_qsm.physics.gradient import Gradient
from napari_qsm.process import Step
from napari_qsm.solvers.admm import Prior, ShrinkageSplit, admm, split_of
from napari_qsm.solvers.data_terms import DataTerm
from napari_qsm.solvers.fourier import GradientNormal, Normal, QuadraticStep, SplitStep
from napari_qsm.solvers.generalised_variation import GeneralisedNormal, GeneralisedSplit
from napari_qsm.solvers.iteration import Iterate, Iterates, pausing
from napari_qsm.solvers.restricted import filtered

PENALTY_RATIO = 300.0
"""Penalty of the gradient's split over lambda, in mm. It changes the speed, not the answer; on the
digital head and in vivo 150 to 300 are soonest at what a longer run comes to (measured)."""

DATA_PENALTY = 0.15
"""Penalty of the data term's split, for weights of 1 on average; 0.1 to 0.2 are soonest."""

FIRMNESS = 5.0
"""By how much both penalties are larger where a susceptibility is given: the estimate stays near
it while the duals, which nobody has kept, find their values (measured: a fifth of a cold start's
iterations to its objective; with the penalties of a cold start two thirds)."""

STEEPNESS = 1.0
"""Slope of the dual one starts with over the gradient one starts with."""

BEND_PENALTY = 4.0
"""Penalty of the second split of TGV relative to the first, in mm^2."""

ERROR_SHARE = 0.3
"""lambda in mm over `FieldError.weight`, near the best on digital heads and on measured fields
(docs/benchmarks.md)."""

LEAST_NOISE = 1e-7
"""ppm; a field without any noise must count, too."""


def regularization_parameter() -> Any:
    """Declare the parameter ``regularization``, said ``lambda``, that these methods share."""
    return parameter(
        None,
        "Weight of the variation against the field (lambda): low values leave noise and streaks, "
        "high ones flatten fine structures. By itself chosen from the field's error.",
        low=1e-6,
        high=1e-2,
        log=True,
        unit="ppm mm",
        alias="lambda",
        typical=1e-4,
    )


def weights_parameter() -> Any:
    """Declare the parameter ``weights`` that these methods share."""
    return parameter(
        "auto",
        "How much each voxel of the field counts: by one over its noise variance, by the squared "
        "magnitude, equally in the mask, or equally everywhere, being zero outside the mask. By "
        "itself the first of these there is.",
    )


def iterations_parameter() -> Any:
    """Declare the parameter ``max_iterations`` that these methods share."""
    return parameter(60, "Stop after this many iterations.", low=1, high=1000)


def tolerance_parameter() -> Any:
    """Declare the parameter ``tolerance`` that these methods share."""
    return parameter(
        5e-3,
        "Stop when the change in the mask falls below this part of the map.",
        low=1e-6,
        high=1e-1,
        log=True,
    )


def chosen_regularization(
    stated: float | None,
    share: float,
    parameters: type[Parameters],
    space: Workspace,
    weighting: Weighting = "mask",
) -> Generator[Step, None, float]:
    """Return lambda in ppm mm: the one stated, or a share (mm) of `FieldError.weight`, noted."""
    if stated is not None:
        return stated
    error = yield from measured_error(space, weighting)
    why = (
        f"ppm mm, chosen as {share:g} mm times {error.error:.2g} ppm, the field's error, times "
        f"{error.relative:.2g}, what part of the field that is"
    )
    return space.choose("regularization", share * error.weight, why, parameters)


def share_of_noise(
    stated: float | None, share: float, parameters: type[Parameters], space: Workspace
) -> float:
    """Return lambda in ppm mm: the one stated, or a share (mm) of the field's noise, noted."""
    if stated is not None:
        return stated
    noise = space.noise()
    why = f"ppm mm, chosen as {share:g} mm times the field's noise of {noise:.2g} ppm"
    return space.choose("regularization", share * noise, why, parameters)


def data_weights(weighting: Weighting, space: Workspace) -> Tensor:
    """Return W^2 for a weighting that is possible, 1 everywhere for ``"none"``; noted.

    Outside the mask no field is known, but local ones are small there. With a weight of ``rho^3``,
    rho the relative error of the field, 0 counts as its value: next to nothing for a clean field
    (rho 0.1), a tenth for one of which half is error. That keeps the sources a wrong field asks
    for from gathering outside the mask; the cube is an observation, not a law.
    """
    if weighting == "none":
        return torch.ones(space.shape, device=space.device)
    outside = min(field_error(space).relative ** 3, 1.0)
    space.notes.append(
        f"Outside the mask a field of 0 is expected, with a weight of {outside:.2g}."
    )
    return torch.where(space.region(), space.weights(weighting), outside)


def robust_scale(space: Workspace) -> float:
    """Return the sigma of ``sigma |W (D chi - f)|_1`` in ppm: sqrt(pi/2) times the field's noise.

    Averaged over normal noise of that size, the slope of such a term rises as that of
    ``1/2 |W (D chi - f)|^2`` does: lambda means the same with both.
    """
    return max(math.sqrt(math.pi / 2) * space.noise(), LEAST_NOISE)


class Variation:
    """The variation of a susceptibility times lambda, to be minimised with any data term.

    A susceptibility in the acquisition is where the iteration starts, which is noted.

    Parameters
    ----------
    acquisition : Acquisition
        Perhaps with a susceptibility.
    space : Workspace
        Where to work.
    regularization : float
        lambda in ppm mm.
    order_ratio : float, optional
        The length in mm that second derivatives cost relative to first ones, for total
        generalised variation; total variation if not given.
    penalty_ratio : float
        See `PENALTY_RATIO`.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        space: Workspace,
        regularization: float,
        *,
        order_ratio: float | None = None,
        penalty_ratio: float = PENALTY_RATIO,
    ) -> None:
        given = Quantity.CHI in acquisition
        firmness = FIRMNESS if given else 1.0
        self.data_penalty = DATA_PENALTY * firmness
        self._ratio = regularization * penalty_ratio / DATA_PENALTY
        self._threshold = 1 / (penalty_ratio * firmness)
        self._order_ratio = order_ratio
        self._space, self._gradient = space, Gradient(space.voxel_size)
        self._given = space.place(acquisition[Quantity.CHI]) if given else None
        if given:
            space.notes.append("Started from the given susceptibility.")
        self._prior: Prior | None = None

    def _unknowns(self) -> Tensor:
        """Return what the iteration starts with: the susceptibility, and slopes of zero for TGV."""
        shape = self._space.shape if self._order_ratio is None else (4, *self._space.shape)
        volumes = torch.zeros(shape, device=self._space.device)
        if self._given is not None:
            (volumes if self._order_ratio is None else volumes[0]).copy_(self._given)
        return volumes

    def _split(self) -> Prior:
        """Return the prior's split, as it is optimal with the given susceptibility."""
        count = 3 if self._order_ratio is None else 9
        if self._given is None:
            split = torch.zeros((count, *self._space.shape), device=self._space.device)
        else:
            split = split_of(
                self._gradient, self._given, threshold=self._threshold, steepness=STEEPNESS
            )
        if self._order_ratio is None:
            return ShrinkageSplit(self._gradient, threshold=self._threshold, split=split)
        if len(split) < count:
            split = torch.cat((split, split.new_zeros((count - 3, *self._space.shape))))
        return GeneralisedSplit(
            self._gradient,
            threshold=self._threshold,
            order_ratio=self._order_ratio,
            penalty_ratio=BEND_PENALTY,
            split=split,
        )

    def _normal(self) -> Normal:
        space = self._space
        symbol = space.dipole.spectrum
        prior_symbol = self._gradient.spectrum(space.shape, device=space.device)
        if self._order_ratio is None:
            return GradientNormal(symbol, prior_symbol, ratio=self._ratio)
        return GeneralisedNormal(
            symbol,
            prior_symbol,
            voxel_size=space.voxel_size,
            shape=torch.Size(space.shape),
            ratio=self._ratio,
            penalty_ratio=BEND_PENALTY,
        )

    def unweighted(self, field: Tensor) -> Iterates:
        """Minimise ``1/2 |D x - f|^2`` and lambda times total variation.

        Where the field counts the same everywhere its step is closed, which takes half the
        transforms of `iterates`.
        """
        space, symbol = self._space, self._space.dipole.spectrum
        estimate = self._unknowns()
        pause = Iterate(0, estimate, complete=False)
        yield pause
        split = self._split()
        self._given = None
        yield pause
        prior = self._gradient.spectrum(space.shape, device=space.device)
        step = QuadraticStep(field, symbol, prior, penalty=self._ratio * self.data_penalty)
        del field, prior, pause
        yield from admm(split, step, estimate, region=space.region())

    def iterates(self, term: DataTerm, estimate: Tensor | None = None) -> Iterates:
        """Minimise a data term, made for `data_penalty`, and lambda times the variation.

        With the `estimate` an earlier call arrived at, for another data term, total variation's
        split goes on from where it is then.
        """
        symbol, start = self._space.dipole.spectrum, estimate
        if start is None:
            start, estimate = self._given, self._unknowns()
        assert estimate is not None
        pause = Iterate(0, estimate if estimate.ndim == 3 else estimate[0], complete=False)
        yield pause
        if self._prior is None:
            self._prior = self._split()
            yield pause
        normal = self._normal()
        yield pause
        predicted = None
        if start is not None:
            predicted = yield from pausing(filtered(start, symbol), pause)
        shape = torch.Size(self._space.shape)
        step = SplitStep(term, symbol, normal, shape=shape, predicted=predicted)
        self._given = None
        del term, start, predicted, normal, pause
        yield from admm(self._prior, step, estimate, region=self._space.region())
