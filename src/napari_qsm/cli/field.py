"""``reconstruct``: from a local field in a file to susceptibility."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_qsm.acquisition import Quantity
from napari_qsm.cli import options
from napari_qsm.cli.application import app, load_torch
from napari_qsm.cli.console import exhaust, say, tell
from napari_qsm.cli.reading import read_field

if TYPE_CHECKING:
    from napari_qsm.acquisition import Acquisition
    from napari_qsm.preparation.orientations import Orientation


@app.command()
def reconstruct(
    field: Annotated[Path, typer.Argument(help="Local field, a .nii or .nii.gz file.")],
    output: options.Output,
    method: Annotated[str, typer.Option("--method", help="Key of a method; see 'methods'.")],
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
    also: options.Also = None,
    device: options.Device = "auto",
    stem: options.Stem = "",
    overwrite: options.Overwrite = False,
) -> None:
    """Compute susceptibility from the local field FIELD and write the maps to a folder."""
    stated = options.settings(settings)
    chosen_unit, direction = options.unit(unit), options.direction(b0_dir)
    turned = options.orientations(also)
    load_torch()
    from napari_qsm import devices
    from napari_qsm.io.nifti import of_earlier_runs, targets_of, write_maps
    from napari_qsm.methods.registry import find, methods
    from napari_qsm.preparation.orientations import with_orientations

    chosen = find(method)
    parameters = chosen.with_settings(stated)
    target = devices.choose(device)
    targets_of(chosen.gives, output, stem=stem, overwrite=overwrite)
    acquisition = first = read_field(
        (field, mask, magnitude, noise),
        {"r2prime": r2prime, "r2star": r2star, "r2": r2, "start": start},
        unit=chosen_unit,
        field_strength=b0,
        echo_time=te,
        b0_direction=direction,
    )
    if turned:
        others = [_orientation(path, where, first) for path, where in turned]
        acquisition = with_orientations(first, others, unit=chosen_unit)
    tell(acquisition)
    say([f"{chosen.label} on {devices.describe(target)}"])
    maps = exhaust(chosen(acquisition, parameters, target), chosen.label)
    written = write_maps(maps, output, stem=stem, overwrite=overwrite)
    say(f"note: {note}" for note in maps.provenance.notes[len(acquisition.notes) :])
    say(map(str, written))
    results = {quantity for each in methods().values() for quantity in each.gives}
    older = of_earlier_runs(written, {*results, Quantity.SIGMA}, stem=stem)
    say(f"note: {path.name} is of an earlier run and was left as it was." for path in older)


def _orientation(
    path: Path, where: options.Direction3 | Path | None, first: Acquisition
) -> Orientation:
    """Read one further orientation, and find its B0 by a registration if that is what is given."""
    from napari_qsm.io.nifti import read_volume
    from napari_qsm.io.rotation import read_direction
    from napari_qsm.preparation.orientations import Orientation

    if isinstance(where, Path):
        return Orientation(read_volume(path), *read_direction(where, first.grid))
    return Orientation(read_volume(path), where)
