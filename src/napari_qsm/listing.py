"""Tables and lines in words: methods, stages, plans, and what was understood of a volume."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import numpy as np
from rich.table import Table

from napari_qsm import process
from napari_qsm.acquisition import Quantity, Volume

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from napari_qsm.io.importer import Measurement
    from napari_qsm.methods.registry import Method
    from napari_qsm.pipeline import Planned, Recipe
    from napari_qsm.process import Parameters, Process


_METHODS = ("method", "needs", "can use", "gives", "parameters", "reference")
_STAGES = ("place", "stage", "needs", "can use", "gives", "parameters", "reference")


def table() -> Table:
    """Return all methods as a table for a terminal."""
    return _table(_METHODS, _method_rows())


def markdown() -> str:
    """Return all methods as the Markdown table of the documentation."""
    return _markdown(_METHODS, _method_rows())


def stage_table() -> Table:
    """Return all stages as a table for a terminal, in the order of the chain."""
    return _table(_STAGES, _stage_rows())


def stage_markdown() -> str:
    """Return all stages as the Markdown table of the documentation, in the order of the chain."""
    return _markdown(_STAGES, _stage_rows())


Row = tuple[list[str], ...]
"""The lines of every cell; the last two cells hold parameters and DOIs."""


def _table(titles: Sequence[str], rows: Iterable[Row]) -> Table:
    made = Table(*titles, show_lines=True)
    for row in rows:
        made.add_row(*("\n".join(cell) for cell in row))
    return made


def _markdown(titles: Sequence[str], rows: Iterable[Row]) -> str:
    named = next(i for i, title in enumerate(titles) if title in ("method", "stage"))
    lines = [_line(titles), _line(["---"] * len(titles))]
    for *cells, references in rows:
        cells[named] = [f"**{cells[named][0]}**", *cells[named][1:]]
        linked = [f"[{doi}](https://doi.org/{doi})" for doi in references]
        lines.append(_line("<br>".join(cell) for cell in (*cells, linked)))
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _method_rows() -> Iterator[Row]:
    from napari_qsm.methods.registry import methods

    return map(_row, methods().values())


def wrapper_lines() -> Iterator[str]:
    """Yield what can be put around a method: key, summary and parameters in one line."""
    from napari_qsm.methods.wrapping import JOINT, wrappers

    for key, wrapper in wrappers().items():
        own = (_parameter(name, field) for name, field in wrapper.parameters.model_fields.items())
        yield f"METHOD{JOINT}{key}: {wrapper.summary} Parameters: {', '.join(own)}."


def offered_lines() -> Iterator[str]:
    """Yield what parameters of methods can be set to that is known only here and now."""
    from napari_qsm.methods.registry import methods

    for key, method in methods().items():
        for name, field in method.parameters.model_fields.items():
            if field.annotation is str and (found := process.choices(field)) is not None:
                yield f"{key}, {name}: {', '.join(found) or 'none installed'}"


def _stage_rows() -> Iterator[Row]:
    """Yield the stages place by place, the shipped one first, then those without a place."""
    from napari_qsm.pipeline import DEFAULT_STAGES
    from napari_qsm.preparation.registry import Place, stages

    for place in (*Place, None):
        there = {key: stage for key, stage in stages().items() if stage.place is place}
        shipped = DEFAULT_STAGES[place] if place else ""
        title = place.label if place else "by itself"
        for key in sorted(there, key=lambda key: key != shipped):
            yield ([f"{title} (shipped)" if key == shipped else title], *_row(there[key]))


def _row(work: Process[Any]) -> Row:
    return (
        [work.key, work.label, work.summary],
        [*_labels(work.needs), *_choice(work), *_orientations(work)],
        _labels(work.uses),
        _labels(work.gives),
        _parameters(work),
        [doi.removeprefix("https://doi.org/") for doi in work.references],
    )


def plan(
    planned: Iterable[Planned], method: tuple[Method[Any], Parameters] | None, recipe: Recipe
) -> Iterator[str]:
    """Yield a plan in lines: what runs at every place, with which values, or why nothing does."""
    from napari_qsm.pipeline import METHOD, REFERENCE, reference_stage

    for entry in planned:
        place = entry.place
        if entry.stage is None or entry.parameters is None:
            yield _planned(place.label, f"left out: {entry.reason}")
        else:
            reason = f"; {entry.reason}" if entry.reason else ""
            yield _planned(place.label, f"{_values(entry.stage, entry.parameters)}{reason}")
    if method is not None:
        stage, reference = reference_stage(recipe.reference), recipe.reference
        yield _planned(METHOD.capitalize(), _values(*method))
        told = _values(stage, stage.with_settings(reference.settings)) if stage else "left out"
        yield _planned(REFERENCE.capitalize(), told)


def _planned(title: str, text: str) -> str:
    return f"{title + ':':<20}{text}"


def _values(work: Process[Any], parameters: Parameters) -> str:
    """One line such as ``RESHARP (resharp): radius = 4 mm``."""
    values = parameters.model_dump()
    told = [_value(n, f, values[n]) for n, f in work.parameters.model_fields.items()]
    return f"{work.label} ({work.key}): {', '.join(told)}" if told else f"{work.label} ({work.key})"


def measurements(found: Iterable[Measurement]) -> Iterator[str]:
    """Yield the name of every measurement and what it is."""
    there = list(found)
    width = max(len(one.name) for one in there)
    for one in there:
        yield f"{one.name:<{width}}  {one.summary}"


def _labels(quantities: tuple[Quantity, ...]) -> list[str]:
    return [f"{q.label} [{q.unit}]" if q.unit else q.label for q in quantities]


def _choice(work: Process[Any]) -> list[str]:
    return [" or ".join(q.label for q in work.one_of)] if work.one_of else []


def _orientations(work: Process[Any]) -> list[str]:
    return [f"{work.orientations} or more orientations"] if work.orientations > 1 else []


def _parameters(work: Process[Any]) -> list[str]:
    return [_parameter(name, field) for name, field in work.parameters.model_fields.items()]


def _parameter(name: str, field: FieldInfo) -> str:
    """One line such as ``threshold = 0.19 (0.02 to 0.5)``."""
    limits = ""
    if get_origin(field.annotation) is Literal:
        limits = " (" + ", ".join(map(str, get_args(field.annotation))) + ")"
    elif (number := process.number(field)) is not None:
        limits = f" ({number.low:g} to {number.high:g})"
    return f"{_value(name, field, field.default)}{limits}"


def _value(name: str, field: FieldInfo, value: Any) -> str:
    """One setting such as ``radius = 4 mm``."""
    unit = process.unit(field)
    alias = f" ({field.validation_alias})" if field.validation_alias else ""
    told = f"{value:g}" if isinstance(value, float) else "auto" if value is None else str(value)
    return f"{name}{alias} = {told}{f' {unit}' if unit else ''}"


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
