"""What the networks that separate sources share: their inputs, weights and what is said of them."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from torch import Tensor, nn

from napari_qsm.acquisition import Acquisition, FloatArray, Quantity
from napari_qsm.methods.frame import outside
from napari_qsm.methods.grounding import grounding
from napari_qsm.methods.learned import (
    MARGIN,
    framed,
    origin,
    precision_parameter,
    ready,
)
from napari_qsm.methods.registry import Step, parameter
from napari_qsm.methods.separation.shared import Separating, Sources, SourceSpace
from napari_qsm.methods.separation.susceptibility import inversions, susceptibility
from napari_qsm.networks import weights
from napari_qsm.networks.precision import Precision
from napari_qsm.networks.separator import Separator, Unrolled
from napari_qsm.networks.weights import Card
from napari_qsm.surroundings import bounding_box

PREPARED = 0.5
"""Fraction of the work after which the network runs."""

AS_LEARNED = "as learned"
"""Stands for the inversion that the weights learned with."""


class Learned(Separating):
    """Parameters of every network that separates."""

    inversion: str = parameter(
        AS_LEARNED,
        "Method that makes the susceptibility the network starts from: the one it learned with, "
        "another, or the given map.",
        choices=lambda: (AS_LEARNED, *inversions()),
    )
    precision: Precision = precision_parameter()


def opened(key: str, device: torch.device, family: str) -> tuple[Separator | Unrolled, Card]:
    """Return a network with its weights on a device, and its card.

    Raises
    ------
    InputError
        If there are no such weights, they are damaged, or belong to another family.
    """
    network, card = weights.load_separator(key, device)
    return ready(network, card, device, family), card


def measured_sources(
    acquisition: Acquisition,
    space: SourceSpace,
    card: Card,
    inversion: str,
    rate: FloatArray | None = None,
) -> Generator[Step, None, Tensor]:
    """Return ``y = [chi; R2'/Dr; field]`` in ppm, (1, 3, X, Y, Z), in the mask's box with a margin.

    Parameters
    ----------
    acquisition : Acquisition
        With a local field.
    space : SourceSpace
        Knows R2' and Dr.
    card : Card
        Of the weights.
    inversion : str
        Of what makes chi; `AS_LEARNED`, or ``"given"``.
    rate : (X, Y, Z) array, optional
        In 1/s, instead of R2'; it may be negative.

    Raises
    ------
    InputError
        If a given susceptibility is asked for and there is none.
    """
    learned, mask = card.design.channels[0], acquisition.mask
    space.notes.append(origin(card))
    if rate is not None and (rate[mask] < 0).any():
        space.notes.append("The network saw relaxation below 0 as it is; R2' counts as 0 there.")
    name = learned if inversion == AS_LEARNED else inversion
    made, told = yield from susceptibility(
        acquisition, name, space.device, label=space.label, share=PREPARED
    )
    space.notes += told
    if inversion not in (AS_LEARNED, learned):
        space.notes.append(f"The network learned with the maps of {learned}, not with these.")
    if reasons := outside(acquisition.grid, card):
        space.notes.append(
            f"The network learned from {' and '.join(reasons)}: this lies outside; the physics "
            "around the network is that of the data."
        )
    if space.relaxivity.positive != space.relaxivity.negative:
        space.notes.append("The network learned from heads whose Dr+ and Dr- differ little.")
    yield space.step(PREPARED, "finding the zero of susceptibility")
    decay = (space.r2prime if rate is None else rate) / np.float32(space.relaxivity.mean) * mask
    yield space.step(PREPARED, "finding the zero of susceptibility")
    shift = grounding(made, decay, mask)
    space.notes.append(
        f"{1e3 * shift:+.1f} ppb were added to the susceptibility, which makes it zero where "
        "relaxation says that there are no sources."
    )
    yield space.step(PREPARED, "preparing the network's input")
    field = acquisition[Quantity.LOCAL_FIELD] * mask
    volumes = np.stack([(made + np.float32(shift)) * mask, decay, field]).astype(np.float32)
    return framed(volumes[(slice(None), *bounding_box(mask))], space.device)


def sources_of(volumes: Tensor, acquisition: Acquisition, space: SourceSpace) -> Sources:
    """Return (1, 2, X, Y, Z) with a margin as padded sources, zero outside the mask."""
    inner = volumes[0]
    sides = [part.stop - part.start for part in bounding_box(acquisition.mask)]
    for axis, side in enumerate(sides, start=1):
        inner = inner.narrow(axis, MARGIN, side)
    missing = [whole - side for whole, side in zip(space.shape, sides, strict=True)]
    pads = [n for size in reversed(missing) for n in (0, size)]
    positive, negative = nn.functional.pad(inner, pads) * space.region()
    return Sources(positive, negative)
