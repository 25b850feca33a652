"""Error and seconds of every unwrapping, on a field with many wraps and noise of any size.

Wrong is a voxel more than half a turn from the truth, after the turns an echo as a whole may have.
Where the module ``warpkit`` happens to be importable (it is no dependency), its ROMEO gets a row.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import markdown
from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.physics.units import radians_per_ppm
from napari_qsm.preparation.registry import Place, Stage, stages

Array = NDArray[np.floating]

ECHO_TIMES = (0.004, 0.008, 0.012)
FIELD_STRENGTH = 3.0
BINS = ((0, 2), (2, 5), (5, np.inf))
"""Signal over the noise of one channel, of the voxel and echo in question."""

WIDTH = 190.0
"""Of the volume in mm."""

AIR = 9.4
"""Susceptibility of air less that of tissue in ppm."""

SPHERES = (
    ((0.0, 75.0, -50.0), 22.0, AIR),
    ((62.0, 0.0, -45.0), 14.0, AIR),
    ((-62.0, 0.0, -45.0), 14.0, AIR),
    ((20.0, -10.0, 20.0), 6.0, 1.0),
    ((-25.0, 15.0, 5.0), 4.0, 2.0),
)
"""Centre and radius in mm and susceptibility in ppm: sinuses, ears and two bleedings."""


@dataclass(frozen=True)
class Scene:
    """A measurement whose phase is known: true phase in rad, SNR, both (X, Y, Z, E)."""

    measured: Acquisition
    truth: Array
    snr: Array


def scene(count: int, snr: float, seed: int = 0) -> Scene:
    """Simulate a head of `count` voxels across, with an SNR of `snr` at echo time zero."""
    shape, size = (count,) * 3, WIDTH / count
    along = (np.arange(count) - (count - 1) / 2) * size
    x, y, z = np.meshgrid(along, along, along, indexing="ij")
    mask = (x / 70) ** 2 + (y / 85) ** 2 + (z / 70) ** 2 < 1
    field = 0.4 * z / 70 + 0.3 * x * y / 5000 - 0.2 * (y / 85) ** 2
    decay = np.full(shape, 20.0)
    for (a, b, c), radius, chi in SPHERES:
        distance = np.sqrt((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2)
        outside = distance > radius
        along_b0 = (z - c)[outside] / distance[outside]
        field[outside] += chi / 3 * (radius / distance[outside]) ** 3 * (3 * along_b0**2 - 1)
        if chi == AIR:
            mask &= distance > radius + 2
        else:
            decay[~outside] = 150.0
    rate = radians_per_ppm(FIELD_STRENGTH, 1.0)
    steepness = np.sqrt(sum(np.square(g) for g in np.gradient(field)))
    decay += rate * steepness / 4  # voxels whose field varies lose their signal
    strength = mask * (1 + 0.3 * np.sin(x / 9) * np.cos(y / 7))
    return _measured(field * rate, decay, strength, mask, size, snr, seed)


def _measured(
    precession: Array,
    decay: Array,
    strength: Array,
    mask: NDArray[np.bool_],
    size: float,
    snr: float,
    seed: int,
) -> Scene:
    rng, times = np.random.default_rng(seed), np.array(ECHO_TIMES)
    truth = precession[..., None] * times
    clean = strength[..., None] * np.exp(-decay[..., None] * times)
    noise = rng.standard_normal((*truth.shape, 2)) @ np.array([1, 1j]) / snr
    signal = clean * np.exp(1j * truth) + noise
    volumes = {
        Quantity.PHASE: np.angle(signal),
        Quantity.MAGNITUDE: np.abs(signal),
        Quantity.MASK: mask,
        Quantity.OFFSET: np.zeros(mask.shape),
    }
    grid = Grid(mask.shape, np.diag([size, size, size, 1]))
    return Scene(Acquisition(grid, volumes, FIELD_STRENGTH, ECHO_TIMES), truth, clean * snr)


def _by_stage(stage: Stage, measured: Acquisition) -> Array:  # type: ignore[type-arg]
    running = stage(measured)
    while True:
        try:
            next(running)
        except StopIteration as done:
            unwrapped: Array = done.value[Quantity.UNWRAPPED]
            return unwrapped


def _by_warpkit(measured: Acquisition) -> Array | None:
    """Unwrap by warpkit's ROMEO, or return None where it is not installed."""
    try:
        romeo = importlib.import_module("warpkit.warpkit_cpp").romeo_unwrap4d
    except ImportError:
        return None
    phase, magnitude, mask = (
        np.asfortranarray(measured[q]) for q in (Quantity.PHASE, Quantity.MAGNITUDE, Quantity.MASK)
    )
    times = np.array(measured.echo_times, np.float32) * 1000
    return np.asarray(romeo(phase, times, "romeo", magnitude, mask))


def _timed(case: Scene) -> Iterator[tuple[str, Array, float]]:
    """Unwrap by everything there is: name, result, seconds."""
    for stage in stages(Place.UNWRAP).values():
        began = time.perf_counter()
        unwrapped = _by_stage(stage, case.measured)
        yield stage.label, unwrapped, time.perf_counter() - began
    began = time.perf_counter()
    if (oracle := _by_warpkit(case.measured)) is not None:
        yield "ROMEO (warpkit, by hand)", oracle, time.perf_counter() - began


def wrong(case: Scene, unwrapped: Array) -> list[str]:
    """Return the share of wrong voxels over all echoes for each bin of SNR, as text."""
    mask = case.measured.mask
    off = (unwrapped - case.truth)[mask]
    off -= 2 * np.pi * np.rint(np.median(off, axis=0) / (2 * np.pi))
    bad, snr = np.abs(off) > np.pi, case.snr[mask]
    shares = []
    for low, high in BINS:
        inside = (snr >= low) & (snr < high)
        count = np.count_nonzero(bad & inside)
        total = np.count_nonzero(inside)
        shares.append(f"{100 * count / total:.3f} ({count} of {total})" if total else "none")
    return shares


def unwrapping_table(count: int) -> str:
    """Compare all unwrappings on clear and on noisy data of `count` voxels across."""
    rows = []
    for snr in (40.0, 10.0, 5.0):
        case = scene(count, snr)
        for name, unwrapped, seconds in _timed(case):
            rows.append((f"{snr:g}", name, *wrong(case, unwrapped), f"{seconds:.1f}"))
    head = ["SNR at TE 0", "unwrapping"]
    head += [f"wrong at SNR {a:g} to {b:g}, %" for a, b in BINS[:-1]]
    head += [f"wrong above SNR {BINS[-1][0]:g}, %", "seconds"]
    times = ", ".join(f"{1000 * t:g}" for t in ECHO_TIMES)
    title = f"Wrong wraps on a synthetic field, {count}^3 voxels, TE {times} ms"
    return markdown(title, head, rows)


if __name__ == "__main__":
    print(unwrapping_table(128))
