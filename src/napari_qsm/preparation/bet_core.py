"""What a brain's surface is searched in: an even grid, an even signal, and nothing but the brain.

BET was made for images in which brain is the brightest large thing and in which fluid and bone
around it are dark. In a gradient echo the receive coils make the scalp several times as bright as
the middle of the brain, and neck, muscle and eyes are as bright as brain. So the signal is divided
by its own local mean, and tissue that hangs together with the brain through a bottleneck only is
told apart first.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import reconstruction
from skimage.segmentation import watershed

from napari_qsm.acquisition import FloatArray, InputError
from napari_qsm.preparation.morphology import (
    Mask,
    closed,
    dilated,
    eroded,
    filled,
    largest,
)

Points = NDArray[np.float64]
Spacing = tuple[float, float, float]

ADULT_RADIUS = 85.0
"""Radius in mm of the ball that holds as much as the tissue of an adult's head in a usual scan.

All lengths below are for such a head and are scaled with the radius that is found, so that a
child's head, a thin slab and a phantom are treated alike."""

SPACING = 2.0
"""Side of a voxel of the even grid, in mm."""

MOST_VOXELS = 2e6
"""Size of the even grid at most."""

FINEST = 0.6
"""Side of a voxel of the even grid over the shortest side of a measured one, at least."""

COIL_WIDTH = 25.0
"""Standard deviation in mm of the Gaussian that the local mean is taken with."""

SHALLOW, DEEP = 25.0, 45.0
"""Depths in mm under the head's outline between which less signal makes tissue."""

BOTTLENECK = 4.0
"""Two parts are told apart where the way between them is this much (mm) narrower, in radius, than
the narrower of them: between brain and neck, brain and eyes."""

LARGEST_HOLE = 1.5e5
"""Volume in mm3 of a hole in the tissue that is filled from the start: larger than a bleeding,
smaller than a skull that is closed in by scalp."""

THICKNESS = 8.0
"""Radius in mm of the ball that must fit into brain: scalp that touches it is thinner."""

ALLOWANCE = 4.0
"""How far in mm the surface may lie outside of what such balls reach."""


@dataclass(frozen=True, eq=False)
class Even:
    """A volume on a grid of nearly cubic voxels.

    Parameters
    ----------
    values : (X, Y, Z) array
        Signal.
    spacing : tuple[float, float, float]
        Sides of the voxels in mm; positions are in mm from the volume's first corner.
    scale : float
        Size of the head relative to `ADULT_RADIUS`.
    low, floor, high : float
        The signal of which 2 % of the volume has less, a tenth of the way up, and the signal of
        which 98 % has less (Smith's t2, t and t98).
    """

    values: FloatArray
    spacing: Spacing
    scale: float
    low: float
    floor: float
    high: float


def even(volume: FloatArray, voxel_size: tuple[float, float, float]) -> Even:
    """Bring a volume to the even grid: means where it gets coarser, linear where it gets finer."""
    size = np.array(voxel_size)
    count = np.array(volume.shape)
    sparse = volume[tuple(slice(n // 200, None, 1 + n // 100) for n in volume.shape)]
    low, high = np.percentile(sparse, [2, 98])
    high = high if high > low else volume.max()  # a tiny thing in a large volume
    floor = low + 0.1 * (high - low)
    extent = float(np.prod(count * size))
    radius = (3 / (4 * np.pi) * extent * float(np.mean(sparse > floor))) ** (1 / 3)
    scale = max(radius, 1e-3) / ADULT_RADIUS
    spacing = max(SPACING * scale, FINEST * size.min(), (extent / MOST_VOXELS) ** (1 / 3))
    shape = np.maximum(1, np.rint(count * size / spacing)).astype(int)
    values = torch.from_numpy(volume)[None, None]
    values = torch.nn.functional.interpolate(
        values, size=[int(n) for n in np.minimum(shape, count)], mode="area"
    )
    values = torch.nn.functional.interpolate(values, size=[int(n) for n in shape], mode="trilinear")
    x, y, z = (float(side) for side in count * size / shape)
    return Even(values[0, 0].numpy(), (x, y, z), scale, low, floor, high)


@dataclass(frozen=True, eq=False)
class Landscape:
    """What the surface moves in.

    Parameters
    ----------
    values : (X, Y, Z) array
        Signal over the local mean of tissue; zero in other tissue than brain, and nowhere less
        than `middle` deep in the brain, where ventricles and bleedings may be dark.
    spacing : tuple[float, float, float]
        Sides of the voxels in mm.
    scale : float
        See `Even`.
    centre : (3,) array
        Centre of gravity of the brain, in mm.
    radius : float
        Of a ball as large as the brain, in mm.
    low, floor, middle : float
        Smith's t2, t and tm.
    """

    values: FloatArray
    spacing: Spacing
    scale: float
    centre: Points
    radius: float
    low: float
    floor: float
    middle: float


def landscape(head: Even, threshold: FloatArray) -> Generator[None, None, Landscape]:
    """Even out the signal, find the brain's core and hide all other tissue.

    Parameters
    ----------
    head : Even
        The head.
    threshold : (X, Y, Z) array
        Least signal of tissue over the local mean.

    Raises
    ------
    InputError
        If nothing in the head is as thick as a brain.
    """
    flat, tissue = yield from _tissue(head, threshold)
    tissue = filled(tissue, LARGEST_HOLE * head.scale**3 / float(np.prod(head.spacing)))
    yield
    core = yield from _core(tissue, head.spacing, head.scale)
    if not core.any():
        raise InputError(
            "BET found nothing as thick as a brain in the magnitude; choose a smaller fractional "
            "threshold, another mask stage or your own mask."
        )
    allowed = yield from dilated(core, ALLOWANCE * head.scale, head.spacing)
    deep = filled((yield from closed(core, THICKNESS * head.scale, head.spacing)))
    low = float(np.percentile(flat, 2))
    middle, high = (float(v) for v in np.percentile(flat[core], [50, 98]))
    yield
    values = np.where(tissue & ~allowed & ~deep, np.float32(low), flat)
    values[deep] = np.maximum(values[deep], np.float32(middle))
    where = np.argwhere(deep)
    volume = len(where) * float(np.prod(head.spacing))
    return Landscape(
        values,
        head.spacing,
        head.scale,
        (where.mean(axis=0) + 0.5) * head.spacing,
        (3 * volume / (4 * np.pi)) ** (1 / 3),
        low,
        low + 0.1 * (high - low),
        middle,
    )


def _tissue(head: Even, threshold: FloatArray) -> Generator[None, None, tuple[FloatArray, Mask]]:
    """Divide by the local mean of tissue, and say what tissue is by that; each defines the other.

    Starting with everything above the floor, three rounds suffice. Deep in the head the threshold
    falls to a half: there fluid, iron and the middle of the coils are dark, but no scalp is near.
    """
    above = head.values > head.floor
    outline = filled(largest((yield from closed(above, ALLOWANCE * head.scale, head.spacing))))
    depth = ndimage.distance_transform_edt(outline, sampling=head.spacing)
    yield
    depth = (depth / head.scale - SHALLOW) / (DEEP - SHALLOW)
    threshold = threshold * (1 - 0.5 * np.clip(depth, 0, 1)).astype(np.float32)
    width = np.divide(COIL_WIDTH * head.scale, head.spacing)
    tissue, signal = above, np.minimum(head.values, np.float32(head.high))
    for _ in range(3):
        weighted = yield from _smooth(np.where(tissue, signal, 0), width)
        weight = yield from _smooth(tissue.astype(np.float32), width)
        known = weight > 1e-3
        mean = np.where(known, weighted / np.maximum(weight, 1e-3), np.inf).astype(np.float32)
        tissue = above & (signal > threshold * mean)
    return head.values / mean, tissue


def _smooth(values: FloatArray, width: Points) -> Generator[None, None, FloatArray]:
    values = values.astype(np.float32, copy=False)
    for axis in range(3):
        values = ndimage.gaussian_filter1d(
            values, width[axis], axis=axis, mode="nearest", truncate=3.0
        )
        yield
    return values


def _core(tissue: Mask, spacing: Spacing, scale: float) -> Generator[None, None, Mask]:
    """Return the largest part of the tissue between bottlenecks, less what is thin.

    The parts are the basins of the distance to the tissue's surface, shallow ones joined.
    """
    depth = ndimage.distance_transform_edt(tissue, sampling=spacing).astype(np.float32)
    yield
    peaks = _peaks(depth, BOTTLENECK * scale)
    yield
    parts = watershed(-depth, peaks, mask=tissue)
    yield
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    brain = largest(parts == sizes.argmax())
    yield
    inner = largest((yield from eroded(brain, THICKNESS * scale, spacing)))
    return (yield from dilated(inner, THICKNESS * scale, spacing))


def _peaks(depth: FloatArray, height: float) -> NDArray[np.int32]:
    """Label the tops that rise by more than `height` above the way to any higher one.

    A top is all that lies up to `height` below it: voxels apart that happen to be equally deep are
    one top. They are found on every second voxel along each axis, in an eighth of the time.
    """
    coarse = depth[::2, ::2, ::2]
    above = coarse - reconstruction(coarse - height, coarse)
    labels, count = ndimage.label(above > 0, np.ones((3, 3, 3)))
    highest = np.zeros(count + 1)
    np.maximum.at(highest, labels.ravel(), above.ravel())
    labels[(highest <= 0.999 * height)[labels] | (coarse <= height)] = 0
    peaks = np.zeros(depth.shape, dtype=np.int32)
    peaks[::2, ::2, ::2] = labels
    return peaks
