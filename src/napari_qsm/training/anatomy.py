"""The shipped anatomies, and their sampling on any grid of any head that resembles it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import FloatArray
from napari_qsm.resources import asset

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Labels of one head in atlas space (RAS mm, near the anterior commissure at the origin).

    Parameters
    ----------
    labels : (X, Y, Z) array of uint8
        Tissue numbers of `napari_qsm.training.tissues.LABEL`, 0 outside the head.
    origin : (3,) array
        Position of the centre of the first voxel in mm.
    spacing : float
        Side of a voxel in mm.
    """

    labels: NDArray[np.uint8]
    origin: Points
    spacing: float

    @property
    def extent(self) -> Points:
        """Side lengths of the box in mm."""
        return np.array(self.labels.shape) * self.spacing

    @property
    def centre(self) -> Points:
        """Middle of the box in mm."""
        middle: Points = self.origin + (np.array(self.labels.shape) - 1) * self.spacing / 2
        return middle


@cache
def read_head(name: str) -> Anatomy:
    """Read a shipped anatomy by the name of its file in ``assets/anatomy``, once per process.

    Raises
    ------
    FileNotFoundError
        If the installation lacks it.
    """
    image = nib.nifti1.load(asset("anatomy", f"{name}.nii.gz"))
    labels = np.ascontiguousarray(image.dataobj, dtype=np.uint8)
    affine = np.asarray(image.affine, dtype=np.float64)
    return Anatomy(labels, affine[:3, 3], float(affine[0, 0]))


def allen_head() -> Anatomy:
    """Return the head that networks learn from: Allen Human Reference Atlas, merged, with CSF.

    Ding et al. 2016, doi:10.1002/cne.24080, CC BY 4.0; see ``assets/anatomy/README.md``.
    """
    return read_head("allen_head")


def icbm_head() -> Anatomy:
    """Return the head that networks are tested on: ICBM 152 with nuclei of CIT168 and BigBrain.

    Fonov et al. 2011, doi:10.1016/j.neuroimage.2010.07.033; see ``assets/anatomy/README.md``.
    """
    return read_head("icbm_head")


class Warp:
    """A smooth random displacement ``u(p)`` that makes one head out of another.

    ``u`` is a sum of products of cosines along x, y and z, half waves down to about 35 mm, with
    weights falling off with frequency; its root mean square length is `amplitude`.

    Parameters
    ----------
    anatomy : Anatomy
        Its box carries the cosines.
    amplitude : float
        In mm.
    rng : numpy.random.Generator
        Draws the weights.
    """

    WAVES = 6

    def __init__(self, anatomy: Anatomy, amplitude: float, rng: np.random.Generator) -> None:
        self._start = anatomy.centre - anatomy.extent / 2
        self._extent = anatomy.extent
        n = np.arange(self.WAVES)
        order = n[:, None, None] ** 2 + n[None, :, None] ** 2 + n[None, None, :] ** 2
        weights = rng.standard_normal((self.WAVES,) * 3 + (3,)) / (2.0 + order[..., None])
        weights[0, 0, 0] = 0  # a shift of the whole head changes nothing
        # a cosine's mean square is 1 at order 0 and 1/2 above
        power = np.prod(np.where(np.indices((self.WAVES,) * 3) > 0, 0.5, 1.0), axis=0)
        rms = np.sqrt((weights**2 * power[..., None]).sum())
        self._weights = weights * (amplitude / rms)

    def _basis(self, axis: int, positions: Points) -> Points:
        phase = np.pi * (positions - self._start[axis]) / self._extent[axis]
        basis: Points = np.cos(phase[:, None] * np.arange(self.WAVES))
        return basis

    def on_grid(self, axes: tuple[Points, Points, Points]) -> FloatArray:
        """Displacement in mm on the grid spanned by positions (mm) along x, y, z: (3, X, Y, Z)."""
        x, y, z = (self._basis(axis, positions) for axis, positions in enumerate(axes))
        small = np.einsum("abcd,kc,jb->dajk", self._weights, z, y, optimize=True)
        grid: FloatArray = np.einsum(
            "dajk,ia->dijk", small.astype(np.float32), x.astype(np.float32), optimize=True
        )
        return grid

    def at(self, points: Points) -> Points:
        """Displacement in mm at `points`, (N, 3) in mm."""
        x, y, z = (self._basis(axis, points[:, axis]) for axis in range(3))
        products = np.einsum("na,nb,nc->nabc", x, y, z).reshape(len(points), -1)
        moved: Points = products @ self._weights.reshape(-1, 3)
        return moved

    def inverse(self, points: Points) -> Points:
        """Points p with ``p + u(p) = points``, by fixed-point iteration."""
        found = points
        for _ in range(4):
            found = points - self.at(found)
        return found


@dataclass(frozen=True, eq=False)
class Sampling:
    """Voxels of a head-aligned grid, and where each lies in the atlas.

    Parameters
    ----------
    anatomy : Anatomy
        What is sampled.
    warp : Warp
        The head is the atlas seen through it: position p of the head shows ``p + u(p)``.
    voxel_size : (3,) array
        In mm.
    """

    anatomy: Anatomy
    warp: Warp
    voxel_size: Points

    MARGIN_MM = 2.0

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along x, y, z."""
        x, y, z = np.ceil((self.anatomy.extent + 2 * self.MARGIN_MM) / self.voxel_size).astype(int)
        return int(x), int(y), int(z)

    @cached_property
    def start(self) -> Points:
        """Centre of the first voxel in mm."""
        first: Points = self.anatomy.centre - (np.array(self.shape) - 1) * self.voxel_size / 2
        return first

    @cached_property
    def atlas_position(self) -> FloatArray:
        """Atlas position in mm of every voxel's centre, (3, X, Y, Z)."""
        x, y, z = (
            self.start[a] + np.arange(n) * self.voxel_size[a] for a, n in enumerate(self.shape)
        )
        position = self.warp.on_grid((x, y, z))
        position[0] += x[:, None, None].astype(np.float32)
        position[1] += y[:, None].astype(np.float32)
        position[2] += z.astype(np.float32)
        return position

    def subvoxels(self, most: int = 3) -> Iterator[Points]:
        """Offsets in mm of equal parts of a voxel, about 0.5 mm wide but at most `most` a side."""
        parts = np.clip(np.round(self.voxel_size / self.anatomy.spacing), 1, most).astype(int)
        steps = [
            ((np.arange(n) + 0.5) / n - 0.5) * size
            for n, size in zip(parts, self.voxel_size, strict=True)
        ]
        for offset in product(*steps):
            yield np.array(offset)

    def labels(self, offset: Points) -> NDArray[np.uint8]:
        """Atlas labels at `offset` (mm) from every voxel's centre."""
        shape = self.anatomy.labels.shape
        index = np.zeros(self.shape, dtype=np.int32)
        outside = np.zeros(self.shape, dtype=bool)
        for axis, n in enumerate(shape):
            shift = np.float32(offset[axis] - self.anatomy.origin[axis])
            along = (self.atlas_position[axis] + shift) * np.float32(1 / self.anatomy.spacing)
            nearest = np.rint(along, out=along).astype(np.int32)
            outside |= (nearest < 0) | (nearest >= n)
            index *= n
            index += nearest.clip(0, n - 1, out=nearest)
        found: NDArray[np.uint8] = self.anatomy.labels.ravel()[index]
        found[outside] = 0
        return found


ANATOMIES: dict[str, Callable[[], Anatomy]] = {"allen": allen_head, "icbm": icbm_head}
"""Heads that populations are drawn from, by name."""
