"""What a sweep costs: eight points of TV over one cold solve.

Run with ``python -m benchmarks.sweep [VOXEL_SIZE]``. Both are timed in turn and the best of several
rounds counts, since other programs only ever add time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from typing import Any

import torch

from benchmarks.tables import markdown
from napari_qsm.acquisition import Acquisition
from napari_qsm.evaluation.sweep import Sweep, sweep
from napari_qsm.evaluation.sweep_range import plan
from napari_qsm.evaluation.yardstick import Yardstick
from napari_qsm.methods.registry import Method, find
from napari_qsm.training.phantom import sample_head

ROUNDS = 2


def finished(steps: Generator[Any, None, Any]) -> tuple[Any, float]:
    """Run to the end; what was made, and the seconds it took."""
    began = time.perf_counter()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, time.perf_counter() - began


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


def main() -> None:
    """Print the table."""
    voxel_size = float(sys.argv[1]) if len(sys.argv) > 1 else 1.5
    method, measured = find("tv"), sample_head("healthy", voxel_size).acquisition
    values, _ = finished(plan(method, measured))
    cold, brief, thorough = [], [], []
    for _ in range(ROUNDS):
        cold.append(finished(method(measured))[1])
        made, seconds = finished(sweep(method, measured, values))
        brief.append(seconds)
        thorough.append(finished(sweep(method, measured, values, thorough=True))[1])
    rows = [
        ["one cold solve", f"{min(cold):.2f} s", "1.00"],
        ["8-point sweep", f"{min(brief):.2f} s", f"{min(brief) / min(cold):.2f}"],
        ["8-point sweep, thorough", f"{min(thorough):.2f} s", f"{min(thorough) / min(cold):.2f}"],
    ]
    shape = "x".join(map(str, measured.grid.shape))
    print(markdown(f"TV, {shape}", ["", "time", "over one cold solve"], rows))
    worse = objectives(measured, method, made)
    print("Objective over a cold solve's, percent:", ", ".join(f"{x:+.1f}" for x in worse))


if __name__ == "__main__":
    main()
