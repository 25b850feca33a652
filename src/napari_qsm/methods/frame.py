"""A network's frame: voxels and a B0 direction it learned from, there and back.

What lies inside the ranges of a network's card is only stored in another order of axes, which
changes no value. What lies outside is interpolated to cubes with B0 along the third axis, inverted
there, and brought back; its residual is computed with the physics of the original grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from napari_qsm.acquisition import Acquisition, FloatArray, Grid, Maps, Quantity
from napari_qsm.generators import relayed
from napari_qsm.methods.axes import in_order, passed_on
from napari_qsm.methods.field_error import carry_over
from napari_qsm.methods.learned import working
from napari_qsm.methods.registry import Reconstruction, Step, parameter
from napari_qsm.methods.resampling import extended, interpolated, sampled
from napari_qsm.methods.workspace import Workspace
from napari_qsm.networks.background import in_background
from napari_qsm.networks.weights import Card
from napari_qsm.surroundings import fitting_threads

FrameChoice = Literal["auto", "never", "always"]
"""Whether to interpolate: where the network has not learned from such voxels, never, always."""

TOLERANCE = 0.02
"""Relative distance outside a range that still counts as inside."""

ALONG = 1.0
"""Degrees between B0 and a voxel axis up to which nothing is to be turned."""

LAYERS = 4
"""Voxels by which maps are continued beyond the mask, so that its edge does not ring."""

THERE, BACK = 0.1, 0.9
"""Fractions of the work at which the inversion in the frame begins and ends."""

RELATIVE = "Susceptibility is relative to its mean"


def frame_parameter() -> Any:
    """Declare the parameter ``frame`` that methods with a network share."""
    return parameter(
        "auto",
        "Whether field and magnitude are interpolated to cubic voxels along B0 and the maps back: "
        "auto does so where voxel size, anisotropy or tilt lie outside what the network learned.",
    )


@dataclass(frozen=True)
class Frame:
    """Cubes that an acquisition is interpolated to.

    Parameters
    ----------
    grid : Grid
        Of the cubes.
    matrix : (4, 4) array
        From their voxel indices to those of the acquisition.
    told : str
        What was done and why, a sentence.
    """

    grid: Grid
    matrix: NDArray[np.float64]
    told: str

    @property
    def inverse(self) -> NDArray[np.float64]:
        """From the acquisition's voxel indices to those of the cubes."""
        return np.linalg.inv(self.matrix).astype(np.float64)


def outside(grid: Grid, card: Card) -> list[str]:
    """Say how a grid lies outside of what a network learned from; empty if it lies inside."""
    sides, ratio = grid.voxel_size, max(grid.voxel_size) / min(grid.voxel_size)
    low, high = card.voxel_size
    found = []
    if not low * (1 - TOLERANCE) <= min(sides) <= high * (1 + TOLERANCE):
        found.append(f"voxels with sides of {low:g} to {high:g} mm")
    if ratio > card.anisotropy * (1 + TOLERANCE):
        found.append(f"sides that differ by a factor of {card.anisotropy:g} at most")
    if grid.angle_to_b0 > max(card.tilt, ALONG):
        found.append(f"B0 at most {card.tilt:g} degrees off a voxel axis")
    return found


def frame(acquisition: Acquisition, card: Card, wanted: FrameChoice) -> Frame | None:
    """Return the frame an acquisition must be brought to, None if it can stay as it is."""
    grid = acquisition.grid
    reasons = outside(grid, card)
    if wanted == "never" or (wanted == "auto" and not reasons):
        return None
    sides = np.array(grid.voxel_size)
    side = float(np.clip(sides.min(), *card.voxel_size))
    turn = grid.angle_to_b0 > (ALONG if wanted == "always" else max(card.tilt, ALONG))
    rotation = _onto_third(grid.b0_direction) if turn else np.eye(3)
    made, matrix = _cubes(acquisition, rotation, side)
    size = " x ".join(f"{length:.3g}" for length in sides)
    tilt = f" with B0 {grid.angle_to_b0:.0f} degrees off their axes" if turn else ""
    why = f"the network learned from {' and '.join(reasons)}" if reasons else "it was asked for"
    along = " along B0" if turn else ""
    told = (
        f"Voxels of {size} mm{tilt} were interpolated to cubes of {side:.3g} mm{along} and the "
        f"maps back, since {why}."
    )
    return Frame(made, matrix, told)


def _onto_third(b0: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the smallest rotation that takes B0 to the third axis (Rodrigues)."""
    b, third = np.array(b0), np.array([0.0, 0.0, 1.0])
    v, c = np.cross(b, third), float(b @ third)
    cross = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    rotation: NDArray[np.float64] = np.eye(3) + cross + cross @ cross / (1 + c)
    return rotation


def _cubes(
    acquisition: Acquisition, rotation: NDArray[np.float64], side: float
) -> tuple[Grid, NDArray[np.float64]]:
    """Return cubes around the mask, and the matrix from their indices to those of the grid.

    A position p in mm along the voxel axes becomes ``R p``. Without a rotation, axes whose sides
    stay as they are keep their voxels, and nothing is interpolated along them.
    """
    grid = acquisition.grid
    sides = np.array(grid.voxel_size)
    occupied = np.argwhere(_surface(acquisition.mask))
    places = occupied * sides @ rotation.T
    low, high = places.min(axis=0) - 2 * side, places.max(axis=0) + 2 * side
    low = np.floor(low / side) * side
    x, y, z = (int(n) for n in np.ceil((high - low) / side) + 1)
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(1 / sides) @ rotation.T * side
    matrix[:3, 3] = np.diag(1 / sides) @ rotation.T @ low
    b0 = rotation @ np.array(grid.b0_direction)
    return Grid((x, y, z), grid.affine @ matrix, tuple(b0)), matrix


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels that are the first or last of the mask along the first axis: its hull lies on them."""
    found = np.zeros_like(mask)
    columns = mask.any(axis=0)
    j, k = np.nonzero(columns)
    first = mask.argmax(axis=0)[columns]
    last = len(mask) - 1 - mask[::-1].argmax(axis=0)[columns]
    found[first, j, k] = True
    found[last, j, k] = True
    return found


def in_frame(
    acquisition: Acquisition,
    card: Card,
    wanted: FrameChoice,
    reconstruct: Callable[[Acquisition], Reconstruction],
    device: torch.device,
    label: str,
) -> Reconstruction:
    """Reconstruct in a network's frame and bring the maps back to the acquisition's grid.

    Parameters
    ----------
    acquisition : Acquisition
        With a local field.
    card : Card
        Of the network: which voxels and B0 directions it learned from.
    wanted : {"auto", "never", "always"}
        Whether to interpolate. Axes are put in order in any case: that changes no value.
    reconstruct : callable
        Makes maps of an acquisition.
    device : torch.device
        Where the residual is computed.
    label : str
        Of the method, for messages.

    Notes
    -----
    Interpolation is cubic, after maps were continued beyond the mask; what was measured is smoothed
    first where voxels become larger.
    """

    def there(ordered: Acquisition) -> Reconstruction:
        return _interpolating(ordered, card, wanted, reconstruct, device, label)

    return (yield from in_order(acquisition, there))


def _interpolating(
    acquisition: Acquisition,
    card: Card,
    wanted: FrameChoice,
    reconstruct: Callable[[Acquisition], Reconstruction],
    device: torch.device,
    label: str,
) -> Reconstruction:
    target = frame(acquisition, card, wanted)
    if target is None:
        maps = yield from reconstruct(acquisition)
        reasons = outside(acquisition.grid, card)
        if not reasons:
            return maps
        told = f"The network learned from {' and '.join(reasons)}: this lies outside, as asked for."
        return _with_notes(maps, (told, *maps.provenance.notes))
    with fitting_threads(device, math.prod(target.grid.shape)):
        return (yield from _there_and_back(acquisition, target, reconstruct, device, label))


def _there_and_back(
    acquisition: Acquisition,
    target: Frame,
    reconstruct: Callable[[Acquisition], Reconstruction],
    device: torch.device,
    label: str,
) -> Reconstruction:
    measured = yield from _there(acquisition, target, label)
    yield from _same_error(acquisition, measured, target, device, label)

    def shown(volume: FloatArray) -> FloatArray:
        return sampled(volume, target.inverse, acquisition.grid.shape, order=1) * acquisition.mask

    maps = yield from passed_on(reconstruct(measured), shown, THERE, BACK)
    back = yield from _back(maps.volumes, measured.mask, acquisition, target, label)
    with Workspace(acquisition, device, label) as space:
        yield space.step(0.97, "computing the residual")
        own = [note for note in maps.provenance.notes if not note.startswith(RELATIVE)]
        space.notes += [target.told, *own]
        space.chosen |= maps.provenance.chosen
        space.extras |= {q: v for q, v in back.items() if q is not Quantity.CHI}
        return (yield from space.finish(space.place(back[Quantity.CHI])))


def _there(
    acquisition: Acquisition, target: Frame, label: str
) -> Generator[Step, None, Acquisition]:
    """Interpolate what networks and their channels use of an acquisition.

    The noise changes with the volume of a voxel so that the sum of ``1 / sigma^2``, what is known
    of the head, stays what it was.
    """
    message = f"{label}: interpolating to the network's voxels"
    shape, matrix = target.grid.shape, target.matrix
    yield Step(0.0, message)
    covering = in_background(
        lambda: sampled(acquisition.mask.astype(np.float32), matrix, shape, order=1)
    )
    inside = (yield from _alive(covering, Step(0.0, message))) >= 0.5
    volumes: dict[Quantity, NDArray[Any]] = {Quantity.MASK: inside}
    given = [
        quantity
        for quantity in (Quantity.LOCAL_FIELD, Quantity.MAGNITUDE, Quantity.FIELD_NOISE)
        if quantity in acquisition
    ]
    for number, quantity in enumerate(given):
        volume = acquisition[quantity]
        if volume.ndim == 4:
            volume = np.sqrt(np.square(volume).sum(axis=3))
        running = interpolated(volume, acquisition.mask, matrix, shape, layers=LAYERS, smooth=True)
        step = Step(THERE * number / len(given), message)
        volumes[quantity] = (yield from _alive(running, step)) * inside
    if Quantity.FIELD_NOISE in volumes:
        known = acquisition[Quantity.FIELD_NOISE]
        factor = abs(np.linalg.det(matrix)) ** -0.5
        noise = np.clip(volumes[Quantity.FIELD_NOISE], known.min(), known.max()) * factor
        volumes[Quantity.FIELD_NOISE] = noise * inside
    if Quantity.MAGNITUDE in volumes:
        volumes[Quantity.MAGNITUDE] = np.maximum(volumes[Quantity.MAGNITUDE], 0)
    return replace(acquisition, grid=target.grid, volumes=volumes, sources={})


def _same_error(
    acquisition: Acquisition, measured: Acquisition, target: Frame, device: torch.device, label: str
) -> Generator[Step, None, None]:
    """Let methods in the frame know the error of the field as it was measured."""
    factor = min(abs(float(np.linalg.det(target.matrix))) ** -0.5, 1.0)
    with Workspace(acquisition, device, label) as space, Workspace(measured, device, label) as made:
        yield from working(
            space,
            lambda: carry_over(space, made, factor),
            fraction=THERE,
            message="measuring the field's error",
        )


def _back(
    maps: Mapping[Quantity, NDArray[Any]],
    inside: NDArray[np.bool_],
    acquisition: Acquisition,
    target: Frame,
    label: str,
) -> Generator[Step, None, dict[Quantity, FloatArray]]:
    """Bring maps to the acquisition's grid, all but the residual, which is computed there."""
    step = Step(BACK, f"{label}: interpolating back")
    yield step
    matrix, shape = target.inverse, acquisition.grid.shape
    made: dict[Quantity, FloatArray] = {}
    for quantity, volume in maps.items():
        if quantity is Quantity.RESIDUAL:
            continue
        if quantity is Quantity.CHI:
            running = interpolated(volume, inside, matrix, shape, layers=LAYERS)
            made[quantity] = (yield from _alive(running, step)) * acquisition.mask
            continue
        chosen = quantity is Quantity.UNRELIABLE  # a mask has no continuation

        def near(
            volume: NDArray[Any] = volume, layers: int = 0 if chosen else LAYERS
        ) -> FloatArray:
            continued = extended(volume, inside, layers) if layers else volume
            return sampled(continued, matrix, shape, order=1) * acquisition.mask

        found = yield from _alive(in_background(near), step)
        made[quantity] = (found >= 0.5).astype(np.float32) if chosen else found
    return made


def _alive(
    running: Generator[None, None, FloatArray], step: Step
) -> Generator[Step, None, FloatArray]:
    """Report the same step as often as something at work gives a sign of life."""
    return (yield from relayed(running, lambda _: step))


def _with_notes(maps: Maps, notes: tuple[str, ...]) -> Maps:
    return replace(maps, provenance=replace(maps.provenance, notes=notes))
