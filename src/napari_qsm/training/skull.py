"""What lies around the brain: skull, scalp, muscle, neck, and air where heads have it.

These tissues make the background field and hide the brain from whoever looks for it. Shapes are
simple bodies placed by anatomy: layers at a distance from the brain, ellipsoids for face, sinuses,
eyes and ears. None of them reaches into the brain.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_qsm.acquisition import FloatArray, Grid
from napari_qsm.surroundings import bounding_box
from napari_qsm.training.anatomy import Points
from napari_qsm.training.phantom import FLIP_ANGLE, REPETITION_TIME, Head
from napari_qsm.training.tissues import ASSUMED, FLUID, STANISZ, TISSUES, Tissue, Water

SCHENCK: Final = "10.1118/1.597854"  # water -9.05 ppm, air +0.36 ppm
HOPKINS: Final = "10.1002/mrm.1910370404"  # bone -0.90e-6 (cgs), that is -11.3 ppm (SI)

NOTHING: Final = Water(0.0, 1.0, 0.0)
# fmt: off
SURROUNDINGS: Final = (
    Tissue("air", 9.41, 0.01, NOTHING, (SCHENCK,)),
    Tissue("bone", -2.25, 0.25, Water(0.15, 0.25, 1500.0), (HOPKINS, SCHENCK)),
    Tissue("muscle", 0.0, 0.02, Water(0.75, 1.41, 28.0), (ASSUMED, STANISZ)),
    Tissue("fat", 0.60, 0.10, Water(0.85, 0.37, 28.0), (ASSUMED,)),
    Tissue("marrow", -0.50, 0.20, Water(0.45, 0.40, 80.0), (ASSUMED,)),
    Tissue("eye and spinal canal", 0.0, 0.01, FLUID, (ASSUMED,)),
)
# fmt: on
"""Tissues outside the brain; labels follow on those of the brain. Their R2 is an R2*."""

SURROUNDING_LABEL: Final = {t.name: n for n, t in enumerate(SURROUNDINGS, len(TISSUES) + 1)}

FATTY: Final = ("fat", "marrow")
FAT_SHIFT: Final = -3.4
"""How far fat's protons resonate below water's, in ppm of B0."""

MARGINS_MM: Final = ((18.0, 18.0), (18.0, 26.0), (42.0, 18.0))
"""Room around the brain's box: left and right, back and front, below and above."""

SKULL_MM = 7.0
SCALP_MM = 6.5


@dataclass(frozen=True, eq=False)
class Scene:
    """A head with its surroundings before it is measured.

    Parameters
    ----------
    grid : Grid
        The head's grid, larger on all sides.
    labels : (X, Y, Z) array of uint8
        `LABEL` inside the brain, `SURROUNDING_LABEL` outside.
    brain : (X, Y, Z) array of bool
        Brain with its CSF.
    chi : (X, Y, Z) array
        Susceptibility in ppm relative to CSF.
    water, rate : (X, Y, Z) arrays
        Signal at TE = 0, and its decay without what susceptibility adds inside the brain, in 1/s.
    shift : (X, Y, Z) array
        Chemical shift in ppm.
    """

    grid: Grid
    labels: NDArray[np.uint8]
    brain: NDArray[np.bool_]
    chi: FloatArray
    water: FloatArray
    rate: FloatArray
    shift: FloatArray


@dataclass(frozen=True)
class Body:
    """An ellipsoid; an infinite radius makes it a cylinder.

    Parameters
    ----------
    tissue : str
        What fills it.
    centre, radii : three floats
        In mm, head axes (x right, y front, z up, anterior commissure at the origin).
    share : float
        Part of every voxel it takes; cells and mucosa leave the rest as it was.
    wall : float
        Thickness in mm of the bone around it.
    """

    tissue: str
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    share: float = 1.0
    wall: float = field(default=1.5, kw_only=True)

    def mirrored(self) -> Body:
        """Return the same body on the other side."""
        x, y, z = self.centre
        return replace(self, centre=(-x, y, z))

    def drawn(self, rng: np.random.Generator) -> Body:
        """Return another head's body: up to 12 % larger or smaller, moved by up to 1.5 mm."""
        x, y, z = np.array(self.centre) + rng.uniform(-1.5, 1.5, 3)
        a, b, c = np.array(self.radii) * rng.uniform(0.88, 1.12)
        return replace(self, centre=(float(x), float(y), float(z)), radii=(a, b, c))

    def depth(self, axes: tuple[Points, Points, Points]) -> FloatArray:
        """Depth in mm below the surface, to first order in the distance; negative outside."""
        x, y, z = (
            ((p - c) / r).astype(np.float32)
            for p, c, r in zip(axes, self.centre, self.radii, strict=True)
        )
        a, b, c = (np.float32(1 / r) for r in self.radii)
        x, y = x[:, None, None], y[:, None]
        length = np.sqrt(np.maximum(x * x + y * y + z * z, np.float32(1e-6)))
        steep = np.maximum((a * x) ** 2 + (b * y) ** 2 + (c * z) ** 2, np.float32(1e-12))
        depth: FloatArray = (1 - length) * length / np.sqrt(steep)
        return depth

    def box(self, axes: tuple[Points, Points, Points]) -> tuple[slice, slice, slice]:
        """Where the body can show, its wall and one soft edge included."""
        x, y, z = (
            slice(*np.searchsorted(p, (c - r - self.wall - s, c + r + self.wall + s)))
            for p, c, r, s in zip(axes, self.centre, self.radii, map(_spacing, axes), strict=True)
        )
        return x, y, z


_INF: Final = float("inf")
FACE: Final = Body("muscle", (0, 36, -52), (62, 60, 66))
NECK: Final = Body("muscle", (0, -32, 0), (58, 62, _INF))
NECK_TOP_MM: Final = -30.0
CANAL: Final = Body("eye and spinal canal", (0, -44, 0), (10, 10, _INF))
CANAL_TOP_MM: Final = -55.0

_PAIRED: Final = (
    Body("air", (13, 80, -6), (11, 6, 13)),  # frontal sinus
    Body("air", (27, 44, -66), (12, 16, 16)),  # maxillary sinus
    Body("air", (58, -24, -41), (21, 3.5, 3.5)),  # ear canal and middle ear
    Body("air", (57, -37, -49), (9, 12, 14), 0.6),  # mastoid cells
    Body("eye and spinal canal", (32, 60, -44), (12, 12, 12), wall=0.0),
)
_MIDLINE: Final = (
    Body("air", (0, 44, -50), (12, 20, 11), 0.8),  # ethmoid cells
    Body("air", (0, 12, -40), (14, 13, 10)),  # sphenoid sinus
    Body("air", (0, 48, -76), (12, 30, 15), 0.6),  # nasal cavity
    Body("air", (0, 2, -100), (9, 7, 46), wall=0.0),  # pharynx
)
BODIES: Final = (*_MIDLINE, *_PAIRED, *(body.mirrored() for body in _PAIRED))
"""Cavities and eyes, in the order in which they are drawn."""


def surrounded(head: Head) -> Scene:
    """Put a head's brain into a skull, the skull into a scalp, and air around it all.

    The skull follows the brain's surface, 7 mm thick with marrow in it, and opens for the medulla;
    scalp, face and neck follow, fat below their surface. Borders are softened over a voxel. Sinuses
    and ears vary with the head's seed.
    """
    canvas = _Canvas(head)
    outer = np.maximum(SKULL_MM + SCALP_MM - canvas.distance, FACE.depth(canvas.axes))
    z = canvas.axes[2]
    below = (NECK_TOP_MM - z).astype(np.float32)
    np.maximum(outer, np.minimum(NECK.depth(canvas.axes), below), out=outer)
    canvas.paint("muscle", outer)
    canvas.paint("fat", np.minimum(outer - 1.5, 5.5 - outer))
    del outer
    opening = np.minimum(CANAL.depth(canvas.axes), (CANAL_TOP_MM - z).astype(np.float32))
    canvas.paint("bone", np.minimum(SKULL_MM - canvas.distance, -opening))
    marrow = SKULL_MM / 2 - np.abs(canvas.distance - SKULL_MM / 2) - 2.2
    canvas.paint("marrow", np.minimum(marrow, z.astype(np.float32)))
    canvas.paint(CANAL.tissue, opening)
    rng = np.random.default_rng([head.seed, 4])  # streams 0 to 3 draw the brain
    for body in BODIES:
        canvas.carve(body.drawn(rng))
    return canvas.scene()


def _spacing(positions: Points) -> float:
    return float(positions[1] - positions[0]) if positions.size > 1 else 1.0


class _Canvas:
    """Volumes that tissues are painted into, one over the other; the brain is left alone."""

    def __init__(self, head: Head) -> None:
        # Sides and places are rounded so that a tilted head gets the same shapes, bit by bit.
        size = np.round(head.grid.voxel_size, 6)
        before, after = (np.ceil(np.array(MARGINS_MM).T / size).astype(int)).tolist()
        widths = list(zip(before, after, strict=True))
        affine = head.grid.affine.copy()
        affine[:3, 3] -= affine[:3, :3] @ before
        x, y, z = (n + sum(w) for n, w in zip(head.grid.shape, widths, strict=True))
        self.grid = Grid((x, y, z), affine)
        self.size = float(size.mean())
        start = np.round((affine[:3, :3] / size).T @ affine[:3, 3], 6)
        a, b, c = (s + d * np.arange(n) for s, d, n in zip(start, size, (x, y, z), strict=True))
        self.axes = (a, b, c)

        self.brain = np.pad(head.mask, widths)
        self.distance = _distance(self.brain, size)
        """Of every voxel from the brain's surface in mm, zero inside."""
        self.labels = np.pad(head.labels, widths)
        self.labels[~self.brain] = SURROUNDING_LABEL["air"]
        self.volumes = [np.pad(v, widths) for v in (head.chi, head.water, head.r2)]
        self.volumes[0][~self.brain] = SURROUNDINGS[0].chi
        self.volumes.append(np.zeros(self.grid.shape, dtype=np.float32))

    def paint(
        self,
        tissue: str,
        depth: FloatArray,
        box: tuple[slice, ...] = (slice(None),) * 3,
        share: float = 1.0,
    ) -> None:
        """Lay a tissue where `depth` (mm) is positive over what is there."""
        number = SURROUNDING_LABEL[tissue]
        made = SURROUNDINGS[number - len(TISSUES) - 1]
        shares = (depth * np.float32(1 / self.size) + np.float32(0.5)).clip(0, 1)
        shares *= np.float32(share)
        shares[self.brain[box]] = 0
        values = (
            made.chi,
            made.water.signal(REPETITION_TIME, FLIP_ANGLE),
            made.water.r2,
            FAT_SHIFT if tissue in FATTY else 0.0,
        )
        for volume, value in zip(self.volumes, values, strict=True):
            there = volume[box]
            there += shares * (np.float32(value) - there)
        self.labels[box][shares > 0.5] = number

    def carve(self, body: Body) -> None:
        """Draw a body with its bony wall, both outside the brain."""
        box = body.box(self.axes)
        x, y, z = (p[s] for p, s in zip(self.axes, box, strict=True))
        depth = body.depth((x, y, z))
        clearance = self.distance[box] - np.float32(2.0)  # bone and dura stay between
        if body.wall:
            self.paint("bone", depth + np.float32(body.wall), box)
        self.paint(body.tissue, np.minimum(depth, clearance), box, body.share)

    def scene(self) -> Scene:
        """Return what has been painted."""
        chi, water, rate, shift = self.volumes
        return Scene(self.grid, self.labels, self.brain, chi, water, rate, shift)


def _distance(brain: NDArray[np.bool_], size: Points) -> FloatArray:
    """Distance in mm from the border of `brain`; the nearest voxel outside has half a voxel.

    Beyond the scalp it does not matter and stays at a large value.
    """
    reach = 1.5 * (SKULL_MM + SCALP_MM)
    box = bounding_box(brain, int(np.ceil(reach / size.min())))
    distance = np.full(brain.shape, reach, np.float32)
    away = ndimage.distance_transform_edt(~brain[box], sampling=size)
    np.clip(away - size.mean() / 2, 0, reach, out=distance[box], casting="same_kind")
    return distance
