"""What maps say of regions: a table of labels and maps, and its CSV file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import InputError

PERCENTILES = (5.0, 95.0)
"""What stands for the smallest and the largest value of a region; its extremes are noise."""


@dataclass(frozen=True)
class Region:
    """One region in one map; values in the map's unit.

    Parameters
    ----------
    map, label, name : str, int, str
        Name of the map, number of the region, and its name, empty if nobody stated one.
    voxels, volume : int, float
        Its size, in voxels and in ml.
    mean, median, deviation : float
        Over its voxels; the standard deviation is that of all of them (divided by their number).
    low, high : float
        The percentiles `PERCENTILES`.
    standard_error : float
        Of the mean, from the map's sigma; not a number if there is none. See `region_table`.
    """

    map: str
    label: int
    name: str
    voxels: int
    volume: float
    mean: float
    median: float
    deviation: float
    low: float
    high: float
    standard_error: float = math.nan


def region_table(
    maps: Mapping[str, NDArray[Any]],
    labels: NDArray[Any],
    voxel_size: tuple[float, float, float],
    *,
    mask: NDArray[np.bool_] | None = None,
    sigma: Mapping[str, NDArray[Any]] | None = None,
    names: Mapping[int, str] | None = None,
) -> tuple[Region, ...]:
    """Describe every labelled region in every map.

    With the n voxels of a region and the standard deviation s of each, the standard error of its
    mean is ``sqrt(sum s^2) / n``. It holds if voxels err independently. Those of a reconstruction
    do not, as neighbours share what was measured, so take it as the least there can be.

    Parameters
    ----------
    maps : mapping of str to (X, Y, Z) array
        By name, in one unit.
    labels : (X, Y, Z) array
        Whole numbers; 0 is no region.
    voxel_size : tuple[float, float, float]
        In mm.
    mask : (X, Y, Z) array of bool, optional
        Voxels that count; all labelled ones if not given.
    sigma : mapping of str to (X, Y, Z) array, optional
        Standard deviation of each voxel, in the maps' unit, for those maps that have one.
    names : mapping of int to str, optional
        Of the labels.

    Returns
    -------
    tuple[Region, ...]
        Label after label, and in each the maps in their order.

    Raises
    ------
    InputError
        If shapes differ, the labels are no whole numbers, or there is no labelled voxel.
    """
    inside, numbers = _labelled(labels, mask)
    others = {**maps, **{f"sigma of {name}": values for name, values in (sigma or {}).items()}}
    for name, values in others.items():
        if values.shape != labels.shape:
            raise InputError(
                f"The map '{name}' has shape {values.shape} and the labels {labels.shape}; bring "
                "them to one grid."
            )
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order], return_index=True)
    parts = np.split(order, starts[1:])
    found_in = {name: np.asarray(one[inside], np.float64) for name, one in maps.items()}
    spread = {name: np.asarray(one[inside], np.float64) for name, one in (sigma or {}).items()}
    litre = math.prod(voxel_size) / 1000
    return tuple(
        _region(name, int(label), names or {}, litre, one[part], _part(spread.get(name), part))
        for label, part in zip(found, parts, strict=True)
        for name, one in found_in.items()
    )


def whole_labels(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return labels as integers.

    Raises
    ------
    InputError
        If they are no whole numbers.
    """
    numbers = np.asarray(labels)
    if numbers.dtype.kind == "f":
        rounded = np.rint(numbers)
        if not np.isfinite(numbers).all() or np.abs(numbers - rounded).max(initial=0) > 1e-3:
            raise InputError(
                "The labels hold values that are no whole numbers; choose a map of regions."
            )
        numbers = rounded
    whole: NDArray[np.int64] = numbers.astype(np.int64)
    return whole


def _labelled(
    labels: NDArray[Any], mask: NDArray[np.bool_] | None
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return where there are regions that count, and their numbers there."""
    if mask is not None and mask.shape != labels.shape:
        raise InputError(
            f"The labels have shape {labels.shape} and the mask {mask.shape}; bring them to one "
            "grid."
        )
    numbers = whole_labels(labels)
    inside = (numbers != 0) if mask is None else (numbers != 0) & mask
    if not inside.any():
        where = "" if mask is None else " inside the mask"
        raise InputError(f"No voxel{where} has a label; paint or choose regions.")
    return inside, numbers[inside]


def _part(values: NDArray[Any] | None, part: NDArray[np.intp]) -> NDArray[Any] | None:
    return None if values is None else values[part]


def _region(
    name: str,
    label: int,
    names: Mapping[int, str],
    millilitres: float,
    values: NDArray[Any],
    sigma: NDArray[Any] | None,
) -> Region:
    low, median, high = np.percentile(values, (PERCENTILES[0], 50, PERCENTILES[1]))
    error = math.nan if sigma is None else float(np.linalg.norm(sigma)) / len(values)
    return Region(
        name,
        label,
        names.get(label, ""),
        len(values),
        len(values) * millilitres,
        float(values.mean()),
        float(median),
        float(values.std()),
        float(low),
        float(high),
        error,
    )


def region_head(unit: str = "ppm") -> tuple[str, ...]:
    """Return the columns of the table in a file; `unit` is that of the maps."""
    low, high = (f"p{p:g}" for p in PERCENTILES)
    figures = (f"{n} [{unit}]" for n in ("mean", "median", "sd", low, high, "standard error"))
    return ("map", "label", "name", "voxels", "volume [ml]", *figures)


def region_rows(table: Iterable[Region]) -> Iterator[tuple[str, ...]]:
    """Yield the table line by line as text; what is not known is empty."""
    for one in table:
        figures = (one.mean, one.median, one.deviation, one.low, one.high, one.standard_error)
        told = ("" if math.isnan(figure) else f"{figure:.6g}" for figure in figures)
        yield (
            one.map,
            str(one.label),
            one.name,
            str(one.voxels),
            f"{one.volume:.6g}",
            *told,
        )


def region_csv(table: Iterable[Region], unit: str = "ppm") -> str:
    """Return the table as the text of a CSV file, one region of one map a line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(region_head(unit))
    writer.writerows(region_rows(table))
    return text.getvalue()
