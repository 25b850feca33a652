"""What susceptibility is relative to, as an explicit and recorded choice.

A field does not change when the same susceptibility is added everywhere, so every map is relative
to something; two maps can be compared only if that is the same for both.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from scipy import ndimage

from napari_qsm.acquisition import Acquisition, InputError, Maps, Provenance, Quantity
from napari_qsm.preparation.morphology import Mask
from napari_qsm.preparation.registry import stage
from napari_qsm.preparation.strength import total_signal
from napari_qsm.process import Parameters, Step, Work, parameter
from napari_qsm.surroundings import bounding_box

FLUID_RATE = 5.0
"""R2* in 1/s below which there is nothing but fluid (Liu et al. 2018)."""

REACH = 30.0
"""How far in mm from the middle of the mask ventricles are looked for (Liu et al. 2018)."""

VOID = 0.2
"""Part of the median signal in the mask below which a rate is not trusted: bleedings, vessels."""

PIECES = 3
"""Ventricles that are not joined."""

MOST = 0.8
"""Part of the search region above which it cannot be ventricles."""

FEWEST = 30
"""Voxels a reference is taken from at least."""


class Reference(Parameters):
    """Parameters of the reference."""

    to: Literal["mask", "csf", "roi", "none"] = parameter(
        "mask",
        "Make the mean zero in the whole mask, in the ventricles (found by their R2*) or in "
        "labelled voxels, or leave the map as the method gave it.",
    )
    label: int | None = parameter(
        None,
        "Number of the label that is the reference for 'roi'; by itself all labelled voxels.",
        low=1,
        high=1_000_000,
        typical=1,
    )


@stage(
    key="reference",
    label="Reference",
    summary="What susceptibility is relative to: the mask, the ventricles, or a region.",
    place=None,
    parameters=Reference,
    references=("10.1002/mrm.26946",),
    needs=(Quantity.CHI,),
    uses=(Quantity.MASK, Quantity.R2STAR, Quantity.MAGNITUDE, Quantity.LABELS),
    gives=(Quantity.CHI,),
    cpu_only=True,
)
def reference(acquisition: Acquisition, parameters: Reference, device: torch.device) -> Work:
    """Subtract the mean susceptibility of a region: ``chi - mean(chi[region])`` in the mask.

    Outside the mask the map stays zero. The ventricles are found as in MEDI+0 (Liu et al. 2018):
    what has an R2* below 5 1/s within 30 mm of the middle of the mask, in its largest pieces.

    Raises
    ------
    InputError
        If what the choice needs is missing, or fewer than 30 voxels are found.
    """
    chi = acquisition[Quantity.CHI]
    yield Step(0.0, "looking for the reference")
    mask, notes = _mask(acquisition)
    if parameters.to == "none":
        notes.append("Susceptibility has the reference that the method gave it.")
        return Maps(acquisition.grid, {Quantity.CHI: chi}, Provenance(notes=tuple(notes)))
    if parameters.to == "mask":
        region, name = mask, "the mask"
    elif parameters.to == "csf":
        region, name = ventricles(acquisition, mask), "the ventricles (CSF)"
    else:
        region, name = _labelled(acquisition, mask, parameters.label)
    yield Step(0.5, "referencing")
    count = int(np.count_nonzero(region))
    mean = float(chi.sum(where=region, dtype=np.float64) / count)
    notes.append(
        f"Susceptibility is relative to its mean in {name}, {count} voxels ({mean:+.4f} ppm was "
        "subtracted)."
    )
    relative = np.where(mask, chi - np.float32(mean), np.float32(0))
    return Maps(acquisition.grid, {Quantity.CHI: relative}, Provenance(notes=tuple(notes)))


def _mask(acquisition: Acquisition) -> tuple[Mask, list[str]]:
    """Return where there is susceptibility: the mask, or what is not zero."""
    if Quantity.MASK in acquisition:
        return acquisition.mask, []
    mask = acquisition[Quantity.CHI] != 0
    if not mask.any():
        raise InputError("The susceptibility is zero everywhere, and there is no mask; choose one.")
    return mask, ["There is no mask, so every voxel that is not zero was taken to belong to it."]


def _labelled(acquisition: Acquisition, mask: Mask, label: int | None) -> tuple[Mask, str]:
    if Quantity.LABELS not in acquisition:
        raise InputError(
            "A region was asked for as the reference, but there are no labels; paint or choose "
            "labels, or another reference."
        )
    labels = acquisition[Quantity.LABELS]
    region: Mask = mask & (labels > 0 if label is None else labels == label)
    if not region.any():
        present = ", ".join(f"{n:g}" for n in np.unique(labels[mask & (labels > 0)])[:12])
        wanted = "label" if label is None else f"label {label}"
        raise InputError(
            f"There is no {wanted} in the mask, which holds the labels {present or '(none)'}; "
            "choose another region."
        )
    return region, "the labelled voxels" if label is None else f"the voxels of label {label}"


def ventricles(acquisition: Acquisition, mask: Mask) -> Mask:
    """Return the largest pieces with a rate as low as that of fluid near the middle of the mask.

    Raises
    ------
    InputError
        If there is no R2*, it is low nearly everywhere, or fewer than 30 voxels are found.
    """
    box = bounding_box(mask)
    fluid = _fluid(acquisition, mask, box)
    labels, _ = ndimage.label(fluid)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = np.argsort(-sizes, kind="stable")[:PIECES]
    kept = kept[sizes[kept] > sizes.max() / 10]
    region = np.zeros(mask.shape, dtype=bool)
    region[box] = np.isin(labels, kept) & fluid
    if (count := int(np.count_nonzero(region))) < FEWEST:
        raise InputError(
            f"Only {count} voxels near the middle of the mask have an R2* below {FLUID_RATE:g} 1/s "
            f"where {FEWEST} or more were expected of ventricles; choose another reference."
        )
    return region


def _fluid(acquisition: Acquisition, mask: Mask, box: tuple[slice, slice, slice]) -> Mask:
    """Return, in the mask's bounding box, what may be fluid near its middle."""
    if Quantity.R2STAR not in acquisition:
        raise InputError(
            "The ventricles are found by R2*, and there is none; measure two echoes or more, give "
            "R2*, or choose another reference."
        )
    middle = ndimage.center_of_mass(mask[box])
    places = np.ogrid[tuple(slice(0, s.stop - s.start) for s in box)]
    sides = acquisition.grid.voxel_size
    away = sum(((p - c) * s) ** 2 for p, c, s in zip(places, middle, sides, strict=True))
    near: Mask = mask[box] & (away <= REACH**2)
    fluid: Mask = near & (acquisition[Quantity.R2STAR][box] < FLUID_RATE)
    if Quantity.MAGNITUDE in acquisition:
        signal = total_signal(acquisition[Quantity.MAGNITUDE][box])
        fluid &= signal > VOID * np.median(signal[mask[box]])
    share = float(fluid.sum()) / max(1.0, float(near.sum()))
    if share > MOST:
        raise InputError(
            f"R2* is below {FLUID_RATE:g} 1/s in {share:.0%} of the voxels near the middle of the "
            "mask, which is no ventricle; check that R2* is in 1/s and not in 1/ms."
        )
    return fluid
