"""Error of every registered method on digital heads and on measured slabs, as shipped and tuned.

What is best in simulation is not what is best in vivo, so both stand side by side. The slabs may
not be redistributed; they are included where a folder with them is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import markdown
from benchmarks.timing import finished
from napari_qsm import process
from napari_qsm.acquisition import Acquisition, Maps, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.evaluation.similarity import hfen, xsim
from napari_qsm.io.nifti import read_volume
from napari_qsm.methods.registry import Method, methods
from napari_qsm.preparation.assemble import assemble
from napari_qsm.training.phantom import CASES, orientations, sample_head

SWEEP = (0.2, 0.4, 0.63, 1.6, 2.5, 5.0)
"""Multiples of the shipped value the tuning parameter is swept over."""

CUT = 8
"""Voxels to stay away from where a slab was cut off along its first axis."""

TILTS = ((0.26, 0.0, 0.97), (0.0, 0.26, 0.97))
"""B0 of the further orientations that methods for several are given, 15 degrees off the first."""


@dataclass
class Case:
    """A field with what is to come out of it.

    Parameters
    ----------
    name : str
        For the table.
    measured : Acquisition
        The field.
    reference : array
        Susceptibility.
    scored : array of bool
        Voxels that count.
    several : callable, optional
        The same with further orientations.
    """

    name: str
    measured: Acquisition
    reference: NDArray[Any]
    scored: NDArray[np.bool_]
    several: Callable[[], Acquisition] | None = None

    def given_to(self, method: Method[Any]) -> Acquisition | None:
        """Return what a method is run on; None if this case cannot serve it."""
        if method.missing(self.measured) or Quantity.CHI not in method.gives or method.one_of:
            return None  # separations have a benchmark of their own
        if method.orientations == 1:
            return self.measured
        return None if self.several is None else self.several()

    def error(self, chi: NDArray[Any]) -> float:
        """NRMSE in percent."""
        return nrmse(chi, self.reference, self.scored)


def heads(voxel_size: float) -> Iterator[Case]:
    """Yield the digital heads."""
    for name in list(CASES)[:2]:
        phantom = sample_head(name, voxel_size)
        measured = phantom.acquisition
        yield Case(
            name,
            measured,
            phantom.truth[Quantity.CHI],
            measured.mask,
            lambda phantom=phantom: orientations(phantom, TILTS).acquisition,  # type: ignore[misc]
        )


def slabs(folder: Path) -> Iterator[Case]:
    """Yield measured slabs with their COSMOS."""
    for path in sorted(folder.glob("*_localfield.nii.gz")):
        slab = path.name.removesuffix("_localfield.nii.gz")
        volumes = {n: read_volume(folder / f"{slab}_{n}.nii.gz") for n in ("mask", "covered")}
        measured = assemble(read_volume(path), volumes["mask"])
        scored = measured.mask & (volumes["covered"].data > 0)
        scored[:CUT] = scored[-CUT:] = False
        yield Case(slab, measured, read_volume(folder / f"{slab}_cosmos.nii.gz").data, scored)


def run(
    method: Method[Any], measured: Acquisition, settings: Mapping[str, Any] | None = None
) -> tuple[Maps, float]:
    """Return maps and seconds of one reconstruction."""
    return finished(method(measured, method.with_settings(settings or {})))


@dataclass
class Outcome:
    """One method on one case."""

    maps: Maps
    seconds: float
    default: float
    best: float
    best_value: float | None = None
    tuned: Maps | None = field(default=None, repr=False)


def tuned(method: Method[Any], case: Case, measured: Acquisition) -> Outcome:
    """Run a method as shipped, then over multiples of what it chose."""
    maps, seconds = run(method, measured)
    error = case.error(maps[Quantity.CHI])
    outcome = Outcome(maps, seconds, error, error)
    if not method.tuning:
        return outcome
    limits = process.number(method.parameters.model_fields[method.tuning])
    assert limits is not None
    shipped = maps.provenance.chosen.get(method.tuning) or limits.typical
    for factor in SWEEP:
        value = float(np.clip(shipped * factor, limits.low, limits.high))
        setting = {method.tuning: round(value) if limits.whole else value}
        tried, _ = run(method, measured, setting)
        if (found := case.error(tried[Quantity.CHI])) < outcome.best:
            outcome.best, outcome.best_value, outcome.tuned = found, value, tried
    return outcome


def methods_table(cases: Iterator[Case], keys: tuple[str, ...] = ()) -> Iterator[str]:
    """Print a table for every case, the best shipped method first."""
    head = (
        "method",
        "NRMSE, %",
        "tuned, %",
        "at",
        "over tuned",
        "XSIM",
        "XSIM tuned",
        "HFEN, %",
        "iterations",
        "seconds",
    )
    for case in cases:
        outcomes = {}
        for method in methods().values():
            if keys and method.key not in keys:
                continue
            if (measured := case.given_to(method)) is not None:
                outcomes[method] = tuned(method, case, measured)
        ranked = sorted(outcomes.items(), key=lambda pair: pair[1].default)
        rows = [_row(method, outcome, case) for method, outcome in ranked]
        yield markdown(f"{case.name}, {_described(case.measured)}", head, rows)


def _described(measured: Acquisition) -> str:
    size = " x ".join(str(n) for n in measured.grid.shape)
    return f"{size} voxels of {' x '.join(f'{v:.3g}' for v in measured.grid.voxel_size)} mm"


def _row(method: Method[Any], outcome: Outcome, case: Case) -> tuple[str, ...]:
    def similarity(maps: Maps) -> str:
        return f"{xsim(maps[Quantity.CHI], case.reference, case.scored):.3f}"

    at = "as shipped" if outcome.best_value is None else f"{method.tuning} {outcome.best_value:.3g}"
    label = method.label
    if method.orientations > 1:
        label += f", {1 + len(TILTS)} orientations"
    return (
        label,
        f"{outcome.default:.1f}",
        f"{outcome.best:.1f}",
        at,
        f"+{100 * (outcome.default / outcome.best - 1):.0f} %",
        similarity(outcome.maps),
        similarity(outcome.tuned or outcome.maps),
        f"{hfen(outcome.maps[Quantity.CHI], case.reference, case.scored):.1f}",
        _iterations(outcome.maps),
        f"{outcome.seconds:.1f}",
    )


def _iterations(maps: Maps) -> str:
    """Return the numbers of iterations its notes tell of, one for each solve."""
    told = " ".join(maps.provenance.notes)
    counts = re.findall(r"(?:Converged in|Stopped after the) (\d+) iterations", told)
    return " + ".join(counts) or "-"
