"""What a sweep costs: eight points of TV over one cold solve.

``python -m benchmarks --sweep``. Both are timed in turn and the best of several
rounds counts, since other programs only ever add time.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.tables import markdown
from benchmarks.timing import anew, finished
from napari_qsm.acquisition import Acquisition
from napari_qsm.evaluation.sweep import sweep
from napari_qsm.evaluation.sweep_range import plan
from napari_qsm.evaluation.swept import Sweep
from napari_qsm.evaluation.yardstick import Yardstick
from napari_qsm.methods.registry import Method, find
from napari_qsm.training.phantom import sample_head

ROUNDS = 2


def objectives(measured: Acquisition, method: Method[Any], made: Sweep) -> list[float]:
    """Compare what every point minimises with what its own cold solve leaves of it, in percent."""
    found = []
    with Yardstick(measured, "auto", torch.device("cpu")) as yardstick:
        finished(yardstick.prepare())
        for index, value in enumerate(made.values):
            cold, _ = finished(method(measured, method.with_settings({method.tuning: value})))
            ours, theirs = (
                0.5 * m.residual**2 + value * m.variation
                for m, _ in (finished(yardstick.measure(x)) for x in (made.maps(index), cold))
            )
            found.append(100 * (ours / theirs - 1))
    return found


def sweep_table(voxel_size: float) -> str:
    """Time a cold solve and both sweeps in turn; compare what they minimise, too."""
    method, measured = find("tv"), sample_head("healthy", voxel_size).acquisition
    values, _ = finished(plan(method, measured))
    cold, brief, thorough = [], [], []
    for _ in range(ROUNDS):
        cold.append(finished(method(anew(measured)))[1])
        made, seconds = finished(sweep(method, anew(measured), values))
        brief.append(seconds)
        thorough.append(finished(sweep(method, anew(measured), values, thorough=True))[1])
    rows = [
        (told, f"{min(times):.2f} s", f"{min(times) / min(cold):.2f}")
        for told, times in (
            ("one cold solve", cold),
            ("8-point sweep", brief),
            ("8-point sweep, thorough", thorough),
        )
    ]
    shape = "x".join(map(str, measured.grid.shape))
    table = markdown(f"TV, {shape}", ("", "time", "over one cold solve"), rows)
    worse = ", ".join(f"{x:+.1f}" for x in objectives(measured, method, made))
    return f"{table}\n\nObjective over a cold solve's, percent: {worse}"
