"""What the tissues of the digital head are made of: one table, each row with its source.

Susceptibilities are volume susceptibilities in ppm (SI) relative to cerebrospinal fluid. Published
means differ between cohorts, ages and reference regions by about as much as the spread given here;
a row is a round value that its sources support, not a transcription of one table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

R2PRIME_PER_PPM: Final = 137.0 / 3.0
"""Reversible relaxation in 1/s per ppm and tesla: 137 Hz/ppm at 3 T, proportional to B0.

Shin et al. 2021, doi:10.1016/j.neuroimage.2021.118371.
"""

MARQUES: Final = "10.1002/mrm.28716"  # in silico head of the QSM challenge 2.0, literature values
TREIT: Final = "10.1002/hbm.25569"  # deep grey matter, 498 healthy subjects
LI: Final = "10.1002/hbm.22360"  # grey and white matter over the lifespan
STRAUB: Final = "10.1002/mrm.26369"  # CSF 0.010, internal capsule -0.060, splenium -0.008 ppm
SCHAEFER: Final = "10.1002/hbm.21404"  # subthalamic nucleus 0.06, substantia nigra 0.1 ppm
DEISTUNG: Final = "10.1016/j.neuroimage.2012.09.055"  # thalamic substructure, cortex, tracts
LANGKAMMER: Final = "10.1016/j.neuroimage.2012.05.049"  # susceptibility against iron, post mortem
JAIN: Final = "10.1002/mrm.23282"  # blood: 4 pi (0.273 (1 - Y) - 0.008) Hct ppm
CHANG: Final = "10.1002/jmri.25143"  # haematomas: acute 1.30, subacute 1.14 to 0.40 ppm
DEISTUNG_CALCIUM: Final = "10.1371/journal.pone.0057924"  # calcifications against blood
STANISZ: Final = "10.1002/mrm.20605"  # T1 and T2 of brain and blood at 3 T
ASSUMED: Final = "assumed"


@dataclass(frozen=True)
class Water:
    """What the magnitude needs to know: water density, T1 in s, and R2 in 1/s at 3 T."""

    density: float
    t1: float
    r2: float

    def signal(self, repetition_time: float, flip_angle: float) -> float:
        """Spoiled gradient-echo signal at TE = 0: ``rho sin a (1 - E) / (1 - E cos a)``.

        Ernst & Anderson 1966, doi:10.1063/1.1719961; times in s, the angle in degrees.
        """
        decay = math.exp(-repetition_time / self.t1)
        angle = math.radians(flip_angle)
        return self.density * math.sin(angle) * (1 - decay) / (1 - decay * math.cos(angle))


# T1, T2: Stanisz et al. 2005 at 3 T; densities: Marques et al. 2021. Clot and stone are assumed.
WHITE = Water(0.70, 1.08, 14.5)
GREY = Water(0.82, 1.82, 10.1)
NUCLEUS = Water(0.78, 1.30, 12.5)
FLUID = Water(1.00, 4.30, 0.7)
BLOOD = Water(0.85, 1.93, 28.0)
CLOT = Water(0.75, 1.00, 30.0)
STONE = Water(0.25, 1.20, 25.0)


@dataclass(frozen=True)
class Tissue:
    """One row of the table.

    Parameters
    ----------
    name : str
        As in ``assets/anatomy/allen_head.json``.
    chi, spread : float
        Mean susceptibility in ppm relative to CSF, and the standard deviation of a voxel of a
        random head about it. Half of that variance is between heads, half within the structure.
    water : Water
        For the magnitude.
    sources : tuple[str, ...]
        DOIs behind `chi`, or "assumed".
    """

    name: str
    chi: float
    spread: float
    water: Water
    sources: tuple[str, ...]


# fmt: off
ANATOMY: Final = (
    Tissue("ventricle", 0.0, 0.002, FLUID, (STRAUB,)),
    Tissue("subarachnoid CSF", 0.0, 0.004, FLUID, (STRAUB,)),
    Tissue("white matter", -0.030, 0.010, WHITE, (MARQUES, LI)),
    Tissue("corpus callosum", -0.022, 0.010, WHITE, (STRAUB, LI)),
    Tissue("internal capsule", -0.065, 0.014, WHITE, (STRAUB, LI)),
    Tissue("optic radiation", -0.055, 0.012, WHITE, (DEISTUNG, LI)),
    Tissue("fornix, commissures and optic tract", -0.040, 0.012, WHITE, (ASSUMED,)),
    Tissue("cerebral peduncle", -0.050, 0.014, WHITE, (ASSUMED,)),
    Tissue("cerebellar white matter", -0.025, 0.010, WHITE, (ASSUMED,)),
    Tissue("cortex", 0.018, 0.010, GREY, (MARQUES, DEISTUNG)),
    Tissue("hippocampus", 0.005, 0.010, GREY, (ASSUMED,)),
    Tissue("amygdala", 0.005, 0.010, GREY, (ASSUMED,)),
    Tissue("claustrum", 0.015, 0.010, GREY, (ASSUMED,)),
    Tissue("basal forebrain", 0.010, 0.010, GREY, (ASSUMED,)),
    Tissue("caudate", 0.045, 0.012, NUCLEUS, (MARQUES, TREIT, LI)),
    Tissue("putamen", 0.050, 0.016, NUCLEUS, (MARQUES, TREIT, LI)),
    Tissue("accumbens", 0.030, 0.012, NUCLEUS, (ASSUMED,)),
    Tissue("external pallidum", 0.135, 0.026, NUCLEUS, (MARQUES, TREIT, LANGKAMMER)),
    Tissue("internal pallidum", 0.120, 0.026, NUCLEUS, (MARQUES, TREIT, LANGKAMMER)),
    Tissue("thalamus", 0.012, 0.012, NUCLEUS, (MARQUES, TREIT, DEISTUNG)),
    Tissue("pulvinar", 0.045, 0.016, NUCLEUS, (DEISTUNG,)),
    Tissue("hypothalamus", 0.010, 0.010, GREY, (ASSUMED,)),
    Tissue("subthalamic nucleus", 0.065, 0.020, NUCLEUS, (SCHAEFER,)),
    Tissue("red nucleus", 0.095, 0.022, NUCLEUS, (MARQUES, LI)),
    Tissue("substantia nigra", 0.110, 0.026, NUCLEUS, (SCHAEFER, MARQUES, LI)),
    Tissue("midbrain", -0.005, 0.010, WHITE, (ASSUMED,)),
    Tissue("pons", -0.012, 0.010, WHITE, (ASSUMED,)),
    Tissue("medulla", -0.015, 0.010, WHITE, (ASSUMED,)),
    Tissue("cerebellar cortex", 0.012, 0.010, GREY, (ASSUMED,)),
    Tissue("dentate", 0.110, 0.028, NUCLEUS, (MARQUES, LI)),
    Tissue("pineal", 0.010, 0.010, GREY, (ASSUMED,)),
)
"""Tissues in the order of the labels 1, 2, ... of the shipped anatomy."""

ADDED: Final = (
    Tissue("vein", 0.440, 0.040, BLOOD, (JAIN,)),  # Hct 0.40, oxygen extraction 35 %
    Tissue("haemorrhage core", 0.90, 0.280, CLOT, (CHANG,)),  # early to late subacute
    Tissue("haemorrhage rim", 1.30, 0.200, CLOT, (CHANG,)),  # the largest stage mean
    Tissue("calcification", -1.20, 0.200, STONE, (DEISTUNG_CALCIUM, MARQUES)),
)
"""Tissues that are drawn into the anatomy; their labels follow on."""
# fmt: on

TISSUES: Final = ANATOMY + ADDED
LABEL: Final = {tissue.name: number for number, tissue in enumerate(TISSUES, start=1)}

DEEP_GREY: Final = (
    "caudate", "putamen", "external pallidum", "internal pallidum", "thalamus", "pulvinar",
    "subthalamic nucleus", "red nucleus", "substantia nigra", "dentate",
)  # fmt: skip


def by_label(values: list[float]) -> NDArray[np.float32]:
    """Lay one value per tissue out so that indexing with a label finds it; 0 means outside."""
    return np.array([0.0, *values], dtype=np.float32)


def region_masks(labels: NDArray[np.uint8]) -> dict[str, NDArray[np.bool_]]:
    """Masks of the tissues and of the groups people ask for, empty ones left out."""
    groups = {
        "csf": ("ventricle", "subarachnoid CSF"),
        "grey matter": ("cortex", "cerebellar cortex", "hippocampus", "amygdala"),
        "deep grey matter": DEEP_GREY,
        "veins": ("vein",),
        "haemorrhage": ("haemorrhage core", "haemorrhage rim"),
    }
    members = {name: (name,) for name in LABEL} | groups
    present = set(np.unique(labels).tolist())
    regions = {}
    for region, names in members.items():
        belongs = np.zeros(256, dtype=bool)
        belongs[[LABEL[name] for name in names]] = True
        if belongs[list(present)].any():
            regions[region] = belongs[labels]
    return regions
