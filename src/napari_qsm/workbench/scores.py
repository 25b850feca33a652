"""Figures that say how far maps are from a reference, computed step by step."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import InputError, Volume
from napari_qsm.evaluation import metrics, similarity
from napari_qsm.process import Step
from napari_qsm.workbench.comparison import same_grid


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
    Metric(
        "rmse",
        "RMSE",
        "ppb",
        "Root mean square error, means taken out.",
        lambda x, r, m: 1000 * metrics.rmse(x, r, m),
    ),
    Metric("psnr", "pSNR", "dB", "Range of the reference over the RMSE.", metrics.psnr, rises=True),
    Metric(
        "xsim",
        "XSIM",
        "",
        "Structural similarity with constants for ppm.",
        similarity.xsim,
        rises=True,
    ),
    Metric(
        "ssim",
        "SSIM",
        "",
        "Structural similarity as photographs use it.",
        similarity.ssim,
        rises=True,
    ),
    Metric(
        "hfen", "HFEN", "%", "Error of the fine detail (Laplacian of Gaussian).", similarity.hfen
    ),
    Metric("correlation", "r", "", "Pearson's correlation.", metrics.correlation, rises=True),
)


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
        same_grid(reference, volume, name)
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
