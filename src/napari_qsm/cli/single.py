"""``stage``: one stage by itself, from files of known quantities to files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_qsm.acquisition import InputError, Quantity
from napari_qsm.cli import options
from napari_qsm.cli.application import app, load_torch
from napari_qsm.cli.console import exhaust, say


@app.command()
def stage(
    key: Annotated[str, typer.Argument(help="Key of a stage; see 'stages'.")],
    output: options.Output,
    inputs: Annotated[
        list[str], typer.Option("--input", help="What it works on, QUANTITY=FILE; repeat it.")
    ],
    settings: options.Settings = None,
    te: options.EchoTimes = None,
    b0: options.FieldStrength = None,
    b0_dir: options.Direction = None,
    device: options.Device = "auto",
    stem: options.Stem = "",
    overwrite: options.Overwrite = False,
) -> None:
    """Run the stage KEY by itself and write what it gives."""
    given = options.pairs("--input", inputs, "QUANTITY=FILE")
    stated, times = options.settings(settings), options.echo_times(te)
    direction = options.direction(b0_dir)
    load_torch()
    from napari_qsm import devices
    from napari_qsm.io.nifti import targets_of, write_maps
    from napari_qsm.io.quantities import read_quantities
    from napari_qsm.preparation.registry import find

    chosen = find(key)
    parameters = chosen.with_settings(stated)
    target = devices.choose(device)
    targets_of(chosen.gives, output, stem=stem, overwrite=overwrite)
    files = {Quantity.named(name): Path(file) for name, file in given.items()}
    taken = (*chosen.needs, *chosen.uses)
    if surplus := [q for q in files if q not in taken]:
        raise InputError(
            f"{chosen.label} has no use for a {surplus[0].label}; it takes "
            f"{', '.join(q.key for q in taken)}."
        )
    acquisition = read_quantities(
        files, echo_times=times, field_strength=b0, b0_direction=direction
    )
    chosen.check(acquisition)
    say(f"note: {note}" for note in acquisition.notes)
    say([f"{chosen.label} on {devices.describe('cpu' if chosen.cpu_only else target)}"])
    maps = exhaust(chosen(acquisition, parameters, target), chosen.label)
    say(f"note: {note}" for note in maps.provenance.notes[len(acquisition.notes) :])
    say(map(str, write_maps(maps, output, stem=stem, overwrite=overwrite)))
