"""Tables in words: the methods with their parameters, and what was understood of a volume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import numpy as np
from rich.table import Table

from napari_qsm import process
from napari_qsm.acquisition import Quantity, Volume

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from napari_qsm.methods.registry import Method


def table() -> Table:
    """Return all methods as a table for a terminal."""
    made = Table("method", "needs", "can use", "gives", "parameters", "reference", show_lines=True)
    for row in _rows():
        made.add_row(*("\n".join(cell) for cell in row))
    return made


def markdown() -> str:
    """Return all methods as the Markdown table of the documentation."""
    titles = ("method", "needs", "can use", "gives", "parameters", "reference")
    lines = [_line(titles), _line(["---"] * len(titles))]
    for name, *columns, references in _rows():
        key = (f"**{name[0]}**", *name[1:])
        linked = [f"[{doi}](https://doi.org/{doi})" for doi in references]
        lines.append(_line("<br>".join(cell) for cell in (key, *columns, linked)))
    return "\n".join(lines)


def _line(cells: Any) -> str:
    return f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in cells)} |"


def _rows() -> Iterator[tuple[list[str], ...]]:
    from napari_qsm.methods.registry import methods

    for method in methods().values():
        yield (
            [method.key, method.label, method.summary],
            _labels(method.needs),
            _labels(method.uses),
            _labels(method.gives),
            _parameters(method),
            [doi.removeprefix("https://doi.org/") for doi in method.references],
        )


def _labels(quantities: tuple[Quantity, ...]) -> list[str]:
    return [f"{q.label} [{q.unit}]" if q.unit else q.label for q in quantities]


def _parameters(method: Method[Any]) -> list[str]:
    fields = method.parameters.model_fields
    return [_parameter(name, field) for name, field in fields.items()]


def _parameter(name: str, field: FieldInfo) -> str:
    """One line such as ``threshold = 0.19 (0.02 to 0.5)``."""
    unit, default = process.unit(field), field.default
    alias = f" ({field.validation_alias})" if field.validation_alias else ""
    value = f"{default:g}" if isinstance(default, float) else str(default)
    limits = ""
    if get_origin(field.annotation) is Literal:
        limits = " (" + ", ".join(map(str, get_args(field.annotation))) + ")"
    elif (number := process.number(field)) is not None:
        limits = f" ({number.low:g} to {number.high:g})"
        value = "auto" if default is None else value
    return f"{name}{alias} = {value}{f' {unit}' if unit else ''}{limits}"


def description(volume: Volume) -> Table:
    """Return what was understood of a volume, one fact a row."""
    from napari_qsm.io.nifti import orientation

    grid = volume.grid
    made = Table(show_header=False, box=None)
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    rows = {
        "file": volume.source,
        "shape": " x ".join(map(str, volume.data.shape)) + f", {volume.data.dtype}",
        "voxel size": " x ".join(f"{size:.4g}" for size in grid.voxel_size) + " mm",
        "orientation": f"{orientation(grid)}, {_tilt(grid.angle_to_b0)}",
        "B0 direction": "(" + ", ".join(f"{b:.4f}" for b in grid.b0_direction) + ")",
        "shear": f"{grid.shear:.2f} degrees",
        "B0": f"{volume.field_strength:g} T" if volume.field_strength else "not stated",
        "echo times": ", ".join(f"{time * 1e3:g}" for time in volume.echo_times) + " ms"
        if volume.echo_times
        else "not stated",
        "unit": f"{volume.unit} (stated)" if volume.unit else "not stated; ppm will be assumed",
        "range": _range(volume),
    }
    for name, text in rows.items():
        made.add_row(name, text)
    for note in volume.notes:
        made.add_row("note", note)
    return made


def _tilt(angle: float) -> str:
    return "along B0" if angle < 0.05 else f"{angle:.1f} degrees oblique to B0"


def _range(volume: Volume) -> str:
    finite = volume.data[np.isfinite(volume.data)]
    if not finite.size:
        return "no numbers"
    return f"{finite.min():.4g} to {finite.max():.4g}, standard deviation {finite.std():.4g}"
