"""Direct inversion: one pass of a network from the field to susceptibility."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, Quantity
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
from napari_qsm.methods.registry import Parameters, Reconstruction, Step, parameter
from napari_qsm.methods.workspace import Workspace
from napari_qsm.networks.inverter import Inverter
from napari_qsm.networks.precision import Precision
from napari_qsm.networks.weights import Card
from napari_qsm.physics import fourier

CONE = 0.2
"""|D| above which the measured field is heard once more: its error grows fivefold at most."""

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
    blend: float = parameter(
        0.0,
        "How much of what the map leaves unexplained of the field is divided by the dipole and "
        "added where the dipole is large (|D| > 0.2): 0 trusts the network, 1 the field.",
        low=0.0,
        high=1.0,
    )
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
        if parameters.blend:
            chi = yield from blended(space, chi, parameters.blend)
        yield from watched(space, view, chi, sigma, card)
        return (yield from space.finish(chi))


def tell_sigma(space: Workspace, sigma: Tensor, card: Card) -> None:
    """Put a standard deviation (ppm, padded, calibrated) into the result, with its disclaimer."""
    space.extras[Quantity.SIGMA] = space.restore(sigma)
    told = (
        f"Sigma was multiplied by {card.calibration:.3g}, so that on held-out synthetic heads one "
        "sigma holds 68.3 % of the errors."
        if card.calibration != 1
        else "Sigma is what the network says; these weights were not calibrated."
    )
    space.notes.append(f"{told} {DISCLAIMER}")


def blended(space: Workspace, chi: Tensor, weight: float) -> Generator[Step, None, Tensor]:
    """Return ``chi + w F^-1 [ (|D| > 0.2) / D  F m (f - D chi) ]``: data consistency in one step.

    Outside the cone the field says what susceptibility there is. Only the residual in the mask is
    divided, so that what the mask cuts off is not taken for susceptibility.
    """
    yield space.step(0.95, "listening to the field once more", lambda: chi)
    residual = (space.field() - space.dipole(chi)) * space.region()
    yield space.step(0.95, "listening to the field once more", lambda: chi)
    kernel = space.dipole.spectrum
    heard = torch.where(kernel.abs() > CONE, weight / kernel, torch.zeros_like(kernel))
    transform = fourier.spectrum(residual).mul_(heard)
    yield space.step(0.95, "listening to the field once more", lambda: chi)
    space.notes.append(f"A share of {weight:g} of the residual outside the cone was added.")
    return chi + fourier.volume(transform, space.shape)
