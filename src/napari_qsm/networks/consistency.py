"""How well a map explains a measured field: losses that a network can follow back, without truth.

Maps, fields and weights are padded volumes (X, Y, Z); susceptibility and fields are in ppm. Each
operation is a layer of its own, so that `napari_qsm.networks.background` can stop between them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from napari_qsm.physics.fourier import AXES


class Convolution(nn.Module):
    """Multiply the spectrum of a real volume by a real symbol: ``F^-1 S F x``.

    With the symbol D of a dipole it is the field of a susceptibility, exact on a padded volume.

    Parameters
    ----------
    symbol : Tensor
        On the half grid of the volumes.
    """

    symbol: Tensor

    def __init__(self, symbol: Tensor) -> None:
        super().__init__()
        self.register_buffer("symbol", symbol, persistent=False)
        self.pause = nn.Identity()

    def forward(self, volume: Tensor) -> Tensor:
        """Return the volume convolved."""
        transform = self.pause(torch.fft.rfftn(self.pause(volume)))
        product = self.pause(transform * self.symbol)
        result: Tensor = self.pause(torch.fft.irfftn(product, volume.shape))
        return result


class Descent(nn.Module):
    """Steps of gradient descent on the misfit that follow a network, as one layer.

    K steps ``x <- x - eta A^H (A x - b)`` from x_0 lead to ``x_0 + F^-1 q F (b - A x_0)`` with
    ``q = (1 - (1 - eta D^2)^K) / D``: two transforms more than a step takes. Outside the mask,
    where no field was measured, b is taken to be what the network's own map makes there, so the
    residual is weighted by ``min(W^2, 1)``.

    Parameters
    ----------
    dipole : Convolution
        A, with the symbol D.
    field, weights : (X, Y, Z) tensors
        b in ppm, and W^2, zero outside the mask.
    steps : int
        K; 0 changes nothing.
    size : float
        eta; stable below 4.5.
    """

    field: Tensor
    weights: Tensor

    def __init__(
        self, dipole: Convolution, field: Tensor, weights: Tensor, *, steps: int, size: float = 1.2
    ) -> None:
        super().__init__()
        self.dipole = dipole
        symbol = dipole.symbol
        # Where D is 0 nothing is to be gained, and the quotient is 0 / 0.
        gained = 1 - (1 - size * symbol.square()).pow(steps)
        self.inverse = Convolution(torch.where(symbol == 0, 0, gained / symbol))
        self.register_buffer("field", field, persistent=False)
        self.register_buffer("weights", weights.clamp(max=1), persistent=False)

    def forward(self, estimate: Tensor) -> Tensor:
        """Return the map (X, Y, Z) after the steps."""
        residual = self.weights * (self.field - self.dipole(estimate))
        result: Tensor = estimate + self.inverse(residual)
        return result


def average(values: Tensor, weights: Tensor) -> Tensor:
    """``sum W^2 v / sum W^2``, 0 where nothing counts."""
    return (values * weights).sum() / weights.sum().clamp(min=1e-12)


def linear(predicted: Tensor, measured: Tensor, weights: Tensor) -> Tensor:
    """``mean W^2 (A chi - b)^2`` in ppm^2: LDI with equal weights in the mask, else WLDI."""
    return average((predicted - measured).square(), weights)


def exponential(predicted: Tensor, measured: Tensor, weights: Tensor, scale: float) -> Tensor:
    """``mean W^2 |exp(i s A chi) - exp(i s b)|^2 / s^2`` in ppm^2 (NDI), s the phase scale.

    It does not see whole turns, bounds what an outlier costs by ``4 / s^2``, and is `linear` for
    ``s -> 0``. Computed as ``(2 sin(s (A chi - b) / 2) / s)^2``.
    """
    half = scale / 2 * (predicted - measured)
    return average((half.sin() * (2 / scale)).square(), weights)


def roughness(
    estimate: Tensor, voxel_size: Sequence[float], region: Tensor, selection: Tensor | None = None
) -> Tensor:
    """``mean |M grad chi|_1`` over a region in ppm/mm.

    Parameters
    ----------
    estimate : (X, Y, Z) tensor
        chi.
    voxel_size : sequence of float
        In mm.
    region : (X, Y, Z) tensor
        1 where a voxel counts; a difference counts if both its voxels do.
    selection : (3, X, Y, Z) tensor, optional
        M, 0 at the differences that may jump for free.
    """
    total = torch.zeros((), device=estimate.device)
    for number, (axis, size) in enumerate(zip(AXES, voxel_size, strict=True)):
        inner = estimate.shape[axis] - 1
        step = estimate.narrow(axis, 1, inner) - estimate.narrow(axis, 0, inner)
        counted = region.narrow(axis, 1, inner) * region.narrow(axis, 0, inner)
        if selection is not None:
            counted = counted * selection[number].narrow(axis, 0, inner)
        total = total + (step.abs() * counted).sum() / size
    return total / region.sum().clamp(min=1)


def blurred(residual: Tensor) -> Tensor:
    """Return a volume less its mean over 27 voxels: its Laplacian but for a factor."""
    # Padded beforehand, since the pooling refuses volumes that are thinner than its window.
    continued = nn.functional.pad(residual[None, None], [1] * 6)
    neighbours = nn.functional.avg_pool3d(continued, 3, stride=1)
    return residual - neighbours[0, 0]
