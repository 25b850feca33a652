"""Peak memory of a method, in volumes of the size it works at."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.speed import Cube
from benchmarks.tables import markdown
from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.methods.registry import DEFAULT_METHOD, find
from napari_qsm.physics.fourier import smooth_shape


def status(key: str) -> int:
    """Read a line of the kernel's account of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return 1024 * int(line.split()[1])
    raise KeyError(key)


def peak_volumes(n: int, *, magnitude: bool) -> float:
    """Resident memory that the default method adds at its peak, over that of a float32 volume.

    With a `magnitude` it weights the data, which takes more.

    Everything counts: what the transforms allocate inside, the maps, and the preview nobody takes.
    The kernel's high-water mark is reset first, so only Linux can tell.
    """
    from napari_qsm.methods.workspace import PADDING

    cube = Cube(n)
    volumes = {Quantity.LOCAL_FIELD: cube.field().numpy(), Quantity.MASK: np.ones(cube.shape)}
    if magnitude:
        volumes[Quantity.MAGNITUDE] = np.random.default_rng(0).uniform(0.5, 1, cube.shape)
    measured = Acquisition(Grid(cube.shape, np.eye(4)), volumes)
    method = find(DEFAULT_METHOD)
    for _ in find("tkd")(measured):
        pass  # threads and transform libraries start up
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    for _ in method(measured, method.with_settings({"max_iterations": 3})):
        pass
    return (status("VmHWM") - before) / (4 * math.prod(smooth_shape(cube.shape, PADDING)))


def memory_table(n: int, threads: int) -> str:
    """Measure in a fresh process: a high-water mark never falls."""
    command = [sys.executable, "-m", "benchmarks", "--peak", str(n), "--threads", str(threads)]
    if not Path("/proc/self/clear_refs").exists():
        return "Peak memory: not measured, it needs Linux."
    rows = []
    for given, words in (([], "field"), (["--magnitude"], "field and magnitude")):
        child = subprocess.run([*command, *given], check=True, capture_output=True, text=True)
        peak = f"{float(child.stdout):.1f}"
        rows.append((find(DEFAULT_METHOD).label, f"{words} at {n}^3", peak))
    return markdown("Peak memory", ("method", "given", "padded volumes"), rows)
