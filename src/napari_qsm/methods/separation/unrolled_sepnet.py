"""Unrolled chi-sepnet: ten steps towards both data terms, each followed by the same network."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.axes import in_order
from napari_qsm.methods.learned import runner, weights_parameter, working
from napari_qsm.methods.registry import Reconstruction, Step, method, parameter
from napari_qsm.methods.separation.learned import (
    PREPARED,
    Learned,
    measured_sources,
    opened,
    sources_of,
)
from napari_qsm.methods.separation.sepnet import REFERENCES, SEEN
from napari_qsm.methods.separation.shared import GIVES, RATES, USES, Sources, SourceSpace
from napari_qsm.methods.workspace import PADDING, Lattice
from napari_qsm.networks.separator import Unrolled
from napari_qsm.networks.weights import Card
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.physics.separation import SourceOperator

FAMILY = "unrolled_sepnet"

END = 0.95
"""Fraction of the work at which the last iteration is done."""


class UnrolledSepNet(Learned):
    """Parameters of unrolled chi-sepnet."""

    weights: str = weights_parameter(FAMILY)
    keep: bool = parameter(
        False,
        "Keep chi+ and chi- after every iteration as maps with a fourth axis.",
    )


@method(
    key=FAMILY,
    label="Unrolled chi-sepnet",
    summary="Ten steps on field, R2' and susceptibility, with a trained network after each.",
    parameters=UnrolledSepNet,
    references=REFERENCES,
    uses=(*USES, *SEEN),
    gives=GIVES,
    one_of=RATES,
    odd=False,
)
def unrolled_sepnet(
    acquisition: Acquisition, parameters: UnrolledSepNet, device: torch.device
) -> Reconstruction:
    """Return the last of ``x_(i+1) = P(a Phi^H y + (I - a Phi^H Phi) x_i)`` from ``x_0 = 0``.

    x are chi+ and chi-, ``y = [chi; R2'/Dr; f]``, ``Phi = [[I, -I], [I, I], [D, -D]]`` the physics
    of this very grid, and P a U-Net that is the same in every iteration; the step a was learned.
    P of the shipped weights sees the residual ``y - Phi x_i`` besides. It is homogeneous, so the
    whole is. Inputs and losses follow Kim et al. 2025.

    Raises
    ------
    InputError
        If neither R2' nor R2* is known, or there are no such weights.
    """
    network, card = opened(parameters.weights, device, FAMILY)
    assert isinstance(network, Unrolled)
    return (
        yield from in_order(
            acquisition, lambda one: _separated(one, network, card, parameters, device)
        )
    )


def _separated(
    acquisition: Acquisition,
    network: Unrolled,
    card: Card,
    parameters: UnrolledSepNet,
    device: torch.device,
) -> Reconstruction:
    with SourceSpace(acquisition, device, "Unrolled chi-sepnet", parameters) as space:
        yield space.step(0.0, "preparing")
        measured = yield from measured_sources(acquisition, space, card, parameters.inversion)
        shape, architecture = measured.shape[2:], network.design.architecture
        operator = yield from _operator(space, network, shape)
        run = runner(space, network.proximal, architecture, shape, parameters.precision, outputs=2)
        problem = _Problem(acquisition, space, network, measured, operator, run)
        kept: list[Sources] = []
        sources = torch.zeros_like(measured[:, :2])
        for number in range(1, network.design.iterations + 1):
            sources = yield from problem.iteration(sources, number)
            if parameters.keep:
                kept.append(sources_of(sources, acquisition, space))
        if kept:
            yield from _keep(kept, space)
        return (yield from space.separated(sources_of(sources, acquisition, space)))


def _operator(
    space: SourceSpace, network: Unrolled, shape: Sequence[int]
) -> Generator[Step, None, SourceOperator]:
    """Return Phi of the box that the network sees; beyond it there are no sources."""

    def made() -> tuple[SourceOperator, float]:
        x, y, z = shape
        lattice = Lattice((x, y, z), space.voxel_size, space.b0_direction)
        dipole = DipoleConvolution(lattice, padding=PADDING, device=space.device)
        phi = SourceOperator(dipole, space.relaxivity.shares)
        return phi, phi.stability_limit

    operator, limit = yield from working(space, made, fraction=PREPARED, message="preparing")
    space.notes.append(
        f"The learned step is {float(network.step.detach()):.3f}; without the network, steps "
        f"converge below {limit:.3f}."
    )
    return operator


@dataclass(frozen=True, eq=False)
class _Problem:
    """What all iterations share."""

    acquisition: Acquisition
    space: SourceSpace
    network: Unrolled
    measured: Tensor
    operator: SourceOperator
    run: Callable[[Tensor, float, str], Generator[Step, None, Tensor]]

    def iteration(self, before: Tensor, number: int) -> Generator[Step, None, Tensor]:
        """Return the iterate after one, and report how much it changed."""
        count = self.network.design.iterations
        at = PREPARED + (END - PREPARED) * (number - 1) / count
        told = f"iteration {number} of {count}"

        def descend() -> Tensor:
            with torch.inference_mode():
                return self.network.descended(before, self.measured, [self.operator])

        descended = yield from working(self.space, descend, fraction=at, message=told)
        found = yield from self.run(descended, at, told)
        change = float((found - before).norm() / found.norm().clamp(min=1e-12))
        yield self.space.step(
            at,
            f"{told}, change {change:.1e}",
            lambda: sources_of(found, self.acquisition, self.space).difference,
            change=change,
            iteration=number,
        )
        return found


def _keep(iterates: Sequence[Sources], space: SourceSpace) -> Generator[Step, None, None]:
    """Put all iterates into the result, along a fourth axis."""
    positive, negative = [], []
    for one in iterates:
        positive.append(space.restore(one.positive))
        negative.append(space.restore(one.negative))
        yield space.step(END, "keeping the iterates")
    space.extras[Quantity.CHI_POS_ITERATES] = np.stack(positive, axis=3)
    yield space.step(END, "keeping the iterates")
    space.extras[Quantity.CHI_NEG_ITERATES] = np.stack(negative, axis=3)
    space.notes.append(f"The {len(iterates)} iterates were kept, the last one being the map.")
