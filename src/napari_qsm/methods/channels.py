"""What a network sees of an acquisition: its field, and maps that other methods make of it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage

from napari_qsm.acquisition import Acquisition, FloatArray, Quantity
from napari_qsm.generators import relayed
from napari_qsm.methods.registry import find
from napari_qsm.networks.inverter import CONTRAST, FIELD, NOISE
from napari_qsm.preparation.noise import field_spread
from napari_qsm.preparation.strength import total_signal
from napari_qsm.process import Step

KNOWN = (Quantity.LOCAL_FIELD, Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE)
"""What the methods are given. A susceptibility that is there already is no part of it: networks
learned from maps that were made from nothing."""


SHADING_MM = 8.0
"""Standard deviation of the Gaussian that tells shading by coils from the contrast of tissue."""

FAINTEST, STEEPEST = 0.02, 2.0
"""Smallest magnitude, as a part of the median, and largest contrast that count."""

NOISIEST = 10.0
"""Largest noise that counts, as a multiple of the field's spread (`field_spread`)."""


def channels(
    acquisition: Acquisition,
    names: Sequence[str],
    device: torch.device | str = "cpu",
    *,
    share: float = 1.0,
) -> Generator[Step, None, FloatArray]:
    """Make the input channels of a network, in ppm and zero outside the mask.

    Training and inference both come here, so that a network meets in use what it learned from.

    Parameters
    ----------
    acquisition : Acquisition
        With a local field.
    names : sequence of str
        ``"field"``, ``"noise"``, ``"contrast"``, or keys of methods, which run at their defaults.
    device : torch.device
        Where the methods run.
    share : float
        Part of the whole work that this is, for the fractions of the steps.

    Returns
    -------
    (C, X, Y, Z) array
        The channels in the order of their names.
    """
    made = np.zeros((len(names), *acquisition.grid.shape), dtype=np.float32)
    given = {q: v for q, v in acquisition.volumes.items() if q in KNOWN}
    acquisition = replace(acquisition, volumes=given, others=())
    for number, name in enumerate(names):
        if name == FIELD:
            np.copyto(made[number], acquisition[Quantity.LOCAL_FIELD], where=acquisition.mask)
            continue
        if name == NOISE:
            made[number] = noise(acquisition)
            continue

        def part(step: Step, number: int = number) -> Step:
            return replace(step, fraction=(number + step.fraction) / len(names) * share)

        if name == CONTRAST:
            made[number] = yield from relayed(contrast(acquisition), part)
            continue
        maps = yield from relayed(find(name)(acquisition, device=device), part)
        made[number] = maps[Quantity.CHI]
    return made


def noise(acquisition: Acquisition) -> FloatArray:
    """Return the noise of the field in ppm, at most `NOISIEST` spreads; zero where unknown."""
    mask = acquisition.mask
    shown = np.zeros(mask.shape, dtype=np.float32)
    if Quantity.FIELD_NOISE not in acquisition or not mask.any():
        return shown
    most = NOISIEST * field_spread(acquisition[Quantity.LOCAL_FIELD][mask])
    np.minimum(acquisition[Quantity.FIELD_NOISE], np.float32(most), out=shown, where=mask)
    return shown


def contrast(acquisition: Acquisition) -> Generator[Step, None, FloatArray]:
    """Return what the magnitude shows, ``s (log m - G log m)`` in ppm; zero without a magnitude.

    m is the magnitude over its median, G a Gaussian of `SHADING_MM` within the mask, and s the
    `field_spread`: twice the field has twice the contrast, so that a network that is
    homogeneous remains so. What fades fast is dark, and borders of tissue are where susceptibility
    may change; a network finds out itself how far to believe that.
    """
    mask = acquisition.mask
    shown = np.zeros(mask.shape, dtype=np.float32)
    if Quantity.MAGNITUDE not in acquisition or not mask.any():
        return shown
    magnitude = total_signal(acquisition[Quantity.MAGNITUDE])
    level = float(np.median(magnitude[mask]))
    if not level > 0:
        return shown
    np.log(np.maximum(magnitude / level, FAINTEST), out=shown, where=mask)
    smooth, weight = shown.copy(), mask.astype(np.float32)
    for axis, side in enumerate(acquisition.grid.voxel_size):
        for volume in (smooth, weight):
            ndimage.gaussian_filter1d(
                volume, SHADING_MM / side, axis, output=volume, mode="constant", truncate=3.0
            )
            yield Step(axis / 3, "reading the contrast of the magnitude")
    shown -= smooth / np.maximum(weight, 1e-3)
    np.clip(shown, -STEEPEST, STEEPEST, out=shown)
    shown *= mask * np.float32(field_spread(acquisition[Quantity.LOCAL_FIELD][mask]))
    return shown
