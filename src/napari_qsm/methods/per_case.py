"""What methods share that change a network for one case: what it must explain, when to stop."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from napari_qsm.acquisition import Acquisition
from napari_qsm.methods.field_error import measured_error
from napari_qsm.methods.phase import phase_scale
from napari_qsm.methods.workspace import Weighting, Workspace
from napari_qsm.networks.consistency import Convolution, average, exponential, linear
from napari_qsm.networks.editing import Edit, edited
from napari_qsm.networks.precision import autocast, chosen
from napari_qsm.process import Step


@dataclass(frozen=True, eq=False)
class Measured:
    """What a map must explain.

    Parameters
    ----------
    dipole : Convolution
        A, from padded susceptibility to field.
    field, weights, region : (X, Y, Z) tensors
        b in ppm, W^2 with a mean of 1 in the mask, and 1 in the mask; 0 outside it.
    error : float
        What no susceptibility explains of b, in ppm (`napari_qsm.methods.field_error`).
    scale : float, optional
        s in rad/ppm for the data term of phases; None for that of fields.
    """

    dipole: Convolution
    field: Tensor
    weights: Tensor
    region: Tensor
    error: float
    scale: float | None = None

    @property
    def spread(self) -> float:
        """Weighted root mean square of the field in ppm; losses are counted in its square."""
        return float(average(self.field.square(), self.weights)) ** 0.5 or 1.0

    def misfit(self, predicted: Tensor) -> Tensor:
        """``mean W^2 (A chi - b)^2``, or that of phases, over the square of the field's spread."""
        if self.scale is None:
            loss = linear(predicted, self.field, self.weights)
        else:
            loss = exponential(predicted, self.field, self.weights, self.scale)
        return loss / self.spread**2


def measured(
    acquisition: Acquisition,
    space: Workspace,
    *,
    nonlinear: bool = False,
    stated_scale: float | None = None,
) -> Generator[Step, None, Measured]:
    """Return what a map of an acquisition must explain; weights and phase scale are noted."""
    weighting: Weighting = space.weighting("auto")
    scale = phase_scale(acquisition, stated_scale, space) if nonlinear else None
    yield space.step(0.0, "preparing the data")
    field, region = space.field(), space.region().float()
    yield space.step(0.0, "weighting the data")
    weights = space.weights(weighting)
    known = yield from measured_error(space, weighting)
    yield space.step(0.0, "preparing the network")
    return Measured(Convolution(space.dipole.spectrum), field, weights, region, known.error, scale)


class Proposal(NamedTuple):
    """What a network says now.

    `estimate` is the map in ppm and `predicted` its field, both padded; `loss` is what a step makes
    smaller.
    """

    estimate: Tensor
    predicted: Tensor
    loss: Tensor


@dataclass(frozen=True)
class Plan:
    """How a network is changed, and when that ends: by the first rule that applies.

    Parameters
    ----------
    rate : float
        Learning rate of Adam.
    iterations : int
        At most.
    discrepancy : float
        tau: stop once the residual is at most tau times the field's error; 0 for never.
    patience : int
        Stop after so many iterations in which maps scattered no less than before; 0 for never.
    memory : float
        Part of the average of all maps so far that the next one leaves; 0 for the last map alone.
    betas : (float, float)
        Of Adam.
    """

    rate: float
    iterations: int
    discrepancy: float = 0.0
    patience: int = 0
    memory: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)


class Track:
    """Running mean and variance of the maps of a network that changes.

    The variance falls while a network finds structure and rises once it follows noise. Reference:
    Wang et al. 2021, arXiv:2112.06074.

    Parameters
    ----------
    memory : float
        See `Plan`.
    """

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._count = self._since = 0
        self.mean: Tensor | None = None
        self.variance = 0.0
        self._least = float("inf")
        self._calmest: Tensor | None = None

    def add(self, estimate: Tensor) -> None:
        """Take in a map; what was handed out before stays as it was."""
        self._count += 1
        share = max(1 - self._memory, 1 / self._count)
        if self.mean is None:
            self.mean = estimate
            return
        off = estimate - self.mean
        self.variance = (1 - share) * (self.variance + share * float(off.square().mean()))
        self.mean = self.mean + share * off
        if self._count * (1 - self._memory) < 2:
            return  # too few to tell
        self._since += 1
        if self.variance < self._least:
            self._least, self._calmest, self._since = self.variance, self.mean, 0

    def scattered(self, patience: int) -> Tensor | None:
        """Return the mean where the variance was least, once that is `patience` maps ago."""
        return self._calmest if patience and self._since >= patience else None


def fitted(
    space: Workspace,
    propose: Callable[[], Proposal],
    case: Measured,
    weights: list[nn.Parameter],
    *modules: nn.Module,
    plan: Plan,
    begun: float = 0.0,
) -> Generator[Step, None, Tensor]:
    """Change weights until what a network proposes explains a case; return the padded map.

    Parameters
    ----------
    space : Workspace
        Of the case; takes the notes.
    propose : callable
        Passes the network.
    case : Measured
        What residuals are measured against.
    weights : list of nn.Parameter
        What is changed.
    modules : nn.Module
        What `propose` passes through.
    plan : Plan
        How, and how long.
    begun : float
        Part of the whole work that is done before.
    """
    dtype, track = chosen(space.device), Track(plan.memory)
    root = case.spread

    def objective() -> tuple[Tensor, dict[str, float]]:
        with autocast(space.device, dtype):
            now = propose()
        with torch.no_grad():
            square = float(average((now.predicted - case.field).square(), case.weights))
            track.add(now.estimate.detach())
        figures = {"residual": square**0.5, "loss": float(now.loss.detach())}
        return now.loss, figures | {"scatter": track.variance**0.5}

    editing = edited(
        objective, weights, *modules, rate=plan.rate, iterations=plan.iterations, betas=plan.betas
    )
    told = "The network ran in bfloat16."
    if dtype == torch.bfloat16 and told not in space.notes:
        space.notes.append(told)
    first, last, ended = 0.0, 0.0, f"after the {plan.iterations} iterations allowed"
    result: Tensor | None = None
    with closing(editing):
        for edit in editing:
            done = begun + (0.95 - begun) * edit.iteration / plan.iterations
            yield _told(space, done, edit, plan, case, track.mean)
            if not edit.complete:
                continue
            last = edit.figures["residual"]
            first = first or last
            if last <= plan.discrepancy * case.error:
                ended = f"in iteration {edit.iteration}, the residual being the field's error"
                break
            if (result := track.scattered(plan.patience)) is not None:
                ended = f"in iteration {edit.iteration}, since maps began to scatter again"
                break
    space.notes.append(
        f"Stopped {ended}: the residual went from {100 * first / root:.3g} to "
        f"{100 * last / root:.3g} % of the field, whose error is {100 * case.error / root:.3g} %."
    )
    result = track.mean if result is None else result
    if result is None:
        raise RuntimeError("The network was never run.")
    return result


def _told(
    space: Workspace, done: float, edit: Edit, plan: Plan, case: Measured, mean: Tensor | None
) -> Step:
    message = f"iteration {edit.iteration} of at most {plan.iterations}"
    if edit.figures:
        message += f", residual {1000 * edit.figures['residual']:.2f} ppb (field's error "
        message += f"{1000 * case.error:.2f})"
    preview = None if mean is None else lambda: mean
    return space.step(done, message, preview, iteration=edit.iteration, **edit.figures)
