"""``train``: from a recipe to weights; ``networks``: which of both there are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from napari_qsm.cli import options
from napari_qsm.cli.application import INTERRUPTED, app, load_torch
from napari_qsm.cli.console import console, exhaust, say


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or a .toml file.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for checkpoint and log.")
    ] = Path("training"),
    device: options.Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Stop after so many further steps.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0, help="Stop after so many minutes.")
    ] = None,
    pool: Annotated[
        Path | None, typer.Option("--pool", help="Folder where drawn cases are kept.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Of the CPU; all by default.")
    ] = None,
) -> None:
    """Train a network by RECIPE on synthetic heads; checkpoint, log and weights go to a folder.

    Ctrl-C ends it after the step at hand; --resume goes on from there.
    """
    load_torch()
    from napari_qsm.generators import finished
    from napari_qsm.training import session

    running = session.train(
        recipe,
        output,
        device=device,
        resume=resume,
        steps=steps,
        minutes=minutes,
        pool=pool,
        threads=threads,
        say=lambda line: say([line]),
    )
    try:
        if os.environ.get("RANK", "0") == "0":
            exhaust(running, "Training")
        else:
            finished(running)  # one bar for all processes that torchrun started
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


@app.command()
def networks() -> None:
    """List the weights that methods can use, and the recipes that 'train' knows."""
    load_torch()
    from rich.table import Table

    from napari_qsm.networks.weights import Card, available, user_folder
    from napari_qsm.training.recipe import load_recipe, shipped

    found = Table("weights", "for", "voxels, mm", "on held-out cases", "MB", "licence", "folder")
    for key, path in available().items():
        card, file = Card.read(path), path.with_suffix(".safetensors")
        size = f"{file.stat().st_size / 1e6:.1f}" if file.exists() else "missing"
        voxels = "{:g} to {:g}".format(*card.voxel_size)
        figures = ", ".join(f"{name} {value:g}" for name, value in card.metrics.items())
        found.add_row(key, card.family, voxels, figures, size, card.licence, str(path.parent))
    recipes = Table("recipe", "what it trains", "sees", "widths", "steps")
    for name in shipped():
        one = load_recipe(name)
        sees, widths = ", ".join(one.network.channels), ", ".join(map(str, one.network.widths))
        recipes.add_row(name, one.title, sees, widths, str(one.optimisation.steps))
    out = console()
    out.print(found if found.rows else "There are no weights yet.")
    out.print(f"Weights put into {user_folder()} appear here.", soft_wrap=True)
    out.print(recipes)
