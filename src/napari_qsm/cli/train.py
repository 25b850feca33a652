"""``train``: from a recipe to weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_qsm.cli import options
from napari_qsm.cli.application import app, load_torch
from napari_qsm.cli.console import say


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
    """Train a network by RECIPE on synthetic heads; checkpoint, log and weights go to a folder."""
    load_torch()
    from napari_qsm.training.session import train as run

    run(
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
