"""``sweep``: a field reconstructed over a range of the parameter that trades streaks for blur."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_qsm.cli import options
from napari_qsm.cli.application import app, load_torch
from napari_qsm.cli.console import exhaust, say, tell
from napari_qsm.cli.reading import read_field

if TYPE_CHECKING:
    from napari_qsm.evaluation.swept import Sweep
    from napari_qsm.io.together import Job


@app.command()
def sweep(
    field: Annotated[Path, typer.Argument(help="Local field, a .nii or .nii.gz file.")],
    output: options.Output,
    method: Annotated[str, typer.Option("--method", help="Key of a method; see 'methods'.")],
    low: Annotated[
        float | None,
        typer.Option("--from", help="Smallest value; a tenth of the method's own if not given."),
    ] = None,
    high: Annotated[
        float | None,
        typer.Option("--to", help="Largest value; ten times the method's own if not given."),
    ] = None,
    points: Annotated[int, typer.Option("--points", help="Values, in equal ratios.")] = 8,
    mask: options.Mask = None,
    magnitude: options.Magnitude = None,
    noise: options.Noise = None,
    r2prime: options.R2Prime = None,
    r2star: options.R2Star = None,
    r2: options.R2 = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="A chi map in ppm to compare with.")
    ] = None,
    separate: Annotated[
        bool, typer.Option("--separate", help="A file for each value instead of one 4D file.")
    ] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Iterate every point as long as if it were alone.")
    ] = False,
    settings: options.Settings = None,
    unit: options.Unit = None,
    b0: options.FieldStrength = None,
    te: options.EchoTime = None,
    b0_dir: options.Direction = None,
    device: options.Device = "auto",
    stem: options.Stem = "",
    overwrite: options.Overwrite = False,
) -> None:
    """Reconstruct FIELD over a range of one parameter; write the maps and a table of figures."""
    stated = options.settings(settings)
    chosen_unit, direction = options.unit(unit), options.direction(b0_dir)
    load_torch()
    from napari_qsm import devices
    from napari_qsm.evaluation.sweep import sweep as swept
    from napari_qsm.evaluation.sweep_range import plan, tuned
    from napari_qsm.io.together import refuse_stem, refuse_unwritable, write_together
    from napari_qsm.methods.registry import find

    chosen = find(method)
    tuned(chosen)
    parameters, target = chosen.with_settings(stated), devices.choose(device)
    refuse_stem(stem)
    refuse_unwritable(output)
    _refuse_existing(output, stem, separate, overwrite)
    acquisition = read_field(
        (field, mask, magnitude, noise),
        {"r2prime": r2prime, "r2star": r2star, "r2": r2},
        unit=chosen_unit,
        field_strength=b0,
        echo_time=te,
        b0_direction=direction,
    )
    tell(acquisition)
    truth = _reference(reference, acquisition.grid) if reference else None
    say([f"{chosen.label} on {devices.describe(target)}"])
    running = plan(chosen, acquisition, parameters, target, low=low, high=high, points=points)
    values = exhaust(running, chosen.label)
    steps = swept(
        chosen, acquisition, values, parameters, target, reference=truth, thorough=thorough
    )
    made = exhaust(steps, chosen.label)
    jobs = list(_jobs(made, output, stem, separate))
    write_together(jobs)
    say(made.table().splitlines())
    say(f"{mark.label}: {chosen.tuning} = {mark.value:.3g}" for mark in made.marks)
    say(str(path) for path, _ in jobs)


def _begin(stem: str) -> str:
    return f"{stem}_sweep" if stem else "sweep"


def _refuse_existing(output: Path, stem: str, separate: bool, overwrite: bool) -> None:
    """Refuse before a long computation what would be refused after it."""
    from napari_qsm.io.together import refuse_existing

    begin = _begin(stem)
    maps = [f"{begin}_Chimap.nii.gz", f"{begin}_Chimap.json"]
    found = [p.name for p in output.glob(f"{begin}-*_Chimap.*")] if separate else maps
    refuse_existing((output / name for name in (f"{begin}.csv", *found)), overwrite)


def _reference(path: Path, grid: Any) -> Any:
    from napari_qsm.acquisition import InputError
    from napari_qsm.io.nifti import read_volume

    volume = read_volume(path)
    if mismatch := grid.mismatch(volume.grid):
        raise InputError(f"The reference {mismatch}; choose a map on the grid of the field.")
    return volume.data


def _jobs(made: Sweep, output: Path, stem: str, separate: bool) -> Iterator[Job]:
    """Yield the files of a sweep with their contents: the table, then maps and sidecars."""
    import numpy as np

    from napari_qsm.acquisition import Quantity
    from napari_qsm.io.nifti import image_jobs, sidecar_of

    begin, tuning = _begin(stem), made.method.tuning
    yield output / f"{begin}.csv", lambda temporary: temporary.write_text(made.table(), "utf-8")
    stated = [sidecar_of(made.maps(k), Quantity.CHI) for k in range(len(made.points))]
    if separate:
        for k, (value, sidecar) in enumerate(zip(made.values, stated, strict=True)):
            path = output / f"{begin}-{value:g}_Chimap.nii.gz"
            yield from image_jobs(path, made.chi[k], made.grid, sidecar)
        return
    sidecar = {
        **stated[0],
        "Sweep": {
            "parameter": tuning,
            "values": list(made.values),
            "marks": {mark.key: mark.value for mark in made.marks},
        },
        "Provenance": [one["Provenance"] for one in stated],
    }
    maps = np.moveaxis(made.chi, 0, -1)
    yield from image_jobs(output / f"{begin}_Chimap.nii.gz", maps, made.grid, sidecar)
