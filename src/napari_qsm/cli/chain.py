"""``prepare`` and ``run``: from the scanner's files to a local field, and on to susceptibility."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from napari_qsm.acquisition import Acquisition, InputError, Maps, Quantity
from napari_qsm.cli import options
from napari_qsm.cli.application import app, load_torch
from napari_qsm.cli.console import exhaust, say, tell

if TYPE_CHECKING:
    from napari_qsm.io.importer import Corrections, Measurement
    from napari_qsm.pipeline import Planned, Prepared, Recipe

Inputs = Annotated[
    list[Path],
    typer.Argument(help="A folder of DICOM, BIDS or NIfTI files, or NIfTI files of the phase."),
]
Preset = Annotated[
    str | None, typer.Option("--preset", help="A TOML file, or a shipped preset; see 'stages'.")
]
Magnitude = Annotated[
    list[Path] | None, typer.Option("--magnitude", help="Magnitude; once for each file.")
]
Mask = Annotated[Path | None, typer.Option("--mask", help="Your own brain mask; it goes first.")]
Flip = Annotated[bool, typer.Option("--flip-phase", help="The phase has the other sign.")]
Scale = Annotated[
    str, typer.Option("--phase-scale", help="auto, rad, or range: what the numbers mean.")
]
Select = Annotated[
    str | None, typer.Option("--select", help="Name of the measurement, where there are several.")
]
Stages = Annotated[
    list[str] | None, typer.Option("--stage", help="What runs at a place, PLACE=KEY.")
]
Placed = Annotated[list[str] | None, typer.Option("--set", help="A parameter, PLACE.PARAM=VALUE.")]
Labels = Annotated[
    Path | None,
    typer.Option("--labels", help="Labels of the region that is zero, for reference.to=roi."),
]
Keep = Annotated[
    bool, typer.Option("--keep-intermediate", help="Write offset and unwrapped phase, too.")
]
Dry = Annotated[bool, typer.Option("--dry-run", help="Print the plan and write nothing.")]


@dataclass(frozen=True)
class Wanted:
    """What was typed; the fields are the options of the same name."""

    context: typer.Context
    inputs: list[Path]
    output: Path
    preset: str | None
    magnitude: list[Path] | None
    mask: Path | None
    te: str | None
    b0: float | None
    b0_dir: str | None
    flip_phase: bool
    phase_scale: str
    select: str | None
    stage: list[str] | None
    settings: list[str] | None
    device: str
    stem: str
    keep_intermediate: bool
    overwrite: bool
    dry_run: bool
    method: str | None = None
    labels: Path | None = None
    r2prime: Path | None = None
    r2: Path | None = None

    @property
    def command(self) -> str:
        """What was typed, as it could be typed again."""
        return shlex.join(["napari-qsm", *(self.context.obj or ())])


@app.command()
def prepare(
    context: typer.Context,
    inputs: Inputs,
    output: options.Output,
    preset: Preset = None,
    magnitude: Magnitude = None,
    mask: Mask = None,
    te: options.EchoTimes = None,
    b0: options.FieldStrength = None,
    b0_dir: options.Direction = None,
    flip_phase: Flip = False,
    phase_scale: Scale = "auto",
    select: Select = None,
    stage: Stages = None,
    settings: Placed = None,
    device: options.Device = "auto",
    stem: options.Stem = "",
    keep_intermediate: Keep = False,
    overwrite: options.Overwrite = False,
    dry_run: Dry = False,
) -> None:
    """Bring the raw phase in INPUTS to a local field, and write all that was made on the way."""
    _perform(Wanted(**locals()), inverting=False)


@app.command()
def run(
    context: typer.Context,
    inputs: Inputs,
    output: options.Output,
    method: Annotated[
        str | None, typer.Option("--method", help="Key of a method; see 'methods'.")
    ] = None,
    preset: Preset = None,
    magnitude: Magnitude = None,
    mask: Mask = None,
    labels: Labels = None,
    r2prime: options.R2Prime = None,
    r2: options.R2 = None,
    te: options.EchoTimes = None,
    b0: options.FieldStrength = None,
    b0_dir: options.Direction = None,
    flip_phase: Flip = False,
    phase_scale: Scale = "auto",
    select: Select = None,
    stage: Stages = None,
    settings: Placed = None,
    device: options.Device = "auto",
    stem: options.Stem = "",
    keep_intermediate: Keep = False,
    overwrite: options.Overwrite = False,
    dry_run: Dry = False,
) -> None:
    """Prepare the raw phase in INPUTS, compute susceptibility, and write all of it."""
    _perform(Wanted(**locals()), inverting=True)


def _perform(wanted: Wanted, *, inverting: bool) -> None:
    load_torch()
    from napari_qsm import devices, listing, pipeline
    from napari_qsm.io import derivatives

    recipe = _recipe(wanted)
    device = devices.choose(wanted.device)
    acquisition, stem = _loaded(wanted)
    tell(acquisition)
    planned = pipeline.plan(acquisition, recipe)
    method = pipeline.plan_method(acquisition, planned, recipe) if inverting else None
    say(listing.plan(planned, method, recipe))
    where: dict[str, Any] = {
        "stem": stem,
        "overwrite": wanted.overwrite,
        "keep_intermediate": wanted.keep_intermediate,
    }
    gives = method[0].gives if method else ()
    files = derivatives.targets(planned, gives, wanted.output, **where)
    if wanted.dry_run:
        say(["These files, and a sidecar beside every image, would be written:", *map(str, files)])
        return
    say([f"Running on {devices.describe(device)}."])
    shared = len(acquisition.notes)
    prepared = exhaust(pipeline.prepare(acquisition, recipe, device), "Preparing")
    _tell_prepared(planned, prepared, shared)
    maps = None
    if method:
        maps = exhaust(pipeline.reconstruct(prepared.acquisition, recipe, device), "Inverting")
        _tell_maps(method[0].label, maps, shared)
    written = derivatives.write_derivatives(
        prepared, maps, recipe, wanted.output, command=wanted.command, **where
    )
    say(map(str, written))


def _recipe(wanted: Wanted) -> Recipe:
    from napari_qsm.pipeline import METHOD, Recipe, read_preset

    recipe = read_preset(wanted.preset) if wanted.preset is not None else Recipe()
    for place, key in options.pairs("--stage", wanted.stage or (), "PLACE=KEY").items():
        recipe = recipe.stating(place, key)
    if wanted.method is not None:
        recipe = recipe.stating(METHOD, wanted.method)
    for place, values in options.placed_settings(wanted.settings).items():
        recipe = recipe.stating(place, settings=values)
    recipe.checked()
    return recipe


def _loaded(wanted: Wanted) -> tuple[Acquisition, str]:
    """Read the measurement that was asked for; return it and the begin of its files' names."""
    from napari_qsm.io.derivatives import stem_of
    from napari_qsm.io.importer import open_source
    from napari_qsm.io.nifti import read_volume
    from napari_qsm.preparation.rates import with_rates

    corrections = _corrections(wanted)
    if wanted.output.resolve() in [path.resolve() for path in wanted.inputs]:
        raise InputError(f"{wanted.output} is where the input lies; choose another output folder.")
    opening = open_source(wanted.inputs, magnitude=wanted.magnitude or (), mask=wanted.mask)
    with exhaust(opening, "Looking at the files") as source:
        say(f"note: {note}" for note in source.notes)
        measurement = _selected(source.measurements, wanted.select)
        say([f"{measurement.name}: {measurement.summary}"])
        acquisition = source.load(measurement, corrections)
    rates = {Quantity.R2PRIME: wanted.r2prime, Quantity.R2: wanted.r2}
    read = {quantity: read_volume(path) for quantity, path in rates.items() if path is not None}
    given = with_rates(_with_labels(acquisition, wanted.labels), read)
    return given, wanted.stem or stem_of(measurement.name)


def _with_labels(acquisition: Acquisition, labels: Path | None) -> Acquisition:
    if labels is None:
        return acquisition
    from napari_qsm.io.nifti import read_volume

    volume = read_volume(labels)
    if mismatch := acquisition.grid.mismatch(volume.grid):
        raise InputError(f"The labels in {labels.name} {mismatch}; draw them on this measurement.")
    return acquisition.with_volumes({Quantity.LABELS: volume.data})


def _corrections(wanted: Wanted) -> Corrections:
    from napari_qsm.io.importer import Corrections
    from napari_qsm.preparation.phase_scale import PhaseScale

    known = get_args(PhaseScale)
    if wanted.phase_scale not in known:
        raise InputError(
            f"--phase-scale was given '{wanted.phase_scale}' where {', '.join(known)} were "
            "expected."
        )
    return Corrections(
        echo_times=options.echo_times(wanted.te),
        field_strength=wanted.b0,
        b0_direction=options.direction(wanted.b0_dir),
        flip_phase=wanted.flip_phase,
        phase_scale=cast("PhaseScale", wanted.phase_scale),
    )


def _selected(measurements: Sequence[Measurement], name: str | None) -> Measurement:
    if name is None and len(measurements) == 1:
        return measurements[0]
    for measurement in measurements:
        if measurement.name == name:
            return measurement
    from napari_qsm import listing

    say(listing.measurements(measurements))
    if name is None:
        raise InputError(
            f"There are {len(measurements)} measurements; choose one with --select NAME."
        )
    known = ", ".join(measurement.name for measurement in measurements)
    raise InputError(f"There is no measurement '{name}'; there are {known}.")


def _tell_prepared(planned: Sequence[Planned], prepared: Prepared, shared: int) -> None:
    for before, after in zip(planned, prepared.plan, strict=True):
        if after.stage is not None:
            _tell_maps(after.stage.label, prepared.made[after.place], shared)
        elif before.stage is not None:
            say([f"warning: {after.place.label} is left out: {after.reason}."])


def _tell_maps(label: str, maps: Maps, shared: int) -> None:
    """Print what a stage or method noted, without what was known of the measurement before."""
    made = maps.provenance
    say([f"{label}: {made.seconds:.1f} s on {made.device}."])
    say(f"note: {note}" for note in made.notes[shared:])
