"""LPCNN: steps towards the field, each followed by the same trained network."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.correction import corrected, ratio_parameter
from napari_qsm.methods.frame import FrameChoice, frame_parameter, in_frame
from napari_qsm.methods.guard import watched
from napari_qsm.methods.learned import (
    Seen,
    origin,
    precision_parameter,
    ready,
    runner,
    seen,
    weights_parameter,
    working,
)
from napari_qsm.methods.registry import Parameters, Reconstruction, Step, method
from napari_qsm.methods.workspace import PADDING, Lattice, Workspace
from napari_qsm.networks import weights
from napari_qsm.networks.lpcnn import LPCNN as Network
from napari_qsm.networks.lpcnn import Measurement
from napari_qsm.networks.precision import Precision
from napari_qsm.networks.weights import Card
from napari_qsm.physics.dipole import DipoleConvolution

FAMILY, LABEL = "lpcnn", "LPCNN"

BEGUN, DONE = 0.5, 0.93
"""Fractions of the work at which the first iteration begins and the last one ends."""


class LPCNN(Parameters):
    """Parameters of LPCNN."""

    weights: str = weights_parameter(FAMILY)
    consistency: float | None = ratio_parameter()
    frame: FrameChoice = frame_parameter()
    precision: Precision = precision_parameter()


@method(
    key=FAMILY,
    label=LABEL,
    summary="Three steps towards the field, with a trained network after each.",
    parameters=LPCNN,
    references=("10.1007/978-3-030-59713-9_13",),
    uses=(Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE),
    odd=False,
)
def lpcnn(acquisition: Acquisition, parameters: LPCNN, device: torch.device) -> Reconstruction:
    """Return the last of ``x_(i+1) = m P(x_i + a D W^2 (f - D x_i))``.

    D is the physics of this very grid, W^2 one over the variance of the noise, m the mask and P a
    U-Net that is the same in every iteration; the step a was learned. It starts from learned
    shares of physical inversions, and P sees these, the noise and the magnitude's contrast, and
    the residual besides the map: more than the published network, which sees the map alone and
    starts from ``a D f``. P is homogeneous, so the whole is. Reference: Lai et al. 2020.

    Raises
    ------
    InputError
        If there are no such weights.
    """
    network, card = weights.load_unrolled(parameters.weights, device)
    network = ready(network, card, device, FAMILY)

    def reconstruct(measured: Acquisition) -> Reconstruction:
        return _inverted(measured, network, card, parameters, device)

    return (yield from in_frame(acquisition, card, parameters.frame, reconstruct, device, LABEL))


def _inverted(
    acquisition: Acquisition,
    network: Network,
    card: Card,
    parameters: LPCNN,
    device: torch.device,
) -> Reconstruction:
    with Workspace(acquisition, device, LABEL) as space:
        yield space.step(0.0, "preparing")
        space.notes.append(origin(card))
        view = yield from seen(acquisition, network, space, share=BEGUN)
        found = yield from _iterated(space, network, view, parameters.precision)
        chi = view.padded(found, space)
        chi = yield from corrected(space, chi, parameters.consistency, "consistency", LPCNN)
        yield from watched(space, view, chi, None, card)
        return (yield from space.finish(chi))


def _iterated(
    space: Workspace, network: Network, view: Seen, precision: Precision
) -> Generator[Step, None, Tensor]:
    """Return the last iterate, (1, 1, X, Y, Z) in ppm; all are reported."""
    shape, count = view.mask.shape[2:], network.design.iterations
    architecture = network.design.architecture
    run = runner(space, network.proximal, architecture, shape, precision, outputs=1)
    told = "preparing the physics"
    measured = yield from working(
        space, lambda: _measurement(space, view), fraction=BEGUN, message=told
    )
    space.notes.append(
        f"{count} iterations; the learned step is {float(network.step.detach()):.3f}, and without "
        "the network steps converge below 4.5."
    )
    found = network.first(view.inputs).detach()
    for number in range(1, count + 1):
        at = BEGUN + (DONE - BEGUN) * (number - 1) / count
        told = f"iteration {number} of {count}"

        def descend(before: Tensor = found) -> Tensor:
            with torch.inference_mode():
                return network.descended(before, view.inputs, [measured])

        shown = yield from working(space, descend, fraction=at, message=told)
        made = (yield from run(shown, at, told)) * view.mask
        change = float((made - found).norm() / made.norm().clamp(min=1e-12))
        found = made
        yield space.step(
            at,
            f"{told}, change {change:.1e}",
            lambda now=made: view.padded(now, space),  # type: ignore[misc]
            change=change,
            iteration=number,
        )
    return found


def _measurement(space: Workspace, view: Seen) -> Measurement:
    """Return the physics of the box that the network sees; beyond it there are no sources."""
    x, y, z = view.mask.shape[2:]
    lattice = Lattice((x, y, z), space.voxel_size, space.b0_direction)
    dipole = DipoleConvolution(lattice, padding=PADDING, device=space.device)
    return Measurement(dipole, view.mask[0])
