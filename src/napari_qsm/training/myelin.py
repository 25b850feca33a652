"""What of a tissue's susceptibility is diamagnetic: one row per tissue of the digital head.

The head's table says how much iron and myelin differ, ``chi = chi_pos - chi_neg`` relative to CSF;
this one adds how much there is of the diamagnetic part, so that ``chi_pos = chi + chi_neg``. Values
are of the order that source separation reports in vivo at 3 T: whole-brain means of 0.025 ppm of
either sign (Kim et al. 2025), nuclei led by iron and tracts led by myelin (Shin et al. 2021; the
atlas of 106 heads by Min et al. 2023). No one table is transcribed; every value is drawn with the
spread below, since laboratories differ by that much.
"""

from __future__ import annotations

from typing import Final

from napari_qsm.training.tissues import TISSUES

SHIN: Final = "10.1016/j.neuroimage.2021.118371"  # chi-separation, healthy heads at 3 T
KIM: Final = "10.1002/hbm.70136"  # chi-sepnet
MIN: Final = "10.48550/arXiv.2311.04468"  # normative atlas, 106 heads
HALLGREN: Final = "10.1111/j.1471-4159.1958.tb12607.x"  # non-haem iron by structure
STUBER: Final = "10.1016/j.neuroimage.2014.02.026"  # iron and myelin against relaxation
SOURCES: Final = (SHIN, KIM, MIN, HALLGREN, STUBER)

SPREAD: Final = 0.25
"""Relative standard deviation of a tissue's diamagnetic part between heads."""

# fmt: off
DIAMAGNETIC: Final[dict[str, float]] = {
    "ventricle": 0.001, "subarachnoid CSF": 0.002,
    "white matter": 0.048, "corpus callosum": 0.045, "internal capsule": 0.078,
    "optic radiation": 0.072, "fornix, commissures and optic tract": 0.055,
    "cerebral peduncle": 0.065, "cerebellar white matter": 0.042,
    "cortex": 0.014, "hippocampus": 0.014, "amygdala": 0.012, "claustrum": 0.014,
    "basal forebrain": 0.016,
    "caudate": 0.012, "putamen": 0.016, "accumbens": 0.014,
    "external pallidum": 0.024, "internal pallidum": 0.028,
    "thalamus": 0.030, "pulvinar": 0.028, "hypothalamus": 0.018,
    "subthalamic nucleus": 0.034, "red nucleus": 0.036, "substantia nigra": 0.030,
    "midbrain": 0.036, "pons": 0.040, "medulla": 0.040,
    "cerebellar cortex": 0.014, "dentate": 0.030, "pineal": 0.014,
    "vein": 0.008,
    "haemorrhage core": 0.006, "haemorrhage rim": 0.006, "calcification": 1.210,
}
"""chi_neg in ppm, a magnitude."""
# fmt: on

MEANS: Final = tuple(DIAMAGNETIC[tissue.name] for tissue in TISSUES)
"""The same in the order of the labels 1, 2, ..."""
