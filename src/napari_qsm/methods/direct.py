"""Direct inversion: one pass of a network from the field to susceptibility."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.correction import corrected, ratio_parameter
from napari_qsm.methods.frame import FrameChoice, frame_parameter, in_frame
from napari_qsm.methods.guard import watched
from napari_qsm.methods.learned import (
    estimate,
    opened,
    origin,
    precision_parameter,
    seen,
    weights_parameter,
)
from napari_qsm.methods.registry import Parameters, Reconstruction, parameter
from napari_qsm.methods.workspace import Workspace
from napari_qsm.networks.inverter import Inverter
from napari_qsm.networks.precision import Precision
from napari_qsm.networks.weights import Card

DISCLAIMER = (
    "Sigma is the standard deviation of each voxel by itself: errors that many voxels share along "
    "the cone, which look like streaks, are larger than it says."
)


class Direct(Parameters):
    """Parameters of direct inversion."""

    weights: str = weights_parameter("qsmnet")
    symmetric: bool = parameter(
        False,
        "Average the network's answers to the field and to its negative: a flipped field then "
        "gives exactly the flipped map, in twice the time.",
    )
    consistency: float | None = ratio_parameter()
    frame: FrameChoice = frame_parameter()
    precision: Precision = precision_parameter()


def direct(
    acquisition: Acquisition, parameters: Direct, device: torch.device, label: str, *families: str
) -> Reconstruction:
    """Invert with a network of one of the families, in its frame, watched by the guard.

    Raises
    ------
    InputError
        If there are no such weights.
    """
    network, card = opened(parameters.weights, device, *families)

    def reconstruct(measured: Acquisition) -> Reconstruction:
        return _inverted(measured, network, card, parameters, device, label)

    return (yield from in_frame(acquisition, card, parameters.frame, reconstruct, device, label))


def _inverted(
    acquisition: Acquisition,
    network: Inverter,
    card: Card,
    parameters: Direct,
    device: torch.device,
    label: str,
) -> Reconstruction:
    with Workspace(acquisition, device, label) as space:
        yield space.step(0.0, "preparing")
        space.notes.append(origin(card))
        view = yield from seen(acquisition, network, space)
        found = yield from estimate(
            space,
            network,
            view,
            fraction=0.5,
            symmetric=parameters.symmetric,
            precision=parameters.precision,
        )
        chi = view.padded(found.mean, space)
        sigma = None
        if found.sigma is not None:
            sigma = view.padded(found.sigma, space) * card.calibration
            tell_sigma(space, sigma, card)
        kind = type(parameters)
        chi = yield from corrected(space, chi, parameters.consistency, "consistency", kind)
        yield from watched(space, view, chi, sigma, card)
        return (yield from space.finish(chi))


def tell_sigma(space: Workspace, sigma: Tensor, card: Card) -> None:
    """Put a standard deviation (ppm, padded, calibrated) into the result, with its disclaimer."""
    space.extras[Quantity.SIGMA] = space.restore(sigma)
    told = (
        f"Sigma was multiplied by {card.calibration:.3g}, so that on held-out synthetic heads one "
        "and two sigma hold 68.3 and 95.4 % of the errors as nearly as one factor can."
        if card.calibration != 1
        else "Sigma is what the network says; these weights were not calibrated."
    )
    space.notes.append(f"{told} {DISCLAIMER}")
