"""What a network sees of an acquisition: its field, and maps that other methods make of it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
import torch

from napari_qsm.acquisition import Acquisition, FloatArray, Quantity
from napari_qsm.generators import relayed
from napari_qsm.methods.registry import find
from napari_qsm.networks.inverter import FIELD
from napari_qsm.process import Step

KNOWN = (Quantity.LOCAL_FIELD, Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE)
"""What the methods are given. A susceptibility that is there already is no part of it: networks
learned from maps that were made from nothing."""


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
        ``"field"``, or keys of methods, which run at their defaults.
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

        def part(step: Step, number: int = number) -> Step:
            return replace(step, fraction=(number + step.fraction) / len(names) * share)

        maps = yield from relayed(find(name)(acquisition, device=device), part)
        made[number] = maps[Quantity.CHI]
    return made
