"""The head of the QSM challenge 2.0 as an anatomy to test on, where a folder has it.

One person's brain (Marques et al. 2021, doi:10.1002/mrm.28716), not drawn in the space of any
template. Its terms are not settled, so it is neither shipped nor trained on: recipes cannot name
it, and only this benchmark knows where it is.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from napari_qsm.training.anatomy import Anatomy, allen_head
from napari_qsm.training.tissues import LABEL

NAMES = (
    "caudate", "external pallidum", "putamen", "red nucleus", "dentate", "substantia nigra",
    "thalamus", "white matter", "cortex", "subarachnoid CSF", "vein",
)  # fmt: skip
"""Tissues of its labels 1 to 11; the rest is not brain, but for its stones (16), left out."""

BLOOD = 11
NUCLEI = ("caudate", "putamen", "thalamus")


@cache
def challenge_head(folder: Path) -> Anatomy:
    """Read ``SegmentedModel.nii.gz`` and ``BrainMask.nii.gz`` of a folder.

    Its veins are replaced by the tissue around them: every digital head grows its own. It is moved
    so that its nuclei lie where those of the Allen head do, with the commissure near the origin.
    """
    image = nib.nifti1.load(folder / "SegmentedModel.nii.gz")
    model = np.asarray(image.dataobj).astype(np.uint8)
    brain = np.asarray(nib.nifti1.load(folder / "BrainMask.nii.gz").dataobj) > 0
    table = np.full(256, LABEL["subarachnoid CSF"], dtype=np.uint8)
    table[1 : len(NAMES) + 1] = [LABEL[name] for name in NAMES]
    (box,) = ndimage.find_objects(brain.astype(np.uint8))
    wide = tuple(slice(max(part.start - 4, 0), part.stop + 4) for part in box)
    model, brain = model[wide], brain[wide]
    _, near = ndimage.distance_transform_edt(model == BLOOD, return_indices=True)
    labels = table[model[tuple(near)]] * brain
    spacing = float(image.header.get_zooms()[0])
    return Anatomy(labels, _middle(allen_head()) - _centroid(labels) * spacing, spacing)


def _middle(anatomy: Anatomy) -> np.ndarray:
    return anatomy.origin + _centroid(anatomy.labels) * anatomy.spacing


def _centroid(labels: np.ndarray) -> np.ndarray:
    """Mean index of the large nuclei."""
    middle: np.ndarray = np.argwhere(np.isin(labels, [LABEL[n] for n in NUCLEI])).mean(axis=0)
    return middle
