"""A network as an estimator of susceptibility: what goes in, on which scale, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_qsm.networks.unet import Architecture, UNet

FIELD = "field"
"""The local field."""

NOISE = "noise"
"""Its standard deviation, where that is known."""

CONTRAST = "contrast"
"""What the magnitude shows, in proportion to the field (`napari_qsm.methods.channels`)."""

SCALE = {FIELD: 30.0, NOISE: 30.0, CONTRAST: 90.0}
"""What ppm are multiplied by before they enter: about one over the spread of a healthy head's. All
channels that are not here are susceptibilities that a closed form or solver made."""

UNSIGNED = (NOISE, CONTRAST)
"""Channels that stay as they are when all susceptibility changes its sign."""

CHI_SCALE = 15.0
"""The same for susceptibility, in and out."""

SIGMA_FLOOR = 1e-3
"""Smallest standard deviation in ppm that a network can claim."""


class Estimate(NamedTuple):
    """Mean and standard deviation of the susceptibility in ppm, (N, 1, X, Y, Z).

    `sigma` is None for networks that say nothing about their error.
    """

    mean: Tensor
    sigma: Tensor | None


@dataclass(frozen=True)
class Design:
    """What an `Inverter` is made from; stored in the card of its weights.

    Parameters
    ----------
    channels : tuple of str
        What the network sees: ``"field"``, the keys of methods whose map of the same field it
        starts from, such as ``"tikhonov"``, and ``"noise"`` and ``"contrast"``.
    uncertain : bool
        Whether a second decoder gives a standard deviation.
    architecture : Architecture
        Of the U-Net; `inputs` and `heads` follow from the rest.
    task : {"inversion", "separation"}
        What comes out: susceptibility, or both its sources (`napari_qsm.networks.separator`).
    iterations : int
        Of an unrolled network; 0 for a single pass.
    step : float
        That an unrolled network begins to learn with.
    residual : bool
        Whether an unrolled network sees the residual of the data as well.
    """

    channels: tuple[str, ...] = (FIELD,)
    uncertain: bool = False
    architecture: Architecture = field(default_factory=Architecture)
    task: Literal["inversion", "separation"] = "inversion"
    iterations: int = 0
    step: float = 0.5
    residual: bool = False

    @staticmethod
    def from_dict(stored: dict[str, Any]) -> Design:
        """Read what `dataclasses.asdict` wrote."""
        numbers: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()
        }
        inner = dict(numbers.pop("architecture"))
        inner = {k: tuple(v) if isinstance(v, list) else v for k, v in inner.items()}
        return Design(architecture=Architecture(**inner), **numbers)


@dataclass(frozen=True)
class Channels:
    """What the channels of a network are, by their names.

    Parameters
    ----------
    names : tuple of str
        As in `Design`.
    """

    names: tuple[str, ...]

    @property
    def maps(self) -> list[int]:
        """Which ones are susceptibilities."""
        return [i for i, name in enumerate(self.names) if name not in SCALE]

    @property
    def told(self) -> list[int]:
        """Which ones are empty where something is not known."""
        return [i for i, name in enumerate(self.names) if name in UNSIGNED]

    @property
    def scales(self) -> Tensor:
        """What ppm are multiplied by before they enter, (1, C, 1, 1, 1)."""
        factors = [SCALE.get(name, CHI_SCALE) for name in self.names]
        return torch.tensor(factors).view(1, -1, 1, 1, 1)

    @property
    def signs(self) -> Tensor:
        """-1 for what turns round with the sign of all susceptibility, (1, C, 1, 1, 1)."""
        signs = [1.0 if name in UNSIGNED else -1.0 for name in self.names]
        return torch.tensor(signs).view(1, -1, 1, 1, 1)

    def first_shares(self) -> Tensor:
        """Return a_i to begin with, (1 + told, maps, 1, 1, 1): equal ones, whatever is known."""
        shares = torch.zeros(1 + len(self.told), len(self.maps), 1, 1, 1)
        shares[0] = 1 / max(len(self.maps), 1)
        return shares

    def blended(self, inputs: Tensor, shares: Tensor) -> Tensor:
        """Return ``sum_i a_i chi_i`` of (N, C, X, Y, Z), with the shares for what is known."""
        told = inputs[:, self.told].flatten(2).any(dim=2).to(shares)
        sets = functional.pad(told, (1, 0), value=1.0)
        # A sum of products and no matrix product, which autocast would round to three digits.
        weights = (sets.view(*sets.shape, 1, 1, 1, 1) * shares).sum(dim=1)
        return (inputs[:, self.maps] * weights).sum(dim=1, keepdim=True)


class Inverter(nn.Module):
    """From the field, and maps that physics made of it, to susceptibility.

    The mean is ``mu = sum_i a_i chi_i + c g(inputs)`` with chi_i the channels that are
    susceptibilities, a_i learned shares of them (equal ones to begin with) and g the U-Net. What
    inverts the dipole is then the physics of the case, whatever its voxels and B0; the network
    learns what the inversions leave undone. A map whose method was told noise and magnitude is
    worth more than one that was not: for each of both there is another set of shares, which is
    added where that channel is not empty.
    The standard deviation is ``sigma^2 = mean_c (c h_c)^2 + floor^2`` of a second decoder h: with a
    homogeneous U-Net it grows with field and noise alike.

    Parameters
    ----------
    design : Design
        Channels and architecture.
    """

    SIGMA_CHANNELS = 4

    scales: Tensor
    signs: Tensor

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        heads = (1, self.SIGMA_CHANNELS) if design.uncertain else (1,)
        numbers = {**vars(design.architecture), "inputs": len(design.channels), "heads": heads}
        self.unet = UNet(Architecture(**numbers))
        self._channels = Channels(design.channels)
        self.register_buffer("scales", self._channels.scales, persistent=False)
        self.register_buffer("signs", self._channels.signs, persistent=False)
        self.shares = nn.Parameter(self._channels.first_shares())

    def opposite(self, inputs: Tensor) -> Tensor:
        """Return the inputs of the same head with the sign of all susceptibility turned round."""
        return inputs * self.signs

    def forward(self, inputs: Tensor) -> Estimate:
        """Return the estimate for (N, channels, X, Y, Z) in ppm; it is in single precision."""
        output = self.unet(inputs * self.scales).float() / CHI_SCALE
        mean = self._channels.blended(inputs, self.shares) + output[:, :1]
        if not self.design.uncertain:
            return Estimate(mean, None)
        square = output[:, 1:].square().mean(dim=1, keepdim=True)
        return Estimate(mean, torch.sqrt(square + SIGMA_FLOOR**2))
