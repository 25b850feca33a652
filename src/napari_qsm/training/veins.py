"""Cerebral veins: smooth tubes along named paths and over the convexity, and their volume share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from scipy import ndimage
from scipy.interpolate import make_interp_spline

from napari_qsm.acquisition import FloatArray
from napari_qsm.training.anatomy import Anatomy, Points, Sampling

Waypoint = tuple[float, float, float]

STEP_MM = 0.5
MINIMUM_STEPS = 20
LEVEL_MM = 3.5
"""Depth of the cortical veins in the smoothed, coarse depth map they walk on."""


@dataclass(frozen=True, eq=False)
class Vein:
    """A tube: points along its axis in atlas mm, and its diameter in mm."""

    path: Points
    diameter: float


# Waypoints in the right hemisphere, read off the atlas: the internal cerebral vein lies in the
# roof of the third ventricle, the thalamostriate vein between caudate and thalamus, the septal
# vein at the septum, the basal vein around the midbrain; all meet behind the pineal.
# Anatomy after Ono et al. 1984, Neurosurgery 15:621 (the deep venous system of the brain).
_PAIRED: Final[dict[str, tuple[float, list[Waypoint]]]] = {
    "internal cerebral": (2.0, [(3, -3, 5), (3, -12, 10), (2, -22, 10), (1, -30, 7), (0, -37, 7)]),
    "thalamostriate": (1.5, [(19, -24, 21), (15, -12, 19), (9, -5, 14), (3, -3, 5)]),
    "septal": (1.2, [(9, 30, 4), (4, 22, 2), (2, 10, 4), (3, -3, 5)]),
    "basal": (1.5, [(14, 2, -18), (19, -10, -15), (17, -24, -9), (9, -34, -2), (0, -37, 7)]),
    "atrial": (1.2, [(24, -42, 16), (16, -42, 14), (7, -40, 9), (0, -37, 7)]),
}  # fmt: skip
_MIDLINE: Final[tuple[float, list[Waypoint]]] = (
    4.0,
    [(0, -37, 7), (0, -44, 9), (0, -55, 4), (0, -68, -3), (0, -80, -10)],
)
_CORTICAL_PER_SIDE = 12
_MEDULLARY_PER_SIDE = 12


def venous_tree(anatomy: Anatomy, rng: np.random.Generator) -> list[Vein]:
    """Draw a venous tree: deep veins with a little wobble, medullary and cortical veins at random.

    Diameters are 0.7 mm (medullary), 1.2 to 2 mm (deep and cortical) and 4 mm (the great vein and
    the straight sinus).
    """
    veins = [Vein(_curve(_MIDLINE[1]), _MIDLINE[0])]
    for side in (1, -1):
        for diameter, waypoints in _PAIRED.values():
            wobble = rng.uniform(-0.8, 0.8, (len(waypoints), 3))
            wobble[[0, -1]] = 0  # ends stay where they join
            veins.append(Vein(_curve((np.array(waypoints) + wobble) * [side, 1, 1]), diameter))
        for _ in range(_MEDULLARY_PER_SIDE):
            y = rng.uniform(-30, 28)
            outer = np.array([rng.uniform(24, 36), y + rng.uniform(-6, 6), rng.uniform(26, 44)])
            inner = np.array([rng.uniform(14, 20), y, rng.uniform(18, 26)])
            bend = (outer + inner) / 2 + rng.uniform(-1.5, 1.5, 3)
            way = np.array([outer, bend, inner])
            veins.append(Vein(_curve(way * [side, 1, 1]), 0.7))
    return veins + _cortical_veins(anatomy, rng)


def _curve(waypoints: Sequence[Waypoint] | Points) -> Points:
    """Smooth curve through `waypoints`, a point every `STEP_MM`."""
    points = np.asarray(waypoints, dtype=np.float64)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    spline = make_interp_spline(length, points, k=min(3, len(points) - 1))
    curve: Points = spline(np.arange(0, length[-1], STEP_MM))
    return curve


def _cortical_veins(anatomy: Anatomy, rng: np.random.Generator) -> list[Vein]:
    """Veins that run over the convexity towards the midline, just below the outer surface.

    Each walks along a level surface of the depth below the outer CSF: a step towards its goal on
    the midline with the part along the depth's gradient taken out, then back onto the level.
    """
    depth, slope, spacing = _depth(anatomy)
    level = LEVEL_MM
    number = 2 * _CORTICAL_PER_SIDE

    surface = np.argwhere(np.abs(depth - level) < spacing / 2) * spacing + anatomy.origin
    lateral = (np.abs(surface[:, 0]) > 30) & (surface[:, 2] > 5)
    at = rng.permutation(surface[lateral])[:number].astype(np.float64)
    goal = np.stack(
        [
            np.sign(at[:, 0]) * 2,
            at[:, 1] * 0.8 + rng.normal(0, 12, len(at)),
            np.full(len(at), anatomy.origin[2] + anatomy.extent[2] - 6),
        ],
        axis=1,
    )
    drift = rng.standard_normal(at.shape)
    steps = [at]
    for _ in range(130):
        here = ((at - anatomy.origin) / spacing).T
        normal = np.stack(
            [ndimage.map_coordinates(g, here, order=1, mode="nearest") for g in slope]
        )
        normal = (normal / np.maximum(np.linalg.norm(normal, axis=0), 1e-3)).T
        below = ndimage.map_coordinates(depth, here, order=1, mode="nearest")
        drift = 0.9 * drift + 0.44 * rng.standard_normal(at.shape)
        way = goal - at
        way = way / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1.0) + 0.5 * drift
        way -= (way * normal).sum(1, keepdims=True) * normal
        way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-3)
        at = at + way + 0.5 * (level - below)[:, None] * normal
        steps.append(at)
    paths = [_until_midline(walk) for walk in np.stack(steps, axis=1)]
    # every fifth point: the spline smooths the zigzag about the level surface
    return [
        Vein(_curve(path[::5]), rng.uniform(1.2, 2.0))
        for path in paths
        if len(path) > MINIMUM_STEPS
    ]


@cache
def _depth(anatomy: Anatomy) -> tuple[FloatArray, FloatArray, float]:
    """Smoothed depth below the head's surface in mm, its gradient, and the voxel size of both."""
    coarse = 4
    head = anatomy.labels[::coarse, ::coarse, ::coarse] > 0
    spacing = anatomy.spacing * coarse
    distance = ndimage.distance_transform_edt(head, sampling=spacing).astype(np.float32)
    depth: FloatArray = ndimage.gaussian_filter(distance, 1.0)
    return depth, np.asarray(np.gradient(depth, spacing)), spacing


def _until_midline(walk: Points) -> Points:
    """Return the part of a walk before it reaches the midline."""
    arrived = np.flatnonzero(np.abs(walk[:, 0]) < 2.5)
    return walk[: arrived[0]] if len(arrived) else walk


def volume_share(veins: list[Vein], sampling: Sampling) -> FloatArray:
    """Fraction of every voxel of `sampling` that lies inside a vein.

    A vein is filled with points that carry its volume; each point's volume is shared among its
    eight neighbours by trilinear weights. That keeps the volume of a vein thinner than a voxel
    right at any voxel size.
    """
    paths = sampling.warp.inverse(np.vstack([vein.path for vein in veins]))
    ends = np.cumsum([len(vein.path) for vein in veins])[:-1]
    points, volumes = zip(
        *(
            _filled(path, vein.diameter)
            for path, vein in zip(np.split(paths, ends), veins, strict=True)
        ),
        strict=True,
    )
    place = (np.vstack(points) - sampling.start) / sampling.voxel_size
    volume = np.concatenate(volumes) / np.prod(sampling.voxel_size)
    share = np.zeros(np.prod(sampling.shape))
    low = np.floor(place).astype(np.int64)
    part = place - low
    for corner in np.ndindex(2, 2, 2):
        index = low + corner
        weight = np.prod(np.where(corner, part, 1 - part), axis=1) * volume
        inside = ((index >= 0) & (index < sampling.shape)).all(axis=1)
        flat = np.ravel_multi_index(tuple(index[inside].T), sampling.shape)
        share += np.bincount(flat, weight[inside], minlength=share.size)
    return share.clip(0, 1).reshape(sampling.shape).astype(np.float32)


def _filled(path: Points, diameter: float) -> tuple[Points, Points]:
    """Points that fill the tube about `path` evenly, (N, 3) in mm, and the mm^3 each stands for."""
    radius = diameter / 2
    number = max(4, round(6 * np.pi * radius**2))
    turn = np.arange(number) * np.pi * (3 - np.sqrt(5))  # a sunflower covers a disc evenly
    reach = radius * np.sqrt((np.arange(number) + 0.5) / number)
    along = np.gradient(path, axis=0)
    length = np.linalg.norm(along, axis=1, keepdims=True).clip(1e-6)
    along /= length
    helper = np.where(np.abs(along[:, :1]) < 0.8, [[1.0, 0, 0]], [[0, 1.0, 0]])
    first = np.cross(along, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    disc = np.cos(turn)[:, None] * first[:, None] + np.sin(turn)[:, None] * second[:, None]
    points = (path[:, None] + reach[:, None] * disc).reshape(-1, 3)
    return points, np.repeat(np.pi * radius**2 / number * length, number)
