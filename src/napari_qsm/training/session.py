"""A training from recipe to weights: what `napari-qsm train` does, alone or under torchrun."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from napari_qsm import devices
from napari_qsm.networks import weights
from napari_qsm.networks.weights import Card
from napari_qsm.training.recipe import load_recipe
from napari_qsm.training.trainer import Trainer

LICENCE = "BSD-3-Clause; trained on synthetic heads made from the shipped anatomy (CC BY 4.0)"

LIMITS = (
    "Trained on synthetic anatomy only; for research, not for diagnosis. What a measured field has "
    "and the synthetic ones have not can mislead it."
)


def train(
    name: str,
    folder: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    steps: int | None = None,
    minutes: float | None = None,
    pool: Path | None = None,
    threads: int | None = None,
    say: Callable[[str], None] = print,
) -> Path | None:
    """Train by a recipe and write the averaged weights with their card.

    Parameters
    ----------
    name : str
        Of a shipped recipe, or the path of a TOML file.
    folder : Path
        For checkpoint, log, and the weights.
    device : str
        As `napari_qsm.devices.choose` reads it; under torchrun each process takes its own GPU.
    resume : bool
        Whether to go on from the checkpoint.
    steps, minutes : optional
        After which to stop early.
    pool : Path, optional
        Where drawn cases are kept; by default in the folder.
    threads : int, optional
        Of the CPU.
    say : callable
        Told one line now and then.

    Returns
    -------
    Path or None
        The card's; None in all but the first of several processes.

    Raises
    ------
    InputError
        If the recipe, the device or the folder cannot be used.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    recipe = load_recipe(name)
    with _together(device) as target:
        start = None
        if recipe.network.start:
            network, _ = weights.load_network(recipe.network.start)
            start = network.state_dict()
        trainer = Trainer(
            recipe, folder, pool or folder / "pool", target, start=start, resume=resume
        )
        say(
            f"{recipe.key}: {sum(p.numel() for p in trainer.network.parameters()):,} weights, "
            f"{devices.describe(target)}, {trainer.dtype}, from step {trainer.step}"
        )
        _follow(trainer, steps, minutes, say)
        return write(trainer, folder) if trainer.rank == 0 else None


def write(trainer: Trainer, folder: Path) -> Path:
    """Write the averaged weights of a training and their card; return the card's path."""
    recipe = trainer.recipe
    population = recipe.data.population
    card = Card(
        key=recipe.key,
        title=recipe.title,
        design=trainer.network.design,
        family=recipe.family or recipe.key,
        voxel_size=population.voxel_size,
        anisotropy=population.anisotropy,
        tilt=population.tilt,
        training={
            "recipe": recipe.model_dump(mode="json"),
            "fingerprint": recipe.fingerprint,
            "seed": recipe.seed,
            "steps": trainer.step,
            "seconds": round(trainer.seconds),
            "device": devices.describe(trainer.device),
        },
        metrics={k: round(v, 3) for k, v in trainer.validate().items()},
        limits=LIMITS,
        licence=LICENCE,
    )
    return weights.write(card, trainer.average.module, folder)


def _follow(
    trainer: Trainer, steps: int | None, minutes: float | None, say: Callable[[str], None]
) -> None:
    told = time.monotonic()
    limit = math.inf if minutes is None else minutes
    for progress in trainer.run(steps, minutes=limit):
        validated = "nrmse" in progress.figures
        if validated or time.monotonic() - told > 30:
            told = time.monotonic()
            figures = ", ".join(f"{k} {v:.4g}" for k, v in progress.figures.items())
            say(f"step {progress.step} of {progress.steps}: loss {progress.loss:.4g}; {figures}")


@contextmanager
def _together(name: str) -> Iterator[torch.device]:
    """Join the other processes that torchrun started, if any, and choose this one's device."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield devices.choose(name)
        return
    target = devices.choose(name)
    if target.type == "cuda":
        target = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(target)
    torch.distributed.init_process_group("nccl" if target.type == "cuda" else "gloo")
    try:
        yield target
    finally:
        torch.distributed.destroy_process_group()
