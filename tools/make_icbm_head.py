"""Make the second shipped anatomy, on which nothing is trained, from three public sources.

    python tools/make_icbm_head.py ../shared/data/anatomy assets/anatomy

Cortex, white matter and fluid come from the ICBM 152 2009a symmetric template (Fonov et al. 2011,
doi:10.1016/j.neuroimage.2010.07.033), the deep grey nuclei from CIT168 (Pauli et al. 2018,
doi:10.1038/sdata.2018.63, CC BY 4.0), thalamus, hippocampus and amygdala from the BigBrain
(Xiao et al. 2019, doi:10.1038/s41597-019-0217-0, CC BY 4.0). All lie in MNI space, on 1 mm. Needs
nibabel, numpy, scipy and scikit-image; takes half a minute.
"""

import gzip
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from build_anatomy import LABEL, add_internal_capsule, distance_to, drop_islands
from scipy import ndimage
from skimage.segmentation import watershed

PIAL_MM = 1.0
"""Thickness of the CSF layer laid over the brain: the template is cut off at the pia in places."""

MARGIN_VOXELS = 4

DEEP_MM = 25.0
"""Fluid this far below the surface is called ventricle; it has the susceptibility of all fluid."""

CIT168 = {
    "putamen": (1, 2), "caudate": (3, 4), "accumbens": (5, 6), "external pallidum": (9, 10),
    "internal pallidum": (11, 12), "hypothalamus": (27, 28, 29, 30), "red nucleus": (15, 16),
    "substantia nigra": (13, 14, 17, 18), "subthalamic nucleus": (31, 32),
}  # fmt: skip
LIKELY = 90
"""Of 255: where a nucleus of CIT168 is taken for present."""

BIGBRAIN = {"hippocampus": (17, 18), "amygdala": (21, 22), "thalamus": (15, 16)}
PULVINAR_MM = -23.0
"""The thalamus behind this is pulvinar."""

SEEDS = {
    "cerebrum": [((0, 90), (-120, 90), (10, 90)), ((0, 90), (2, 90), (-80, 90)),
                 ((0, 90), (-40, 2), (-3, 10)), ((25, 90), (-25, 2), (-80, 0)),
                 ((12, 90), (-95, -82), (-5, 10)), ((40, 90), (-75, -40), (-10, 10)),
                 ((25, 60), (-70, -40), (-5, 10)), ((8, 30), (-75, -55), (1, 10))],
    "cerebellum": [((15, 42), (-75, -55), (-45, -32)), ((0, 15), (-75, -58), (-40, -15)),
                   ((4, 12), (-58, -50), (-16, -8)), ((30, 48), (-62, -48), (-45, -38)),
                   ((10, 25), (-60, -48), (-26, -20))],
    "brainstem": [((0, 8), (-32, -20), (-40, -12)), ((0, 5), (-46, -38), (-75, -50)),
                  ((0, 8), (-36, -30), (-16, -8))],
}  # fmt: skip
"""Boxes (ranges of abs x, y and z in mm) from which the three parts of the brain grow."""

TISSUE = 0.7
"""Share of grey and white matter that a voxel must have to be one of them."""

SOURCES = {
    "ICBM 152 2009a nonlinear symmetric template": "10.1016/j.neuroimage.2010.07.033",
    "CIT168 subcortical atlas, CC BY 4.0": "10.1038/sdata.2018.63",
    "BigBrain subcortical labels, CC BY 4.0": "10.1038/s41597-019-0217-0",
}


class Template:
    """The ICBM grid, its tissues, and what other atlases have on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        image = nib.load(self._path("t1"))
        self.affine = image.affine
        self.t1 = np.asarray(image.dataobj, dtype=np.float32)
        self.grey, self.white = (
            np.asarray(nib.load(self._path(name)).dataobj, dtype=np.float32) / 255
            for name in ("gm", "wm")
        )

    def _path(self, name: str) -> Path:
        return self.folder / "icbm152" / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"

    @property
    def position(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y and z in mm, to be broadcast."""
        axes = (np.arange(n) + self.affine[a, 3] for a, n in enumerate(self.t1.shape))
        return tuple(np.meshgrid(*axes, indexing="ij", sparse=True))

    def sampled(self, volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Nearest values of another atlas on the same axes; 0 beyond it."""
        found = []
        for axis, n in enumerate(self.t1.shape):
            at = (np.arange(n) + self.affine[axis, 3] - affine[axis, 3]) / affine[axis, axis]
            found.append(np.floor(at + 0.5).astype(int))
        inside = [(i >= 0) & (i < n) for i, n in zip(found, volume.shape, strict=True)]
        out = np.zeros(self.t1.shape, dtype=volume.dtype)
        out[np.ix_(*inside)] = volume[np.ix_(*(i[k] for i, k in zip(found, inside, strict=True)))]
        return out

    def cit168(self) -> np.ndarray:
        """Most likely nucleus of CIT168 where it is likely enough."""
        image = nib.load(self.folder / "cit168" / "CIT168.nii.gz")
        stored = np.asarray(image.dataobj)
        return self.sampled(np.where(stored["B"] >= LIKELY, stored["R"], 0), image.affine)

    def bigbrain(self) -> np.ndarray:
        """Labels of the BigBrain."""
        image = nib.load(self.folder / "bigbrain" / "bigbrain.nii.gz")
        return self.sampled(np.asarray(image.dataobj), image.affine)


def parts(template: Template, brain: np.ndarray) -> np.ndarray:
    """1 cerebrum, 2 cerebellum, 3 brainstem: regions that meet in the fluid between them."""
    ground = ndimage.gaussian_filter(template.grey + template.white, 0.7)
    markers = np.zeros(brain.shape, dtype=np.int32)
    axes = (abs(template.position[0]), *template.position[1:])
    for number, boxes in enumerate(SEEDS.values(), start=1):
        for box in boxes:
            x, y, z = ((a >= low) & (a <= high) for a, (low, high) in zip(axes, box, strict=True))
            markers[x & y & z & (ground > TISSUE)] = number
    return watershed(-ground, markers, mask=brain)


def tissues(template: Template) -> np.ndarray:
    """Label everything but the nuclei."""
    brain = ndimage.binary_fill_holes(template.t1 > 0)
    fluid = 1 - template.grey - template.white
    likeliest = np.stack([fluid, template.grey, template.white]).argmax(0)
    names = ("subarachnoid CSF", "cortex", "white matter")
    labels = np.array([LABEL[n] for n in names], dtype=np.uint8)[likeliest] * brain
    part = parts(template, brain)
    solid = labels != LABEL["subarachnoid CSF"]
    for old, new in (("cortex", "cerebellar cortex"), ("white matter", "cerebellar white matter")):
        labels[(part == 2) & (labels == LABEL[old])] = LABEL[new]
    _, _, z = template.position
    stem = (part == 3) & solid
    for name, low, high in (("medulla", -99, -46), ("pons", -46, -20), ("midbrain", -20, 99)):
        labels[stem & (z >= low) & (z < high)] = LABEL[name]
    deep = distance_to(~brain, 1.0) > DEEP_MM
    labels[deep & (labels == LABEL["subarachnoid CSF"])] = LABEL["ventricle"]
    layer = (distance_to(brain, 1.0) <= PIAL_MM) & ~brain
    labels[layer] = LABEL["subarachnoid CSF"]
    return labels


def add_nuclei(labels: np.ndarray, template: Template) -> None:
    """Draw in the nuclei, the BigBrain's first, where there is tissue."""
    _, y, _ = template.position
    solid = (labels > LABEL["subarachnoid CSF"]) | (labels == 0)
    for atlas, table in ((template.bigbrain(), BIGBRAIN), (template.cit168(), CIT168)):
        for name, members in table.items():
            labels[np.isin(atlas, members) & solid] = LABEL[name]
    labels[(labels == LABEL["thalamus"]) & (y < PULVINAR_MM)] = LABEL["pulvinar"]


def add_tracts(labels: np.ndarray, template: Template) -> None:
    """Name the white matter that differs: callosum, capsule, radiation, peduncle."""
    x, y, z = template.position
    # The Allen labels of the caudate's head and body are what that function asks for.
    add_internal_capsule(labels, np.where(labels == LABEL["caudate"], 6, 0), 1.0)
    white = labels == LABEL["white matter"]
    labels[white & (abs(x) < 12) & (abs(y + 5) < 42) & (z > -4) & (z < 30)] = LABEL[
        "corpus callosum"
    ]
    atrium = (labels == LABEL["ventricle"]) & (y < -28) & (abs(x) > 14)
    around = distance_to(atrium, 1.0)
    radiation = white & (around > 2) & (around < 7) & (abs(x) > 24) & (y < -28)
    labels[radiation] = LABEL["optic radiation"]
    nigra = distance_to(labels == LABEL["substantia nigra"], 1.0)
    red = distance_to(labels == LABEL["red nucleus"], 1.0)
    stem = np.isin(labels, [LABEL["midbrain"], LABEL["white matter"], LABEL["cortex"]])
    labels[stem & (nigra < 6) & (red > nigra + 4) & (z < -5) & (z > -22)] = LABEL[
        "cerebral peduncle"
    ]


def about(labels: np.ndarray) -> dict[str, object]:
    """Provenance."""
    present = set(np.unique(labels).tolist())
    return {
        "labels": {str(number): name for name, number in LABEL.items() if number in present},
        "absent": [name for name, number in LABEL.items() if number not in present],
        "sources": SOURCES,
        "licence": "CC BY 4.0 for the nuclei; the template is free to use, copy, modify and "
        "distribute with its copyright notice, see README.md",
        "changes": [
            "tissue of the template: the likeliest of grey, white and neither, on 1 mm",
            "cerebrum, cerebellum and brainstem parted by a watershed from fixed points",
            f"CIT168 nuclei where their probability is at least {LIKELY}/255; thalamus, "
            "hippocampus and amygdala of the BigBrain, nearest voxel",
            "pulvinar, callosum, internal capsule, optic radiation and peduncle by position",
            f"a {PIAL_MM:g} mm layer of CSF over the brain; detached voxels removed; cropped",
        ],
        "made_by": "tools/make_icbm_head.py",
    }


def build(source: Path, target: Path) -> None:
    """Read the atlases under `source`; write image and provenance to `target`."""
    template = Template(source)
    labels = tissues(template)
    add_nuclei(labels, template)
    add_tracts(labels, template)
    drop_islands(labels)
    box = ndimage.find_objects((labels > 0).astype(np.uint8))[0]
    start = np.array([axis.start for axis in box]) - MARGIN_VOXELS
    labels = np.pad(labels[box], MARGIN_VOXELS)
    affine = template.affine.copy()
    affine[:3, 3] += start
    made = nib.Nifti1Image(labels, affine)
    made.header["descrip"] = b"ICBM 152 2009a, CIT168, BigBrain: merged labels"
    path = target / "icbm_head.nii.gz"
    path.write_bytes(gzip.compress(made.to_bytes(), compresslevel=9, mtime=0))
    text = json.dumps(about(labels), indent=2) + "\n"
    (target / "icbm_head.json").write_text(text, encoding="utf-8")
    print(f"{path}: {labels.shape} voxels of 1 mm, {path.stat().st_size / 1e6:.2f} MB")
    for name, number in LABEL.items():
        print(f"{name:40s} {(labels == number).sum() / 1000:8.2f} ml")


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]))
