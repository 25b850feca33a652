"""What methods with a network share: their inputs, a pass of the network, and its maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from napari_qsm.acquisition import Acquisition, FloatArray, InputError
from napari_qsm.generators import relayed
from napari_qsm.methods.channels import channels
from napari_qsm.methods.workspace import Workspace
from napari_qsm.networks import tiling, weights
from napari_qsm.networks.background import in_background
from napari_qsm.networks.inverter import Estimate, Inverter
from napari_qsm.networks.lpcnn import LPCNN
from napari_qsm.networks.precision import Precision, autocast, chosen
from napari_qsm.networks.unet import Architecture
from napari_qsm.networks.weights import Card
from napari_qsm.process import Step, parameter
from napari_qsm.surroundings import bounding_box

T = TypeVar("T")

MARGIN = 8
"""Voxels of zeros around the mask's bounding box that a network sees."""


def weights_parameter(*families: str) -> Any:
    """Declare the parameter ``weights``: a set of trained weights of one of the families.

    The shipped one is called like the first family.
    """
    return parameter(
        families[0],
        "Trained weights to use; those you put into your folder of networks are offered as well.",
        choices=lambda: offered(*families),
    )


def precision_parameter() -> Any:
    """Declare the parameter ``precision`` that all networks share."""
    return parameter(
        "auto",
        "Precision of the network's convolutions: half of it is two to four times as fast where "
        "the hardware knows bfloat16, which auto finds out, and changes maps by about 0.1 ppb.",
    )


def offered(*families: str) -> list[str]:
    """Return the keys of all weights of some families; a broken card hides no other."""
    found = []
    for key in weights.available():
        try:
            if weights.find(key).family in families:
                found.append(key)
        except InputError:
            continue  # whoever asks for it by name is told what is wrong with it
    return found


N = TypeVar("N", bound=nn.Module)


def opened(key: str, device: torch.device, *families: str) -> tuple[Inverter, Card]:
    """Return a network with its weights on a device, and its card.

    Raises
    ------
    InputError
        If there are no such weights, they are damaged, or belong to another family.
    """
    network, card = weights.load_network(key, device)
    return ready(network, card, device, *families), card


def ready(network: N, card: Card, device: torch.device, *families: str) -> N:
    """Return a network laid out for its device.

    Raises
    ------
    InputError
        If its family is none of those, where any are named.
    """
    if families and card.family not in families:
        known = ", ".join(offered(*families)) or "none"
        raise InputError(
            f"The weights '{card.key}' are of the family '{card.family}'; weights of "
            f"{' or '.join(families)} were expected, and there are {known}."
        )
    if device.type == "cpu":
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network


def origin(card: Card) -> str:
    """Say which weights a map comes from, for its notes."""
    steps = card.training.get("steps")
    trained = f", {steps} steps" if steps else ""
    return f"The network's weights are '{card.key}' (SHA-256 {card.sha256[:16]}{trained})."


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network sees of a workspace: a box around the mask, with a margin of zeros.

    Parameters
    ----------
    inputs : (1, C, X, Y, Z) tensor
        The channels in ppm.
    mask : (1, 1, X, Y, Z) tensor of float32
        1 in the mask.
    shape : tuple[int, int, int]
        Of the bounding box inside the margin.
    """

    inputs: Tensor
    mask: Tensor
    shape: tuple[int, int, int]

    def padded(self, volume: Tensor, space: Workspace) -> Tensor:
        """Bring (1, 1, X, Y, Z) to the padded shape of a workspace, zero outside the mask.

        It is differentiable, so that what physics says of a map can change a network.
        """
        x, y, z = self.shape
        m = MARGIN
        inside = (volume * self.mask)[0, 0, m : m + x, m : m + y, m : m + z]
        missing = [p - n for p, n in zip(space.shape, self.shape, strict=True)]
        pads = [n for size in reversed(missing) for n in (0, size)]
        return torch.nn.functional.pad(inside, pads)


def seen(
    acquisition: Acquisition, network: Inverter | LPCNN, space: Workspace, *, share: float = 0.5
) -> Generator[Step, None, Seen]:
    """Make what a network sees of an acquisition; `share` is its part of the whole work."""
    names = network.design.channels

    def part(step: Step) -> Step:
        return replace(space.step(step.fraction, _within(step.message)), preview=step.preview)

    made = yield from relayed(channels(acquisition, names, space.device, share=share), part)
    told = " and ".join(name for name in names if name != "field")
    if told:
        space.notes.append(f"The network starts from the maps of: {told}.")
    box = bounding_box(acquisition.mask)
    inputs = framed(made[(slice(None), *box)], space.device)
    mask = framed(acquisition.mask[box][None].astype(np.float32), space.device)
    x, y, z = (part.stop - part.start for part in box)
    return Seen(inputs, mask, (x, y, z))


def working(
    space: Workspace,
    function: Callable[[], T],
    *modules: nn.Module,
    fraction: float,
    message: str,
    preview: Callable[[], Tensor] | None = None,
) -> Generator[Step, None, T]:
    """Run a pass through `modules` beside the generator, reporting one fraction and message."""
    yield space.step(fraction, message, preview)
    running = in_background(function, *modules)
    return (yield from relayed(running, lambda _: space.step(fraction, message, preview)))


def estimate(
    space: Workspace,
    network: Inverter,
    view: Seen,
    *,
    fraction: float = 0.6,
    symmetric: bool = False,
    precision: Precision = "auto",
) -> Generator[Step, None, Estimate]:
    """Pass the network over the whole volume; what comes out is zero outside the mask.

    Where the memory does not hold one pass it goes over tiles, which give the same. With
    `symmetric` it is ``(g(x) - g(-x)) / 2``, which flips its sign with the field, and
    ``sigma^2 = (s(x)^2 + s(-x)^2) / 2``.
    """
    dtype = chosen(space.device, precision)
    if dtype == torch.bfloat16:
        space.notes.append("The network ran in bfloat16.")
    parts = tiles_of(space, network.unet.architecture, view.mask.shape[-3:], dtype)
    signs = (1.0, -1.0) if symmetric else (1.0,)
    mean = torch.zeros_like(view.mask)
    variance = torch.zeros_like(view.mask) if network.design.uncertain else None

    def run(part: tiling.Tile, sign: float) -> None:
        shown, kept, inner = ((slice(None), slice(None), *b) for b in part.boxes)
        with torch.inference_mode(), autocast(space.device, dtype):
            inputs = view.inputs[shown]
            output = network(inputs if sign > 0 else network.opposite(inputs))
            mean[kept] += output.mean[inner] * (sign / len(signs))
            if variance is not None and output.sigma is not None:
                variance[kept] += output.sigma[inner].square() / len(signs)

    passes = [(part, sign) for part in parts for sign in signs]
    for number, (part, sign) in enumerate(passes):
        at = fraction + (0.95 - fraction) * number / len(passes)
        told = f" ({number + 1} of {len(passes)})" if len(passes) > 1 else ""
        yield from working(
            space,
            lambda part=part, sign=sign: run(part, sign),  # type: ignore[misc]
            network,
            fraction=at,
            message=f"running the network{told}",
        )
    mean *= view.mask
    return Estimate(mean, None if variance is None else variance.sqrt_().mul_(view.mask))


def runner(
    space: Workspace,
    module: nn.Module,
    architecture: Architecture,
    shape: Sequence[int],
    precision: Precision,
    outputs: int,
) -> Callable[[Tensor, float, str], Generator[Step, None, Tensor]]:
    """Return what passes volumes (1, C, X, Y, Z) through a module, in tiles where it must be.

    It takes the volumes, a fraction and a message, and makes (1, outputs, X, Y, Z).
    """
    dtype = chosen(space.device, precision)
    if dtype == torch.bfloat16:
        space.notes.append("The network ran in bfloat16.")
    parts = tiles_of(space, architecture, shape, dtype)

    def run(volumes: Tensor, fraction: float, message: str) -> Generator[Step, None, Tensor]:
        made = torch.zeros((1, outputs, *shape), device=space.device)

        def one(part: tiling.Tile) -> None:
            shown, kept, inner = ((slice(None), slice(None), *box) for box in part.boxes)
            with torch.inference_mode(), autocast(space.device, dtype):
                made[kept] = module(volumes[shown])[inner]

        for part in parts:
            yield from working(
                space,
                lambda part=part: one(part),  # type: ignore[misc]
                module,
                fraction=fraction,
                message=message,
            )
        return made

    return run


def tiles_of(
    space: Workspace, architecture: Architecture, shape: Sequence[int], dtype: torch.dtype
) -> list[tiling.Tile]:
    """Return the tiles that the free memory asks for; noted where it is more than one."""
    free = tiling.free_memory(space.device)
    voxel = tiling.footprint(architecture, 1, dtype.itemsize)
    made = tiling.tiles(architecture, shape, int(tiling.SHARE * free / voxel))
    if len(made) > 1:
        whole = voxel * math.prod(shape) / 2**30
        space.notes.append(
            f"The network ran over {len(made)} tiles, which give what one pass gives: in one pass "
            f"it would take {whole:.1f} GB, and {free / 2**30:.1f} GB are free."
        )
    return made


def _within(message: str) -> str:
    """Return the message of a method that makes a channel as part of another's."""
    label, _, told = message.partition(": ")
    return f"{label}, {told}" if told else label


def framed(volumes: FloatArray, device: torch.device) -> Tensor:
    """Return (C, X, Y, Z) as (1, C, ...) with a margin of zeros, on the device."""
    padded = np.pad(volumes, [(0, 0), *[(MARGIN, MARGIN)] * 3])
    return torch.from_numpy(padded)[None].to(device)
