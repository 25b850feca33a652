"""Several orientations of one head: brought together, and how well they condition COSMOS.

Registering and resampling the fields is the user's, who has the tools for it; what turns with the
head is the direction of B0, and that is found here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from napari_qsm.acquisition import Acquisition, Grid, InputError, Volume
from napari_qsm.physics import orientation
from napari_qsm.physics.units import FieldUnit
from napari_qsm.preparation.assemble import assemble

POORLY_CONDITIONED = 0.05
"""Smallest sum of D^2 below which a set of orientations is warned of: noise grows 4.5 times."""

Frame = Literal["scanner", "flirt"]
"""In which axes a registration states its rotation: see `turned_direction`."""


@dataclass(frozen=True)
class Orientation:
    """The field of one further orientation, resampled on the grid of the first.

    Parameters
    ----------
    field : Volume
        3D local field; where it is zero or not finite it counts as outside the mask.
    b0_direction : tuple[float, float, float], optional
        B0 along the stored voxel axes; None takes what the file says, which for a resampled file
        without a sidecar is the direction of the image it was resampled to.
    note : str
        How that direction came about.
    """

    field: Volume
    b0_direction: tuple[float, float, float] | None = None
    note: str = ""


def with_orientations(
    acquisition: Acquisition, others: Sequence[Orientation], *, unit: FieldUnit | None = None
) -> Acquisition:
    """Add further orientations to an acquisition.

    Parameters
    ----------
    acquisition : Acquisition
        The first orientation, on whose grid the others lie.
    others : sequence of Orientation
        The second and following ones.
    unit : FieldUnit, optional
        Unit of their fields; None trusts their files. B0 and the echo time are those of the
        first where their files state none.

    Returns
    -------
    Acquisition
        With them as `Acquisition.others`, and their notes behind its own.

    Raises
    ------
    InputError
        See `assemble`; if shape or voxel size differ, or B0 has the same direction in all.
    """
    made, notes = [], list(acquisition.notes)
    for number, other in enumerate(others, start=2):
        field, first = other.field, acquisition
        try:
            one = assemble(
                replace(
                    field,
                    field_strength=field.field_strength or first.field_strength,
                    echo_times=field.echo_times or first.echo_times,
                ),
                unit=unit,
                b0_direction=other.b0_direction,
            )
        except InputError as error:
            raise InputError(f"Orientation {number}: {error}") from None
        told = [other.note, *one.notes, _displaced(first.grid, one.grid)]
        notes += [f"Orientation {number}: {note}" for note in told if note]
        made.append(one)
    return replace(acquisition, others=tuple(made), notes=tuple(notes))


def _displaced(grid: Grid, other: Grid) -> str:
    """Say that a grid lies elsewhere, if it does but has the same voxels."""
    trouble = grid.mismatch(other) if grid.shape == other.shape else None
    if trouble is None:
        return ""
    return (
        f"By its affine it {trouble}; it was taken to be registered to the first one voxel by "
        "voxel."
    )


def turned_direction(matrix: ArrayLike, grid: Grid, frame: Frame) -> tuple[float, float, float]:
    """Find B0 along the voxel axes of `grid`, in which a turned head was registered to it.

    Parameters
    ----------
    matrix : (3, 3) or (4, 4) array
        Takes positions in the turned head's image to those in the first one's. Of scales and
        shears, up to a tenth, nothing is used.
    grid : Grid
        The first orientation's, from its scanner.
    frame : {"scanner", "flirt"}
        ``"scanner"``: positions are in mm RAS, and B0 is the third axis of the turned image.
        ``"flirt"``: they are in mm along voxel axes, as FLIRT counts them, and the turned image
        was stored like the first, so that B0 ran along the same voxel axes in both.

    Raises
    ------
    InputError
        If the matrix is no rotation.
    """
    given = np.asarray(matrix, dtype=np.float64).tolist()
    affine = grid.affine.tolist()
    try:
        if frame == "flirt":
            own = orientation.voxel_direction((0, 0, 1), affine)
            return orientation.turned(own, orientation.flirt_rotation(given, affine))
        return orientation.voxel_direction(orientation.turned((0, 0, 1), given), affine)
    except ValueError as error:
        raise InputError(f"{str(error).rstrip('.')}; choose another file.") from None


@dataclass(frozen=True)
class Conditioning:
    """What a set of B0 directions is good for.

    Parameters
    ----------
    orientations : int
        How many.
    worst : float
        Smallest sum of D^2 over all directions in k-space.
    angle : float
        Largest angle between two of them in degrees.
    """

    orientations: int
    worst: float
    angle: float

    @property
    def is_poor(self) -> bool:
        """Whether the noise of a map is likely to spoil it."""
        return self.worst < POORLY_CONDITIONED

    @property
    def text(self) -> str:
        """One line for a panel: the figure, and what it does to noise."""
        gain = f"noise at most {self.worst**-0.5:.1f} times the field's"
        if self.worst < 1e-3:
            gain = "some directions of k-space are not measured"
        return f"min ΣD² = {self.worst:.3f}, {gain}"

    @property
    def sentence(self) -> str:
        """One sentence for notes and findings, with what to do if they are poor."""
        told = (
            f"{self.orientations} orientations, up to {self.angle:.0f} degrees apart: {self.text}"
        )
        if self.is_poor:
            return (
                f"{told}; it should be {POORLY_CONDITIONED:g} or more, so tilt the head further or "
                "about another axis."
            )
        return f"{told}."


def conditioning(directions: Sequence[Sequence[float]]) -> Conditioning:
    """Say how well a set of B0 directions, unit vectors in one frame, determines a map."""
    axes = np.asarray(directions, dtype=np.float64)
    angle = math.degrees(math.acos(min(1.0, float(np.abs(axes @ axes.T).min()))))
    return Conditioning(len(axes), orientation.worst_sum(axes.tolist()), angle)
