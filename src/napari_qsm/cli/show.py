"""Commands that compute nothing: ``methods``, ``stages``, ``info``, ``view`` and ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_qsm.acquisition import InputError
from napari_qsm.cli.application import app
from napari_qsm.cli.console import console, exhaust, say

Markdown = Annotated[bool, typer.Option("--markdown", help="Print the table of the documentation.")]


@app.command()
def methods(markdown: Markdown = False) -> None:
    """List the methods, what can be put around them, needs, outputs and parameters."""
    from napari_qsm import listing

    if markdown:
        typer.echo(listing.markdown())
    else:
        console().print(listing.table())
        say(listing.wrapper_lines())
        say(listing.offered_lines())


@app.command()
def stages(markdown: Markdown = False) -> None:
    """List the stages from raw phase to local field, place by place, and the shipped presets."""
    from napari_qsm import listing
    from napari_qsm.pipeline import presets

    if markdown:
        typer.echo(listing.stage_markdown())
        return
    console().print(listing.stage_table())
    say([f"presets: {', '.join(presets()) or 'none'}"])


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="A .nii or .nii.gz file, or a folder.")],
) -> None:
    """Say what was understood of a file, or which measurements a folder holds."""
    from napari_qsm import listing
    from napari_qsm.io.nifti import read_volume

    if not path.is_dir():
        console().print(listing.description(read_volume(path)))
        return
    from napari_qsm.io.importer import open_source

    with exhaust(open_source([path]), "Looking at the files") as source:
        say(listing.measurements(source.measurements))
        say(f"note: {note}" for note in source.notes)


@app.command()
def view(files: Annotated[list[Path], typer.Argument(help="NIfTI files to open.")]) -> None:
    """Open FILES in napari with the Reconstruct panel."""
    for file in files:
        if not file.exists():
            raise InputError(f"There is no file {file}; check its name.")
    from napari_qsm.widgets.window import open_window

    open_window(files)


@app.command()
def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where maps and a picture go, unattended.")
    ] = Path("demo-output"),
) -> None:
    """Show the program at work on a digital head with a haemorrhage."""
    from napari_qsm.widgets.demo import run_demo

    raise typer.Exit(run_demo(output))
