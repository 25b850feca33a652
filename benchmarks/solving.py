"""Whole methods on a head of 128^3: from nothing, and from the map of another lambda."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.tables import markdown
from benchmarks.timing import Transforms, anew, finished, seconds, transform_pair
from napari_qsm.acquisition import Acquisition, Maps, Quantity
from napari_qsm.methods.edges import smooth_neighbours
from napari_qsm.methods.phase import phase_scale
from napari_qsm.methods.registry import Method, find
from napari_qsm.methods.variation import data_weights
from napari_qsm.methods.workspace import PADDING, Workspace
from napari_qsm.physics.fourier import smooth_shape
from napari_qsm.physics.gradient import Gradient
from napari_qsm.preparation.strength import total_signal
from napari_qsm.process import Step
from napari_qsm.solvers.gauss_newton import Misfit
from napari_qsm.solvers.iteration import Iterates, until_converged
from napari_qsm.solvers.penalties import SmoothedNorm
from napari_qsm.surroundings import bounding_box
from napari_qsm.training.phantom import sample_head

VOXEL_SIZES = {False: (1.45, 1.82, 1.54), True: (2.9, 3.64, 3.08)}
"""Voxels of the head that, padded, take 128^3, and about 64^3 for a quick look."""

SOLVED = ("tv", "fansi", "ndi", "medi", "hd")
WARMED = ("tv", "fansi", "hd", "medi")
NONLINEAR = ("fansi", "medi")
CHANGE = 1.2
"""By which factor lambda changes."""

MOST = 300
"""Iterations after which a warm restart has missed its goal."""


def head(*, quick: bool) -> Acquisition:
    """Return the healthy digital head."""
    return sample_head("healthy", VOXEL_SIZES[quick]).acquisition


def lattice(measured: Acquisition) -> tuple[int, int, int]:
    """Shape the methods work at."""
    return smooth_shape([s.stop - s.start for s in bounding_box(measured.mask)], PADDING)


def per_iteration(method: Method[Any], measured: Acquisition) -> tuple[int, float]:
    """Count the iterations of a run at its defaults, and the pairs of transforms of one of them."""
    known: dict[int, float] = {}
    with Transforms() as count:
        for step in method(measured):
            if (iteration := int(step.values.get("iteration", 0))) > 0:
                known.setdefault(iteration, count.pairs)
    first, last = min(known), max(known)
    return last, (known[last] - known[first]) / max(last - first, 1)


def solve_table(*, quick: bool, rounds: int = 3) -> str:
    """Every method at its defaults, timed in turn with a pair of transforms; the best counts."""
    measured = head(quick=quick)
    volume = torch.randn(lattice(measured))
    transform_pair(volume)
    rows = []
    for method in map(find, SOLVED):
        iterations, pairs = per_iteration(method, measured)
        own, bare = [], []
        for _ in range(rounds):
            own.append(finished(method(anew(measured)))[1])
            bare.append(median(seconds(lambda: transform_pair(volume)) for _ in range(9)))
        floor = iterations * pairs * min(bare)
        rows.append(
            (
                method.label,
                iterations,
                f"{pairs:.1f}",
                f"{min(own):.2f}",
                f"{1e3 * min(bare):.0f}",
                f"{floor / min(own):.0%}",
            )
        )
    titles = (
        "method",
        "iterations",
        "FFT pairs each",
        "seconds, all",
        "an FFT pair, ms",
        "FFTs of the iterations in that",
    )
    return markdown(f"From nothing to converged, {_size(volume)}", titles, rows)


@dataclass(frozen=True)
class Look:
    """What is minimised after an iteration, and when that was."""

    iteration: int
    seconds: float
    objective: float


def objective(
    method: Method[Any], measured: Acquisition, space: Workspace, strength: float
) -> Callable[[Tensor], float]:
    """Return what a method minimises with its defaults, for susceptibilities on its lattice.

    HD-QSM's second stage discounts outliers by what its first stage has left, which differs from
    run to run a little; it is judged without the discounts.
    """
    gradient = Gradient(space.voxel_size)
    field, weights = space.field(), data_weights(space.weighting("auto"), space)
    scale = phase_scale(measured, None, space) if method.key in NONLINEAR else None
    selection, smoothing = torch.ones((3, *space.shape)), 0.0
    if method.key == "medi":
        magnitude = space.place(total_signal(measured[Quantity.MAGNITUDE]))
        shipped = method.parameters()
        looking = smooth_neighbours(magnitude, space.region(), gradient, shipped.edges)
        (selection, _), _ = finished(looking)
        smoothing = shipped.smoothing
    norm = SmoothedNorm(gradient, selection, weight=strength, smoothing=smoothing)

    def value(estimate: Tensor) -> float:
        misfit = Misfit(space.dipole(estimate).sub_(field), weights, scale=scale)
        data = 0.5 * float(misfit.distances().square().sum(dtype=torch.float64))
        return data + norm.value(estimate)

    return value


def race(
    method: Method[Any], measured: Acquisition, strength: float, *, goal: float = 0.0
) -> tuple[Maps, list[Look]]:
    """Run a method and look at its objective after every iteration, with the clock stopped.

    It stops at the `goal`, or as it would by itself if there is none.
    """
    looks: list[Look] = []
    began = time.perf_counter()

    def follow(
        space: Workspace, iterates: Iterates, *, tolerance: float, max_iterations: int, **_: Any
    ) -> Generator[Step, None, Tensor]:
        paused = time.perf_counter()
        value = objective(method, measured, space, strength)
        aside, seen = time.perf_counter() - paused, 0
        limits = (1e-9, MOST) if goal else (tolerance, max_iterations)
        for iterate in until_converged(iterates, tolerance=limits[0], max_iterations=limits[1]):
            yield space.step(0.0, "racing")
            if iterate.iteration == seen:
                continue
            seen, paused = iterate.iteration, time.perf_counter()
            looks.append(Look(seen, paused - began - aside, value(iterate.estimate)))
            aside += time.perf_counter() - paused
            if looks[-1].objective <= goal:
                break
        return iterate.estimate

    with patch.object(Workspace, "follow", follow):
        maps, _ = finished(method(measured, method.with_settings({"regularization": strength})))
    return maps, looks


def warm_rows(method: Method[Any], measured: Acquisition) -> Iterator[tuple[str, ...]]:
    """Yield what a restart costs from a smaller and from a larger lambda."""
    chosen, _ = finished(method(measured))
    strength = float(chosen.provenance.chosen["regularization"])
    _, looks = race(method, anew(measured), strength)
    # An objective that rises at the end was reached when it first was as low.
    cold = next(look for look in looks if look.objective <= looks[-1].objective)
    for told, factor in (("smaller", 1 / CHANGE), ("larger", CHANGE)):
        maps, _ = finished(
            method(measured, method.with_settings({"regularization": factor * strength}))
        )
        given = measured.with_volumes({Quantity.CHI: maps[Quantity.CHI]})
        _, again = race(method, given, strength, goal=cold.objective)
        warm = again[-1]
        reached = "" if warm.objective <= cold.objective else " (not reached)"
        yield (
            method.label,
            told,
            f"{cold.iteration}",
            f"{cold.seconds:.2f}",
            f"{warm.iteration}{reached}",
            f"{warm.seconds:.2f}",
            f"{warm.iteration / cold.iteration:.2f}",
            f"{warm.seconds / cold.seconds:.2f}",
        )


def warm_table(*, quick: bool) -> str:
    """Go from the map of a lambda 20 % off to the objective that a cold solve comes to."""
    measured = head(quick=quick)
    rows = [row for method in map(find, WARMED) for row in warm_rows(method, measured)]
    titles = (
        "method",
        "from a lambda 20 %",
        "cold, iterations",
        "seconds",
        "warm, iterations",
        "seconds",
        "of the iterations",
        "of the seconds",
    )
    title = f"To the objective a cold solve comes to, {'x'.join(map(str, lattice(measured)))}"
    return markdown(title, titles, rows)


def _size(volume: Tensor) -> str:
    return "x".join(map(str, volume.shape))
