"""The same jobs without a window: ``napari-qsm methods | info | reconstruct | view``.

What users did wrong becomes one sentence on stderr and exit status 2; what went wrong here, one
sentence and status 1. Results and notes go to stdout. Everything heavy is imported by the command
that needs it, so ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from napari_qsm import __version__
from napari_qsm.acquisition import Acquisition, InputError, Maps

if TYPE_CHECKING:
    from napari_qsm.methods.registry import Reconstruction
    from napari_qsm.physics.units import FieldUnit

INTERRUPTED = 130


class _OneSentence(TyperGroup):
    """A command group that ends every failure in one sentence and an exit status."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line; always leaves through `SystemExit` unless debugging."""
        arguments = options.get("args") or (args[0] if args else None) or sys.argv[1:]
        debug = "--debug" in arguments or bool(os.environ.get("NAPARI_QSM_DEBUG"))
        options["standalone_mode"] = False
        try:
            status = super().main(*args, **options)
        except Exception as error:
            if debug:
                raise
            text, status = _explain(error)
            typer.echo(text, err=True)
        except KeyboardInterrupt:
            status = INTERRUPTED
        if status == INTERRUPTED:
            typer.echo("Cancelled; nothing was written.", err=True)
        sys.exit(status if isinstance(status, int) else 0)


def _explain(error: Exception) -> tuple[str, int]:
    """Return one sentence about an error and the exit status that belongs to it."""
    if isinstance(error, InputError):
        return _sentence(str(error)), 2
    if hasattr(error, "format_message"):  # a usage error, whichever click typer brings along
        return _sentence(f"{error.format_message().strip().rstrip('.')}; see --help"), 2
    kind, message = type(error).__name__, " ".join(str(error).split())
    if kind in {"OutOfMemoryError", "MemoryError"}:
        return "The memory did not suffice; use a smaller volume or --device cpu.", 1
    shown = f"{kind}: {message}" if message else kind
    return f"napari-qsm failed ({shown.rstrip('.')}); --debug shows where.", 1


def _sentence(text: str) -> str:
    line = " ".join(text.split())
    return line if line.endswith(".") else f"{line}."


app = typer.Typer(
    cls=_OneSentence,
    help="Quantitative susceptibility mapping: from a local field to susceptibility.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point of ``napari-qsm``."""
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"napari-qsm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks (or set NAPARI_QSM_DEBUG).")
    ] = False,
) -> None:
    pass


@app.command()
def methods(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of the documentation.")
    ] = False,
) -> None:
    """List the methods with what they need, what they give and their parameters."""
    from napari_qsm import listing

    if markdown:
        typer.echo(listing.markdown())
    else:
        _console().print(listing.table())


@app.command()
def info(file: Annotated[Path, typer.Argument(help="A .nii or .nii.gz file.")]) -> None:
    """Say what was understood of FILE: grid, orientation, unit, B0, range."""
    from napari_qsm import listing
    from napari_qsm.io.nifti import read_volume

    _console().print(listing.description(read_volume(file)))


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


@app.command()
def reconstruct(
    field: Annotated[Path, typer.Argument(help="Local field, a .nii or .nii.gz file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the maps.")],
    method: Annotated[str, typer.Option("--method", help="Key of a method; see 'methods'.")],
    mask: Annotated[Path | None, typer.Option("--mask", help="Brain mask.")] = None,
    magnitude: Annotated[Path | None, typer.Option("--magnitude", help="Magnitude.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Parameter of the method, NAME=VALUE.")
    ] = None,
    unit: Annotated[
        str | None, typer.Option("--unit", help="Unit of FIELD: ppm, ppb, Hz, rad or rad/s.")
    ] = None,
    b0: Annotated[float | None, typer.Option("--b0", help="Field strength in tesla.")] = None,
    te: Annotated[float | None, typer.Option("--te", help="Echo time in seconds.")] = None,
    b0_dir: Annotated[
        str | None, typer.Option("--b0-dir", help="B0 along the stored voxel axes: X,Y,Z.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, mps ...")] = "auto",
    stem: Annotated[str, typer.Option("--stem", help="Begin of the files' names.")] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace maps that exist already.")
    ] = False,
) -> None:
    """Compute susceptibility from the local field FIELD and write the maps to a folder."""
    stated = _settings(settings or ())
    chosen_unit, direction = _unit(unit), _direction(b0_dir)
    from napari_qsm import devices
    from napari_qsm.io.nifti import read_volume, targets_of, write_maps
    from napari_qsm.methods.registry import find
    from napari_qsm.preparation.assemble import assemble

    chosen = find(method)
    parameters = chosen.with_settings(stated)
    target = devices.choose(device)
    targets_of(chosen.gives, output, stem=stem, overwrite=overwrite)
    acquisition = assemble(
        read_volume(field),
        read_volume(mask) if mask else None,
        read_volume(magnitude) if magnitude else None,
        unit=chosen_unit,
        field_strength=b0,
        echo_time=te,
        b0_direction=direction,
    )
    _tell(acquisition)
    console = _console()
    console.print(f"{chosen.label} on {devices.describe(target)}", soft_wrap=True)
    maps = _exhaust(chosen(acquisition, parameters, target), chosen.label)
    written = write_maps(maps, output, stem=stem, overwrite=overwrite)
    for note in maps.provenance.notes[len(acquisition.notes) :]:
        console.print(f"note: {note}", soft_wrap=True)
    for path in written:
        console.print(str(path), soft_wrap=True)


def _console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, highlight=False, markup=False)


def _settings(pairs: Iterable[str]) -> dict[str, str]:
    """Split NAME=VALUE pairs; the method's own model converts the values."""
    settings: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        name = name.strip()
        if not equals or not name:
            raise InputError(f"--set was given '{pair}' where NAME=VALUE was expected.")
        if name in settings:
            raise InputError(f"--set states {name} twice; state it once.")
        settings[name] = value.strip()
    return settings


def _unit(text: str | None) -> FieldUnit | None:
    from napari_qsm.physics.units import FieldUnit

    try:
        return None if text is None else FieldUnit.parse(text)
    except ValueError as error:
        raise InputError(str(error)) from None


def _direction(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3:
        raise InputError(f"--b0-dir was given '{text}' where three numbers X,Y,Z were expected.")
    return numbers


def _tell(acquisition: Acquisition) -> None:
    """Print what was understood, and refuse what makes a reconstruction senseless."""
    from napari_qsm.preparation.checks import inspect

    console = _console()
    for finding in inspect(acquisition):
        if finding.severity == "error":
            raise InputError(finding.text)
        console.print(f"{finding.severity}: {finding.text}", soft_wrap=True)


def _exhaust(steps: Reconstruction, label: str) -> Maps:
    """Run a reconstruction under a progress bar; Ctrl-C closes it and so frees its memory."""
    from rich.progress import Progress

    console = _console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=1.0)
        try:
            while True:
                step = next(steps)
                progress.update(task, completed=step.fraction, description=step.message)
        except StopIteration as end:
            maps: Maps = end.value
            return maps
        finally:
            steps.close()
