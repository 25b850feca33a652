"""Learning to invert step by step: cases with the error of their field, and the loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from napari_qsm.methods.learned import MARGIN
from napari_qsm.networks.inverter import FIELD, Estimate
from napari_qsm.networks.lpcnn import LPCNN, Measurement
from napari_qsm.networks.precision import autocast, chosen
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.training import losses
from napari_qsm.training.blocks import FIRST_CASES, HELD_OUT_CASES
from napari_qsm.training.cases import MASK, TRUTH, Pool, stored
from napari_qsm.training.physical_blocks import PADDING, Batch, Block, PhysicalBlocks
from napari_qsm.training.population import Lattice, lattice

if TYPE_CHECKING:
    from napari_qsm.training.recipe import Recipe

ERROR = -3
"""Where the error of the field is put, before `TRUTH` and `MASK`."""


class MeasuredPool(Pool):
    """Cases of a `Pool`, and beside them what their fields have that no susceptibility explains."""

    def error(self, seed: int) -> NDArray[np.float16]:
        """Return ``f - D chi`` of a case in ppm, (X, Y, Z), mapped from its file.

        That holds noise and errors, but also the field of sources outside a slab, and of the mean
        that was taken out of chi.
        """
        return stored(self.folder / f"{seed:06d}-error.npy", lambda: self._error(seed))

    def _error(self, seed: int) -> NDArray[np.float16]:
        volumes = torch.from_numpy(np.array(self[seed])).float()
        voxels = lattice(self.population, seed)
        known = Block(volumes, voxels.voxel_size, voxels.b0_direction)
        field, chi, mask = (volumes[n] for n in (self.names.index(FIELD), TRUTH, MASK))
        error = (field - known.dipole(torch.device("cpu"))(chi * mask)) * mask
        made: NDArray[np.float16] = error.numpy().astype(np.float16)
        return made


class Unrolling(PhysicalBlocks):
    """How a network learns to invert a field step by step.

    Parameters
    ----------
    recipe : Recipe
        Names the population, the losses and the seed.
    folder : Path
        Of the pools; one is shared with networks of a single pass.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        super().__init__(recipe, FIRST_CASES)
        self._pool = MeasuredPool(
            recipe.data.population, recipe.data.channels, folder, recipe.data.known
        )
        self._field = recipe.network.channels.index(FIELD)
        self._held_out: list[Block] = []

    def stored(self, seed: int) -> Sequence[NDArray[np.float16]]:
        """Return a case with the error of its field before truth and mask."""
        case = self._pool[seed]
        return case[:TRUTH], self._pool.error(seed)[None], case[TRUTH:]

    def lattice(self, seed: int) -> Lattice:
        """Return its voxels."""
        return lattice(self._pool.population, seed)

    def loss(
        self, running: nn.Module, batch: Batch, device: torch.device, dtype: torch.dtype
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the weighted losses, the mean over all iterates, and each by name."""
        inputs, truth, weight, operators = self._parts(batch[0], device)
        with autocast(device, dtype):
            iterates = running(inputs, operators)
        count = len(iterates)
        found = Estimate(iterates.flatten(0, 1), None)
        truth, weight = (v.repeat(count, 1, 1, 1, 1) for v in (truth, weight))
        return losses.total(self._recipe.loss, found, truth, weight)

    def _parts(
        self, blocks: Sequence[Block], device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor, list[Measurement]]:
        """Return inputs with the blocks' own fields, truth, what counts, and the operators."""
        volumes = torch.stack([block.volumes for block in blocks]).to(device)
        mask, truth = volumes[:, MASK:], volumes[:, TRUTH:MASK]
        dipoles = [block.dipole(device) for block in blocks]
        fields = [d(chi * m) for d, chi, m in zip(dipoles, truth, mask, strict=True)]
        inputs = volumes[:, self._order]
        own = slice(self._field, self._field + 1)
        inputs[:, own] = (torch.stack(fields) + volumes[:, ERROR:TRUTH]) * mask
        operators = [Measurement(d, m) for d, m in zip(dipoles, mask, strict=True)]
        return inputs, truth, self.counted(volumes), operators

    @torch.no_grad()
    def validate(
        self, network: nn.Module, device: torch.device, dtype: torch.dtype
    ) -> dict[str, float]:
        """Return ``nrmse`` in % after the last iteration and after the first, means over blocks."""
        self._held_out = self._held_out or self.held_out(HELD_OUT_CASES, 2)
        errors = []
        for block in self._held_out:
            inputs, truth, weight, operators = self._parts([block], device)
            with autocast(device, dtype):
                iterates = network(inputs, operators)
            size = (truth * weight).norm().clamp(min=1e-3)
            errors.append([float(((iterates[n] - truth) * weight).norm() / size) for n in (-1, 0)])
        last, first = (100 * np.mean(errors, axis=0)).tolist()
        return {"nrmse": last, "nrmse_first": first}


def whole(
    network: LPCNN,
    case: NDArray[np.float16],
    names: Sequence[str],
    voxels: Lattice,
    device: torch.device,
) -> NDArray[np.float32]:
    """Return the map of a whole case, (X, Y, Z) in ppm.

    Parameters
    ----------
    network : LPCNN
        In evaluation mode, on the device.
    case : (C + 2, X, Y, Z) array
        As a `Pool` gives it.
    names : sequence of str
        Its channels; the network's are among them.
    voxels : Lattice
        Of the case.
    device : torch.device
        Where the network is.
    """
    order = [*(list(names).index(name) for name in network.design.channels), MASK]
    volumes = torch.from_numpy(np.asarray(case)[order].astype(np.float32))
    padded = functional.pad(volumes, (MARGIN,) * 6).to(device)
    block = Block(padded, voxels.voxel_size, voxels.b0_direction)
    measured = Measurement(DipoleConvolution(block, padding=PADDING, device=device), padded[MASK:])
    with torch.inference_mode(), autocast(device, chosen(device)):
        found = network(padded[None, :MASK], [measured])[-1]
    inner = slice(MARGIN, -MARGIN)
    chi: NDArray[np.float32] = found[0, 0, inner, inner, inner].float().cpu().numpy()
    return chi
