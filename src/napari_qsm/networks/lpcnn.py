"""LPCNN: a learned proximal network between steps towards the field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_qsm.networks.descent import ProximalDescent
from napari_qsm.networks.inverter import CHI_SCALE, FIELD, NOISE, SCALE, Channels, Design
from napari_qsm.networks.unet import Architecture, UNet
from napari_qsm.physics.dipole import DipoleConvolution


@dataclass(frozen=True, eq=False)
class Measurement:
    """How one volume was measured.

    Parameters
    ----------
    dipole : DipoleConvolution
        D.
    mask : (1, X, Y, Z) tensor
        1 where the field is known, else 0.
    """

    dipole: DipoleConvolution
    mask: Tensor


class Refinement(nn.Module):
    """P: ``z + c g(c' inputs, c z, ...)`` with g a U-Net.

    It sees the inputs of the whole network and the map z after its step; and, if it may, the
    weighted residual that the step followed and what that came to.

    Parameters
    ----------
    design : Design
        Channels, architecture and whether there is a residual.
    """

    scales: Tensor

    def __init__(self, design: Design) -> None:
        super().__init__()
        known = Channels(design.channels).scales.flatten().tolist()
        followed = (SCALE[FIELD], CHI_SCALE) if design.residual else ()
        scales = torch.tensor([*known, CHI_SCALE, *followed])
        self._map = len(known)
        self.register_buffer("scales", scales.view(1, -1, 1, 1, 1), persistent=False)
        numbers = {**vars(design.architecture), "inputs": len(scales), "heads": (1,)}
        self.unet = UNet(Architecture(**numbers))

    def forward(self, shown: Tensor) -> Tensor:
        """Return the map (N, 1, X, Y, Z) in ppm, in single precision."""
        change: Tensor = self.unet(shown * self.scales).float() / CHI_SCALE
        return shown[:, self._map : self._map + 1] + change


class LPCNN(ProximalDescent[Measurement]):
    """K steps on the misfit of the field, each followed by the same network.

    ``x_(i+1) = m P(x_i + a D W^2 (f - D x_i))`` with m the mask, from ``x_0 = sum_i a_i chi_i``:
    like an `Inverter` it starts from the maps of methods, whose shares are learned. ``W^2`` is one
    over the variance of the noise, at most that of the mean noise, or 1 where no noise is known. P
    has no bias, so all is homogeneous. Plain steps converge below ``a = 4.5``.

    Reference: Lai et al. 2020, doi:10.1007/978-3-030-59713-9_13, whose first iterate is
    ``a D f``, and whose P sees the map alone.

    Parameters
    ----------
    design : Design
        `channels`, `iterations`, the first `step`, the architecture of P, and whether it sees the
        `residual`.
    proximal : nn.Module, optional
        Instead of P.
    """

    def __init__(self, design: Design, proximal: nn.Module | None = None) -> None:
        super().__init__(design, Refinement(design) if proximal is None else proximal)
        self._channels = Channels(design.channels)
        self.shares = nn.Parameter(self._channels.first_shares())

    def first(self, measured: Tensor) -> Tensor:
        """Return ``sum_i a_i chi_i``, (N, 1, X, Y, Z)."""
        return self._channels.blended(measured, self.shares)

    def descended(
        self, estimate: Tensor, measured: Tensor, operators: Sequence[Measurement]
    ) -> Tensor:
        """Return what P sees, (N, C + 1, ...), or (N, C + 3, ...) with the residual; float32."""
        field = measured[:, self._at(FIELD)]
        with torch.autocast(estimate.device.type, enabled=False):
            predicted = _each(operators, estimate)
            residual = self._weights(measured, operators) * (field - predicted)
            gradient = torch.stack([one.mask for one in operators]) * _each(operators, residual)
            shown = [measured, estimate + self.step * gradient]
            if self.design.residual:
                shown += [residual, gradient]
            return torch.cat(shown, dim=1)

    def following(
        self, estimate: Tensor, measured: Tensor, operators: Sequence[Measurement]
    ) -> Tensor:
        """Return the iterate after an estimate, zero outside the masks."""
        mask = torch.stack([one.mask for one in operators])
        return super().following(estimate, measured, operators) * mask

    def _at(self, name: str) -> slice:
        number = self.design.channels.index(name)
        return slice(number, number + 1)

    def _weights(self, measured: Tensor, operators: Sequence[Measurement]) -> Tensor:
        """Return W^2, zero outside the masks."""
        mask = torch.stack([one.mask for one in operators])
        if NOISE not in self.design.channels:
            return mask
        noise = measured[:, self._at(NOISE)]
        axes = (1, 2, 3, 4)
        mean = (noise * mask).sum(axes, keepdim=True) / mask.sum(axes, keepdim=True).clamp(min=1)
        trust = (mean / noise.clamp(min=1e-6)).square().clamp(max=1)
        return torch.where(mean > 0, trust, 1.0) * mask


def _each(operators: Sequence[Measurement], volumes: Tensor) -> Tensor:
    """Return the field of every volume."""
    return torch.stack([one.dipole(v) for one, v in zip(operators, volumes, strict=True)])
