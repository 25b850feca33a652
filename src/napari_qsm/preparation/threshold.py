"""A mask of whatever has signal and a phase that hangs together, without holes."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from skimage.filters import threshold_otsu

from napari_qsm.acquisition import Acquisition, FloatArray, InputError, Maps, Provenance, Quantity
from napari_qsm.preparation.echoes import echoes, magnitude_echoes
from napari_qsm.preparation.morphology import Mask, closed, filled, largest, opened, pausing
from napari_qsm.preparation.quality import grading_voxels
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.preparation.strength import combination_note, signal_strength
from napari_qsm.process import Parameters, Step, Work, parameter

SAMPLE = 200_000
"""Voxels that decide about a threshold; more would not move it."""


DARKEST = 0.005
"""Signal as a share of the 99th percentile below which nothing is told apart."""


class Threshold(Parameters):
    """Parameters of the threshold mask."""

    magnitude: float | None = parameter(
        None,
        "Least signal as a share of its 99th percentile; by itself Otsu's threshold.",
        low=0.0,
        high=0.9,
        typical=0.15,
    )
    quality: float = parameter(
        0.3,
        "Least phase quality; 0 looks at the magnitude alone.",
        low=0.0,
        high=0.95,
    )
    opening: float = parameter(
        2.0, "Radius of what is too thin to belong to the brain.", low=0.0, high=10.0, unit="mm"
    )
    closing: float = parameter(
        4.0, "Radius of gaps that are closed.", low=0.0, high=15.0, unit="mm"
    )


@stage(
    key="threshold",
    label="Threshold",
    summary="Where there is signal and the phase hangs together; holes are filled.",
    place=Place.MASK,
    parameters=Threshold,
    references=("10.1109/TSMC.1979.4310076", "10.1002/mrm.28563"),
    needs=(),
    uses=(Quantity.MAGNITUDE, Quantity.PHASE),
    gives=(Quantity.MASK, Quantity.QUALITY),
    cpu_only=True,
)
def threshold(acquisition: Acquisition, parameters: Threshold, device: torch.device) -> Work:
    """Return the largest piece of ``strength > t and quality > q``, opened, closed and filled.

    Signal voids inside, as in a haemorrhage, are filled: what has no signal there is brain still.

    Raises
    ------
    InputError
        If there is neither magnitude nor phase, or nothing passes.
    """
    if not {Quantity.MAGNITUDE, Quantity.PHASE} & set(acquisition.volumes):
        raise InputError("A threshold mask needs a magnitude or a phase; choose one.")
    size = acquisition.grid.voxel_size
    notes: list[str] = []
    inside = np.ones(acquisition.grid.shape, dtype=bool)
    volumes: dict[Quantity, FloatArray] = {}
    if Quantity.MAGNITUDE in acquisition:
        inside &= yield from pausing(_strong(acquisition, parameters, notes), 0.0, "signal")
    if Quantity.PHASE in acquisition:
        quality = yield from _graded(acquisition)
        volumes[Quantity.QUALITY] = quality
        inside &= quality >= parameters.quality
        notes.append(f"The phase quality is at least {parameters.quality:g}.")
    yield Step(0.5, "looking for the largest piece")
    core = yield from pausing(opened(inside, parameters.opening, size), 0.55, "opening")
    if not core.any():
        raise InputError(
            "Nothing in the volume passes the thresholds; lower them or choose another stage."
        )
    piece = largest(core)
    joined = yield from pausing(closed(piece, parameters.closing, size), 0.7, "closing")
    yield Step(0.9, "filling holes")
    mask = filled(joined)
    added = int(np.count_nonzero(mask & ~piece))
    litres = float(np.count_nonzero(mask)) * float(np.prod(size)) / 1e6
    notes.append(
        f"The largest piece was kept, {added} voxels of gaps and holes were added to it; it has "
        f"{litres:.3g} litres."
    )
    return Maps(acquisition.grid, {**volumes, Quantity.MASK: mask}, Provenance(notes=tuple(notes)))


def _strong(
    acquisition: Acquisition, parameters: Threshold, notes: list[str]
) -> Generator[None, None, Mask]:
    strength = yield from signal_strength(acquisition)
    sample = strength.ravel()[:: max(1, strength.size // SAMPLE)]
    top = float(np.percentile(sample, 99))
    yield
    if parameters.magnitude is None:
        # On a logarithmic scale air and tissue are two hills, however bright coils make one side.
        decades = np.log10(np.clip(sample / top, DARKEST, 1)) if top > 0 else np.zeros(2)
        level = top * float(10 ** threshold_otsu(decades)) if np.ptp(decades) > 0 else 0.0
        how = "Otsu's threshold on a logarithmic scale"
    else:
        level, how = parameters.magnitude * top, "the threshold that was set"
    yield
    share = level / top if top > 0 else 0.0
    notes.append(f"In {combination_note(acquisition)} {how} is {share:.2g} of the 99th percentile.")
    strong: Mask = strength > level
    return strong


def _graded(acquisition: Acquisition) -> Generator[Step, None, FloatArray]:
    work = grading_voxels(
        echoes(acquisition, Quantity.PHASE), magnitude_echoes(acquisition), acquisition.echo_times
    )
    while True:
        try:
            fraction = next(work)
        except StopIteration as done:
            quality: FloatArray = done.value
            return quality
        yield Step(0.1 + 0.4 * fraction, "grading the phase")
