"""Networks that tell two kinds of sources apart: in one pass, or unrolled around their physics.

What goes in are ``y = [chi; R2'/Dr; field]`` in ppm, what comes out are chi+ and chi- in ppm, both
>= 0. Neither network has a bias, a norm or a constant, and a clamp at zero is homogeneous, so
``g(s y) = s g(y)`` for every ``s > 0``: what holds of a faint lesion holds of a strong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from napari_qsm.networks.descent import ProximalDescent
from napari_qsm.networks.inverter import CHI_SCALE, SCALE, Design
from napari_qsm.networks.unet import Architecture, UNet
from napari_qsm.physics.separation import SourceOperator

INPUTS = 3
"""Susceptibility, relaxation and field."""

SCALES = (CHI_SCALE, CHI_SCALE, SCALE["field"])
"""What they are multiplied by before they enter a U-Net."""


class _Clamp(torch.autograd.Function):
    """``max(x, 0)`` that lets through a gradient wherever following it leads back above zero."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return values.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        (values,) = ctx.saved_tensors
        (gradient,) = gradients
        passed: Tensor = gradient * ((values > 0) | (gradient < 0))
        return passed


def positive(values: Tensor) -> Tensor:
    """Return ``max(values, 0)``.

    Its gradient vanishes below zero only where descent would lead further down, so that a voxel
    that was once clamped is not lost for learning.
    """
    clamped: Tensor = _Clamp.apply(values)  # type: ignore[no-untyped-call]
    return clamped


def closed_form(measured: Tensor) -> Tensor:
    """Return both sources of every voxel by itself, ``max((R2'/Dr +- chi) / 2, 0)``.

    Parameters
    ----------
    measured : (N, 3, X, Y, Z) tensor
        y in ppm; R2' below zero counts as zero.

    Returns
    -------
    (N, 2, X, Y, Z) tensor
    """
    chi, decay = measured[:, :1], measured[:, 1:2].clamp(min=0)
    return torch.cat((decay + chi, decay - chi), dim=1).clamp(min=0) / 2


class Separator(nn.Module):
    """One pass: ``x = max(x_0 + c g(y), 0)`` with x_0 the closed form and g a U-Net.

    chi-sepnet (Kim et al. 2025, doi:10.1002/hbm.70136) learns x from y; here it learns what the
    closed form leaves undone.

    Parameters
    ----------
    design : Design
        Its architecture; `inputs` and `heads` follow.
    """

    scales: Tensor

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        self.unet = _unet(design.architecture, INPUTS)
        self.register_buffer("scales", torch.tensor(SCALES).view(1, -1, 1, 1, 1), persistent=False)

    def forward(self, measured: Tensor) -> Tensor:
        """Return (N, 2, X, Y, Z), chi+ and chi- in ppm, in single precision."""
        change = self.unet(measured * self.scales).float() / CHI_SCALE
        return positive(closed_form(measured) + change)


class Proximal(nn.Module):
    """P: ``max(z + c g(c' z, c'' r), 0)`` with g a U-Net.

    It sees both sources z after their step and, if it may, the residual ``r = y - Phi x`` that the
    step followed.

    Parameters
    ----------
    architecture : Architecture
        Of the U-Net.
    residual : bool
        Whether it sees r.
    """

    scales: Tensor

    def __init__(self, architecture: Architecture, residual: bool) -> None:
        super().__init__()
        seen = (CHI_SCALE, CHI_SCALE, *(SCALES if residual else ()))
        self.unet = _unet(architecture, len(seen))
        self.register_buffer("scales", torch.tensor(seen).view(1, -1, 1, 1, 1), persistent=False)

    def forward(self, shown: Tensor) -> Tensor:
        """Return (N, 2, X, Y, Z) for z, or z and r, along the second axis; in ppm."""
        change = self.unet(shown * self.scales).float() / CHI_SCALE
        return positive(shown[:, :2] + change)


class Unrolled(ProximalDescent[SourceOperator]):
    """K gradient steps on both data terms, each followed by the same network.

    ``x_(i+1) = P(a Phi^H y + (I - a Phi^H Phi) x_i)`` from ``x_0 = 0``. The step a is learned; it
    starts where the sum of both sources is explained at once (``1 - 2 a = 0`` for a = 0.5) and
    their difference converges without changing sides much. From 0.692 on plain steps diverge.

    Such a step leaves next to nothing of x_i, and of y only what both of its rows add up to. A P
    that sees the residual ``y - Phi x_i`` as well knows what was measured, as the single pass does,
    and what its estimate leaves unexplained.

    Parameters
    ----------
    design : Design
        `iterations`, the first `step`, the architecture of P and whether it sees the `residual`.
    proximal : nn.Module, optional
        Instead of that P; the identity makes it Landweber's iteration.
    """

    def __init__(self, design: Design, proximal: nn.Module | None = None) -> None:
        if proximal is None:
            proximal = Proximal(design.architecture, design.residual)
        super().__init__(design, proximal)

    def first(self, measured: Tensor) -> Tensor:
        """Return nothing at all, (N, 2, X, Y, Z) for y of (N, 3, X, Y, Z)."""
        return torch.zeros_like(measured[:, :2])

    def descended(
        self, estimate: Tensor, measured: Tensor, operators: Sequence[SourceOperator]
    ) -> Tensor:
        """Return what P sees: ``z = x + a Phi^H r``, perhaps with ``r = y - Phi x``; float32."""
        with torch.autocast(estimate.device.type, enabled=False):
            pairs = zip(operators, estimate, measured, strict=True)
            residuals = torch.stack([y - phi(x) for phi, x, y in pairs])
            followed = [phi.H(r) for phi, r in zip(operators, residuals, strict=True)]
            stepped = estimate + self.step * torch.stack(followed)
            return torch.cat((stepped, residuals), 1) if self.design.residual else stepped


def _unet(architecture: Architecture, inputs: int) -> UNet:
    return UNet(Architecture(**{**vars(architecture), "inputs": inputs, "heads": (2,)}))
