"""Figures of maps and regions of a result, as tables and as the text of CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import InputError, Maps, Quantity, Volume
from napari_qsm.evaluation.regions import region_csv, region_table
from napari_qsm.evaluation.structures import FIGURES, Scheme, structure_figures
from napari_qsm.process import Step
from napari_qsm.workbench.scores import METRICS, score

_DESCRIBED = (Quantity.CHI, Quantity.CHI_POS, Quantity.CHI_NEG)


def result_table(
    maps: Maps,
    labels: NDArray[Any],
    *,
    mask: NDArray[np.bool_] | None = None,
    names: Mapping[int, str] | None = None,
) -> str:
    """Return what a result says of labelled regions, with standard errors where it has a sigma.

    Parameters
    ----------
    maps : Maps
        Susceptibility, of paramagnetic and diamagnetic sources too if it is there, and its sigma.
    labels : (X, Y, Z) array
        Whole numbers on the grid of the maps.
    mask, names
        As for `napari_qsm.evaluation.regions.region_table`. Without a mask only voxels count in
        which there is susceptibility.

    Raises
    ------
    InputError
        If the result holds no susceptibility, or the labels do not fit.
    """
    found = {quantity.key: maps[quantity] for quantity in _DESCRIBED if quantity in maps}
    if not found:
        raise InputError("The result holds no susceptibility; choose a map of susceptibility.")
    if mask is None:
        mask = np.logical_or.reduce([values != 0 for values in found.values()])
    sigma = {Quantity.CHI.key: maps[Quantity.SIGMA]} if Quantity.SIGMA in maps else {}
    size = maps.grid.voxel_size
    if labels.shape != maps.grid.shape:
        raise InputError(
            f"The labels have shape {labels.shape} and the result {maps.grid.shape}; choose "
            "labels of the same measurement."
        )
    return region_csv(region_table(found, labels, size, mask=mask, sigma=sigma, names=names))


@dataclass(frozen=True)
class FigureTable:
    """All figures of several maps.

    Parameters
    ----------
    head : tuple[str, ...]
        ``map``, then every figure with its unit.
    rows : tuple[tuple[str, ...], ...]
        One for each map; ``nan`` where a figure could not be computed.
    notes : tuple[str, ...]
        Why it could not.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]

    @property
    def csv(self) -> str:
        """The text of a CSV file."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.head, *self.rows])
        return text.getvalue()


def figure_table(
    maps: Mapping[str, Volume],
    reference: Volume,
    mask: NDArray[np.bool_],
    labels: NDArray[Any] | None = None,
    scheme: Scheme | None = None,
) -> Generator[Step, None, FigureTable]:
    """Compute every figure of every map; with labels whose meaning is known, of tissues, too.

    Parameters
    ----------
    maps : mapping of str to Volume
        By name, in ppm, on the grid of the reference.
    reference : Volume
        In ppm.
    mask : (X, Y, Z) array of bool
        Voxels that count.
    labels : (X, Y, Z) array, optional
        Whole numbers.
    scheme : Scheme, optional
        What they mean; without it they are left aside.

    Raises
    ------
    InputError
        If the mask is empty or something lies on another grid.
    """
    scores = yield from score(maps, reference, mask)
    units = {metric.key: metric.unit for metric in METRICS}
    figures = [dict(one.values) for one in scores]
    notes = [note for one in scores for note in one.notes]
    if labels is not None and scheme is not None:
        units |= {figure.key: figure.unit for figure in FIGURES}
        for one, (name, volume) in zip(figures, maps.items(), strict=True):
            yield Step(1.0, f"Tissues of {name}")
            found, said = structure_figures(volume.data, reference.data, mask, labels, scheme)
            one.update(found)
            notes += [f"'{name}', {note}" for note in said]
    head = ("map", *(f"{key} [{unit}]" if unit else key for key, unit in units.items()))
    rows = tuple(
        (name, *(f"{one[key]:.6g}" for key in units))
        for name, one in zip(maps, figures, strict=True)
    )
    return FigureTable(head, rows, tuple(notes))
