"""Maps set against each other: what may be compared, blended, subtracted and scored.

Free of Qt: widgets hand these functions to a thread and show what comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from napari_qsm.acquisition import FloatArray, Grid, InputError, Quantity, Volume
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.preparation.assemble import assemble
from napari_qsm.workbench.layers import facts_of, quantity_of, volume_of
from napari_qsm.workbench.placement import DISPLAY_AXES, from_display, place, to_display

if TYPE_CHECKING:
    from napari.layers import Layer

COMPARED = (
    Quantity.CHI,
    Quantity.CHI_POS,
    Quantity.CHI_NEG,
    Quantity.MMS,
    Quantity.MSA,
    Quantity.SIGMA,
    Quantity.SIGMA_POS,
    Quantity.SIGMA_NEG,
    Quantity.RESIDUAL,
    Quantity.RESIDUAL_R2PRIME,
    Quantity.ERROR,
)
"""Quantities that are worth a box of the linked grid."""

OVERLAY = "overlay"
"""Entry of a layer's facts that says it was made of other layers, and how."""

Kind = Literal["difference", "residual", "swipe", "checkerboard"]


def is_compared(layer: Layer) -> bool:
    """Whether a layer is one of the maps that are looked at next to each other."""
    return quantity_of(layer) in COMPARED


def is_overlay(layer: Layer) -> bool:
    """Whether a layer was made here of other layers."""
    return OVERLAY in (facts_of(layer) or {})


def shown_volume(layer: Layer, steps: Sequence[int], beside: Layer | None = None) -> Volume:
    """Return the 3D volume a layer shows, without copying it.

    Parameters
    ----------
    layer : Layer
        With three dimensions, or four: then the one at the slider counts.
    steps : sequence of int
        Position of the viewer's sliders, ``viewer.dims.current_step``.
    beside : Layer, optional
        Whose place a foreign layer takes that is drawn exactly there; see `volume_of`.

    Raises
    ------
    InputError
        If the layer is foreign and cannot be placed.
    """
    volume = volume_of(layer, beside)
    if volume.data.ndim == 3:
        return volume
    at = int(steps[-4]) if len(steps) > 3 else 0
    return replace(volume, data=volume.data[..., min(max(at, 0), volume.data.shape[3] - 1)])


def same_grid(first: Volume, second: Volume, name: str) -> None:
    """Raise `InputError` unless the second volume, called `name`, lies where the first does."""
    if mismatch := first.grid.mismatch(second.grid):
        raise InputError(f"'{name}' {mismatch}; compare maps on one grid.")


def difference(a: Volume, b: Volume) -> FloatArray:
    """Subtract voxel by voxel: ``A - B``, in the unit of both.

    Raises
    ------
    InputError
        If they lie on different grids.
    """
    same_grid(a, b, b.source)
    values: FloatArray = np.subtract(a.data, b.data, dtype=np.float32)
    return values


def residual(chi: Volume, measured: Volume) -> FloatArray:
    """``D chi - f`` in ppm where the field is known: what a map leaves unexplained.

    Parameters
    ----------
    chi : Volume
        Susceptibility in ppm; where the field is not known it counts as zero.
    measured : Volume
        f, the local field in any unit; it is known where it is finite and not zero. The mean of
        the residual is taken out: a constant field has no source inside.

    Raises
    ------
    InputError
        If map and field lie on different grids, or the field cannot be brought to ppm.
    """
    same_grid(measured, chi, chi.source)
    known = assemble(measured)
    mask, field_in_ppm = known.mask, known[Quantity.LOCAL_FIELD]
    dipole = DipoleConvolution(known.grid, padding=1.25)
    source = torch.from_numpy(np.where(mask, chi.data, 0).astype(np.float32))
    with torch.inference_mode():
        explained = dipole(source).numpy()
    left = np.where(mask, explained - field_in_ppm, 0).astype(np.float32)
    left[mask] -= left[mask].mean(dtype=np.float64)
    return left


@dataclass(frozen=True)
class Blend:
    """How two maps share one picture.

    Parameters
    ----------
    kind : {"swipe", "checkerboard"}
        A curtain drawn along one axis, or cubes of both in turn.
    axis : int
        Drawn axis of the curtain: 0 is S, 1 is A, 2 is R.
    share : float
        Part of that axis, 0 to 1, that shows A.
    from_top : bool
        Whether A's part begins at the far end of the axis (superior, anterior, right).
    side : float
        Side of the cubes in mm.
    """

    kind: Literal["swipe", "checkerboard"] = "swipe"
    axis: int = 2
    share: float = 0.5
    from_top: bool = True
    side: float = 20.0

    def __call__(self, a: Volume, b: Volume) -> FloatArray:
        """Return the picture in stored voxel order.

        Raises
        ------
        InputError
            If the maps lie on different grids.
        """
        same_grid(a, b, b.source)
        first, second = to_display(a.data, a.grid), to_display(b.data, b.grid)
        shows_a = self._swipe(first.shape) if self.kind == "swipe" else self._cubes(a.grid)
        mixed = np.where(np.broadcast_to(shows_a, first.shape), first, second)
        return from_display(mixed.astype(np.float32, copy=False), a.grid)

    def slide(
        self, picture: NDArray[Any], was: Blend, a: NDArray[Any], b: NDArray[Any]
    ) -> NDArray[Any] | None:
        """Draw the curtain of `picture` from where it `was` to here, in place.

        Parameters
        ----------
        picture : (S, A, R) array
            What ``was(a, b)`` gave, in drawn order.
        was : Blend
            How it was made.
        a, b : (S, A, R) arrays
            The two maps in drawn order.

        Returns
        -------
        array or None
            The part of `picture` that is new; None if this is more than a move of one curtain.
        """
        if self.kind != "swipe" or replace(was, share=self.share) != self:
            return None
        count = picture.shape[self.axis]
        before, after = (round(blend.share * count) for blend in (was, self))
        low, high = sorted((before, after))
        moved = slice(count - high, count - low) if self.from_top else slice(low, high)
        part = (slice(None),) * self.axis + (moved,)
        picture[part] = (a if after > before else b)[part]
        new: NDArray[Any] = picture[part]
        return new

    def _swipe(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        count = shape[self.axis]
        along = np.arange(count) < round(self.share * count)
        along = along[::-1] if self.from_top else along
        return along.reshape([-1 if axis == self.axis else 1 for axis in range(3)])

    def _cubes(self, grid: Grid) -> NDArray[np.bool_]:
        turned = to_display(np.empty(grid.shape, np.bool_), grid).shape
        # A voxel at least: thinner cubes than a voxel cannot be drawn.
        counted = [
            np.arange(n) * size // max(self.side, size)
            for n, size in zip(turned, place(grid)["scale"], strict=True)
        ]
        i, j, k = np.ix_(*counted)
        even: NDArray[np.bool_] = (i + j + k) % 2 == 0
        return even


def axis_of(letter: str) -> int:
    """Return the drawn axis that one of the letters S, A, R names."""
    return DISPLAY_AXES.index(letter)
