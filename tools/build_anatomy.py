"""Make the shipped anatomy from the Allen Human Reference Atlas.

    python tools/build_anatomy.py AllenAtlas.nii.gz assets/anatomy

The atlas (Ding et al. 2016, doi:10.1002/cne.24080, CC BY 4.0) labels 141 structures of one brain on
a 0.5 mm grid. What matters for susceptibility is fewer tissues and one the atlas leaves out: the
cerebrospinal fluid around the brain. Needs nibabel, numpy and scipy; takes about a minute.
"""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

CISTERN_MM = 6.0
"""Sulci and cisterns narrower than twice this become CSF (a closing of the brain)."""

PIAL_MM = 1.0
"""Thickness of the CSF layer over the gyri; about that of the subarachnoid space."""

CAPSULE_MM = 7.0
"""White matter this close to the nuclei on both its sides is internal capsule."""

MARGIN_VOXELS = 4

TISSUES: dict[str, list[int]] = {
    "ventricle": [57, 58, 59, 60, 61, 119, 129, 130, 141],
    "subarachnoid CSF": [],
    "white matter": [51],
    "corpus callosum": [53],
    "internal capsule": [],
    "optic radiation": [140],
    "fornix, commissures and optic tract": [52, 54, 55, 56, 65],
    "cerebral peduncle": [117],
    "cerebellar white matter": [64, 118, 127, 128],
    "cortex": [*range(1, 6), *range(66, 105), 108, 109, 110, 132, 133, *range(135, 140)],
    "hippocampus": [105, 106, 107],
    "amygdala": list(range(16, 26)),
    "claustrum": [13],
    "basal forebrain": [14, 15, 26],
    "caudate": [6, 7, 8],
    "putamen": [9, 134],
    "accumbens": [10],
    "external pallidum": [11],
    "internal pallidum": [12],
    "thalamus": [27, 28, 29, 30, 31, 32, *range(34, 43), 131],
    "pulvinar": [33],
    "hypothalamus": [44, 46, 47, 48, 49, 50],
    "subthalamic nucleus": [45],
    "red nucleus": [113],
    "substantia nigra": [114],
    "midbrain": [111, 112, 115, 116],
    "pons": [122, 123],
    "medulla": [124, 125, 126],
    "cerebellar cortex": [62, 120, 121],
    "dentate": [63],
    "pineal": [43],
}
"""Tissue names in label order (1, 2, ...) and the atlas labels each one gathers."""

PALLIDUM = ("external pallidum", "internal pallidum")

LABEL = {name: number for number, name in enumerate(TISSUES, start=1)}


def merged(atlas: np.ndarray) -> np.ndarray:
    """Replace the atlas labels by the tissues of `TISSUES`."""
    table = np.zeros(256, dtype=np.uint8)
    for name, members in TISSUES.items():
        table[members] = LABEL[name]
    unused = set(np.unique(atlas)) - {0} - {m for members in TISSUES.values() for m in members}
    if unused:
        raise SystemExit(f"The atlas labels {sorted(unused)} belong to no tissue.")
    return table[atlas]


def distance_to(region: np.ndarray, spacing: float) -> np.ndarray:
    """Distance in mm of every voxel to `region`."""
    return ndimage.distance_transform_edt(~region, sampling=spacing).astype(np.float32)


def add_internal_capsule(labels: np.ndarray, atlas: np.ndarray, spacing: float) -> None:
    """Relabel the white matter between the lentiform nucleus and caudate or thalamus.

    The caudate's tail (atlas label 8) is left out: it follows the temporal horn, away from the
    capsule.
    """
    lentiform = np.isin(labels, [LABEL[n] for n in ("putamen", *PALLIDUM)])
    medial = np.isin(labels, [LABEL[n] for n in ("thalamus", "pulvinar")]) | np.isin(atlas, [6, 7])
    box = ndimage.find_objects((lentiform | medial).astype(np.uint8))[0]
    between = distance_to(lentiform[box], spacing) < CAPSULE_MM
    between &= distance_to(medial[box], spacing) < CAPSULE_MM
    part = labels[box]
    part[between & (part == LABEL["white matter"])] = LABEL["internal capsule"]


def add_fluid(labels: np.ndarray, spacing: float) -> None:
    """Fill holes, sulci and cisterns and lay a thin layer over the gyri, all of it CSF."""
    brain = labels > 0
    grown = distance_to(brain, spacing) <= CISTERN_MM
    closed = distance_to(~grown, spacing) > CISTERN_MM
    inside = distance_to(closed | brain, spacing) <= PIAL_MM
    inside = ndimage.binary_fill_holes(inside)
    labels[inside & ~brain] = LABEL["subarachnoid CSF"]


def drop_islands(labels: np.ndarray) -> None:
    """Clear everything that does not touch the largest piece of the head."""
    pieces, count = ndimage.label(labels > 0)
    if count > 1:
        labels[pieces != np.bincount(pieces.ravel())[1:].argmax() + 1] = 0


def build(source: Path, target: Path) -> None:
    """Read the atlas at `source` and write image, label table and provenance to `target`."""
    image = nib.load(source)
    spacing = float(image.header.get_zooms()[0])
    pad = int((CISTERN_MM + PIAL_MM) / spacing) + MARGIN_VOXELS
    atlas = np.pad(np.asarray(image.dataobj), pad)
    labels = merged(atlas)
    add_internal_capsule(labels, atlas, spacing)
    add_fluid(labels, spacing)
    drop_islands(labels)

    box = ndimage.find_objects((labels > 0).astype(np.uint8))[0]
    start = np.array([axis.start - MARGIN_VOXELS for axis in box])
    stop = np.array([axis.stop + MARGIN_VOXELS for axis in box])
    labels = labels[tuple(map(slice, start, stop))]
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ (start - pad)

    made = nib.Nifti1Image(labels, affine)
    made.header["descrip"] = b"Allen Human Reference Atlas, Ding 2016, CC BY 4.0, merged"
    target.mkdir(parents=True, exist_ok=True)
    nib.save(made, target / "allen_head.nii.gz")
    about = {
        "labels": {str(number): name for name, number in LABEL.items()},
        "source": "Allen Human Reference Atlas 3D, v1.0: Ding SL et al., "
        "Comprehensive cellular-resolution atlas of the adult human brain, "
        "J Comp Neurol 2016;524:3127-3481",
        "doi": "10.1002/cne.24080",
        "licence": "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/",
        "attribution": "Allen Institute for Brain Science",
        "changes": [
            f"141 structures merged into {len(TISSUES)} tissues",
            f"white matter within {CAPSULE_MM:g} mm of both lentiform nucleus and caudate "
            "or thalamus relabelled internal capsule",
            f"holes, sulci and cisterns up to {2 * CISTERN_MM:g} mm wide and a {PIAL_MM:g} mm "
            "layer over the gyri labelled subarachnoid CSF; detached voxels removed",
            "cropped to the head; resolution and orientation unchanged",
        ],
        "made_by": "tools/build_anatomy.py",
    }
    (target / "allen_head.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    size = (target / "allen_head.nii.gz").stat().st_size / 1e6
    print(f"{target / 'allen_head.nii.gz'}: {labels.shape} voxels of {spacing} mm, {size:.2f} MB")


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]))
