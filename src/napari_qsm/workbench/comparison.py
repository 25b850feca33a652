"""Maps set against each other: what may be compared, blended, subtracted and scored.

Free of Qt: widgets hand these functions to a thread and show what comes back.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from napari_qsm.acquisition import FloatArray, Grid, InputError, Quantity, Volume
from napari_qsm.evaluation import metrics, similarity
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.preparation.assemble import assemble
from napari_qsm.process import Step
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
    Quantity.RESIDUAL,
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


def _same_grid(first: Volume, second: Volume, name: str) -> None:
    if mismatch := first.grid.mismatch(second.grid):
        raise InputError(f"'{name}' {mismatch}; compare maps on one grid.")


def difference(a: Volume, b: Volume) -> FloatArray:
    """Subtract voxel by voxel: ``A - B``, in the unit of both.

    Raises
    ------
    InputError
        If they lie on different grids.
    """
    _same_grid(a, b, b.source)
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
    _same_grid(measured, chi, chi.source)
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
        _same_grid(a, b, b.source)
        first, second = to_display(a.data, a.grid), to_display(b.data, b.grid)
        shows_a = self._swipe(first.shape) if self.kind == "swipe" else self._cubes(a.grid)
        mixed = np.where(np.broadcast_to(shows_a, first.shape), first, second)
        return from_display(mixed.astype(np.float32, copy=False), a.grid)

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


@dataclass(frozen=True)
class Metric:
    """A figure that says how far a map is from a reference.

    Parameters
    ----------
    key, heading, unit, help : str
        Name in files, head of its column, unit, and a sentence on what it means.
    compute : callable
        ``compute(estimate, reference, mask)``.
    rises : bool
        Whether more of it is better.
    """

    key: str
    heading: str
    unit: str
    help: str
    compute: Callable[[NDArray[Any], NDArray[Any], NDArray[np.bool_]], float] = field(repr=False)
    rises: bool = False


METRICS = (
    Metric(
        "nrmse_raw",
        "NRMSE",
        "%",
        "Error norm over the reference's, as the numbers are.",
        lambda x, r, m: metrics.nrmse(x, r, m, detrend="none"),
    ),
    Metric(
        "nrmse",
        "demeaned",
        "%",
        "NRMSE with the mean over the mask taken out of both.",
        lambda x, r, m: metrics.nrmse(x, r, m, detrend="mean"),
    ),
    Metric(
        "nrmse_detrended",
        "detrended",
        "%",
        "NRMSE with mean and slope taken out: a wrong scale is forgiven.",
        lambda x, r, m: metrics.nrmse(x, r, m, detrend="line"),
    ),
    Metric("rmse", "RMSE", "ppb", "Root mean square error, means taken out.",
           lambda x, r, m: 1000 * metrics.rmse(x, r, m)),
    Metric("psnr", "pSNR", "dB", "Range of the reference over the RMSE.", metrics.psnr, True),
    Metric("xsim", "XSIM", "", "Structural similarity with constants for ppm.", similarity.xsim, True),
    Metric("ssim", "SSIM", "", "Structural similarity as photographs use it.", similarity.ssim, True),
    Metric("hfen", "HFEN", "%", "Error of the fine detail (Laplacian of Gaussian).",
           similarity.hfen),
    Metric("correlation", "r", "", "Pearson's correlation.", metrics.correlation, True),
)  # fmt: skip


@dataclass(frozen=True)
class Score:
    """The figures of one map.

    Parameters
    ----------
    name : str
        The map's name.
    values : mapping
        Value by key of the metric; not a number where it could not be computed.
    notes : tuple[str, ...]
        Why it could not.
    """

    name: str
    values: Mapping[str, float]
    notes: tuple[str, ...] = ()


_MARGIN = 9
"""Voxels kept around the mask: no metric's window reaches further, so cropping changes nothing."""


def score(
    maps: Mapping[str, Volume], reference: Volume, mask: NDArray[np.bool_]
) -> Generator[Step, None, tuple[Score, ...]]:
    """Score every map against the reference, one metric at a time.

    Parameters
    ----------
    maps : mapping of str to Volume
        By name, in ppm.
    reference : Volume
        In ppm; its grid is everybody's.
    mask : (X, Y, Z) array of bool
        Voxels that count.

    Yields
    ------
    Step
        After each metric.

    Raises
    ------
    InputError
        If the mask is empty or a map lies on another grid.
    """
    if mask.shape != reference.data.shape:
        raise InputError(
            f"The mask has shape {mask.shape} and the reference {reference.data.shape}; choose a "
            "mask on the grid of the reference."
        )
    if not mask.any():
        raise InputError("The mask is empty; choose one that covers the brain.")
    for name, volume in maps.items():
        _same_grid(reference, volume, name)
    box = _box(mask)
    inside, truth = mask[box], np.asarray(reference.data[box], np.float64)
    scores: list[Score] = []
    total = max(1, len(maps) * len(METRICS))
    for name, volume in maps.items():
        values: dict[str, float] = {}
        notes: list[str] = []
        estimate = np.asarray(volume.data[box], np.float64)
        for metric in METRICS:
            done = len(scores) * len(METRICS) + len(values)
            yield Step(done / total, f"{metric.heading} of {name}")
            try:
                values[metric.key] = metric.compute(estimate, truth, inside)
            except InputError as error:
                values[metric.key] = math.nan
                notes.append(f"{metric.heading} of '{name}': {error}")
        scores.append(Score(name, values, tuple(notes)))
    return tuple(scores)


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Smallest box around the mask, wider by the margin where the volume allows it."""
    box = []
    for axis, count in enumerate(mask.shape):
        along = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        low, high = int(along[0]) - _MARGIN, int(along[-1]) + 1 + _MARGIN
        box.append(slice(max(0, low), min(count, high)))
    return tuple(box)


def as_table(scores: Iterable[Score], reference: str, mask: str, *, separator: str = ",") -> str:
    """Return scores as text, one map a line, below a head; reference and mask have columns.

    Comma-separated text is a CSV file; tab-separated text is what spreadsheets paste.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    units = (f"{m.key} [{m.unit}]" if m.unit else m.key for m in METRICS)
    writer.writerow(["map", "reference", "mask", *units])
    for one in scores:
        figures = (f"{one.values[metric.key]:.6g}" for metric in METRICS)
        writer.writerow([one.name, reference, mask, *figures])
    return text.getvalue()
