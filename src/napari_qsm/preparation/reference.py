"""What susceptibility is relative to: a constant makes no field, so somebody must choose."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from napari_qsm.acquisition import Acquisition, InputError, Maps, Provenance, Quantity
from napari_qsm.preparation.registry import stage
from napari_qsm.process import Parameters, Step, Work, parameter

Mask = NDArray[np.bool_]

LEAST_ML = 0.2
"""Least volume of a reference region in ml: less than that and its mean is mostly noise."""


class Reference(Parameters):
    """Parameters of the reference."""

    to: Literal["mask", "csf", "roi", "none"] = parameter(
        "mask",
        "The mean that becomes zero: of the mask, of the ventricles' fluid (needs R2*), of a "
        "region of labels, or none.",
    )
    label: int = parameter(
        0, "Number of the label that is the region; 0 takes all labels.", low=0, high=100000
    )
    csf_rate: float = parameter(5.0, "Highest R2* of fluid.", low=1.0, high=20.0, unit="1/s")
    csf_depth: float = parameter(
        30.0,
        "Largest distance of the ventricles from the centre of the mask.",
        low=5.0,
        high=80.0,
        unit="mm",
    )


@stage(
    key="reference",
    label="Reference",
    summary="What susceptibility is relative to: mask, fluid of the ventricles, or a region.",
    place=None,
    parameters=Reference,
    references=("10.1002/mrm.26946",),
    needs=(Quantity.CHI,),
    uses=(Quantity.MASK, Quantity.R2STAR, Quantity.LABELS),
    gives=(Quantity.CHI,),
    cpu_only=True,
)
def reference(acquisition: Acquisition, parameters: Reference, device: torch.device) -> Work:
    """Subtract the mean of chi in a region from all of the mask: ``chi - mean(chi[region])``.

    Ventricles are found as in MEDI+0 (Liu et al. 2018): voxels of low R2* near the centre of the
    mask, of which the pieces that hold at least a tenth of the largest are kept.

    Raises
    ------
    InputError
        If R2* or labels are missing, or the region is smaller than 0.2 ml.
    """
    yield Step(0.0, "looking for the reference")
    chi, mask = acquisition[Quantity.CHI], acquisition.mask
    if parameters.to == "none":
        note = "Susceptibility was left relative to what the method makes it relative to."
        return Maps(acquisition.grid, {Quantity.CHI: chi}, Provenance(notes=(note,)))
    region, name = _region(acquisition, parameters)
    yield Step(0.6, "subtracting the reference")
    mean = float(chi[region].mean(dtype=np.float64))
    shifted = np.where(mask, chi - np.float32(mean), np.float32(0))
    note = (
        f"Susceptibility is relative to {name} ({np.count_nonzero(region)} voxels, whose mean of "
        f"{mean:+.4f} ppm was subtracted)."
    )
    return Maps(acquisition.grid, {Quantity.CHI: shifted}, Provenance(notes=(note,)))


def _region(acquisition: Acquisition, parameters: Reference) -> tuple[Mask, str]:
    mask = acquisition.mask
    if parameters.to == "mask":
        return mask, "its mean in the mask"
    if parameters.to == "csf":
        region, name = _ventricles(acquisition, parameters), "the fluid of the ventricles"
    else:
        region, name = _labelled(acquisition, parameters.label), "a region of the labels"
        if parameters.label:
            name = f"label {parameters.label}"
    least = LEAST_ML * 1e3 / float(np.prod(acquisition.grid.voxel_size))
    if (count := int(np.count_nonzero(region))) < max(1.0, least):
        raise InputError(
            f"The reference region, {name}, has {count} voxels inside the mask where at least "
            f"{max(1, round(least))} were expected; choose another reference."
        )
    return region, name


def _labelled(acquisition: Acquisition, label: int) -> Mask:
    if Quantity.LABELS not in acquisition:
        raise InputError("A region as reference needs labels; choose a Labels layer or a file.")
    labels = np.rint(acquisition[Quantity.LABELS])
    region: Mask = (labels == label if label else labels > 0) & acquisition.mask
    return region


def _ventricles(acquisition: Acquisition, parameters: Reference) -> Mask:
    if Quantity.R2STAR not in acquisition:
        raise InputError(
            "The fluid of the ventricles is found by its R2*, which is missing; compute or choose "
            "an R2* map, or another reference."
        )
    mask, size = acquisition.mask, np.array(acquisition.grid.voxel_size)
    centre = np.array(ndimage.center_of_mass(mask))
    offsets = (
        ((np.arange(n) - c) * s) ** 2 for n, c, s in zip(mask.shape, centre, size, strict=True)
    )
    x, y, z = offsets
    near = x[:, None, None] + y[None, :, None] + z < parameters.csf_depth**2
    rate = acquisition[Quantity.R2STAR]
    fluid = mask & near & (rate > 0) & (rate < parameters.csf_rate)
    # One voxel of noise is no ventricle.
    pieces, count = ndimage.label(ndimage.binary_opening(fluid, iterations=1))
    if not count:
        empty: Mask = np.zeros_like(mask)
        return empty
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    kept: Mask = (sizes >= sizes.max() / 10)[pieces] & (pieces > 0)
    return kept
