"""Learning to tell sources apart: cases on disk, blocks with a physics of their own, the loss.

An unrolled network needs the field of what it is shown. A block of a head lacks the sources beyond
it, so its field is made anew: of the sources within the block, plus what the measured field had of
noise and other errors. Within a block the physics is then exact, as it is in a whole head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from napari_qsm.acquisition import Quantity
from napari_qsm.generators import finished
from napari_qsm.methods.channels import channels
from napari_qsm.methods.grounding import grounding
from napari_qsm.networks.inverter import FIELD, Estimate
from napari_qsm.networks.precision import autocast
from napari_qsm.networks.separator import Unrolled
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.physics.separation import SourceOperator
from napari_qsm.preparation.r2prime import NOMINAL_R2
from napari_qsm.training import losses
from napari_qsm.training.cases import KNOWN, Pool, Turn, cube, turn, turned
from napari_qsm.training.separation import (
    RELAXIVITY,
    SeparatedCase,
    Separation,
    draw_separated,
    lattice,
)
from napari_qsm.training.streams import streamed

if TYPE_CHECKING:
    from napari_qsm.training.recipe import Recipe

RATES = ("r2prime", "r2star")
"""Channels made of relaxation, ``R2' / Dr`` and ``(R2* - 13 1/s) / Dr``, in ppm."""

ERROR, POSITIVE, NEGATIVE, MASK = -4, -3, -2, -1
"""Where the last channels of a stored case are."""

FIRST_CASES, HELD_OUT, VALIDATED = 12, 1_000_000, 6
"""Cases that training begins with, seed of the first one for validation, and how many those are."""

LEARNED_FROM = 3
"""Last iterates of an unrolled network that a gradient goes back through."""

PADDING = 1.5
"""Room around a block for its field."""


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


class Block(NamedTuple):
    """A cube of a case: its channels (C + 4, X, Y, Z), its voxels in mm, and its B0."""

    volumes: Tensor
    voxel_size: tuple[float, float, float]
    b0_direction: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of its volumes."""
        x, y, z = self.volumes.shape[1:]
        return x, y, z

    def operator(self, device: torch.device) -> SourceOperator:
        """Return what sources in the cube make."""
        return SourceOperator(DipoleConvolution(self, padding=PADDING, device=device))


Batch = tuple[tuple[Block, ...], int]
"""Blocks, and how many iterates come before those that an unrolled network learns from."""


class Separating(IterableDataset[Batch]):
    """How a network learns to separate sources.

    Parameters
    ----------
    recipe : Recipe
        Names the ranges, the losses and the seed.
    folder : Path
        Of the pools.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        super().__init__()
        data = recipe.data
        self._recipe = recipe
        self._pool = SourcePool(data.separation, data.channels, folder)
        self._order = [data.channels.index(name) for name in recipe.network.channels]
        self._field = recipe.network.channels.index(FIELD)
        self._first = self._rank = 0
        self._held_out: list[Block] = []

    def batches(self, first: int, rank: int, *, beside: bool) -> Iterator[Batch]:
        """Return the batches from step `first` on; their cases are drawn beside if wanted."""
        self._first, self._rank = first, rank
        return streamed(self, beside=beside)

    def __iter__(self) -> Iterator[Batch]:
        step = self._first
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> Batch:
        """Return the blocks of one step, which its number decides."""
        data, design = self._recipe.data, self._recipe.network
        rng = np.random.default_rng([self._recipe.seed, step, self._rank])
        known = min(data.cases, FIRST_CASES + step // data.growth)
        blocks = tuple(self._block(int(seed), rng) for seed in rng.integers(known, size=data.batch))
        most = max(design.iterations - LEARNED_FROM, 0)
        return blocks, int(rng.integers(most + 1)) if rng.random() < 0.5 else most

    def _block(self, seed: int, rng: np.random.Generator) -> Block:
        way = turn(rng)
        case = self._pool[seed]
        voxels = lattice(self._pool.separation, seed)
        cut = turned(cube(case, self._recipe.data.side, rng), way)
        return Block(cut, _turned(voxels.voxel_size, way), _turned(voxels.b0_direction, way, -1.0))

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
        operators = [block.operator(device) for block in blocks]
        mask, truth = volumes[:, MASK:], volumes[:, POSITIVE:MASK]
        chi = truth[:, 0] - truth[:, 1]
        fields = torch.stack([phi.dipole(one) for phi, one in zip(operators, chi, strict=True)])
        measured = volumes[:, self._order]
        measured[:, self._field] = (fields + volumes[:, ERROR]) * mask[:, 0]
        inner = slice(self._recipe.margin, self._recipe.data.side - self._recipe.margin)
        weight = torch.zeros_like(mask)
        weight[..., inner, inner, inner] = mask[..., inner, inner, inner]
        return measured, truth, weight, operators

    @torch.no_grad()
    def validate(
        self, network: nn.Module, device: torch.device, dtype: torch.dtype
    ) -> dict[str, float]:
        """Return ``nrmse`` of both sources together and of each in %, the mean over blocks."""
        if not self._held_out:
            rng = np.random.default_rng([self._recipe.seed, HELD_OUT])
            seeds = [HELD_OUT + number for number in range(VALIDATED) for _ in range(2)]
            self._held_out = [self._block(seed, rng) for seed in seeds]
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


def _turned(
    values: tuple[float, float, float], way: Turn, flipped: float = 1.0
) -> tuple[float, float, float]:
    """Turn what belongs to three axes like volumes; a flipped axis multiplies by `flipped`."""
    flips, exchanged = way
    x, y, z = (
        value * (flipped if flip else 1.0) for value, flip in zip(values, flips, strict=True)
    )
    return (y, x, z) if exchanged else (x, y, z)
