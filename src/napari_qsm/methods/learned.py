"""What methods with a network share: their inputs, a pass of the network, and its maps."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from napari_qsm.acquisition import Acquisition, FloatArray
from napari_qsm.methods.channels import channels
from napari_qsm.methods.workspace import Workspace
from napari_qsm.networks.background import in_background
from napari_qsm.networks.inverter import Estimate, Inverter
from napari_qsm.networks.precision import autocast, chosen
from napari_qsm.process import Step
from napari_qsm.surroundings import bounding_box

T = TypeVar("T")

MARGIN = 8
"""Voxels of zeros around the mask's bounding box that a network sees."""


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
    acquisition: Acquisition, network: Inverter, space: Workspace, *, share: float = 0.5
) -> Generator[Step, None, Seen]:
    """Make what a network sees of an acquisition; `share` is its part of the whole work."""
    names = network.design.channels
    made = yield from channels(acquisition, names, space.device, share=share)
    told = " and ".join(name for name in names if name != "field")
    if told:
        space.notes.append(f"The network starts from the maps of: {told}.")
    box = bounding_box(acquisition.mask)
    inputs = _framed(made[(slice(None), *box)], space.device)
    mask = _framed(acquisition.mask[box][None].astype(np.float32), space.device)
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
    running = in_background(function, *modules)
    yield space.step(fraction, message, preview)
    while True:
        try:
            next(running)
        except StopIteration as done:
            result: T = done.value
            return result
        yield space.step(fraction, message, preview)


def estimate(
    space: Workspace, network: Inverter, view: Seen, *, fraction: float = 0.6
) -> Generator[Step, None, Estimate]:
    """Pass the network over the whole volume once; what comes out is zero outside the mask."""
    dtype = chosen(space.device)

    def run() -> Estimate:
        with torch.inference_mode(), autocast(space.device, dtype):
            mean, sigma = network(view.inputs)
            return Estimate(mean * view.mask, None if sigma is None else sigma * view.mask)

    if dtype == torch.bfloat16:
        space.notes.append("The network ran in bfloat16.")
    return (
        yield from working(space, run, network, fraction=fraction, message="running the network")
    )


def _framed(volumes: FloatArray, device: torch.device) -> Tensor:
    """Return (C, X, Y, Z) as (1, C, ...) with a margin of zeros, on the device."""
    padded = np.pad(volumes, [(0, 0), *[(MARGIN, MARGIN)] * 3])
    return torch.from_numpy(padded)[None].to(device)
