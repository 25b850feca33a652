"""The nouns everybody shares: Grid, Quantity, Volume, Acquisition, Maps.

They hold numpy arrays in the voxel order of the file they came from and know neither devices nor
windows. What they accept they have checked: a violation raises `InputError` with one sentence that
says what was found, what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Self
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_qsm.errors import ExistsError, InputError
from napari_qsm.fingerprint import fingerprint
from napari_qsm.provenance import Provenance
from napari_qsm.quantity import Quantity

__all__ = [
    "Acquisition",
    "ExistsError",
    "FloatArray",
    "Grid",
    "InputError",
    "Maps",
    "Provenance",
    "Quantity",
    "Volume",
    "fingerprint",
]

FloatArray = NDArray[np.float32]


def _read_only(array: ArrayLike, dtype: Any) -> NDArray[Any]:
    """Return a contiguous view or copy of `array` that nobody can write to."""
    view = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels lie: shape, true affine, and the direction of B0 among the voxel axes.

    Parameters
    ----------
    shape : tuple[int, int, int]
        Number of voxels along each stored axis.
    affine : (4, 4) array
        Voxel index to scanner position in mm, RAS.
    b0_direction : tuple[float, float, float], optional
        Unit vector of B0 in voxel axes. Derived from the affine when not given: with the unit
        column vectors of the affine as columns of R, the scanner axis (0, 0, 1) has components
        ``R[2, :]``.
    stored : mapping, optional
        The file's own geometry fields, so that a writer can lay a map bit-exactly on them.

    Raises
    ------
    InputError
        If a voxel size is zero or not finite, the affine is singular, or B0 has no length.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    b0_direction: tuple[float, float, float] = None  # type: ignore[assignment]  # set below
    stored: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        affine = _read_only(self.affine, np.float64)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"The volume has shape {shape}; a 3D volume was expected.")
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise InputError("The affine is not a finite 4x4 matrix; repair the header.")
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        if (sizes <= 0).any():
            raise InputError(
                f"The voxel size reads {_triple(sizes)} mm; every side must be positive, so repair "
                "the header or state the voxel size."
            )
        if abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-6:
            raise InputError("The affine maps the volume onto a plane; repair the header.")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)
        direction = affine[2, :3] / sizes if self.b0_direction is None else self.b0_direction
        object.__setattr__(self, "b0_direction", _unit_vector(direction))
        object.__setattr__(self, "stored", MappingProxyType(dict(self.stored)))

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Length of a voxel's sides in mm, along the stored axes, as the scanner stated them."""
        x, y, z = (_nominal(float(size)) for size in np.linalg.norm(self.affine[:3, :3], axis=0))
        return x, y, z

    @property
    def angle_to_b0(self) -> float:
        """Angle in degrees between B0 and the voxel axis that lies closest to it."""
        return float(np.degrees(np.arccos(min(1.0, max(abs(b) for b in self.b0_direction)))))

    @property
    def shear(self) -> float:
        """Largest departure of the voxel axes from being mutually orthogonal, in degrees."""
        axes = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        cosines = (axes.T @ axes)[np.triu_indices(3, 1)]
        return float(np.degrees(np.arcsin(np.clip(np.abs(cosines), 0, 1))).max())

    def with_b0(self, direction: ArrayLike) -> Grid:
        """Return the same grid with another B0 direction (voxel axes, any length)."""
        return replace(self, b0_direction=_unit_vector(direction))

    def mismatch(self, other: Grid) -> str | None:
        """Say how `other` lies differently from this grid, or None if both coincide to 0.01 mm."""
        if self.shape != other.shape:
            return f"has shape {other.shape} where {self.shape} was expected"
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, -1)
        offset = (self.affine - other.affine)[:3] @ np.vstack([corners, np.ones(8)])
        distance = float(np.linalg.norm(offset, axis=0).max())
        if distance > 0.01:
            return f"lies up to {distance:.2f} mm away from where it was expected"
        return None


def _nominal(size: float) -> float:
    """Take off what single precision adds to a size such as 0.7 or 0.859375.

    Otherwise the same measurement has sides of 2.9999998 or 3.0000003 mm, depending on the format
    it came in, and whatever is cut at a radius, such as a ball of 6 mm, another shape.
    """
    near = float(Fraction(size).limit_denominator(1000))
    return near if abs(near - size) < 1e-6 * size else size


def _unit_vector(direction: ArrayLike) -> tuple[float, float, float]:
    vector = np.asarray(direction, dtype=np.float64)
    length = float(np.linalg.norm(vector))
    if vector.shape != (3,) or not np.isfinite(length) or length < 1e-6:
        raise InputError(f"The B0 direction {vector.tolist()} is no direction; give three numbers.")
    x, y, z = vector / length
    return float(x), float(y), float(z)


def _triple(values: ArrayLike) -> str:
    return " x ".join(f"{v:.4g}" for v in np.asarray(values))


@dataclass(frozen=True, eq=False)
class Volume:
    """One image as it was loaded: numbers, their grid, and what is known about their meaning.

    Parameters
    ----------
    data : array
        The values in stored voxel order; 3D, or 4D with echoes last.
    grid : Grid
        Where they lie.
    unit : str, optional
        The unit the source states; None if it states none.
    field_strength, echo_times : optional
        B0 in T and echo times in s, as far as the source states them.
    source : str
        File or layer the numbers came from.
    notes : tuple[str, ...]
        What was changed while reading, one sentence each; shown to the user.
    history : tuple[Provenance, ...]
        How the numbers came to be if they were computed, the first stage first.
    """

    data: NDArray[Any]
    grid: Grid
    unit: str | None = None
    field_strength: float | None = None
    echo_times: tuple[float, ...] = ()
    source: str = ""
    notes: tuple[str, ...] = ()
    history: tuple[Provenance, ...] = ()


@dataclass(frozen=True, eq=False)
class Acquisition:
    """Volumes measured on one grid, with the constants that give them meaning.

    Parameters
    ----------
    grid : Grid
        The common grid of all volumes.
    volumes : mapping of Quantity to array
        In the unit of the quantity; a mask is boolean, everything else float32.
    field_strength : float, optional
        B0 in tesla.
    echo_times : tuple[float, ...]
        In seconds.
    sources : mapping of Quantity to str
        Where each volume came from.
    notes : tuple[str, ...]
        What was assumed or converted on the way in, one sentence each.
    history : tuple[Provenance, ...]
        How volumes that were not measured came to be, in the order in which they were made.
    others : tuple[Acquisition, ...]
        Further orientations of the same head, voxel by voxel where this one is, each with the B0
        direction of its own grid.

    Raises
    ------
    InputError
        If a volume has another shape than the grid, is not finite, or a mask is empty; if B0 or an
        echo time is not a positive number; if orientations do not share shape and voxel size, or
        all have the same B0 direction.
    """

    grid: Grid
    volumes: Mapping[Quantity, NDArray[Any]]
    field_strength: float | None = None
    echo_times: tuple[float, ...] = ()
    sources: Mapping[Quantity, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    history: tuple[Provenance, ...] = ()
    others: tuple[Acquisition, ...] = ()

    def __post_init__(self) -> None:
        checked = {q: _checked_volume(q, v, self.grid) for q, v in self.volumes.items()}
        if self.field_strength is not None and not 0 < self.field_strength < 30:
            raise InputError(
                f"B0 reads {self.field_strength:g} T; a value between 0 and 30 T was expected."
            )
        times = tuple(float(t) for t in self.echo_times)
        for time in times:
            if not time > 0:
                raise InputError(f"An echo time reads {time:g} s; it must be positive.")
            if time > 1:
                raise InputError(
                    f"An echo time reads {time:g} s; echo times are in seconds, so write "
                    f"{time / 1000:g} if milliseconds were meant."
                )
        object.__setattr__(self, "volumes", MappingProxyType(checked))
        _refuse_orientations(self.grid, [other.grid for other in self.others])
        object.__setattr__(self, "others", tuple(self.others))
        object.__setattr__(self, "echo_times", times)
        object.__setattr__(self, "sources", MappingProxyType(dict(self.sources)))

    def __contains__(self, quantity: Quantity) -> bool:
        return quantity in self.volumes

    def __getitem__(self, quantity: Quantity) -> NDArray[Any]:
        return self.volumes[quantity]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The mask, or all voxels where none was given."""
        if Quantity.MASK in self.volumes:
            return self.volumes[Quantity.MASK]
        return np.ones(self.grid.shape, dtype=bool)

    def with_volumes(self, volumes: Mapping[Quantity, NDArray[Any]]) -> Self:
        """Return a copy in which `volumes` are added or replaced."""
        return replace(self, volumes={**self.volumes, **volumes})

    def following(self, maps: Maps) -> Self:
        """Return a copy in which `maps` are added or replaced and their making is remembered.

        Sources of replaced volumes go: what was measured is no longer what is there.
        """
        made, shared = maps.provenance, len(self.notes)
        own = made.notes[shared:] if made.notes[:shared] == self.notes else made.notes
        return replace(
            self,
            volumes={**self.volumes, **maps.volumes},
            sources={q: s for q, s in self.sources.items() if q not in maps.volumes},
            history=(*self.history, replace(made, history=(), notes=own)),
        )


SAME_DIRECTION = 2.0
"""Degrees up to which two axes of B0 count as one: no more than a head moves by itself."""


def _refuse_orientations(grid: Grid, others: Sequence[Grid]) -> None:
    """Refuse orientations that are not one head on one grid, or all the same."""
    for number, other in enumerate(others, start=2):
        alike = np.allclose(other.voxel_size, grid.voxel_size, rtol=1e-3)
        if other.shape != grid.shape or not alike:
            raise InputError(
                f"Orientation {number} has {_triple(other.shape)} voxels of "
                f"{_triple(other.voxel_size)} mm where {_triple(grid.shape)} of "
                f"{_triple(grid.voxel_size)} mm were expected; register it to the first one and "
                "resample it."
            )
    axes = np.array([one.b0_direction for one in (grid, *others)])
    cosines = np.minimum(np.abs(axes @ axes.T), 1)
    if others and (widest := float(np.degrees(np.arccos(cosines)).max())) < SAME_DIRECTION:
        raise InputError(
            f"The B0 directions of the {len(axes)} orientations differ by {widest:.1f} degrees at "
            "most; state the direction of each, or leave repetitions out."
        )


_looked_over: WeakValueDictionary[int, NDArray[Any]] = WeakValueDictionary()
"""Volumes that were found finite, or not empty, and made read-only; chains pass them on without
another look."""


def _checked_volume(quantity: Quantity, values: ArrayLike, grid: Grid) -> NDArray[Any]:
    array = np.asarray(values)
    if array.shape[:3] != grid.shape:
        raise InputError(
            f"The {quantity.label} has shape {array.shape}; the grid has {grid.shape}, so choose "
            "volumes of one acquisition."
        )
    is_mask = quantity is Quantity.MASK
    if _looked_over.get(id(array)) is array and (array.dtype == bool) == is_mask:
        return array
    if is_mask:
        mask = _read_only(array, bool)
        if not mask.any():
            raise InputError("The mask is empty; paint or choose one that covers the brain.")
        _looked_over[id(mask)] = mask
        return mask
    with np.errstate(over="ignore"):  # what single precision cannot hold becomes Inf and is refused
        made = _read_only(array, np.float32)
    if not np.isfinite(made).all():
        raise InputError(
            f"The {quantity.label} holds {np.count_nonzero(~np.isfinite(made))} voxels that are "
            "not numbers (NaN or Inf); fill them or leave them out of the mask."
        )
    _looked_over[id(made)] = made
    return made


@dataclass(frozen=True, eq=False)
class Maps:
    """The volumes a method produced, by quantity, with their provenance.

    Parameters
    ----------
    grid : Grid
        The grid of the acquisition they were made from.
    volumes : mapping of Quantity to array
        float32, in the unit of the quantity, zero outside the mask.
    provenance : Provenance
        How they were made.

    Raises
    ------
    InputError
        If a volume has another shape than the grid or is not finite.
    """

    grid: Grid
    volumes: Mapping[Quantity, NDArray[Any]]
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        checked = {q: _checked_volume(q, v, self.grid) for q, v in self.volumes.items()}
        object.__setattr__(self, "volumes", MappingProxyType(checked))

    def __contains__(self, quantity: Quantity) -> bool:
        return quantity in self.volumes

    def __getitem__(self, quantity: Quantity) -> NDArray[Any]:
        return self.volumes[quantity]
