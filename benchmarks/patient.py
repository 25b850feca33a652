"""Networks on a measured haemorrhage: what each explains of the field, and what streaks it leaves.

There is no truth here, so figures go together: whoever smooths has few streaks and a large
residual, whoever fits noise a small one, and whoever leaves the cone empty a faint lesion.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.methods import run
from benchmarks.tables import markdown
from napari_qsm.acquisition import Acquisition, Maps, Quantity
from napari_qsm.evaluation.streaks import streak_energy, streak_share
from napari_qsm.generators import finished, relayed
from napari_qsm.io.nifti import read_volume
from napari_qsm.methods.registry import find
from napari_qsm.methods.wrappers.two_pass import strong_sources
from napari_qsm.preparation.assemble import assemble
from napari_qsm.process import Step

METHODS = ("pdi", "qsmnet", "fine", "pdi_vi")

STRONG, CORE = 0.6, 0.3
"""In ppm of TKD's map: what a lesion reaches, and what its mean is taken over."""

WIDER = 2
"""Voxels that the lesion is widened by, so that streaks are not its own border."""

HEAD = (
    "method",
    "seconds",
    "longest pause, s",
    "residual, % of the field",
    "lesion, ppm",
    "shell, ppb",
    "energy",
    "share",
    "sigma, ppb",
    "in the lesion",
)


@dataclass(frozen=True, eq=False)
class Patient:
    """A measured field with a lesion.

    Parameters
    ----------
    measured : Acquisition
        The field.
    lesion, core : (X, Y, Z) arrays of bool
        The lesion with its border, and its inside.
    """

    measured: Acquisition
    lesion: NDArray[np.bool_]
    core: NDArray[np.bool_]

    def row(self, label: str, maps: Maps, seconds: float, pause: float) -> tuple[str, ...]:
        """Return the figures of a reconstruction, as `HEAD` names them."""
        mask, grid = self.measured.mask, self.measured.grid
        chi, field = maps[Quantity.CHI], self.measured[Quantity.LOCAL_FIELD]
        left = np.linalg.norm(maps[Quantity.RESIDUAL][mask]) / np.linalg.norm(field[mask])
        streaks = streak_energy(chi, self.lesion, mask, grid)
        share = streak_share(chi, self.lesion, mask, grid)
        sigma = maps.volumes.get(Quantity.SIGMA)
        spread = [] if sigma is None else [1000 * sigma[part].mean() for part in (mask, self.core)]
        return (
            label,
            f"{seconds:.0f}",
            f"{pause:.2f}",
            f"{100 * left:.1f}",
            f"{chi[self.core].mean():.3f}",
            f"{1000 * streaks.shell:.1f}",
            f"{streaks.energy:.1f}",
            f"{share:.2f}",
            *([f"{value:.1f}" for value in spread] or ("-", "-")),
        )


def patient(folder: Path) -> Patient:
    """Read ``localfield.nii.gz`` and ``mask.nii.gz``, and find the lesion in TKD's map."""
    field, mask = (read_volume(folder / f"{name}.nii.gz") for name in ("localfield", "mask"))
    measured = assemble(field, mask)
    chi = run(find("tkd"), measured)[0][Quantity.CHI]
    strong = strong_sources(chi, measured.mask, STRONG)
    lesion = ndimage.binary_dilation(strong, iterations=WIDER)
    return Patient(measured, lesion, strong_sources(chi, measured.mask, CORE) & lesion)


def timed(steps: Generator[Step, None, Maps]) -> tuple[Maps, float, float]:
    """Run to the end; the maps, the seconds it took, and the longest of them without a step."""
    times = [time.perf_counter()]
    maps = finished(relayed(steps, lambda _: times.append(time.perf_counter())))
    times.append(time.perf_counter())
    return maps, times[-1] - times[0], float(np.diff(times).max())


def patient_table(folder: Path, only: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the table of some methods; wrapped ones can be named, too.

    A method that lets the field correct a network's map is shown without that as well: what is
    changed for one case is the network, so that is what changing it is measured against.
    """
    case = patient(folder)
    rows = []
    for key in only or METHODS:
        method = find(key)
        variants: dict[str, dict[str, Any]] = {method.label: {}}
        if method.parameters.model_fields.keys() >= {"consistency", "weights"}:
            variants[f"{method.label}, not corrected"] = {"consistency": 0.0}
        for label, settings in variants.items():
            steps = method(case.measured, method.with_settings(settings))
            rows.append(case.row(label, *timed(steps)))
    size = int(np.count_nonzero(case.core))
    volume = size * np.prod(case.measured.grid.voxel_size) / 1000
    yield markdown(f"{folder.name}, a lesion of {volume:.2f} ml", HEAD, rows)
