"""Seconds, silences and peak memory of a whole preparation, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory import status
from benchmarks.preparation import run_from
from benchmarks.tables import markdown
from napari_qsm.acquisition import Acquisition, Grid
from napari_qsm.pipeline import Recipe
from napari_qsm.preparation.registry import Place
from napari_qsm.training.raw_head import raw_head

FULL = (256, 256, 160)
QUICK = (128, 128, 80)
ECHO_TIMES = (0.004, 0.010, 0.016, 0.022, 0.028)

FAST = "laplacian"
"""The unwrapping of the chain that must be done within a minute."""

PEAK = Path("/proc/self/clear_refs")


def measured(shape: Sequence[int]) -> Acquisition:
    """Five echoes of a head whose voxels are small enough to fill `shape`, and no more."""
    # A millimetre head takes 191 x 235 x 224 voxels.
    size = [n / wanted for n, wanted in zip((189, 233, 221), shape, strict=True)]
    whole = raw_head(size, lesions=(), echo_times=ECHO_TIMES).acquisition
    cut = tuple(slice(n - wanted, n) for n, wanted in zip(whole.grid.shape, shape, strict=True))
    affine = whole.grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [s.start for s in cut]
    x, y, z = shape
    volumes = {quantity: values[cut].copy() for quantity, values in whole.volumes.items()}
    return Acquisition(Grid((x, y, z), affine), volumes, whole.field_strength, whole.echo_times)


def throughput(shape: Sequence[int], unwrap: str) -> str:
    """Run the shipped chain with `unwrap`; what was measured, as JSON."""
    acquisition = measured(shape)
    recipe = Recipe().with_choice(Place.UNWRAP, unwrap)
    PEAK.write_text("5")
    before = status("VmRSS")
    rows = []
    for stage, done, made in run_from(Place.MASK, acquisition, recipe):
        assert stage.place is not None
        rows.append((stage.place.label, stage.key, done.seconds, done.silence))
        acquisition = made
    peak, voxel = status("VmHWM"), np.prod(acquisition.grid.voxel_size)
    litres = 1e-6 * float(voxel) * np.count_nonzero(acquisition.mask)
    return json.dumps({"stages": rows, "before": before, "peak": peak, "litres": litres})


def throughput_table(shape: Sequence[int], threads: int) -> str:
    """Measure the chain with the fast and with the shipped unwrapping."""
    if not PEAK.exists():
        return "Throughput: not measured, it needs Linux."
    size = "x".join(map(str, shape))
    tables = []
    for unwrap in (FAST, Recipe().choice(Place.UNWRAP).use):
        command = [sys.executable, "-m", "benchmarks", "--threads", str(threads)]
        command += ["--throughput", size, "--unwrap", unwrap]
        child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        tables.append(_table(size, unwrap, json.loads(child.stdout.splitlines()[-1])))
    return "\n\n".join(tables)


def _table(size: str, unwrap: str, figures: dict[str, Any]) -> str:
    stages = figures["stages"]
    rows = [(place, key, f"{s:.1f}", f"{1e3 * silence:.0f}") for place, key, s, silence in stages]
    total, silence = sum(row[2] for row in stages), max(row[3] for row in stages)
    rows.append(("**all**", "", f"**{total:.1f}**", f"{1e3 * silence:.0f}"))
    head = ("place", "stage", "seconds", "longest silence, ms")
    title = f"Preparation of {size}, {len(ECHO_TIMES)} echoes, with {unwrap}"
    before, peak = (figures[name] / 2**30 for name in ("before", "peak"))
    memory = (
        f"Peak memory {peak:.1f} GiB, {before:.1f} of them there before: the echoes. A local field "
        f"in {figures['litres']:.2f} l."
    )
    return f"{markdown(title, head, rows)}\n\n{memory}"
