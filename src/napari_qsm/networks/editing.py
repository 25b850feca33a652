"""Changing a network until its output suits one case: the loop that FINE, PDI-VI and DIP share."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from napari_qsm.generators import relayed
from napari_qsm.networks.background import in_background
from napari_qsm.networks.inverter import Inverter
from napari_qsm.networks.unet import ScaleNorm

T = TypeVar("T")

Edited = Literal["all", "decoders", "mean decoder", "head"]
"""Which weights are changed; the head is the last convolution of the mean."""

NORMS = (ScaleNorm, nn.BatchNorm3d)
"""What a training has measured over many cases and a single one must not change."""

CLIP = 1.0
"""Largest norm of a gradient; one bad step must not undo a training."""


@dataclass(frozen=True)
class Edit:
    """The state of an editing after a piece of work.

    Parameters
    ----------
    iteration : int
        Completed steps.
    figures : mapping of str to float
        What the objective said of the last one, the loss among it.
    complete : bool
        False if this is a pause inside a step.
    """

    iteration: int
    figures: dict[str, float] = field(default_factory=dict)
    complete: bool = True


Objective = Callable[[], tuple[Tensor, dict[str, float]]]
"""Passes the network and returns what is to become small, and figures worth showing."""


def editable(network: Inverter, part: Edited = "all") -> list[nn.Parameter]:
    """Return the weights of a part of a network, and freeze all others and all norms."""
    decoders = network.unet.decoders
    parts: dict[Edited, nn.Module] = {
        "all": network,
        "decoders": decoders,
        "mean decoder": decoders[0],
        "head": decoders[0].get_submodule("head"),
    }
    network.requires_grad_(False)
    parts[part].requires_grad_(True)
    for layer in network.modules():
        if isinstance(layer, NORMS):
            layer.eval().requires_grad_(False)
    return [weight for weight in parts[part].parameters() if weight.requires_grad]


def edited(
    objective: Objective,
    weights: Iterable[nn.Parameter],
    *modules: nn.Module,
    rate: float,
    iterations: int,
    betas: tuple[float, float] = (0.9, 0.999),
    settling: bool = False,
) -> Generator[Edit, None, None]:
    """Make an objective small by steps of Adam, each beside the generator.

    Parameters
    ----------
    objective : callable
        Sets what belongs to a thread, such as autocast, itself.
    weights : iterable of nn.Parameter
        What is changed.
    modules : nn.Module
        What the objective passes through: at their layers it can be stopped.
    rate : float
        Learning rate.
    iterations : int
        Number of steps.
    betas : (float, float)
        How much of the mean and of the mean square of earlier gradients a step keeps.
    settling : bool
        Whether the rate falls to a twentieth, as a cosine: the end is then quiet.

    Raises
    ------
    ArithmeticError
        If the objective leaves the finite numbers.

    Notes
    -----
    Reference: Kingma & Ba 2015, arXiv:1412.6980.
    """
    changed = list(weights)

    def prepare() -> torch.optim.Adam:
        optimiser = torch.optim.Adam(changed, lr=rate, betas=betas)
        optimiser.zero_grad()  # torch imports its compiler here, which takes seconds once
        return optimiser

    optimiser = yield from _beside(prepare, 0)

    def step() -> dict[str, float]:
        optimiser.zero_grad(set_to_none=True)
        loss, figures = objective()
        if not bool(torch.isfinite(loss)):
            raise ArithmeticError("The editing left the finite numbers; choose a lower rate.")
        loss.backward()
        nn.utils.clip_grad_norm_(changed, CLIP)
        optimiser.step()
        return figures

    for iteration in range(iterations):
        if settling:
            falling = 0.5 * (1 + math.cos(math.pi * iteration / iterations))
            for group in optimiser.param_groups:
                group["lr"] = rate * max(falling, 0.05)
        figures = yield from _beside(step, iteration, *modules)
        yield Edit(iteration + 1, figures)


def _beside(work: Callable[[], T], iteration: int, *modules: nn.Module) -> Generator[Edit, None, T]:
    """Run `work` beside the generator, which says meanwhile that it pauses; return its result."""
    running = in_background(work, *modules)
    return (yield from relayed(running, lambda _: Edit(iteration, complete=False)))
