"""Shapes of masks in mm: grown, shrunk, opened, closed, without holes, one piece.

The outside of a volume is never taken into account: a mask that reaches an edge is neither shrunk
there nor has a hole there. The generators pause between pieces of some ms.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_qsm.acquisition import FloatArray
from napari_qsm.generators import relayed
from napari_qsm.process import Step

T = TypeVar("T")
Mask = NDArray[np.bool_]
Shaping = Generator[None, None, Mask]

PIECE = 2**19
"""Voxels worked on at once."""


def pausing(
    work: Generator[None, None, T], fraction: float, message: str
) -> Generator[Step, None, T]:
    """Run a part that pauses but knows no fraction, saying the same at every pause."""
    return (yield from relayed(work, lambda _: Step(fraction, message)))


def dilated(mask: Mask, radius: float, voxel_size: Sequence[float]) -> Shaping:
    """Grow a mask to all voxels whose centre lies within `radius` (mm) of one of its centres.

    The squared distance is built up axis by axis, ``d_a(x) = min_k d_(a-1)(x + k) + (k size_a)^2``,
    which is exact.
    """
    squared = np.where(mask, np.float32(0), np.float32(np.inf))
    yield
    for axis, size in enumerate(voxel_size):
        reach = min(int(radius / size + 1e-6), mask.shape[axis] - 1)
        for slab in _slabs(mask.shape, axis):
            squared[slab] = _nearest(squared[slab], axis, reach, size)
            yield
    grown: Mask = squared <= radius**2 * (1 + 1e-5)
    return grown


def eroded(mask: Mask, radius: float, voxel_size: Sequence[float]) -> Shaping:
    """Shrink a mask to the voxels further than `radius` (mm) from everything it leaves out."""
    outside = yield from dilated(~mask, radius, voxel_size)
    return ~outside


def opened(mask: Mask, radius: float, voxel_size: Sequence[float]) -> Shaping:
    """Keep of a mask only what a ball of `radius` (mm) can reach inside it."""
    if radius <= 0:
        return mask
    core = yield from eroded(mask, radius, voxel_size)
    return (yield from dilated(core, radius, voxel_size))


def closed(mask: Mask, radius: float, voxel_size: Sequence[float]) -> Shaping:
    """Add to a mask whatever a ball of `radius` (mm) cannot reach from outside."""
    if radius <= 0:
        return mask
    grown = yield from dilated(mask, radius, voxel_size)
    return (yield from eroded(grown, radius, voxel_size))


def largest(mask: Mask) -> Mask:
    """Return the largest piece of a mask whose voxels hang together by faces."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    piece: Mask = labels == sizes.argmax()
    return piece


def filled(mask: Mask, largest_hole: float = np.inf) -> Mask:
    """Add what a mask encloses: voxels from which no path outside it leads to an edge.

    Holes of more than `largest_hole` voxels stay.
    """
    labels, count = ndimage.label(~mask)
    stays = np.zeros(count + 1, dtype=bool)
    for axis in range(3):
        for end in (0, -1):
            stays[np.unique(labels.take(end, axis))] = True
    if np.isfinite(largest_hole):
        stays |= np.bincount(labels.ravel(), minlength=count + 1) > largest_hole
    stays[0] = False
    whole: Mask = ~stays[labels]
    return whole


def _nearest(squared: FloatArray, axis: int, reach: int, size: float) -> FloatArray:
    result = squared.copy()
    for step in range(1, reach + 1):
        cost = np.float32((step * size) ** 2)
        low = (*(slice(None),) * axis, slice(None, -step))
        high = (*(slice(None),) * axis, slice(step, None))
        np.minimum(result[low], squared[high] + cost, out=result[low])
        np.minimum(result[high], squared[low] + cost, out=result[high])
    return result


def _slabs(shape: tuple[int, ...], axis: int) -> Iterator[tuple[slice, ...]]:
    """Cut a volume into slabs that keep `axis` whole."""
    across = 1 if axis == 0 else 0
    planes = shape[across]
    thick = max(1, PIECE * planes // (shape[0] * shape[1] * shape[2]))
    for start in range(0, planes, thick):
        yield (slice(None),) * across + (slice(start, start + thick),)
