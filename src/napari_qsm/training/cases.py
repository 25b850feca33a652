"""Cases as networks read them: channels and truth in one array, kept on disk, cut into blocks."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_qsm.acquisition import Quantity
from napari_qsm.generators import finished
from napari_qsm.methods.channels import channels
from napari_qsm.training.population import Case, Population, draw

TRUTH, MASK = -2, -1
"""Where the last two channels of a stored case are."""

_ALWAYS = (Quantity.LOCAL_FIELD, Quantity.MASK)
_SEEN = (*_ALWAYS, Quantity.MAGNITUDE)
KNOWN = (_ALWAYS, _SEEN, (*_SEEN, Quantity.FIELD_NOISE))
"""What is known of a case, by turns."""

Known = Literal["turns", "all"]
"""Whether less is known of some cases than of others."""


def stacked(case: Case, names: Sequence[str], known: Known = "turns") -> NDArray[np.float16]:
    """Return the input channels of a case, its susceptibility (ppm) and its mask: (C + 2, X, Y, Z).

    Half precision keeps three digits, ten times what the noise of any field leaves. Users know
    the magnitude, or the noise of their field as well, or neither: so do the methods, by turns,
    unless they are to know all.
    """
    kept = KNOWN[-1] if known == "all" else KNOWN[case.seed % len(KNOWN)]
    volumes = {q: v for q, v in case.acquisition.volumes.items() if q in kept}
    inputs = finished(channels(replace(case.acquisition, volumes=volumes), names))
    mask = case.acquisition.mask[None]
    return np.concatenate([inputs, case.chi[None], mask]).astype(np.float16)


class Pool:
    """Cases of a population by seed, drawn when first asked for and kept in a folder.

    Parameters
    ----------
    population : Population
        What is drawn.
    names : sequence of str
        The input channels.
    folder : Path
        Where stored cases lie; each population has a folder of its own in it, named by what it is,
        so nothing stale is ever read.
    known : {"turns", "all"}
        What methods know of each case.
    """

    def __init__(
        self,
        population: Population,
        names: Sequence[str],
        folder: Path,
        known: Known = "turns",
    ) -> None:
        self.population, self.known = population, known
        self.names = tuple(names)
        text = json.dumps(self._told(), sort_keys=True)
        self.folder = folder / hashlib.sha256(text.encode()).hexdigest()[:12]
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "population.json").write_text(text)

    def _told(self) -> dict[str, object]:
        """Return what decides what is stored."""
        told: dict[str, object] = {
            "population": self.population.model_dump(mode="json"),
            "channels": self.names,
        }
        return told if self.known == "turns" else {**told, "known": self.known}

    def _made(self, seed: int) -> NDArray[np.float16]:
        """Draw and stack the case with a seed."""
        return stacked(draw(self.population, seed), self.names, self.known)

    def path(self, seed: int) -> Path:
        """Where the case with a seed is kept."""
        return self.folder / f"{seed:06d}.npy"

    def __getitem__(self, seed: int) -> NDArray[np.float16]:
        """Return the stacked case with a seed, mapped from its file."""
        return stored(self.path(seed), lambda: self._made(seed))


def block(case: NDArray[np.float16], side: int, rng: np.random.Generator) -> Tensor:
    """Cut a random cube out of a stacked case, flipped and turned about the third axis at random.

    Its middle lies in the mask; beyond the volume there are zeros. Mirror images of a case are
    cases: the dipole is even along every axis, and the methods that made channels know B0.

    Returns
    -------
    (C + 2, side, side, side) tensor of float32
    """
    return turned(cube(case, side, rng), turn(rng))


def cube(case: NDArray[np.float16], side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Cut a random cube out of a stacked case: (C, side, side, side)."""
    return cubes((case,), side, rng)


def cubes(
    parts: Sequence[NDArray[np.float16]], side: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Cut one random cube out of a case whose channels lie in several arrays, the mask last."""
    inside = parts[-1][MASK]
    middle = [int(n) // 2 for n in inside.shape]
    for _ in range(20):
        guess = [int(rng.integers(n)) for n in inside.shape]
        if inside[tuple(guess)] > 0:
            middle = guess
            break
    source, target = [slice(None)], [slice(None)]
    for n, at in zip(inside.shape, middle, strict=True):
        first = at - side // 2
        low, high = max(first, 0), min(first + side, n)
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    cut = np.zeros((sum(len(part) for part in parts), side, side, side), dtype=np.float32)
    cut[tuple(target)] = np.concatenate([part[tuple(source)] for part in parts])
    return cut


def stored(path: Path, make: Callable[[], NDArray[np.float16]]) -> NDArray[np.float16]:
    """Return an array mapped from its file, made when first asked for.

    Two processes may make the same one, the same bytes; what was interrupted is never read.
    """
    if not path.exists():
        made = path.with_suffix(f".{os.getpid()}.npy")
        np.save(made, make())
        made.rename(path)
    kept: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return kept


Turn = tuple[tuple[bool, bool, bool], bool]
"""Which axes are flipped, and whether the first two are exchanged then."""


def turn(rng: np.random.Generator) -> Turn:
    """Draw a mirror image, turned about the third axis or not."""
    x, y, z = (bool(rng.random() < 0.5) for _ in range(3))
    return (x, y, z), bool(rng.random() < 0.5)


def turned(volumes: NDArray[np.float32], way: Turn) -> Tensor:
    """Return volumes (C, X, Y, Z) mirrored and turned."""
    flips, exchanged = way
    made = np.flip(volumes, tuple(axis for axis, flip in enumerate(flips, start=1) if flip))
    if exchanged:
        made = made.swapaxes(1, 2)
    return torch.from_numpy(np.ascontiguousarray(made))
