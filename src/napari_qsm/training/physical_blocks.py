"""Blocks with a physics of their own, for networks that are unrolled around it.

Such a network needs the field of what it is shown. A block of a head lacks the sources beyond it,
so its field is made anew: of the sources within the block, plus what the measured field had of
noise and other errors. Within a block the physics is then exact, as it is in a whole head.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.training.cases import MASK, Turn, cubes, turn, turned
from napari_qsm.training.population import Lattice
from napari_qsm.training.streams import Steps

if TYPE_CHECKING:
    from napari_qsm.training.recipe import Recipe

HELD_OUT = 1_000_000
"""Seed of the first case for validation."""

PADDING = 1.5
"""Room around a block for its field."""


class Block(NamedTuple):
    """A cube of a case: its channels (C, X, Y, Z), its voxels in mm, and its B0."""

    volumes: Tensor
    voxel_size: tuple[float, float, float]
    b0_direction: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of its volumes."""
        x, y, z = self.volumes.shape[1:]
        return x, y, z

    def dipole(self, device: torch.device) -> DipoleConvolution:
        """Return what sources in the cube make."""
        return DipoleConvolution(self, padding=PADDING, device=device)


Batch = tuple[tuple[Block, ...], int]
"""Blocks, and how many iterates come before those that a network learns from."""


class PhysicalBlocks(Steps[Batch]):
    """Batches of blocks of a recipe, and how a network learns from them.

    Parameters
    ----------
    recipe : Recipe
        Names the cases, the losses and the seed.
    first_cases : int
        Cases that training begins with.
    """

    def __init__(self, recipe: Recipe, first_cases: int) -> None:
        super().__init__()
        self._recipe, self._first_cases = recipe, first_cases
        names = recipe.network.channels
        self._order = [recipe.data.channels.index(name) for name in names]

    @abstractmethod
    def stored(self, seed: int) -> Sequence[NDArray[np.float16]]:
        """Return the channels of the case with a seed in one array or several, the mask last."""

    @abstractmethod
    def lattice(self, seed: int) -> Lattice:
        """Return its voxels."""

    @abstractmethod
    def loss(
        self, running: nn.Module, batch: Batch, device: torch.device, dtype: torch.dtype
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the weighted losses of a batch, and each by name."""

    @abstractmethod
    def validate(
        self, network: nn.Module, device: torch.device, dtype: torch.dtype
    ) -> dict[str, float]:
        """Return figures of held-out blocks, ``nrmse`` (%) among them."""

    def free(self, rng: np.random.Generator) -> int:
        """Draw how many iterates come before those that a network learns from."""
        del rng
        return 0

    def batch(self, step: int) -> Batch:
        """Return the blocks of one step, which its number decides."""
        data = self._recipe.data
        rng = np.random.default_rng([self._recipe.seed, step, self.rank])
        known = min(data.cases, self._first_cases + step // data.growth)
        blocks = tuple(self.block(int(seed), rng) for seed in rng.integers(known, size=data.batch))
        return blocks, self.free(rng)

    def block(self, seed: int, rng: np.random.Generator) -> Block:
        """Cut a block out of a case, mirrored and turned at random."""
        way, voxels = turn(rng), self.lattice(seed)
        cut = turned(cubes(self.stored(seed), self._recipe.data.side, rng), way)
        return Block(cut, _turned(voxels.voxel_size, way), _turned(voxels.b0_direction, way, -1.0))

    def held_out(self, cases: int, each: int) -> list[Block]:
        """Return blocks of cases that training never sees."""
        rng = np.random.default_rng([self._recipe.seed, HELD_OUT])
        seeds = [HELD_OUT + number for number in range(cases) for _ in range(each)]
        return [self.block(seed, rng) for seed in seeds]

    def counted(self, volumes: Tensor) -> Tensor:
        """Return 1 where a voxel of (N, C, X, Y, Z) counts, away from the border of its block."""
        mask = volumes[:, MASK:]
        weight = torch.zeros_like(mask)
        inner = slice(self._recipe.margin, self._recipe.data.side - self._recipe.margin)
        weight[..., inner, inner, inner] = mask[..., inner, inner, inner]
        return weight


def _turned(
    values: tuple[float, float, float], way: Turn, flipped: float = 1.0
) -> tuple[float, float, float]:
    """Turn what belongs to three axes like volumes; a flipped axis multiplies by `flipped`."""
    flips, exchanged = way
    x, y, z = (
        value * (flipped if flip else 1.0) for value, flip in zip(values, flips, strict=True)
    )
    return (y, x, z) if exchanged else (x, y, z)
