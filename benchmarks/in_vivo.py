"""Error against COSMOS on measured fields, where simulations are too kind.

The data may not be redistributed; the table is printed where a folder with them is given.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.error import run
from benchmarks.tables import markdown
from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.io.nifti import read_volume
from napari_qsm.methods.registry import methods
from napari_qsm.preparation.assemble import assemble

CUT = 8
"""Voxels to stay away from where a slab was cut off along its first axis."""


def in_vivo_table(folder: Path) -> str:
    """Every method at its default on every slab; TV also at the lambda of the digital head."""
    rows = []
    for path in sorted(folder.glob("*_localfield.nii.gz")):
        slab = path.name.removesuffix("_localfield.nii.gz")
        volumes = {n: read_volume(folder / f"{slab}_{n}.nii.gz") for n in ("mask", "covered")}
        reference = read_volume(folder / f"{slab}_cosmos.nii.gz").data
        measured = assemble(read_volume(path), volumes["mask"])
        scored = measured.mask & (volumes["covered"].data > 0)
        scored[:CUT] = scored[-CUT:] = False
        for method in methods().values():
            if method.orientations == 1 and not method.missing(measured):
                settings = [{}, {"regularization": 1e-4}] if method.key == "tv" else [{}]
                rows += [_row(slab, method.key, s, measured, reference, scored) for s in settings]
    head = ("slab", "method", "NRMSE, %", "seconds")
    return markdown("Error against COSMOS, in vivo", head, rows)


def _row(
    slab: str,
    key: str,
    settings: dict[str, float],
    measured: Acquisition,
    reference: np.ndarray,
    scored: np.ndarray,
) -> tuple[str, ...]:
    maps, seconds = run(methods()[key], measured, settings)
    name = " ".join([key, *(f"{k}={v:g}" for k, v in settings.items())])
    error = nrmse(maps[Quantity.CHI], reference, scored)
    return slab, name, f"{error:.1f}", f"{seconds:.2f}"
