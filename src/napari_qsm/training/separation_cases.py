"""Learning to tell sources apart: cases on disk, and what is learned from their blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_qsm.acquisition import Quantity
from napari_qsm.generators import finished
from napari_qsm.methods.channels import channels
from napari_qsm.methods.grounding import grounding
from napari_qsm.networks.inverter import FIELD, Estimate
from napari_qsm.networks.precision import autocast
from napari_qsm.networks.separator import Unrolled
from napari_qsm.physics.separation import SourceOperator
from napari_qsm.preparation.r2prime import NOMINAL_R2
from napari_qsm.training import losses
from napari_qsm.training.cases import KNOWN, Pool
from napari_qsm.training.physical_blocks import Batch, Block, PhysicalBlocks
from napari_qsm.training.population import Lattice
from napari_qsm.training.separation import (
    RELAXIVITY,
    SeparatedCase,
    Separation,
    draw_separated,
    lattice,
)

if TYPE_CHECKING:
    from napari_qsm.training.recipe import Recipe

RATES = ("r2prime", "r2star")
"""Channels made of relaxation, ``R2' / Dr`` and ``(R2* - 13 1/s) / Dr``, in ppm."""

ERROR, POSITIVE, NEGATIVE, MASK = -4, -3, -2, -1
"""Where the last channels of a stored case are."""

FIRST_CASES, VALIDATED = 12, 6
"""Cases that training begins with, and how many are for validation."""

LEARNED_FROM = 3
"""Last iterates of an unrolled network that a gradient goes back through."""


def stacked_sources(case: SeparatedCase, names: Sequence[str]) -> NDArray[np.float16]:
    """Return channels, error of the field, chi_pos, chi_neg (ppm) and mask: (C + 4, X, Y, Z).

    Susceptibility channels are those of `napari_qsm.methods.channels`, moved to where they are
    zero without relaxation, R2' and R2* by turns.
    """
    acquisition, mask = case.acquisition, case.acquisition.mask
    kept = KNOWN[case.seed % len(KNOWN)]
    known = replace(acquisition, volumes={q: acquisition[q] for q in kept})
    rates = _rates(case)
    plain = [name for name in names if name not in rates]
    maps = dict(zip(plain, finished(channels(known, plain)), strict=True)) | rates
    decay = rates[RATES[case.seed % 2]]
    for name in plain:
        if name != FIELD:
            maps[name] = (maps[name] + grounding(maps[name], decay, mask)) * mask
    inputs = np.stack([maps[name] for name in names])
    rest = np.stack([case.field_error, case.chi_pos, case.chi_neg, mask])
    return np.concatenate([inputs, rest]).astype(np.float16)


def _rates(case: SeparatedCase) -> dict[str, NDArray[np.float32]]:
    acquisition = case.acquisition
    assert acquisition.field_strength is not None
    relaxivity = RELAXIVITY * acquisition.field_strength
    nominal = NOMINAL_R2 * acquisition.mask
    return {
        "r2prime": acquisition[Quantity.R2PRIME] / relaxivity,
        "r2star": (acquisition[Quantity.R2STAR] - nominal) / relaxivity,
    }


class SourcePool(Pool):
    """Cases whose sources are known, by seed, kept in a folder."""

    def __init__(self, separation: Separation, names: Sequence[str], folder: Path) -> None:
        self.separation = separation
        super().__init__(separation.population, names, folder)

    def _told(self) -> dict[str, object]:
        return {"separation": self.separation.model_dump(mode="json"), "channels": self.names}

    def _made(self, seed: int) -> NDArray[np.float16]:
        return stacked_sources(draw_separated(self.separation, seed), self.names)


class Separating(PhysicalBlocks):
    """How a network learns to separate sources.

    Parameters
    ----------
    recipe : Recipe
        Names the ranges, the losses and the seed.
    folder : Path
        Of the pools.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        super().__init__(recipe, FIRST_CASES)
        self._pool = SourcePool(recipe.data.separation, recipe.data.channels, folder)
        self._field = recipe.network.channels.index(FIELD)
        self._held_out: list[Block] = []

    def stored(self, seed: int) -> tuple[NDArray[np.float16]]:
        """Return a case as `stacked_sources` makes it."""
        return (self._pool[seed],)

    def lattice(self, seed: int) -> Lattice:
        """Return its voxels."""
        return lattice(self._pool.separation, seed)

    def free(self, rng: np.random.Generator) -> int:
        """Draw how many iterates are only passed through: half the time as many as can be."""
        most = max(self._recipe.network.iterations - LEARNED_FROM, 0)
        return int(rng.integers(most + 1)) if rng.random() < 0.5 else most

    def loss(
        self, running: nn.Module, batch: Batch, device: torch.device, dtype: torch.dtype
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the weighted losses of a batch, and each by name.

        An unrolled network is as deep as the draw of the batch says, so that it learns from early
        iterates as well as from the last.
        """
        blocks, free = batch
        measured, truth, weight, operators = self._parts(blocks, device)
        if isinstance(getattr(running, "module", running), Unrolled):
            with autocast(device, dtype):
                last = running(measured, operators, free, free + LEARNED_FROM)
            count = len(last)
            found, truth = last.flatten(0, 1), truth.repeat(count, 1, 1, 1, 1)
            weight = weight.repeat(count, 1, 1, 1, 1)
        else:
            with autocast(device, dtype):
                found = running(measured)
        return losses.total(self._recipe.loss, Estimate(found, None), truth, weight)

    def _parts(
        self, blocks: Sequence[Block], device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor, list[SourceOperator]]:
        """Return y with the blocks' own fields, both sources, what counts, and the operators."""
        volumes = torch.stack([block.volumes for block in blocks]).to(device)
        operators = [SourceOperator(block.dipole(device)) for block in blocks]
        truth = volumes[:, POSITIVE:MASK]
        chi = truth[:, 0] - truth[:, 1]
        fields = torch.stack([phi.dipole(one) for phi, one in zip(operators, chi, strict=True)])
        measured = volumes[:, self._order]
        measured[:, self._field] = (fields + volumes[:, ERROR]) * volumes[:, MASK]
        return measured, truth, self.counted(volumes), operators

    @torch.no_grad()
    def validate(
        self, network: nn.Module, device: torch.device, dtype: torch.dtype
    ) -> dict[str, float]:
        """Return ``nrmse`` of both sources together and of each in %, the mean over blocks."""
        self._held_out = self._held_out or self.held_out(VALIDATED, 2)
        errors = []
        for block in self._held_out:
            measured, truth, weight, operators = self._parts([block], device)
            with autocast(device, dtype):
                unrolled = isinstance(getattr(network, "module", network), Unrolled)
                found = network(measured, operators)[-1] if unrolled else network(measured)
            errors.append(_relative((found - truth) * weight, truth * weight))
        both, positive, negative = (100 * torch.stack(errors)).mean(0).tolist()
        return {"nrmse": both, "nrmse_pos": positive, "nrmse_neg": negative}


def _relative(error: Tensor, truth: Tensor) -> Tensor:
    """Return the size of an error over that of the truth: both sources, chi_pos, chi_neg."""
    sizes = [values.flatten(2).square().sum(2)[0] for values in (error, truth)]
    wrong, true = (torch.cat((square.sum()[None], square)) for square in sizes)
    return (wrong / true.clamp(min=1e-6)).sqrt()
