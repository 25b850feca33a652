"""The user's own mask, taken as it is."""

import numpy as np
import torch

from napari_qsm.acquisition import Acquisition, Maps, Provenance, Quantity
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.process import Parameters, Step, Work


class GivenMask(Parameters):
    """A mask that is taken as it is has no parameters."""


@stage(
    key="given",
    label="Your own mask",
    summary="The mask that came with the measurement or was chosen by you, untouched.",
    place=Place.MASK,
    parameters=GivenMask,
    references=(),
    needs=(Quantity.MASK,),
    gives=(Quantity.MASK,),
    cpu_only=True,
)
def given(acquisition: Acquisition, parameters: GivenMask, device: torch.device) -> Work:
    """Return the mask bit for bit."""
    yield Step(0.0, "taking your mask as it is")
    count = int(np.count_nonzero(acquisition.mask))
    litres = count * float(np.prod(acquisition.grid.voxel_size)) / 1e6
    note = f"Your own mask of {count} voxels ({litres:.3g} litres) was left untouched."
    return Maps(
        acquisition.grid,
        {Quantity.MASK: acquisition.mask},
        Provenance(notes=(note,)),
    )
