"""Lesions that are drawn into the anatomy: an intracerebral haemorrhage and a calcification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import FloatArray
from napari_qsm.training.anatomy import Points, Sampling
from napari_qsm.training.tissues import LABEL


@dataclass(frozen=True, eq=False)
class Lesion:
    """A lobulated body: a smooth union of balls, in shells of different tissue.

    Parameters
    ----------
    centres, radii : (N, 3) and (N,) arrays
        The balls in atlas mm.
    shells : tuple of (float, str)
        Depth in mm below the surface from which on a tissue fills the body, outermost first.
    blend : float
        Width in mm over which neighbouring balls melt together.
    """

    centres: Points
    radii: Points
    shells: tuple[tuple[float, str], ...]
    blend: float = 1.0

    @property
    def box(self) -> tuple[Points, Points]:
        """Corners of a box around the body, in atlas mm."""
        reach = self.radii[:, None] + 3 * self.blend
        return (self.centres - reach).min(axis=0), (self.centres + reach).max(axis=0)

    def depth(self, position: FloatArray) -> FloatArray:
        """Depth in mm below the surface at `position` (3, ...), negative outside.

        The smooth minimum of the distances to the balls,
        ``b log sum_i exp((r_i - |p - c_i|) / b)``.
        """
        total = np.zeros(position.shape[1:], dtype=np.float32)
        for centre, radius in zip(self.centres, self.radii, strict=True):
            away = sum((position[a] - np.float32(centre[a])) ** 2 for a in range(3))
            total += np.exp((np.float32(radius) - np.sqrt(away)) / np.float32(self.blend))
        depth: FloatArray = np.float32(self.blend) * np.log(np.maximum(total, 1e-30))
        return depth

    def painter(self, sampling: Sampling) -> Callable[[NDArray[np.uint8], Points], None]:
        """Return a function ``(labels, offset)`` that draws the lesion into sampled labels."""
        low, high = self.box
        near = np.ones(sampling.shape, dtype=bool)
        for axis in range(3):
            near &= sampling.atlas_position[axis] > low[axis] - sampling.voxel_size[axis]
            near &= sampling.atlas_position[axis] < high[axis] + sampling.voxel_size[axis]
        position = sampling.atlas_position[:, near]  # in the order in which `near` selects

        def paint(labels: NDArray[np.uint8], offset: Points) -> None:
            depth = self.depth(position + offset[:, None].astype(np.float32))
            values = labels[near]
            for start, name in self.shells:
                # Blood tracks through tissue but here does not break into the CSF.
                values[(depth > start) & (values > LABEL["subarachnoid CSF"])] = LABEL[name]
            labels[near] = values

        return paint


def haemorrhage(rng: np.random.Generator) -> Lesion:
    """Draw a lobulated haematoma, 16 to 24 mm wide, lateral in the right putamen.

    The commonest site of a hypertensive bleeding; with a haemosiderin rim of 1.2 mm.
    """
    heart = np.array([30.0, -6.0, 8.0]) + rng.uniform(-1.5, 1.5, 3)
    ways = rng.standard_normal((6, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    lobes = heart + ways * rng.uniform(6.0, 9.0, (6, 1)) * [0.7, 1.2, 1.0]
    return Lesion(
        centres=np.vstack([heart, lobes]),
        radii=np.concatenate([[6.0], rng.uniform(3.5, 5.5, 6)]),
        shells=((0.0, "haemorrhage rim"), (1.2, "haemorrhage core")),
        blend=0.8,
    )


def calcification(rng: np.random.Generator) -> Lesion:
    """Draw a calcified nodule, 4 to 6 mm wide, in the left frontal white matter."""
    heart = np.array([-25.0, 28.0, 20.0]) + rng.uniform(-1.0, 1.0, 3)
    return Lesion(
        centres=heart + rng.uniform(-1.0, 1.0, (3, 3)),
        radii=rng.uniform(1.4, 2.0, 3),
        shells=((0.0, "calcification"),),
        blend=0.4,
    )


LESIONS: dict[str, Callable[[np.random.Generator], Lesion]] = {
    "haemorrhage": haemorrhage,
    "calcification": calcification,
}
