"""Both kinds of sources from field and R2' at once: what the methods that do so share."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.field_error import measured_error
from napari_qsm.methods.registry import Step, parameter
from napari_qsm.methods.separation.shared import Separating, Sources, SourceSpace, zero_of
from napari_qsm.methods.variation import DATA_PENALTY, LEAST_NOISE, data_weights
from napari_qsm.methods.workspace import Weighting
from napari_qsm.physics.gradient import Gradient
from napari_qsm.solvers.admm import admm
from napari_qsm.solvers.data_terms import LeastSquares
from napari_qsm.solvers.fourier import SplitStep
from napari_qsm.solvers.sources import SourceNormal, SourceSplit


def balance_parameter() -> Any:
    """Declare the parameter ``balance`` that joint separations share."""
    return parameter(
        None,
        "How much R2' / Dr counts beside the field (beta). By itself the squared ratio of the "
        "field's error to that of R2' / Dr: with the same weight for both, the joint solution is "
        "worse than the closed form.",
        low=1e-6,
        high=1e2,
        log=True,
        typical=1e-2,
    )


def chosen_balance(
    stated: float | None, model: type[Separating], space: SourceSpace, weighting: Weighting
) -> Generator[Step, None, float]:
    """Return beta: the one stated, or ``(sigma_f / sigma_r)^2``, noted.

    sigma_f is the field's error and sigma_r that of ``R2' / Dr``, both in ppm; see
    `SourceSpace.rate_error`.
    """
    if stated is not None:
        return stated
    known = yield from measured_error(space, weighting)
    error = max(known.error, LEAST_NOISE)
    rate, noise = space.rate_error()
    decay = max(rate / space.relaxivity.mean, LEAST_NOISE)
    why = (
        f"(beta), chosen as the square of the field's error of {error:.2g} ppm over that of "
        f"R2' / Dr of {decay:.2g} ppm: {rate:.2g} 1/s, of which noise makes {noise:.2g} and doubt "
        "about Dr the rest"
    )
    return space.choose("balance", (error / decay) ** 2, why, model)


def start_of(acquisition: Acquisition, space: SourceSpace) -> Tensor | None:
    """Return chi+ and chi- to start from, by closed form of a given susceptibility; noted."""
    if Quantity.CHI not in acquisition:
        return None
    space.notes.append("Started from the given susceptibility.")
    chi, rate, region = space.place(acquisition[Quantity.CHI]), space.rate(), space.region()
    chi += zero_of(chi, rate, space.relaxivity, region) * region
    return torch.stack(space.relaxivity.separated(chi, rate))


@dataclass(frozen=True)
class Penalties:
    """What holds sources back, and how firmly the splitting holds on to it.

    Parameters
    ----------
    ratio : float
        Penalty of the prior's split (rho) over that of the field's.
    barrier : float
        Penalty of the sign's split relative to rho; 1/mm^2 with a gradient.
    gradient : Gradient, optional
        G of ``lambda |M G chi|_1``; none for signs alone.
    threshold : float
        lambda / rho.
    selection : Tensor, optional
        M.
    """

    ratio: float
    barrier: float
    gradient: Gradient | None = None
    threshold: float = 0.0
    selection: Tensor | None = None


def solved(
    space: SourceSpace,
    weighting: Weighting,
    balance: float,
    penalties: Penalties,
    *,
    start: Tensor | None,
    anchor: tuple[Tensor, Tensor] | None = None,
    tolerance: float,
    max_iterations: int,
) -> Generator[Step, None, Sources]:
    """Solve for both sources until it converges.

    Over ``chi+ >= 0`` and ``chi- >= 0``, with ``d = chi+ - chi-``, it minimises

        ``1/2 |W (D d - f)|^2 + beta/2 |(Dr+ chi+ + Dr- chi- - R2') / Dr|^2
        + gamma/2 |C (d - c)|^2 + lambda (|M G chi+|_1 + |M G chi-|_1)``.

    Parameters
    ----------
    space : SourceSpace
        With field and R2'.
    weighting : str
        W.
    balance : float
        beta.
    penalties : Penalties
        lambda, G and M.
    start : Tensor, optional
        chi+ and chi- (2, X, Y, Z).
    anchor : tuple of Tensor, optional
        c and ``gamma C^2``, see `napari_qsm.solvers.sources.SourceNormal`.
    tolerance, max_iterations
        When to stop.
    """
    yield space.step(0.0, "preparing the data")
    term = LeastSquares(space.field(), data_weights(weighting, space), penalty=DATA_PENALTY)
    yield space.step(0.0, "preparing the data")
    normal = _normal(space, balance, penalties, anchor)
    yield space.step(0.0, "starting")
    estimate = torch.zeros((2, *space.shape), device=space.device)
    predicted = None
    if start is not None:
        torch.sub(start[0], start[1], out=estimate[0])
        torch.add(start[0], start[1], out=estimate[1])
        predicted = space.dipole(estimate[0])
        yield space.step(0.0, "starting")
    split = SourceSplit(
        torch.zeros_like(estimate) if start is None else start,
        barrier=penalties.barrier,
        gradient=penalties.gradient,
        threshold=penalties.threshold,
        selection=penalties.selection,
    )
    shape = torch.Size(space.shape)
    step = SplitStep(term, space.dipole.spectrum, normal, shape=shape, predicted=predicted)
    iterates = admm(split, step, estimate, region=space.region(), counting=2)
    del term, normal, estimate, predicted, start, step, anchor
    yield from space.follow(iterates, tolerance=tolerance, max_iterations=max_iterations)
    return Sources(*split.sources())


def _normal(
    space: SourceSpace,
    balance: float,
    penalties: Penalties,
    anchor: tuple[Tensor, Tensor] | None,
) -> SourceNormal:
    symbol = space.dipole.spectrum
    prior = torch.full_like(symbol, penalties.barrier)
    if penalties.gradient is not None:
        prior += penalties.gradient.spectrum(space.shape, device=space.device)
    return SourceNormal(
        symbol,
        prior,
        space.rate() / space.relaxivity.mean,
        balance=balance,
        imbalance=space.relaxivity.shares[0] - 1,
        ratio=penalties.ratio,
        penalty=DATA_PENALTY,
        anchor=anchor,
    )
