"""What the fits of R2* share: from magnitudes to a map, voxel by voxel, within sensible limits."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, InputError, Maps, Provenance, Quantity
from napari_qsm.preparation.echoes import echoes
from napari_qsm.preparation.signal_noise import air_noise
from napari_qsm.preparation.voxels import PIECE, at, by_time, pieces
from napari_qsm.process import Step, Work, parameter
from napari_qsm.surroundings import fitting_threads

NoiseFloor = Literal["background", "none"]


def limit() -> Any:
    """Declare the parameter that bounds R2*."""
    return parameter(
        500.0,
        "Highest R2* that is believed; what is fitted above it is set to it and counted.",
        low=10,
        high=10000,
        unit="1/s",
        log=True,
    )


def noise_floor() -> Any:
    """Declare the parameter that says whether the noise floor is taken into account."""
    return parameter(
        "background",
        "Read the noise off the air around the head so that late echoes near it do not feign slow "
        "decay, or take every echo for signal.",
    )


def mapped(
    acquisition: Acquisition,
    device: torch.device,
    rate: Callable[[Tensor, Tensor], Tensor],
    highest: float,
    notes: tuple[str, ...],
) -> Work:
    """Map R2* in 1/s over the mask.

    Parameters
    ----------
    acquisition : Acquisition
        With a magnitude for every echo.
    device : torch.device
        Where to work.
    rate : callable
        Makes R2* of (echo, voxel) magnitudes in the order of time and their times in s; what is
        not finite counts as no decay.
    highest : float
        R2* above it is set to it.
    notes : tuple of str
        What is to be said besides.
    """
    magnitude = echoes(acquisition, Quantity.MAGNITUDE)
    mask = acquisition.mask
    order, seconds = by_time(acquisition.echo_times)
    times = torch.from_numpy(seconds).to(device, torch.float32)
    fast = slow = dark = 0
    volume = np.zeros(mask.shape, dtype=np.float32)
    with fitting_threads(device, PIECE):
        for part, voxels in pieces(mask):
            yield Step(0.05 + 0.9 * part, f"fitting {len(seconds)} echoes")
            signal = torch.from_numpy(at(magnitude, voxels)[order]).to(device).abs_()
            rates = rate(signal, times)
            known = signal.amax(0) > 0
            rates = torch.where(known & rates.isfinite(), rates, 0)
            fast += int((rates > highest).sum())
            slow += int((rates < 0).sum())
            dark += int((~known).sum())
            volume.ravel()[voxels] = rates.clamp_(0, highest).cpu().numpy()
    yield Step(0.98, "done")
    said = _counts(fast, slow, dark, highest, int(np.count_nonzero(mask)))
    return Maps(acquisition.grid, {Quantity.R2STAR: volume}, Provenance(notes=(*notes, *said)))


def _counts(fast: int, slow: int, dark: int, highest: float, voxels: int) -> list[str]:
    said = [
        f"R2* lies between 0 and {highest:g} 1/s: {slow} voxels ({slow / voxels:.1%}) in which the "
        f"signal grows were set to 0 and {fast} ({fast / voxels:.1%}) above to the limit."
    ]
    if dark:
        said.append(f"{dark} voxels of the mask have no signal; their R2* was set to 0.")
    return said


def floor(
    acquisition: Acquisition, choice: NoiseFloor
) -> Generator[Step, None, tuple[float, tuple[str, ...]]]:
    """Return sigma of the magnitude's noise, 0 if not wanted or not to be found; and say so."""
    yield Step(0.0, "looking for air")
    if choice == "none":
        return 0.0, ("Every echo was taken for signal, however faint.",)
    order, _ = by_time(acquisition.echo_times)
    magnitude = echoes(acquisition, Quantity.MAGNITUDE)
    sigma = air_noise(magnitude, int(order[-1]), acquisition.mask)
    if sigma is None:
        return 0.0, ("No air around the mask shows the noise, so every echo was taken for signal.",)
    return sigma, (f"The noise of the magnitude is {sigma:.3g}, read off the air around the mask.",)


def equal_spacing(times: tuple[float, ...], label: str) -> float:
    """Return the time between echoes in s.

    Raises
    ------
    InputError
        If the echoes are not equally spaced to 2 %.
    """
    _, ordered = by_time(times)
    gaps = np.diff(ordered)
    spacing = float(gaps.mean())
    if np.abs(gaps - spacing).max() > 0.02 * spacing:
        shown = ", ".join(f"{1000 * time:g}" for time in ordered)
        raise InputError(
            f"{label} needs equally spaced echoes where {shown} ms were measured; choose loglinear."
        )
    return spacing
