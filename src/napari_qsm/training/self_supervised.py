"""Training without labels (uQSM): fields of whole heads, and what a map of them must explain.

What this trains on has no susceptibility: a head is stored as a scanner gives it, and a network is
judged by the field that its map makes. Heads are whole and lie in a canvas padded with zeros, so
that no source outside a block is blamed on the network.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.generators import finished
from napari_qsm.methods.learned import MARGIN, Seen, seen
from napari_qsm.methods.per_case import Measured, measured
from napari_qsm.methods.workspace import Workspace
from napari_qsm.networks.consistency import average, exponential, linear, roughness
from napari_qsm.networks.inverter import Inverter
from napari_qsm.networks.precision import autocast
from napari_qsm.training.losses import SPREAD
from napari_qsm.training.population import Population, draw
from napari_qsm.training.sources import random_body
from napari_qsm.training.streams import Steps

if TYPE_CHECKING:
    from napari_qsm.training.recipe import Recipe

LOSSES = ("ldi", "wldi", "ndi", "variation", "superposition")
"""Names a recipe can weigh: the misfit of fields with equal weights in the mask and weighted by the
noise, that of phases, the map's variation per mm, and the consistency under added sources. All but
the last are in units of the field's spread, that one in units of `SPREAD`."""

FIRST_HEADS = 16
"""Heads that training begins with."""

HELD_OUT = 1_000_000
"""Seed of the first head for validation, as for labelled cases."""

ADDED = 6
"""Sources that are added at once for the loss of superposition."""

KEPT = (Quantity.LOCAL_FIELD, Quantity.MASK, Quantity.FIELD_NOISE)
"""What is kept of a head."""


class Heads:
    """Heads of a population by seed, drawn when first asked for and kept in a folder.

    Parameters
    ----------
    population : Population
        What is drawn.
    folder : Path
        Each population has a folder of its own in it.
    """

    def __init__(self, population: Population, folder: Path) -> None:
        self.population = population
        text = population.model_dump_json()
        self.folder = folder / f"heads-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "population.json").write_text(text)

    def path(self, seed: int) -> Path:
        """Where the head with a seed is kept, drawn if it was not yet."""
        path = self.folder / f"{seed:06d}.npz"
        if not path.exists():
            acquisition = draw(self.population, seed).acquisition
            grid = acquisition.grid
            known: dict[str, Any] = {q.key: acquisition[q].astype(np.float16) for q in KEPT}
            known |= {"affine": grid.affine, "b0": grid.b0_direction}
            made = path.with_suffix(f".{os.getpid()}.npz")
            np.savez(made, **known)
            made.rename(path)
        return path

    def __getitem__(self, seed: int) -> Acquisition:
        """Return the head with a seed."""
        with np.load(self.path(seed)) as stored:
            volumes = {q: stored[q.key].astype(np.float32) for q in KEPT}
            volumes[Quantity.MASK] = volumes[Quantity.MASK] > 0
            x, y, z = volumes[Quantity.MASK].shape
            grid = Grid((x, y, z), stored["affine"], tuple(stored["b0"]))
        return Acquisition(grid, volumes)


class Batch(NamedTuple):
    """The heads of a step, by seed, and a seed for what is random in its losses."""

    heads: tuple[int, ...]
    seed: int


class Unlabelled(Steps[Batch]):
    """How a network learns from fields alone; the other way than from labelled blocks.

    Parameters
    ----------
    recipe : Recipe
        Names the population, the losses and the seed.
    folder : Path
        Of the pools.
    """

    AHEAD = 8

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        super().__init__()
        self._recipe = recipe
        self._heads = Heads(recipe.data.population, folder)
        with torch.random.fork_rng(devices=[]):
            self._reader = Inverter(recipe.network.design())  # says which channels there are

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, with its heads drawn."""
        data = self._recipe.data
        rng = np.random.default_rng([self._recipe.seed, step, self.rank])
        known = min(data.cases, FIRST_HEADS + step // data.growth)
        chosen = tuple(int(seed) for seed in rng.integers(known, size=data.batch))
        for seed in chosen:
            self._heads.path(seed)
        return Batch(chosen, int(rng.integers(2**31)))

    def loss(
        self, running: nn.Module, batch: Batch, device: torch.device, dtype: torch.dtype
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the mean over the heads of a batch of the weighted losses, and each by name."""
        total = torch.zeros((), device=device)
        figures = dict.fromkeys(self._recipe.loss, 0.0)
        rng = np.random.default_rng(batch.seed)
        for seed in batch.heads:
            parts = self._parts(running, self._heads[seed], device, dtype, rng)
            for name, share in self._recipe.loss.items():
                total = total + share * parts[name] / len(batch.heads)
                figures[name] += float(parts[name].detach()) / len(batch.heads)
        return total, figures

    def _parts(
        self,
        running: nn.Module,
        head: Acquisition,
        device: torch.device,
        dtype: torch.dtype,
        rng: np.random.Generator,
    ) -> dict[str, Tensor]:
        with Workspace(head, device, "uQSM") as space:
            case = finished(measured(head, space, nonlinear=True))
            view = finished(seen(head, self._reader, space))
            with autocast(device, dtype):
                estimate = view.padded(running(view.inputs).mean, space)
            found = explained(estimate, case, space)
            if "superposition" in self._recipe.loss:
                with autocast(device, dtype):
                    found["superposition"] = superposition(
                        running, view, estimate, case, space, rng
                    )
        return found

    @torch.no_grad()
    def validate(
        self, network: nn.Module, device: torch.device, dtype: torch.dtype, count: int = 4
    ) -> dict[str, float]:
        """Return ``unexplained``: what maps of held-out heads leave of their field, in %."""
        left = 0.0
        for seed in range(HELD_OUT, HELD_OUT + count):
            head = self._heads[seed]
            rng = np.random.default_rng(seed)
            left += float(self._parts(network, head, device, dtype, rng)["wldi"]) ** 0.5
        return {"unexplained": 100 * left / count}


def explained(estimate: Tensor, case: Measured, space: Workspace) -> dict[str, Tensor]:
    """Return the losses by name that a padded map and a field decide."""
    predicted, square = case.dipole(estimate), case.spread**2
    scale = case.scale or 1.0
    return {
        "ldi": linear(predicted, case.field, case.region) / square,
        "wldi": linear(predicted, case.field, case.weights) / square,
        "ndi": exponential(predicted, case.field, case.weights, scale) / square,
        "variation": roughness(estimate, space.voxel_size, case.region) / case.spread,
    }


def superposition(
    running: nn.Module,
    view: Seen,
    estimate: Tensor,
    case: Measured,
    space: Workspace,
    rng: np.random.Generator,
) -> Tensor:
    """Return ``mean |g(b + A p) - g(b) - p|`` in units of `SPREAD`, p random sources in the head.

    Fields add up, and so must maps; p is known because it was made up. Reference: the successor of
    uQSM by the same authors, in kind.
    """
    added = random_sources(case.region, space.voxel_size, rng)
    field = case.dipole(added) * case.region
    x, y, z = view.shape
    inputs = view.inputs.clone()
    m = MARGIN
    inputs[0, 0, m : m + x, m : m + y, m : m + z] += field[:x, :y, :z]
    change = view.padded(running(inputs).mean, space) - estimate
    return average((change - added).abs(), case.region) / SPREAD


def random_sources(
    region: Tensor, voxel_size: tuple[float, float, float], rng: np.random.Generator
) -> Tensor:
    """Draw ellipsoids of 2 to 10 mm and 0.05 to 2 ppm of either sign into a region; in ppm."""
    inside = region.cpu().numpy() > 0
    places, sizes = np.argwhere(inside), np.array(voxel_size)
    chi = np.zeros(inside.shape, dtype=np.float32)
    for _ in range(ADDED):
        centre = places[rng.integers(len(places))] * sizes
        body = random_body(rng, centre, float(np.exp(rng.uniform(np.log(2), np.log(10)))))
        box, share = body.share(sizes, chi.shape)
        strength = float(np.exp(rng.uniform(np.log(0.05), np.log(2)))) * rng.choice([-1, 1])
        chi[box] += share * strength
    return torch.from_numpy(chi * inside).to(region)
