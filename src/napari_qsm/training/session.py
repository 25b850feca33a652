"""A training from recipe to weights: what `napari-qsm train` does, alone or under torchrun."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_qsm import devices
from napari_qsm.networks import weights
from napari_qsm.networks.inverter import Inverter
from napari_qsm.networks.lpcnn import LPCNN
from napari_qsm.networks.weights import Card
from napari_qsm.process import Step
from napari_qsm.training.blocks import HELD_OUT, HELD_OUT_CASES
from napari_qsm.training.calibration import finish
from napari_qsm.training.cases import Pool
from napari_qsm.training.population import lattice
from napari_qsm.training.recipe import load_recipe
from napari_qsm.training.trainer import Progress, Trainer
from napari_qsm.training.unrolled_cases import whole

LICENCE = "BSD-3-Clause; trained on synthetic heads made from the shipped anatomy (CC BY 4.0)"

LIMITS = (
    "Trained on synthetic anatomy only; for research, not for diagnosis. What a measured field has "
    "and the synthetic ones have not can mislead it."
)

ENOUGH = 200
"""Cases whose fields are described in a card; more would not change what 98 % of them are like."""

QUIET = 30.0
"""Seconds after which a line is said although nothing was validated."""


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
    beside: bool = True,
    say: Callable[[str], None] = print,
) -> Generator[Step, None, Path | None]:
    """Train by a recipe and write the averaged weights with their card.

    The first Ctrl-C ends it after the step at hand, with a checkpoint and weights; a second one
    ends it at once.

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
    beside : bool
        Whether cases are drawn in a process of their own.
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
    KeyboardInterrupt
        If it was ended by Ctrl-C.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    recipe = load_recipe(name)
    with _processes(device) as target, _first_interrupt() as pressed:
        start = None
        if recipe.network.start:
            start = weights.load(recipe.network.start)[0].state_dict()
        trainer = Trainer(
            recipe, folder, pool or folder / "pool", target, start=start, resume=resume
        )
        tell = say if trainer.rank == 0 else _ignore
        tell(
            f"{recipe.key}: {sum(p.numel() for p in trainer.network.parameters()):,} weights, "
            f"{devices.describe(target)}, {trainer.dtype}, from step {trainer.step}"
        )
        end = time.monotonic() + (math.inf if minutes is None else 60 * minutes)
        running = trainer.run(
            steps, beside=beside, stop=lambda: pressed() or time.monotonic() > end
        )
        card = yield from _follow(trainer, running, tell)
        total = recipe.optimisation.steps
        if card is not None and trainer.step == total and recipe.learning == "supervised":
            tell("Looking at whole cases: how large sigma must be, and what the fields were like.")
            complete(trainer, card)
        if trainer.step < total:
            tell(
                f"Stopped after step {trainer.step} of {total}; the same command with --resume "
                "goes on from there."
            )
        if card is not None:
            tell(f"Weights: {card}; to use them, copy them and it to {weights.user_folder()}.")
        if pressed():
            raise KeyboardInterrupt
        return card


def write(trainer: Trainer, folder: Path, metrics: dict[str, float] | None = None) -> Path:
    """Write the averaged weights of a training and their card; return the card's path."""
    recipe = trainer.recipe
    population = recipe.heads
    small, large = population.voxel_size
    figures = trainer.validate() if metrics is None else metrics
    card = Card(
        key=recipe.key,
        title=recipe.title,
        design=trainer.network.design,
        family=recipe.family or recipe.key,
        voxel_size=(small, large * population.anisotropy),
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
        metrics={k: round(v, 3) for k, v in figures.items()},
        limits=LIMITS,
        licence=LICENCE,
    )
    return weights.write(card, trainer.average.module, folder)


def complete(trainer: Trainer, path: Path) -> Card:
    """Complete a card: calibration and figures on held-out cases, statistics of those learned from.

    Parameters
    ----------
    trainer : Trainer
        At the end of a training from blocks.
    path : Path
        Of the card.
    """
    data = trainer.recipe.data
    pool = Pool(data.population, data.channels, trainer.pools, data.known)
    learned = [seed for seed in range(data.cases) if pool.path(seed).exists()][:ENOUGH]
    held_out = range(HELD_OUT, HELD_OUT + HELD_OUT_CASES)
    network = trainer.average.module.eval()
    assert isinstance(network, Inverter | LPCNN)
    return finish(
        path,
        network,
        (pool[seed] for seed in learned),
        (pool[seed] for seed in held_out),
        data.channels,
        trainer.device,
        partial(_unrolled, trainer, network) if isinstance(network, LPCNN) else None,
    )


def _unrolled(
    trainer: Trainer, network: LPCNN, place: int, case: NDArray[np.float16]
) -> tuple[NDArray[np.float32], None]:
    """Return the map of a held-out case, which has physics of its own."""
    data = trainer.recipe.data
    voxels = lattice(data.population, HELD_OUT + place)
    return whole(network, case, data.channels, voxels, trainer.device), None


def _follow(
    trainer: Trainer, running: Iterator[Progress], say: Callable[[str], None]
) -> Generator[Step, None, Path | None]:
    """Report steps, write weights whenever they were validated, and return the last card's path."""
    card: Path | None = None
    written = -1
    told, board = time.monotonic(), _board(trainer)
    yield Step(trainer.step / trainer.recipe.optimisation.steps, "Drawing the first cases")
    began: tuple[float, int] | None = None
    for progress in running:
        now = time.monotonic()
        began = began or (now, progress.step)  # the first step waits for the first cases
        speed = (progress.step - began[1]) / max(now - began[0], 1e-9)
        metrics = _metrics(progress)
        if metrics and trainer.rank == 0:
            card, written = write(trainer, trainer.folder, metrics), progress.step
        if metrics and board is not None:
            for key, value in {"loss": progress.loss, **progress.figures}.items():
                board.add_scalar(key, value, progress.step)
        if metrics or time.monotonic() - told > QUIET:
            told = time.monotonic()
            figures = ", ".join(f"{k} {v:.4g}" for k, v in progress.figures.items())
            say(f"step {progress.step} of {progress.steps}: loss {progress.loss:.4g}; {figures}")
        yield Step(progress.step / progress.steps, f"loss {progress.loss:.3g}, {speed:.3g} steps/s")
    if board is not None:
        board.close()
    if trainer.rank == 0 and written != trainer.step:
        card = write(trainer, trainer.folder)
    return card


def _metrics(progress: Progress) -> dict[str, float]:
    """Return the figures on held-out cases, none where this step was not validated."""
    if not {"nrmse", "unexplained"} & set(progress.figures):
        return {}
    return {
        k: v
        for k, v in progress.figures.items()
        if k.startswith(("nrmse", "unexplained", "within"))
    }


def _board(trainer: Trainer) -> Any:
    """Return a writer for TensorBoard where it is installed, None elsewhere."""
    if trainer.rank:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(trainer.folder))


def _ignore(line: str) -> None:
    del line


@contextmanager
def _first_interrupt() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C only be noted; after it, Ctrl-C does what it did before."""
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, _: object) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _processes(name: str) -> Iterator[torch.device]:
    """Join the other processes that torchrun started, if any, and choose this one's device."""
    target = devices.choose(name)
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield target
        return
    if target.type == "cuda":
        target = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(target)
    torch.distributed.init_process_group("nccl" if target.type == "cuda" else "gloo")
    try:
        yield target
    finally:
        torch.distributed.destroy_process_group()
