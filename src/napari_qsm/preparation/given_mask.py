"""The user's own mask: taken as it is."""

from __future__ import annotations

import numpy as np
import torch

from napari_qsm.acquisition import Acquisition, Maps, Provenance, Quantity
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.process import Parameters, Step, Work


class Given(Parameters):
    """The given mask has no parameters."""


@stage(
    key="given",
    label="Given mask",
    summary="Your own mask, bit for bit.",
    place=Place.MASK,
    parameters=Given,
    references=(),
    needs=(Quantity.MASK,),
    gives=(Quantity.MASK,),
    cpu_only=True,
)
def given(acquisition: Acquisition, parameters: Given, device: torch.device) -> Work:
    """Pass the mask on untouched: no hole is filled and no piece is left out."""
    mask = acquisition.mask
    yield Step(0.0, "taking the mask as it is")
    count = int(np.count_nonzero(mask))
    litres = count * float(np.prod(acquisition.grid.voxel_size)) / 1e6
    note = f"The given mask of {count} voxels ({litres:.3g} litres) was left untouched."
    return Maps(acquisition.grid, {Quantity.MASK: mask}, Provenance(notes=(note,)))
