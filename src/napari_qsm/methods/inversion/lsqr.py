"""LSQR: least squares in the mask, by Krylov iterations, damped by what the spectrum tells."""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.generators import relayed
from napari_qsm.methods.power import CAUTION, Power, measured_power
from napari_qsm.methods.registry import Parameters, Reconstruction, Step, method, parameter
from napari_qsm.methods.variation import weights_parameter
from napari_qsm.methods.workspace import Weighting, Workspace
from napari_qsm.physics import fourier
from napari_qsm.physics.gradient import Gradient
from napari_qsm.solvers.iteration import Pieces
from napari_qsm.solvers.lsqr import WeightedConvolution

Regularizer = Literal["spectrum", "identity", "gradient", "none"]

DAMPINGS = [10 ** (n / 8 - 5) for n in range(41)]
"""What lambda is chosen from where its best value is predicted, 1e-5 to 1."""


class LSQR(Parameters):
    """Parameters of damped least squares."""

    regularization: float | None = parameter(
        None,
        "Weight of the regulariser against the field (lambda): low values leave noise and "
        "streaks, high ones blur. By itself where the error is predicted to be smallest.",
        low=1e-5,
        high=10.0,
        log=True,
        alias="lambda",
        typical=CAUTION,
    )
    regularizer: Regularizer = parameter(
        "spectrum",
        "Penalise each frequency by the ratio of noise to susceptibility read off the field's "
        "spectrum, all alike, the gradient (per mm), or nothing and stop early.",
    )
    support: bool = parameter(
        True, "Look for sources in the mask alone, where the local field's sources lie."
    )
    weights: Weighting = weights_parameter()
    tolerance: float = parameter(
        2e-3,
        "Stop when the gradient has fallen to this part of its first value.",
        low=1e-5,
        high=0.5,
        log=True,
    )
    max_iterations: int = parameter(60, "Stop after this many iterations.", low=1, high=500)


def damping(
    regularizer: Regularizer, stated: float | None, space: Workspace, field: Tensor
) -> Generator[Step, None, Tensor | None]:
    """Return ``lambda Gamma^2`` on the half grid, lambda stated or chosen and noted."""
    if regularizer == "none":
        space.notes.append("Nothing is penalised; stopping early is what keeps noise out.")
        return None
    symbol = space.dipole.spectrum
    if stated is not None and regularizer != "spectrum":
        return stated * _penalty(regularizer, space)
    transform = fourier.spectrum(field)
    yield space.step(0.0, "reading the noise off the spectrum")
    power = yield from measured_power(space, transform)
    del transform
    if regularizer == "spectrum":
        if stated is None:
            why = "times the ratio of noise to susceptibility that the field's spectrum shows"
            stated = space.choose("regularization", CAUTION, why)
        return power.prior(symbol).mul_(stated)
    why = "where the field's spectrum predicts the smallest error"
    best = min(DAMPINGS, key=lambda value: power.error(_response(regularizer, value, power)))
    return space.choose("regularization", best, why) * _penalty(regularizer, space)


def _penalty(regularizer: Regularizer, space: Workspace) -> Tensor:
    """``Gamma^2`` on the half grid, positive at the origin, too."""
    symbol = space.dipole.spectrum
    if regularizer == "identity":
        return torch.ones_like(symbol)
    penalty = Gradient(space.voxel_size).spectrum(space.shape, device=space.device)
    penalty[0, 0, 0] = 1 / float(penalty.max())
    return penalty


def _response(regularizer: Regularizer, value: float, power: Power) -> Tensor:
    """Part of the susceptibility that a damping lets pass, by shell and kernel."""
    penalty = torch.ones(1) if regularizer == "identity" else power.frequency.square()
    return power.gram / (power.gram + value * penalty[:, None])


def solved(
    problem: WeightedConvolution,
    field: Tensor,
    start: Tensor | None,
    space: Workspace,
    *,
    tolerance: float,
    max_iterations: int,
) -> Generator[Step, None, Tensor]:
    """Solve a damped or early-stopped least squares problem, perhaps from an estimate of it.

    The tolerance is relative to the gradient at zero wherever it starts, so that a start near the
    solution saves what it is worth.
    """
    right = yield from stepping(problem.right(field), space)
    if start is None:
        return (
            yield from space.follow(
                problem.solve(right), tolerance=tolerance, max_iterations=max_iterations
            )
        )
    whole = float(torch.linalg.vector_norm(right))
    right -= yield from stepping(problem.normal(start), space)
    left = float(torch.linalg.vector_norm(right))
    return (
        yield from space.follow(
            problem.solve(right),
            tolerance=min(tolerance * whole / left, 0.999) if left else tolerance,
            max_iterations=max_iterations,
            view=lambda difference: difference + start,
        )
    )


def stepping(pieces: Pieces, space: Workspace) -> Generator[Step, None, Tensor]:
    """Run what pauses to its result, giving a sign of life at every pause."""
    return (yield from relayed(pieces, lambda _: space.step(0.0, "preparing the data")))


def _start(acquisition: Acquisition, parameters: LSQR, space: Workspace) -> Tensor | None:
    """Return the given susceptibility if the answer does not depend on where one starts."""
    if Quantity.CHI not in acquisition:
        return None
    if parameters.regularizer == "none":
        space.notes.append(
            "The given susceptibility was left aside: stopping early regularises only from zero."
        )
        return None
    space.notes.append("Started from the given susceptibility.")
    return space.place(acquisition[Quantity.CHI])


@method(
    key="lsqr",
    label="LSQR",
    summary="Least squares in the mask, damped by the noise in the field's spectrum: a second.",
    parameters=LSQR,
    references=("10.1145/355984.355989",),
    uses=(Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE, Quantity.CHI),
    tuning="regularization",
)
def lsqr(acquisition: Acquisition, parameters: LSQR, device: torch.device) -> Reconstruction:
    """Minimise ``|W (D chi - f)|^2 + lambda |Gamma chi|^2`` over the chi that live in the mask.

    Gamma is the square root of the ratio of noise to susceptibility at each ``|k|``
    (`napari_qsm.methods.power`), with which lambda = 1 would be Wiener's filter; or the identity,
    the gradient in 1/mm, or nothing. Without it the number of iterations is the regularisation, as
    in LSQR of old: the small values of D come last. A susceptibility in the acquisition is where a
    damped iteration starts. Reference: Paige & Saunders 1982.
    """
    with Workspace(acquisition, device, "LSQR") as space:
        yield space.step(0.0, "preparing")
        weighting = space.weighting(parameters.weights)
        weights = 1.0 if weighting == "none" else space.weights(weighting)
        field = space.field()
        yield space.step(0.0, "preparing the data")
        penalty = yield from damping(
            parameters.regularizer, parameters.regularization, space, field
        )
        problem = WeightedConvolution(
            space.dipole.spectrum,
            torch.as_tensor(weights, device=device),
            damping=penalty,
            region=space.region().float() if parameters.support else None,
        )
        del weights, penalty
        result = yield from solved(
            problem,
            field,
            _start(acquisition, parameters, space),
            space,
            tolerance=parameters.tolerance,
            max_iterations=parameters.max_iterations,
        )
        return (yield from space.finish(result))
