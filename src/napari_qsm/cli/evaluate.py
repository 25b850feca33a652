"""``evaluate``: how far maps in files are from a reference, and what they say of regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_qsm.acquisition import InputError, Quantity, Volume
from napari_qsm.cli import options
from napari_qsm.cli.application import app, load_torch
from napari_qsm.cli.console import console, exhaust, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from napari_qsm.evaluation.regions import Region
    from napari_qsm.evaluation.structures import Scheme
    from napari_qsm.workbench.report_tables import FigureTable

    Mask = NDArray[np.bool_]


@app.command()
def evaluate(
    maps: Annotated[list[Path], typer.Argument(help="Maps of susceptibility in ppm.")],
    reference: Annotated[
        Path, typer.Option("--reference", help="The map in ppm they are compared with.")
    ],
    mask: Annotated[Path, typer.Option("--mask", help="Voxels that count.")],
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Labels of regions; x_dseg.tsv beside it names them."),
    ] = None,
    scheme: Annotated[
        str | None,
        typer.Option("--scheme", help="What the labels mean: qsm-ci or digital-head."),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", help="Write the table there, regions beside it as *_regions.csv."),
    ] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Compare MAPS with a reference; print one table of all figures, and one of regions."""
    load_torch()
    from napari_qsm.evaluation.regions import region_csv
    from napari_qsm.workbench.report_tables import figure_table

    chosen = _scheme(scheme, labels)
    targets = _targets(csv, labels is not None, overwrite)
    files = _named(maps)
    truth = _read(reference, "reference")
    inside = _mask(mask, truth)
    given = None if labels is None else _labels(labels, truth)
    volumes = {name: _read(path, "map") for name, path in files.items()}
    numbers = None if given is None else given.data
    table = exhaust(figure_table(volumes, truth, inside, numbers, chosen), "Comparing")
    regions: tuple[Region, ...] = ()
    if labels is not None and given is not None:
        sigma, names = _sigma(files, truth), _names(labels, chosen)
        regions = _regions(volumes, truth, inside, given, sigma, names)
    _print(table, regions)
    say(f"note: {note}" for note in table.notes)
    if labels is not None and chosen is None:
        say(["note: State what the labels mean with --scheme for errors of tissues, too."])
    _write(targets, [table.csv, region_csv(regions)])


def _write(targets: Sequence[Path], texts: Sequence[str]) -> None:
    """Write as many of the texts as there are targets, and name the files."""
    from napari_qsm.io.together import Job, write_together

    def job(path: Path, text: str) -> Job:
        return path, lambda temporary: temporary.write_text(text, "utf-8")

    write_together(job(path, text) for path, text in zip(targets, texts, strict=False))
    say(map(str, targets))


def _scheme(name: str | None, labels: Path | None) -> Scheme | None:
    from napari_qsm.evaluation.structures import SCHEMES

    if name is None:
        return None
    if name not in SCHEMES:
        raise InputError(f"--scheme was given '{name}' where {' or '.join(SCHEMES)} was expected.")
    if labels is None:
        raise InputError("--scheme says what labels mean, but there are none; add --labels.")
    return SCHEMES[name]


def _targets(csv: Path | None, regions: bool, overwrite: bool) -> list[Path]:
    """Say which files will be written; refuse them before anything is computed."""
    from napari_qsm.io.together import refuse_existing, refuse_unwritable

    if csv is None:
        return []
    if csv.suffix.lower() != ".csv":
        raise InputError(f"{csv.name} does not end in .csv; choose such a name.")
    targets = [csv, csv.with_name(f"{csv.stem}_regions.csv")] if regions else [csv]
    refuse_unwritable(csv.parent)
    refuse_existing(targets, overwrite)
    return targets


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Return files by what tells them apart: their names, or their paths if names repeat."""
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise InputError(f"{twice} was named twice; name every map once.")
    names = [path.name.removesuffix(".gz").removesuffix(".nii") for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return dict(zip(names, paths, strict=True))


def _read(path: Path, role: str) -> Volume:
    from dataclasses import replace

    import numpy as np

    from napari_qsm.io.nifti import read_volume

    volume = read_volume(path)
    if volume.data.ndim != 3:
        raise InputError(
            f"The {role} {path.name} has shape {volume.data.shape} where a 3D volume was "
            "expected; choose one volume."
        )
    if volume.unit and volume.unit.lower() not in ("ppm", "ppb") and role != "label map":
        raise InputError(
            f"The {role} {path.name} is said to be in {volume.unit} where ppm was expected; "
            "choose a map of susceptibility."
        )
    if (volume.unit or "").lower() == "ppb":
        say([f"note: The {role} {path.name} was divided by 1000 to come from ppb to ppm."])
        volume = replace(volume, data=volume.data / np.float32(1000), unit="ppm")
    if not np.isfinite(volume.data).all():
        raise InputError(
            f"The {role} {path.name} holds voxels that are not numbers (NaN or Inf); fill them."
        )
    return volume


def _mask(path: Path, truth: Volume) -> Mask:
    from napari_qsm.preparation.assemble import binary

    notes: list[str] = []
    volume = _read(path, "mask")
    inside = binary(volume.data, notes)
    if mismatch := truth.grid.mismatch(volume.grid):
        raise InputError(f"The mask {mismatch}; choose a mask on the grid of the reference.")
    say(f"note: {note}" for note in notes)
    return inside


def _labels(path: Path, truth: Volume) -> Volume:
    volume = _read(path, "label map")
    if mismatch := truth.grid.mismatch(volume.grid):
        raise InputError(f"The label map {mismatch}; choose labels on the grid of the reference.")
    return volume


def _sigma(files: Mapping[str, Path], truth: Volume) -> dict[str, NDArray[Any]]:
    """Read the uncertainty of those maps that our own writer put one beside."""
    found = {}
    for name, path in files.items():
        beside = path.with_name(path.name.replace(Quantity.CHI.suffix, Quantity.SIGMA.suffix))
        if beside == path or not beside.is_file():
            continue
        volume = _read(beside, "map of sigma")
        if mismatch := truth.grid.mismatch(volume.grid):
            raise InputError(f"{beside.name} {mismatch}; move it away from its map.")
        say([f"note: The standard errors of '{name}' come from {beside.name}."])
        found[name] = volume.data
    return found


def _regions(
    volumes: dict[str, Volume],
    truth: Volume,
    inside: Mask,
    labels: Volume,
    sigma: dict[str, NDArray[Any]],
    names: dict[int, str],
) -> tuple[Region, ...]:
    from napari_qsm.evaluation.regions import region_table

    maps = {name: volume.data for name, volume in volumes.items()} | {"reference": truth.data}
    size = truth.grid.voxel_size
    return region_table(maps, labels.data, size, mask=inside, sigma=sigma, names=names)


def _names(path: Path, scheme: Scheme | None) -> dict[int, str]:
    """Return names of labels: from the table beside the file as BIDS has it, or the scheme's."""
    from napari_qsm.io.label_names import read_label_names

    return read_label_names(path) or (dict(scheme.names) if scheme else {})


def _print(table: FigureTable, regions: tuple[Region, ...]) -> None:
    from rich.table import Table

    # Figures in lines and maps in columns: many figures fit a terminal, few maps do, too.
    metrics = Table("figure", *(row[0] for row in table.rows))
    for number, name in enumerate(table.head[1:], start=1):
        metrics.add_row(name, *(row[number] for row in table.rows))
    console().print(metrics)
    if regions:
        console().print(_region_table(regions))


def _region_table(regions: tuple[Region, ...]) -> Table:
    """Return regions in lines and maps in columns, in ppb; the file has all that is known."""
    from rich.table import Table

    table = Table("region", "voxels", "ml", title="mean ± standard deviation in ppb")
    for name in dict.fromkeys(one.map for one in regions):
        table.add_column(name, overflow="fold")
    for label in dict.fromkeys(one.label for one in regions):
        cells = [one for one in regions if one.label == label]
        told = (f"{1000 * one.mean:.1f} ± {1000 * one.deviation:.1f}" for one in cells)
        first = cells[0]
        name = f"{label} {first.name}".strip()
        table.add_row(name, str(first.voxels), f"{first.volume:.4g}", *told)
    return table
