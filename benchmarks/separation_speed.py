"""Seconds of every separation of a head that fills 160^3 voxels."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from benchmarks.preparation import run
from benchmarks.separation import rivals
from benchmarks.tables import markdown
from benchmarks.timing import anew
from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.training.separation import Lattice, Separation, draw_separated

HEAD = (140.5, 175.0, 151.0)
"""About the box of the brain's mask, in mm."""

WHOLE = Separation().population.model_copy(
    update={"lesions": {"haemorrhage": 1.0, "calcification": 1.0}, "slabs": 0.0}
)

GIVEN = (
    Quantity.LOCAL_FIELD,
    Quantity.MASK,
    Quantity.MAGNITUDE,
    Quantity.R2PRIME,
    Quantity.R2STAR,
)


def measured(side: int) -> Acquisition:
    """Return a head with lesions whose mask fills a box of about `side`^3 voxels."""
    x, y, z = (length / side for length in HEAD)
    case = draw_separated(Separation(population=WHOLE), 0, Lattice((x, y, z), (0.0, 0.0)))
    known = case.acquisition
    return Acquisition(known.grid, {q: known[q] for q in GIVEN}, known.field_strength)


def separation_speed_table(side: int, *, only: Sequence[str] = ()) -> str:
    """Return the seconds of every method at its defaults, from nothing."""
    case, rows = measured(side), []
    for rival in rivals(only):
        begun = time.process_time()
        done = run(rival.method(anew(case), rival.method.with_settings(rival.settings)))
        rows.append(
            (
                rival.label,
                f"{done.seconds:.1f}",
                f"{time.process_time() - begun:.1f}",
                f"{1e3 * done.silence:.0f}",
            )
        )
    shape = "x".join(map(str, case.grid.shape))
    title = f"Separation of {shape}, {torch.get_num_threads()} threads"
    return markdown(title, ("method", "seconds", "processor's", "longest silence, ms"), rows)
