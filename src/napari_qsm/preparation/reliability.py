"""Unwrapping by reliability, as scikit-image does it: the reference to compare with."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from concurrent.futures import Future, wait
from importlib.metadata import version
from threading import Thread

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.restoration import unwrap_phase

from napari_qsm.acquisition import Acquisition, FloatArray, Quantity
from napari_qsm.preparation.echo_box import EchoBox
from napari_qsm.preparation.mask_parts import TURN, MaskParts
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.preparation.voxels import steps
from napari_qsm.process import Parameters, Step, Work

SEED = 0 if tuple(int(n) for n in version("scikit-image").split(".")[:2]) > (0, 26) else None
"""Makes a repetition give the same: up to 0.26 scikit-image starts its random numbers afresh only
when given no seed (its issue 7964)."""

VOXELS_PER_SECOND = 5e5
"""Of one core in 2026, for the fraction shown alone."""


class Reliability(Parameters):
    """Unwrapping by reliability has no parameters."""


@stage(
    key="reliability",
    label="Reliability (scikit-image)",
    summary="Each echo by itself, from straight to bent phase, by scikit-image; for comparison.",
    place=Place.UNWRAP,
    parameters=Reliability,
    references=("10.1364/AO.41.007437", "10.1117/12.611415"),
    needs=(Quantity.PHASE,),
    uses=(Quantity.MASK,),
    gives=(Quantity.UNWRAPPED,),
    cpu_only=True,
)
def reliability(acquisition: Acquisition, parameters: Reliability, device: torch.device) -> Work:
    """Unwrap each echo over edges sorted by how little the phase bends at their ends.

    Parts of the mask, and whole echoes, get the turns that bring them closest to proportion with
    the echo before. One echo is one call that nobody can interrupt; it runs in a thread of its own,
    without Python's lock, so that a window stays alive, and after a cancel it runs out unseen.
    References: Herraez et al. 2002, Abdul-Rahman et al. 2005.
    """
    box = EchoBox(acquisition)
    yield Step(0.0, "looking for parts of the mask")
    parts = MaskParts.of(box.inside)
    before: FloatArray | None = None
    for echo in range(box.count):
        phase = box.phase(echo)
        message = f"unwrapping {box.name(echo)}"
        work = _meanwhile(phase, box.inside)
        low, high = echo / box.count, (echo + 1) / box.count
        values = (yield from steps(work, message, low, high))[box.inside]
        ratio = np.float32(box.times[echo] / box.times[max(0, echo - 1)])
        values += TURN * parts.turns(values if before is None else values - ratio * before)
        before = values
        phase[:] = 0
        phase[box.inside] = values
        box.keep(echo, phase)
    notes = (
        "Each echo was unwrapped by itself, its turns brought closest to proportion with "
        "the echo before.",
        *parts.note(),
    )
    return box.maps(notes)


def _meanwhile(phase: FloatArray, inside: NDArray[np.bool_]) -> Generator[float, None, FloatArray]:
    """Unwrap in another thread, handing out a guess of the fraction done until it is."""
    # A daemon, so that a program that ends does not wait for an echo nobody wants any more.
    future: Future[FloatArray] = Future()

    def work() -> None:
        try:
            future.set_result(_unwrapped(phase, inside))
        except BaseException as error:
            future.set_exception(error)

    Thread(target=work, name="unwrap", daemon=True).start()
    began, typical = time.perf_counter(), np.count_nonzero(inside) / VOXELS_PER_SECOND
    while not wait([future], timeout=0.05).done:
        yield 1 - math.exp(-(time.perf_counter() - began) / typical)
    return future.result()


def _unwrapped(phase: FloatArray, inside: NDArray[np.bool_]) -> FloatArray:
    """Unwrap by scikit-image, with whole turns of the measured phase to the last digit."""
    # It wants two voxels along each axis at least.
    widths = [(0, 1 if count == 1 else 0) for count in phase.shape]
    masked = np.ma.masked_array(np.pad(phase, widths), mask=~np.pad(inside, widths))
    result = np.asarray(unwrap_phase(masked, rng=SEED))[tuple(slice(n) for n in phase.shape)]
    turns = np.rint((result - phase) / TURN).astype(np.float32)
    turns[~inside] = 0
    turns *= TURN
    turns += phase
    unwrapped: FloatArray = turns
    return unwrapped
