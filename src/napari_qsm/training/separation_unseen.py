"""Heads with known iron and myelin that nothing is trained on.

Another anatomy, other means, other relaxivities, lesions of twice the strength, and data made on a
grid twice as fine as the one they are separated on, so that no method meets the operator that made
them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import FloatArray, Quantity
from napari_qsm.training.population import Case
from napari_qsm.training.separation import SeparatedCase, Separation, draw_separated
from napari_qsm.training.unseen import FINER, FIRST_SEED, UNSEEN, block_mean, coarser

RATES: Final = (Quantity.R2STAR, Quantity.R2)

UNSEEN_SOURCES: Final = Separation(
    population=UNSEEN.model_copy(
        update={"voxel_size": (0.9, 1.05), "anisotropy": 1.15, "texture": (0.004, 0.03)}
    ),
    strength=0.6,
    iron=(0.7, 1.4),
    myelin=(0.6, 1.4),
    relaxivity=(0.8, 1.25),
    imbalance=0.3,
    rate_error=(1.5, 8.0),
)
"""On its fine grid: measured voxels are 1.8 to 2.1 mm wide, and their rates less noisy."""


def draw_unseen_sources(number: int, separation: Separation = UNSEEN_SOURCES) -> SeparatedCase:
    """Return an unseen case by number, 0, 1, ...; the same number gives the same case."""
    return coarser_sources(draw_separated(separation, FIRST_SEED + number))


def coarser_sources(case: SeparatedCase, factor: int = FINER) -> SeparatedCase:
    """Put `factor`^3 voxels together, the field as `napari_qsm.training.unseen.coarser` does.

    Sources are means over the part of a large voxel inside the mask, and so are rates; R2' is the
    difference of both rates then, never below zero.
    """
    old, fine = case.acquisition, case.acquisition.mask.astype(np.float32)
    share = np.maximum(block_mean(fine, factor), 1e-6)
    plain = coarser(Case(old, case.chi, case.lesions, case.seed), factor)
    mask = plain.acquisition.mask

    def averaged(volume: FloatArray) -> FloatArray:
        return (block_mean(volume * fine, factor) / share * mask).astype(np.float32)

    rates: dict[Quantity, NDArray[Any]] = {q: averaged(old[q]) for q in RATES}
    rates[Quantity.R2PRIME] = np.maximum(rates[Quantity.R2STAR] - rates[Quantity.R2], 0)
    acquisition = replace(plain.acquisition, field_strength=old.field_strength)
    return SeparatedCase(
        acquisition.with_volumes(rates),
        averaged(case.chi_pos),
        averaged(case.chi_neg),
        averaged(case.field_error),
        plain.lesions,
        case.seed,
    )
