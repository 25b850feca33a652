"""A mask of all that has signal: magnitude and phase quality above a threshold, without holes."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch

from napari_qsm.acquisition import (
    Acquisition,
    FloatArray,
    InputError,
    Maps,
    Provenance,
    Quantity,
)
from napari_qsm.preparation.echoes import echoes, magnitude_echoes
from napari_qsm.preparation.morphology import Mask, closed, filled, largest, opened, pausing
from napari_qsm.preparation.quality import grading_voxels
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.preparation.strength import combination_note, signal_strength
from napari_qsm.preparation.voxels import steps
from napari_qsm.process import Parameters, Step, Work, parameter
from napari_qsm.surroundings import bounding_box

SAMPLE = 1_000_000
"""Voxels a histogram is taken from."""

AIR = 0.35
"""Mean of the darker class over that of the brighter above which there is no air to be told from
tissue: noise lies far below, grey and white matter above."""

FRACTION = 0.1
"""Part of the 98th percentile that parts tissue from nothing where there is no air."""

LARGEST_HOLE = 0.15
"""In litres: larger than a bleeding, smaller than a skull that is closed in by scalp."""

BRAIN = 2.1
"""In litres: more is more than a brain with its fluid."""


class Threshold(Parameters):
    """Parameters of the threshold mask."""

    magnitude: float | None = parameter(
        None,
        "Least magnitude as a part of its 98th percentile; by itself where Otsu's criterion parts "
        "the histogram of its square root.",
        low=0.01,
        high=0.9,
        log=True,
        typical=0.1,
    )
    quality: float = parameter(
        0.4,
        "Least phase quality, from 0 (take any phase) to 1; pure noise has 0.1 to 0.2.",
        low=0.0,
        high=0.95,
    )
    opening: float = parameter(
        1.5,
        "Radius of the ball that must fit in: cuts thin bridges and removes specks.",
        low=0,
        high=10,
        unit="mm",
    )
    closing: float = parameter(
        2.0,
        "Radius of the ball that must not fit between: bridges veins at the surface.",
        low=0,
        high=10,
        unit="mm",
    )


@stage(
    key="threshold",
    label="Threshold",
    summary="All that has magnitude and phase quality, in one piece, holes filled.",
    place=Place.MASK,
    parameters=Threshold,
    references=("10.1109/tsmc.1979.4310076", "10.1002/mrm.28563"),
    needs=(),
    uses=(Quantity.MAGNITUDE, Quantity.PHASE),
    gives=(Quantity.MASK, Quantity.QUALITY),
    cpu_only=True,
)
def threshold(acquisition: Acquisition, parameters: Threshold, device: torch.device) -> Work:
    """Keep what lies above a threshold in magnitude and in phase quality, and make it whole.

    The rest is opened with a ball, only the largest piece is kept, it is closed with a ball and its
    holes are filled: veins and bleedings have no signal, but their field is what is looked for.
    References: Otsu 1979 for the magnitude, Dymerska et al. 2021 for the quality of the phase.

    Raises
    ------
    InputError
        If there is neither magnitude nor phase, or nothing is left.
    """
    volumes: dict[Quantity, FloatArray | Mask] = {}
    notes: list[str] = []
    chosen = np.ones(acquisition.grid.shape, dtype=bool)
    if Quantity.MAGNITUDE not in acquisition and Quantity.PHASE not in acquisition:
        raise InputError("Threshold needs a magnitude or a phase; choose one, or your own mask.")
    if Quantity.MAGNITUDE in acquisition:
        strength = yield from pausing(signal_strength(acquisition), 0.0, "combining the echoes")
        level, note = _level(strength, parameters.magnitude)
        chosen &= strength > level
        notes.append(f"{note} in {combination_note(acquisition)}.")
    if Quantity.PHASE in acquisition:
        quality = yield from _quality(acquisition)
        volumes[Quantity.QUALITY] = quality
        chosen &= quality >= parameters.quality
        notes.append(f"Phase of a quality of {parameters.quality:g} or more belongs to the mask.")
    else:
        notes.append("There is no phase, so its quality was not asked.")
    mask, report = yield from _whole(chosen, parameters, acquisition.grid.voxel_size)
    volumes[Quantity.MASK] = mask
    return Maps(acquisition.grid, volumes, Provenance(notes=(*notes, *report)))


def _level(strength: FloatArray, fraction: float | None) -> tuple[float, str]:
    """Return the least magnitude of tissue and how it was found."""
    sample = strength.ravel()[:: 1 + strength.size // SAMPLE]
    high = float(np.percentile(sample, 98)) or float(strength.max())
    if fraction is not None:
        return fraction * high, f"Tissue has more than {fraction:g} of the 98th percentile"
    # Of the square root, so that a scalp near the coils does not hide the middle of the brain.
    level = otsu(np.sqrt(np.minimum(sample, high))) ** 2
    above = sample > level
    if np.mean(sample[~above]) > AIR * np.mean(sample[above]):
        return FRACTION * high, (
            "There is no air to tell tissue from by Otsu's criterion, so tissue has more than "
            f"{FRACTION:g} of the 98th percentile"
        )
    return level, f"Tissue has more than {level / high:.2g} of the 98th percentile (Otsu)"


def otsu(values: FloatArray) -> float:
    """Return the value that parts others into the two classes whose means differ the most.

    It maximises ``n0 n1 (mean1 - mean0)^2`` over a histogram of 256 bins; where a gap makes many
    values equally good, it is the middle of the gap. Reference: Otsu 1979.
    """
    counts, edges = np.histogram(values, bins=256)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = below[-1] + counts[-1] - below
    total = np.cumsum(counts * middles)
    parted = below * above * (total[:-1] / below - (total[-1] - total[:-1]) / above) ** 2
    best = np.flatnonzero(parted >= parted.max() * (1 - 1e-9))
    return float((edges[1 + best[0]] + edges[1 + best[-1]]) / 2)


def _quality(acquisition: Acquisition) -> Generator[Step, None, FloatArray]:
    grading = grading_voxels(
        echoes(acquisition, Quantity.PHASE), magnitude_echoes(acquisition), acquisition.echo_times
    )
    return (yield from steps(grading, "grading the phase", 0.1, 0.5))


def _whole(
    chosen: Mask, parameters: Threshold, voxel_size: tuple[float, float, float]
) -> Generator[Step, None, tuple[Mask, list[str]]]:
    """Make one piece without holes of what was chosen, and say what was done."""
    shaping = opened(chosen, parameters.opening, voxel_size)
    piece = largest((yield from pausing(shaping, 0.5, "cutting thin bridges")))
    if not piece.any():
        raise InputError(
            "Nothing is left above the thresholds; choose lower ones, a smaller opening or your "
            "own mask."
        )
    margin = 1 + int(parameters.closing / min(voxel_size))
    box = bounding_box(piece, margin)
    yield Step(0.7, "closing gaps")
    shaping = closed(piece[box], parameters.closing, voxel_size)
    whole = yield from pausing(shaping, 0.7, "closing gaps")
    yield Step(0.9, "filling holes")
    litre = 1e6 / float(np.prod(voxel_size))
    solid = filled(whole, LARGEST_HOLE * litre)
    mask = np.zeros(chosen.shape, dtype=bool)
    mask[box] = solid
    count, holes, gaps, left = (
        int(np.count_nonzero(part))
        for part in (mask, solid & ~whole, whole & ~piece[box], chosen & ~mask)
    )
    notes = [
        f"The mask is the largest piece, {count} voxels ({count / litre:.3g} litres): {holes} "
        f"voxels of holes and {gaps} of gaps were filled, {left} above the thresholds but apart "
        "from it or thinner were left out."
    ]
    if count > BRAIN * litre:
        notes.append(
            "That is more than a brain, so scalp or neck are in it; the stage 'bet' takes the "
            "brain alone."
        )
    return mask, notes
