"""BET: the brain is what an inflated surface comes to rest in."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np
import torch

from napari_qsm.acquisition import (
    Acquisition,
    FloatArray,
    Grid,
    InputError,
    Maps,
    Provenance,
    Quantity,
)
from napari_qsm.preparation.bet_core import ADULT_RADIUS, Even, Landscape, even, landscape
from napari_qsm.preparation.bet_mesh import Mesh, Points, winding
from napari_qsm.preparation.morphology import Mask, pausing
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.preparation.strength import combination_note, signal_strength
from napari_qsm.preparation.threshold import Threshold, threshold
from napari_qsm.preparation.voxels import steps
from napari_qsm.process import Parameters, Step, Work, parameter

LEVELS = ((3, 150), (4, 150))
"""Subdivisions of the mesh, and how often it is moved: a coarse mesh goes far, a fine one near."""

TIGHTEST, ROUNDEST = 6.0, 18.0
"""Radii of curvature in mm between which smoothing sets in. Smith has 3.33 and 10, with which the
surface slips through the thin bone of coarse gradient echoes."""

INWARD_MINIMUM, INWARD_MAXIMUM = 20.0, 10.0
"""How far in mm the surface looks inward for the least and the greatest signal (Smith 2002)."""

BEYOND = 20.0
"""How far in mm the first and the last voxels are continued outside the volume, which a surface
around a head that is cut off needs: at the neck, or in a slab."""

CROSSED = 0.002
"""Part of the mask that a surface may enclose twice before it has to be found again, smoother."""

LITRES = (0.8, 2.1)
"""What is unusual in a brain with its fluid is said."""


class BET(Parameters):
    """Parameters of brain extraction."""

    fractional_threshold: float = parameter(
        0.6,
        "Least signal of brain relative to its surroundings: higher values make the mask smaller. "
        "FSL's 0.5 compares; gradient echoes need a little more.",
        low=0.1,
        high=0.9,
    )
    gradient: float = parameter(
        0.0,
        "Change of the threshold over one radius towards the top of the head: above 0 makes the "
        "mask larger at the bottom and smaller at the top.",
        low=-0.5,
        high=0.5,
    )
    margin: float = parameter(
        0.0,
        "Move the surface outward (above 0) or inward (below) at the end.",
        low=-10,
        high=10,
        unit="mm",
    )


@stage(
    key="bet",
    label="BET",
    summary="Brain extraction: a surface inflated in the magnitude until it meets the skull.",
    place=Place.MASK,
    parameters=BET,
    references=("10.1002/hbm.10062",),
    needs=(Quantity.MAGNITUDE,),
    gives=(Quantity.MASK,),
    cpu_only=True,
)
def bet(acquisition: Acquisition, parameters: BET, device: torch.device) -> Work:
    """Inflate a closed surface inside the head until it comes to rest at the brain's border.

    Each vertex moves by ``s_t / 2 + f2 s_n + 0.05 f3 l n`` with s the way to the mean of its
    neighbours, split along and across the normal n, l the mean edge, f2 growing with curvature and
    f3 from the signal along the inward normal: ``f3 = 2 (I_min - I_t) / (I_max - t2)`` with
    ``I_t = t2 + b (I_max - t2)`` and b the fractional threshold. Reference: Smith 2002; what is
    done to the magnitude of a gradient echo before is said in `napari_qsm.preparation.bet_core`.

    Raises
    ------
    InputError
        If the magnitude is empty or holds nothing that could be a brain.
    """
    size = acquisition.grid.voxel_size
    volume = yield from pausing(signal_strength(acquisition), 0.0, "combining the echoes")
    yield Step(0.02, "looking for the head")
    head = even(volume, size)
    sides = _covered_sides(head)
    if sides > 3:
        return (yield from _everything(acquisition, sides, device))
    fraction = _fractions(acquisition.grid, head, parameters)
    land = yield from pausing(landscape(head, fraction), 0.05, "looking for the brain")
    mask, notes = yield from _extracted(land, fraction, parameters.margin, size, volume.shape)
    litres = float(np.count_nonzero(mask)) * float(np.prod(size)) / 1e6
    found = (
        f"BET drew a mask of {litres:.3g} litres in {combination_note(acquisition)} with a "
        f"fractional threshold of {parameters.fractional_threshold:g}."
    )
    return _maps(acquisition, mask, (found, *notes, *_doubts(litres)))


def _doubts(litres: float) -> list[str]:
    low, high = LITRES
    if low < litres < high:
        return []
    return [
        f"An adult's brain with its fluid has {low:g} to {high:g} litres; look at the mask and "
        "change the fractional threshold if it is wrong."
    ]


def _maps(acquisition: Acquisition, mask: Mask, notes: tuple[str, ...]) -> Maps:
    return Maps(acquisition.grid, {Quantity.MASK: mask}, Provenance(notes=notes))


def _covered_sides(head: Even) -> int:
    """Count the faces of the volume that are tissue by more than half."""
    above = head.values > head.floor
    return sum(bool(above.take(end, axis).mean() > 0.5) for axis in range(3) for end in (0, -1))


def _everything(acquisition: Acquisition, sides: int, device: torch.device) -> Work:
    """Do what the threshold stage does, and say so: a cut-out of a head shows no border to find."""
    magnitude = {Quantity.MAGNITUDE: acquisition[Quantity.MAGNITUDE]}
    alone = replace(acquisition, volumes=magnitude)
    maps = yield from threshold.function(alone, Threshold(), device)
    note = (
        f"There is no air around the head (tissue covers {sides} of the 6 sides of the volume), so "
        "BET has no border to find and did what the stage 'threshold' does with the magnitude."
    )
    return _maps(acquisition, maps[Quantity.MASK], (note, *maps.provenance.notes))


def _fractions(grid: Grid, head: Even, parameters: BET) -> FloatArray:
    """Return the fractional threshold of every voxel of the even grid."""
    fractions = np.full(head.values.shape, parameters.fractional_threshold, dtype=np.float32)
    if not parameters.gradient:
        return fractions
    above = np.argwhere(head.values > head.floor)
    radius = ADULT_RADIUS * head.scale
    top = grid.affine[2, :3] / grid.voxel_size
    for axis in range(3):
        along = np.arange(fractions.shape[axis]) - above[:, axis].mean()
        height = along * head.spacing[axis] * top[axis] / radius
        shape = [1, 1, 1]
        shape[axis] = -1
        fractions += (parameters.gradient * height).astype(np.float32).reshape(shape)
    return np.clip(fractions, 0.05, 0.95)


def _extracted(
    land: Landscape,
    fraction: FloatArray,
    margin: float,
    size: tuple[float, float, float],
    shape: tuple[int, int, int],
) -> Generator[Step, None, tuple[Mask, list[str]]]:
    """Find the surface, smoother if it cuts itself, and fill it."""
    notes = []
    for attempt, smoothness in enumerate((1.0, 2.0, 4.0)):
        start = 0.2 + 0.25 * attempt
        finding = _surface(land, fraction, smoothness)
        mesh, vertices = yield from steps(finding, "inflating", start, start + 0.25)
        if margin:
            vertices = vertices + margin * mesh.normals(vertices)
        counting = winding(mesh.faces, vertices / size - 0.5, shape)
        turns = yield from pausing(counting, start + 0.25, "filling the surface")
        mask = turns > 0
        crossed = np.count_nonzero((turns < 0) | (turns > 1))
        if crossed < CROSSED * np.count_nonzero(mask):
            break
    if attempt:
        notes.append(f"The surface cut itself, so it was made {smoothness:g} times as smooth.")
    if margin:
        notes.append(f"The surface was moved by {margin:+g} mm.")
    if not mask.any():
        raise InputError(
            "BET came to an empty mask; choose a smaller fractional threshold, another mask stage "
            "or your own mask."
        )
    return mask, notes


def _surface(
    land: Landscape, fraction: FloatArray, smoothness: float
) -> Generator[float, None, tuple[Mesh, Points]]:
    """Inflate the surface from within; hands out the fraction done."""
    forces = _Forces(land, fraction, smoothness)
    total, done = sum(rounds * 4**level for level, rounds in LEVELS), 0
    mesh, sphere = Mesh.sphere(LEVELS[0][0])
    vertices = land.centre + 0.5 * land.radius * sphere
    for index, (level, rounds) in enumerate(LEVELS):
        if index:
            mesh, vertices = mesh.refined(vertices)
        for round_ in range(rounds):
            vertices = vertices + forces(mesh, vertices)
            done += 4**level
            if round_ % 8 == 0:
                yield done / total
    return mesh, vertices


class _Forces:
    """The displacement of every vertex in one round; see `bet`."""

    def __init__(self, land: Landscape, fraction: FloatArray, smoothness: float) -> None:
        shape = np.array(land.values.shape)
        self._values, self._fraction = land.values.ravel(), fraction.ravel()
        self._stride = np.array([shape[1] * shape[2], shape[2], 1])
        self._last = shape - 1
        self._beyond = np.ceil(np.divide(BEYOND * land.scale, land.spacing))
        self._spacing = np.array(land.spacing)
        self._low, self._floor, self._middle = land.low, land.floor, land.middle
        reach = INWARD_MINIMUM * land.scale
        self._depths = np.linspace(0, reach, 1 + round(INWARD_MINIMUM))
        self._near = 1 + round(INWARD_MAXIMUM)
        tightest, roundest = (r * smoothness * land.scale for r in (TIGHTEST, ROUNDEST))
        self._bend = (1 / tightest + 1 / roundest) / 2
        self._steepness = 6 / (1 / tightest - 1 / roundest)

    def __call__(self, mesh: Mesh, vertices: Points) -> Points:
        normals = mesh.normals(vertices)
        length = mesh.edge_length(vertices)
        toward = mesh.neighbours_mean(vertices) - vertices
        across = np.einsum("ij,ij->i", toward, normals)[:, None]
        bend = 2 * np.abs(across) / length**2
        smoothing = 0.5 * (1 + np.tanh(self._steepness * (bend - self._bend)))
        outward = 0.05 * length * self._pull(vertices, normals)[:, None]
        along = toward - across * normals
        moved: Points = 0.5 * along + (smoothing * across + outward) * normals
        return moved

    def _pull(self, vertices: Points, normals: Points) -> Points:
        """Return f3: 1 and less where there is brain within, negative where there is none."""
        start = vertices / self._spacing - 0.5
        step = normals / self._spacing
        places = np.rint(start[:, None] - step[:, None] * self._depths[:, None]).astype(np.int64)
        inside = np.clip(places, 0, self._last)
        near = (np.abs(places - inside) <= self._beyond).all(axis=2)
        inside = inside @ self._stride
        signal = np.where(near, self._values[inside], self._low)
        least = np.clip(signal.min(axis=1), self._low, self._middle)
        most = np.clip(signal[:, : self._near].max(axis=1), self._floor, self._middle)
        span = most - self._low
        border = self._low + self._fraction[inside[:, 0]] * span
        pull: Points = 2 * (least - border) / span
        return pull
