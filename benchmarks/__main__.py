"""Print the tables of docs/benchmarks.md: ``python -m benchmarks [--quick]`` from the root."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import napari_qsm  # noqa: F401  # before torch: it sets how threads wait

import torch  # isort: skip

from benchmarks.learned import learned_tables
from benchmarks.linearity import linearity_tables
from benchmarks.live import SHAPES, live_table
from benchmarks.memory import memory_table, peak_volumes
from benchmarks.methods import heads, methods_table, slabs
from benchmarks.patient import patient_table
from benchmarks.preparation import preparation_tables
from benchmarks.separation import separation_tables
from benchmarks.separation_speed import separation_speed_table
from benchmarks.solving import solve_table, warm_table
from benchmarks.speed import convergence_table, iteration_table
from benchmarks.store import Store
from benchmarks.sweep import sweep_table
from benchmarks.throughput import FULL, QUICK, throughput, throughput_table
from benchmarks.unwrapping import unwrapping_table


def parser() -> argparse.ArgumentParser:
    """Make the parser."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("--quick", action="store_true", help="small sizes, for a minute")
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--methods", action="store_true", help="only the errors of all methods")
    made.add_argument("--in-vivo", type=Path, help="errors on a folder of slabs with COSMOS, too")
    made.add_argument("--only", nargs="*", default=(), help="keys of methods, for most tables")
    made.add_argument("--learned", action="store_true", help="only networks beside the classics")
    made.add_argument("--linearity", action="store_true", help="only lesions of known strength")
    made.add_argument("--separation", action="store_true", help="only iron and myelin apart")
    made.add_argument("--separation-speed", action="store_true", help="only how soon they are")
    made.add_argument("--patient", type=Path, help="only a folder with a lesion, measured")
    made.add_argument("--cases", type=int, default=6, help="unseen heads, for --learned")
    made.add_argument("--challenge", type=Path, help="a folder with the challenge's head, too")
    made.add_argument("--slow", action="store_true", help="networks changed per case, too")
    made.add_argument("--cache", type=Path, default=Path(".benchmarks"), help="what to keep where")
    made.add_argument("--figure", type=Path, help="draw --linearity into this file")
    made.add_argument("--solve", action="store_true", help="only whole methods until converged")
    made.add_argument("--warm", action="store_true", help="only restarts with another lambda")
    made.add_argument("--sweep", action="store_true", help="only a sweep over lambda")
    made.add_argument("--live", action="store_true", help="only what follows a slider")
    made.add_argument("--preparation", action="store_true", help="only the stages before")
    made.add_argument("--unwrapping", action="store_true", help="only unwrapping, many wraps")
    made.add_argument("--throughput", help=argparse.SUPPRESS)  # the throughput table's child
    made.add_argument("--unwrap", help=argparse.SUPPRESS)
    made.add_argument("--peak", type=int, help=argparse.SUPPRESS)  # the memory table's child
    made.add_argument("--magnitude", action="store_true", help=argparse.SUPPRESS)
    return made


def tables(wanted: argparse.Namespace) -> Iterator[str]:
    """Yield the tables that are wanted; without a word on which, those of the solvers."""
    quick: bool = wanted.quick
    if wanted.learned:
        yield from learned_tables(
            Store(wanted.cache),
            wanted.cases,
            in_vivo=wanted.in_vivo,
            challenge=wanted.challenge,
            slow=wanted.slow,
            only=tuple(wanted.only),
        )
    elif wanted.linearity:
        yield from linearity_tables(
            Store(wanted.cache),
            wanted.figure,
            slow=wanted.slow,
            only=tuple(wanted.only),
            quick=quick,
        )
    elif wanted.separation:
        number = min(wanted.cases, 2) if quick else wanted.cases
        yield from separation_tables(number, only=tuple(wanted.only), quick=quick)
    elif wanted.separation_speed:
        yield separation_speed_table(64 if quick else 160, only=tuple(wanted.only))
    elif wanted.patient:
        yield from patient_table(wanted.patient, only=tuple(wanted.only))
    elif wanted.methods or wanted.in_vivo:
        cases = [*heads(3.0 if quick else 1.5), *(slabs(wanted.in_vivo) if wanted.in_vivo else ())]
        yield from methods_table(iter(cases), tuple(wanted.only))
    elif wanted.solve:
        yield solve_table(quick=quick)
    elif wanted.warm:
        yield warm_table(quick=quick)
    elif wanted.sweep:
        yield sweep_table(3.0 if quick else 1.5)
    elif wanted.live:
        yield live_table(SHAPES[1:] if quick else SHAPES)
    elif wanted.unwrapping:
        yield unwrapping_table(64 if quick else 128)
    elif wanted.preparation:
        yield throughput_table(QUICK if quick else FULL, wanted.threads)
        yield from preparation_tables(1.5 if quick else 1.0)
    else:
        sizes = (64,) if quick else (128, 160)
        yield iteration_table(sizes)
        yield convergence_table(sizes[:1])
        yield memory_table(sizes[0], wanted.threads)


def main() -> None:
    """Print the tables that are wanted as markdown, or one figure to a parent process."""
    wanted = parser().parse_args()
    torch.set_num_threads(wanted.threads)
    if wanted.peak:
        print(peak_volumes(wanted.peak, magnitude=wanted.magnitude))
        return
    if wanted.throughput:
        print(throughput([int(n) for n in wanted.throughput.split("x")], wanted.unwrap))
        return
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({platform.machine()}), "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {load}\n"
    )
    for table in tables(wanted):
        print(table, end="\n\n", flush=True)


if __name__ == "__main__":
    main()
