"""Print the tables of docs/benchmarks.md: ``python -m benchmarks [--quick]`` from the root."""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

import napari_qsm  # noqa: F401  # before torch: it sets how threads wait

import torch  # isort: skip

from benchmarks.memory import memory_table, peak_volumes
from benchmarks.methods import heads, methods_table, slabs
from benchmarks.preparation import preparation_tables
from benchmarks.speed import convergence_table, iteration_table
from benchmarks.throughput import FULL, QUICK, throughput, throughput_table
from benchmarks.unwrapping import unwrapping_table


def main() -> None:
    """Run all tables and print them as markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, for a minute")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--methods", action="store_true", help="only the errors of all methods")
    parser.add_argument("--in-vivo", type=Path, help="errors on a folder of slabs with COSMOS, too")
    parser.add_argument("--only", nargs="*", default=(), help="keys of methods, for --methods")
    parser.add_argument("--preparation", action="store_true", help="only the stages before")
    parser.add_argument("--unwrapping", action="store_true", help="only unwrapping, many wraps")
    parser.add_argument("--throughput", help=argparse.SUPPRESS)  # the throughput table's child
    parser.add_argument("--unwrap", help=argparse.SUPPRESS)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)  # the memory table's child
    parser.add_argument("--magnitude", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        print(peak_volumes(arguments.peak, magnitude=arguments.magnitude))
        return
    if arguments.throughput:
        print(throughput([int(n) for n in arguments.throughput.split("x")], arguments.unwrap))
        return
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({platform.machine()}), "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {load}\n"
    )
    if arguments.methods or arguments.in_vivo:
        voxel_size = 3.0 if arguments.quick else 1.5
        cases = [*heads(voxel_size), *(slabs(arguments.in_vivo) if arguments.in_vivo else ())]
        for table in methods_table(iter(cases), tuple(arguments.only)):
            print(table, end="\n\n", flush=True)
        return
    if arguments.unwrapping:
        print(unwrapping_table(64 if arguments.quick else 128))
        return
    if arguments.preparation:
        print(throughput_table(QUICK if arguments.quick else FULL, arguments.threads), end="\n\n")
        for table in preparation_tables(1.5 if arguments.quick else 1.0):
            print(table, end="\n\n", flush=True)
        return
    sizes = (64,) if arguments.quick else (128, 160)
    for table in (
        iteration_table(sizes),
        convergence_table(sizes[:1]),
        memory_table(sizes[0], arguments.threads),
    ):
        print(table, end="\n\n", flush=True)


if __name__ == "__main__":
    main()
