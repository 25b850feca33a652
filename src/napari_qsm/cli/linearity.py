"""``linearity``: how a method's maps follow the strength of a lesion."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_qsm.cli import options
from napari_qsm.cli.application import app, load_torch
from napari_qsm.cli.console import console, exhaust, say, tell
from napari_qsm.cli.reading import read_field

if TYPE_CHECKING:
    from napari_qsm.evaluation.linearity import Linearity


@app.command()
def linearity(
    field: Annotated[Path, typer.Argument(help="Local field, a .nii or .nii.gz file.")],
    region: Annotated[Path, typer.Option("--region", help="Labels, one of which is the lesion.")],
    output: options.Output,
    method: Annotated[str, typer.Option("--method", help="Key of a method; see 'methods'.")],
    label: Annotated[int, typer.Option("--label", help="Number of the lesion in REGION.")] = 1,
    strengths: Annotated[
        str, typer.Option("--strengths", help="1 is the lesion as measured: 0.5,1,1.5,2,3.")
    ] = "0.5,1,1.5,2,3",
    mask: options.Mask = None,
    magnitude: options.Magnitude = None,
    noise: options.Noise = None,
    r2prime: options.R2Prime = None,
    r2star: options.R2Star = None,
    r2: options.R2 = None,
    start: options.Start = None,
    settings: options.Settings = None,
    unit: options.Unit = None,
    b0: options.FieldStrength = None,
    te: options.EchoTime = None,
    b0_dir: options.Direction = None,
    device: options.Device = "auto",
    stem: options.Stem = "",
    overwrite: options.Overwrite = False,
) -> None:
    """Scale what a lesion adds to FIELD and rates, reconstruct, and say how the maps follow."""
    stated, asked = options.settings(settings), options.strengths(strengths)
    chosen_unit, direction = options.unit(unit), options.direction(b0_dir)
    load_torch()
    from napari_qsm import devices
    from napari_qsm.evaluation.linearity import linearity as followed
    from napari_qsm.io.nifti import read_volume
    from napari_qsm.io.together import (
        refuse_existing,
        refuse_stem,
        refuse_unwritable,
        write_together,
    )
    from napari_qsm.methods.registry import find
    from napari_qsm.workbench.linearity import Lesion

    chosen = find(method)
    parameters, target = chosen.with_settings(stated), devices.choose(device)
    refuse_stem(stem)
    refuse_unwritable(output)
    table = output / f"{stem}_linearity.csv" if stem else output / "linearity.csv"
    refuse_existing([table], overwrite)
    acquisition = read_field(
        (field, mask, magnitude, noise),
        {"r2prime": r2prime, "r2star": r2star, "r2": r2, "start": start},
        unit=chosen_unit,
        field_strength=b0,
        echo_time=te,
        b0_direction=direction,
    )
    tell(acquisition)
    inside = Lesion(read_volume(region), label).region(acquisition.grid)
    say([f"{chosen.label} on {devices.describe(target)}"])
    running = followed(chosen, acquisition, inside, parameters, target, strengths=asked)
    made = exhaust(running, chosen.label)
    _print(made)
    write_together([(table, lambda temporary: temporary.write_text(made.table(), "utf-8"))])
    say([str(table)])


def _print(made: Linearity) -> None:
    """Print the means in ppb, one strength a line, then slopes and notes."""
    from rich.table import Table

    symbols = [one.quantity.symbol for one in made.responses]
    heads = (f"{symbol} {what} [ppb]" for symbol in symbols for what in ("simulated", "found"))
    table = Table("strength", *heads)
    for index, strength in enumerate(made.strengths):
        pairs = ((strength * one.source, one.values[index]) for one in made.responses)
        table.add_row(f"{strength:g}", *(f"{1000 * v:.1f}" for pair in pairs for v in pair))
    console().print(table)
    for symbol, one in zip(symbols, made.responses, strict=True):
        told = "next to nothing was simulated" if math.isnan(one.slope) else f"{one.slope:.3f}"
        say([f"slope of {symbol}: {told}"])
    say([f"region: {made.voxels} voxels", *(f"note: {note}" for note in made.notes)])
