"""What training makes small. Every loss is one number for a batch of blocks.

Estimates, truth and fields are in ppm, (N, 1, X, Y, Z); `weight` is 1 where a voxel counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_qsm.networks.inverter import Estimate
from napari_qsm.physics import fourier
from napari_qsm.physics.dipole import DipoleConvolution

SPREAD = 0.05
"""Susceptibility in ppm that losses are counted in: about that of healthy tissue."""


@dataclass(frozen=True)
class _Cube:
    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    b0_direction: tuple[float, float, float] = (0.0, 0.0, 1.0)


Loss = Callable[[Estimate, Tensor, Tensor], Tensor]


def mean(values: Tensor, weight: Tensor) -> Tensor:
    """Average of `values` over the voxels that count."""
    return (values * weight).sum() / weight.sum().clamp(min=1)


def absolute(estimate: Estimate, truth: Tensor, weight: Tensor) -> Tensor:
    """``mean |mu - chi|`` in units of `SPREAD`."""
    return mean((estimate.mean - truth).abs(), weight) / SPREAD


def relative(estimate: Estimate, truth: Tensor, weight: Tensor) -> Tensor:
    """``mean |mu - chi| / sqrt(chi^2 + SPREAD^2)``: strong sources count by relative error."""
    size = torch.sqrt(truth.square() + SPREAD**2)
    return mean((estimate.mean - truth).abs() / size, weight)


def squared(estimate: Estimate, truth: Tensor, weight: Tensor) -> Tensor:
    """``mean (mu - chi)^2`` in units of ``SPREAD^2``: its minimiser is the posterior mean."""
    return mean((estimate.mean - truth).square(), weight) / SPREAD**2


def normalised(estimate: Estimate, truth: Tensor, weight: Tensor) -> Tensor:
    """``mean_n |mu_n - chi_n| / |chi_n|`` (2-norms) over the blocks n: every one counts the same.

    A weak, smooth block is worth as much as one with a haematoma, and the minimiser is the
    posterior mean, not the median that already the solvers' maps resemble. 1 ppb is the least size
    of a block.
    """
    axes = (1, 2, 3, 4)
    error = ((estimate.mean - truth).square() * weight).sum(axes).add(1e-20).sqrt()
    count = weight.sum(axes)
    size = ((truth.square() * weight).sum(axes) + 1e-6 * count + 1e-20).sqrt()
    return torch.where(count > 0, error / size, 0.0).mean()


def gradient(estimate: Estimate, truth: Tensor, weight: Tensor) -> Tensor:
    """``mean |grad(mu - chi)|`` over neighbours along each axis, in units of `SPREAD`."""
    error = estimate.mean - truth
    total = torch.zeros((), device=error.device)
    for axis in fourier.AXES:
        size = error.shape[axis] - 1
        step = error.narrow(axis, 1, size) - error.narrow(axis, 0, size)
        both = weight.narrow(axis, 1, size) * weight.narrow(axis, 0, size)
        total = total + mean(step.abs(), both) / 3
    return total / SPREAD


def model(estimate: Estimate, truth: Tensor, weight: Tensor) -> Tensor:
    """``mean |d * (mu - chi)|`` in units of ``SPREAD / 3``: what the error does to the field.

    It is QSMnet's model loss less the field of the truth: sources outside a block drop out of the
    difference, where a comparison with the measured field would blame the network for them. The
    block's voxels are taken for cubes with B0 along the third axis.
    """
    error = (estimate.mean - truth) * weight
    x, y, z = error.shape[-3:]
    dipole = DipoleConvolution(_Cube((x, y, z)), padding=1.5, device=error.device)
    return mean(dipole(error).abs(), weight) * (3 / SPREAD)


def likelihood(estimate: Estimate, truth: Tensor, weight: Tensor) -> Tensor:
    """Negative logarithm of the Gaussian likelihood, ``z^2 / 2 + log sigma``, z = (mu - chi)/sigma.

    The squares of the largest z grow only linearly (beyond 4), so that one bad voxel of a strong
    lesion does not outweigh a head.

    Raises
    ------
    ValueError
        If the network gives no standard deviation.
    """
    if estimate.sigma is None:
        raise ValueError("The likelihood needs a network that gives a standard deviation.")
    score = ((estimate.mean - truth) / estimate.sigma).abs()
    half_square = torch.where(score < 4, score.square() / 2, 4 * score - 8)
    return mean(half_square + torch.log(estimate.sigma / SPREAD), weight)


def spread(estimate: Estimate, truth: Tensor, weight: Tensor) -> Tensor:
    """Negative logarithm of the Gaussian likelihood, which only sigma follows: the mean stays.

    Both it and the squared error are smallest at mean and variance of the posterior. Apart, a
    sigma that is still wrong does not decide where the mean learns (Seitzer et al. 2022,
    arXiv:2203.09168).
    """
    return likelihood(Estimate(estimate.mean.detach(), estimate.sigma), truth, weight)


LOSSES: dict[str, Loss] = {
    "absolute": absolute,
    "relative": relative,
    "squared": squared,
    "normalised": normalised,
    "spread": spread,
    "gradient": gradient,
    "model": model,
    "likelihood": likelihood,
}
"""The losses a recipe can weigh, by name."""


def total(
    weights: dict[str, float], estimate: Estimate, truth: Tensor, weight: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted sum of losses and each by name.

    Raises
    ------
    ArithmeticError
        If the sum is not finite.
    """
    summed = torch.zeros((), device=truth.device)
    parts = {}
    for name, share in weights.items():
        value = LOSSES[name](estimate, truth, weight)
        parts[name] = float(value.detach())
        summed = summed + share * value
    if not math.isfinite(float(summed.detach())):
        raise ArithmeticError("The loss is no longer finite; choose a smaller learning rate.")
    return summed, parts
