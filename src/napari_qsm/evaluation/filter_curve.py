"""The L-curve of a method that is a Fourier filter, exact and without a single map."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_qsm.acquisition import Acquisition
from napari_qsm.evaluation.curves import LCurve
from napari_qsm.evaluation.yardstick import total_of
from napari_qsm.methods.registry import Method
from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics import fourier
from napari_qsm.physics.gradient import Gradient
from napari_qsm.process import Parameters, Step


@dataclass(frozen=True, eq=False)
class FilterCurve:
    """An exact L-curve.

    Parameters
    ----------
    curve : LCurve
        Residual in ppm against ``|G chi|_2`` in ppm/mm: root mean squares over the padded volume,
        as if all of it were in the mask's voxels.
    scale : tuple[float, float]
        Residual of a map that is zero, and roughness of the field itself, likewise.
    """

    curve: LCurve
    scale: tuple[float, float]


def filter_curve(
    method: Method[Any],
    acquisition: Acquisition,
    values: Sequence[float] | NDArray[np.float64],
    parameters: Parameters | None = None,
    device: torch.device | str = "cpu",
) -> Generator[Step, None, FilterCurve]:
    """Compute residual and roughness of ``chi = F^-1 H F f`` over values of the tuning parameter.

    By Parseval ``|D chi - f|^2 = sum |D H - 1|^2 |F f|^2 / N`` and
    ``|G chi|^2 = sum E2 H^2 |F f|^2 / N``: one pass over half of k-space for each value, and no
    inverse transform. The estimate is taken as the filter makes it, before it is cut to the mask.

    Raises
    ------
    ValueError
        If the method is no filter.
    """
    if method.symbol is None:
        raise ValueError(f"{method.label} is no Fourier filter.")
    base = dict(parameters or method.parameters())
    ordered = np.sort(np.asarray(values, np.float64))
    settings = [method.with_settings({**base, method.tuning: float(v)}) for v in ordered]
    with Workspace(acquisition, torch.device(device), method.label) as space:
        yield space.step(0.0, "transforming the field")
        power = _power(space)
        yield space.step(0.1, "preparing the curve")
        kernel = space.dipole.spectrum
        prior = Gradient(space.voxel_size).spectrum(space.shape, device=space.device)
        count = float(np.count_nonzero(acquisition.mask))

        def size(symbol: Tensor) -> float:
            return math.sqrt(total_of(symbol * power) / count)

        residual, roughness = [], []
        for number, parameters_there in enumerate(settings):
            symbol = method.symbol(space, parameters_there)
            residual.append(size((symbol * kernel).sub_(1).square_()))
            yield space.step(0.1 + 0.9 * number / len(settings), "computing the curve")
            roughness.append(size(symbol.square_().mul_(prior)))
            yield space.step(0.1 + 0.9 * (number + 0.5) / len(settings), "computing the curve")
        scale = size(torch.ones_like(kernel)), size(prior)
    return FilterCurve(LCurve(ordered, np.array(residual), np.array(roughness)), scale)


def _power(space: Workspace) -> Tensor:
    """``|F f|^2 / N`` on the half grid, planes that stand for two counted twice; ppm^2."""
    power = fourier.spectrum(space.field()).abs().square_().div_(math.prod(space.shape))
    last = power.shape[-1] - (1 if space.shape[-1] % 2 == 0 else 0)
    power[..., 1:last] *= 2
    return power
