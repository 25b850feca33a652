"""What benchmarks keep on disk: unseen cases, and what methods have made of them.

A table with one method more then costs that method only; a learned method is run again when its
weights are others.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.methods import Case, run
from napari_qsm import process
from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.methods.registry import Method
from napari_qsm.networks import weights
from napari_qsm.training.unseen import UNSEEN, draw_unseen

FACTORS = (0.25, 0.5, 2.0, 4.0)
"""Multiples of the shipped value that classical methods are tuned over, case by case."""

STORED = (Quantity.LOCAL_FIELD, Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE)

Array = NDArray[Any]
Settings = Mapping[str, Any]


@dataclass
class Trial(Case):
    """A case whose lesions are known."""

    lesions: NDArray[np.bool_] | None = None


@dataclass
class Result:
    """What a method made of a case.

    Parameters
    ----------
    chi : (X, Y, Z) array
        In ppm.
    sigma : (X, Y, Z) array, optional
        Its standard deviation in ppm.
    seconds : float
        Wall time.
    value : float
        Of the tuning parameter; NaN without one.
    """

    chi: Array
    sigma: Array | None
    seconds: float
    value: float = math.nan


@dataclass
class Store:
    """A folder of cases and results.

    Parameters
    ----------
    folder : Path
        Made when something is kept.
    """

    folder: Path

    def unseen(self, number: int, anatomy: str = "icbm") -> Trial:
        """Return an unseen case, drawn at its first use."""
        population = UNSEEN.model_copy(update={"anatomy": anatomy})
        path = self.folder / f"{_short(population.model_dump(mode='json'))}-{number}.npz"
        if not path.exists():
            case = draw_unseen(number, population)
            grid = case.acquisition.grid
            arrays = {str(q): case.acquisition[q] for q in STORED}
            self._write(
                path,
                {"chi": case.chi, "lesions": case.lesions, "affine": grid.affine, **arrays},
                b0=np.array(grid.b0_direction),
            )
        with np.load(path) as kept:
            x, y, z = kept["chi"].shape
            bx, by, bz = kept["b0"].tolist()
            volumes = {q: kept[str(q)] for q in STORED}
            measured = Acquisition(Grid((x, y, z), kept["affine"], (bx, by, bz)), volumes)
            name = f"{anatomy} {number}"
            return Trial(
                name, measured, kept["chi"], measured.mask, lesions=kept["lesions"].astype(bool)
            )

    def result(self, method: Method[Any], case: Case, settings: Settings | None = None) -> Result:
        """Run a method on a case, or return what it made before of the same field."""
        measured = np.ascontiguousarray(case.measured[Quantity.LOCAL_FIELD])
        told = [hashlib.sha256(measured.tobytes()).hexdigest(), _version(method, settings or {})]
        path = self.folder / f"{case.name.replace(' ', '-')}-{method.key}-{_short(told)}.npz"
        if not path.exists():
            maps, seconds = run(method, case.measured, settings)
            arrays = {"chi": maps[Quantity.CHI], "seconds": np.array(seconds)}
            if Quantity.SIGMA in maps:
                arrays["sigma"] = maps[Quantity.SIGMA]
            chosen = {**maps.provenance.chosen, **(settings or {})}
            self._write(path, arrays, value=np.array(chosen.get(method.tuning, math.nan)))
        with np.load(path) as kept:
            sigma = kept.get("sigma")
            return Result(kept["chi"], sigma, float(kept["seconds"]), float(kept["value"]))

    def tuned(self, method: Method[Any], case: Case, settings: Settings | None = None) -> Result:
        """Return the best of the shipped value and its multiples, judged by the truth."""
        settings = settings or {}
        best = self.result(method, case, settings)
        if not method.tuning:
            return best
        limits = process.number(method.parameters.model_fields[method.tuning])
        assert limits is not None
        shipped = limits.typical if math.isnan(best.value) else best.value
        for factor in FACTORS:
            value = float(np.clip(shipped * factor, limits.low, limits.high))
            tried = self.result(method, case, {**settings, method.tuning: value})
            if case.error(tried.chi) < case.error(best.chi):
                best = tried
        return best

    def _write(self, path: Path, arrays: Mapping[str, Array], **more: Array) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part.npz")
        np.savez_compressed(partial, **arrays, **more)
        partial.rename(path)


def _version(method: Method[Any], settings: Settings) -> list[object]:
    """Return what a method's map depends on besides the field: settings, and weights if any."""
    told: list[object] = [dict(settings)]
    key = settings.get("weights", method.with_settings({}).model_dump().get("weights"))
    if key in weights.available():
        told.append(weights.find(key).sha256)
    return told


def _short(told: object) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
