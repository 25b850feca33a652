"""Volumes too large for one pass: tiles that overlap by as much as the network sees.

A U-Net without norms over the volume is local: what it says of a voxel depends on its surroundings
as far as `reach`. A tile that is shown that much more than is kept of it, and begins on a voxel of
the coarsest resolution, gives what the whole volume would have given. There is no seam to blend.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

from napari_qsm.networks.unet import Architecture

Box = tuple[slice, slice, slice]

SHARE = 0.5
"""Part of the free memory that a pass may take."""

UNKNOWN_MEMORY = 4 * 2**30
"""Bytes that are taken to be free where nobody tells."""


@dataclass(frozen=True)
class Tile:
    """One part of a volume.

    Parameters
    ----------
    shown : Box
        What the network sees of the volume.
    kept : Box
        What its output is kept for, in the volume.
    """

    shown: Box
    kept: Box

    @property
    def inner(self) -> Box:
        """What is kept, in the tile."""
        x, y, z = (
            slice(kept.start - shown.start, kept.stop - shown.start)
            for kept, shown in zip(self.kept, self.shown, strict=True)
        )
        return x, y, z

    @property
    def boxes(self) -> tuple[Box, Box, Box]:
        """What is shown and kept, in the volume, and what is kept, in the tile."""
        return self.shown, self.kept, self.inner

    @property
    def voxels(self) -> int:
        """How many it shows."""
        return math.prod(part.stop - part.start for part in self.shown)


def reach(architecture: Architecture) -> int:
    """How far in voxels an output depends on the input, in whole voxels of the coarsest level.

    With c convolutions on L levels it is ``c (3 2^(L-1) - 2)``, and up to one coarsest voxel more,
    since pooling and its reversal work on voxels of that size.
    """
    coarsest: int = 2 ** (len(architecture.widths) - 1)
    radius = architecture.convolutions * (3 * coarsest - 2) + coarsest - 1
    return math.ceil(radius / coarsest) * coarsest


def footprint(architecture: Architecture, voxels: int, itemsize: int) -> int:
    """Bytes that a pass over so many voxels takes at its peak, beside what comes in.

    The most is held where a decoder comes back to the finest level: the features kept from the way
    down and those from below, both once more side by side, and a convolution of them. Measured it
    is eight times the features of the finest level at most.
    """
    return 8 * architecture.widths[0] * itemsize * voxels


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; a cautious guess where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        told = dict(line.split(":") for line in lines)
        return 1024 * int(told["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):  # neither Windows nor macOS has it
        return UNKNOWN_MEMORY


def tiles(architecture: Architecture, shape: Sequence[int], most: int) -> list[Tile]:
    """Cut a volume into as few tiles as show at most so many voxels each, where that is possible.

    Parameters
    ----------
    architecture : Architecture
        Of the U-Net.
    shape : sequence of int
        Of the volume.
    most : int
        Voxels that a tile should show at most. Tiles do not become shorter than twice the coarsest
        voxel, whatever they show.
    """
    coarsest: int = 2 ** (len(architecture.widths) - 1)
    parts = [1, 1, 1]
    while True:
        made = list(_cut(shape, parts, coarsest, reach(architecture)))
        lengths = [math.ceil(n / count) for n, count in zip(shape, parts, strict=True)]
        longest = max(range(3), key=lengths.__getitem__)
        if max(tile.voxels for tile in made) <= most or lengths[longest] <= 2 * coarsest:
            return made
        parts[longest] += 1


def _cut(shape: Sequence[int], parts: Sequence[int], step: int, margin: int) -> Iterator[Tile]:
    """Yield the tiles of a volume cut so many times along each axis, at multiples of `step`."""
    axes = []
    for size, count in zip(shape, parts, strict=True):
        length = math.ceil(size / count / step) * step
        kept = [slice(at, min(at + length, size)) for at in range(0, size, length)]
        shown = [slice(max(0, k.start - margin), min(k.stop + margin, size)) for k in kept]
        axes.append(list(zip(shown, kept, strict=True)))
    for (x, kept_x), (y, kept_y), (z, kept_z) in product(*axes):
        yield Tile((x, y, z), (kept_x, kept_y, kept_z))
