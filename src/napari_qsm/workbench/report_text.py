"""A result as a paragraph for the methods section of a paper, with numbered citations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from napari_qsm.acquisition import Maps, Quantity
from napari_qsm.preparation.registry import find as find_stage
from napari_qsm.process import Process, spoken, unit
from napari_qsm.workbench.origin import Origin, origin_of


class _Citations:
    """Numbers DOIs in the order in which they are cited."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, references: Iterable[str]) -> str:
        """Return the mark behind what is cited, such as `` [1, 2]``; empty for nothing."""
        cited = [self._numbers.setdefault(doi, len(self._numbers) + 1) for doi in references]
        return f" [{', '.join(map(str, cited))}]" if cited else ""

    @property
    def listed(self) -> Iterator[str]:
        """The list of references, one a line."""
        return (f"[{number}] https://doi.org/{doi}" for doi, number in self._numbers.items())


def methods_paragraph(maps: Maps) -> str:
    """Return what was done in the past tense, with units, versions and references below.

    Parameters
    ----------
    maps : Maps
        A result.

    Raises
    ------
    InputError
        If no method of the program made them.
    """
    origin, cite = origin_of(maps), _Citations()
    sentences = [
        _measured(origin),
        *_prepared(origin, cite),
        *_inverted(origin, cite),
        *_told(origin),
        *_referenced(origin, cite),
        _software(origin),
    ]
    return "\n".join([" ".join(filter(None, sentences)), "", *cite.listed]).rstrip() + "\n"


def _measured(origin: Origin) -> str:
    """Say what is known of the measurement."""
    made = origin.made
    parts = []
    if made.field_strength is not None:
        parts.append(f"at {made.field_strength:.4g} T")
    if times := [f"{1000 * time:.4g}" for time in made.echo_times]:
        several = f"{len(times)} echo times of {', '.join(times[:-1])} and {times[-1]} ms"
        parts.append(f"with {several}" if len(times) > 1 else f"with an echo time of {times[0]} ms")
    size = " x ".join(f"{side:.3g}" for side in made.grid["voxel_size_mm"])
    along = ", ".join(f"{b:.3f}" for b in made.grid["b0_direction"])
    parts.append(f"on a grid of {size} mm voxels, B0 running along ({along}) of its axes")
    simulated = any(note.startswith("Simulated:") for note in made.notes)
    how = "simulated" if simulated else "acquired"
    begin = f"The gradient-echo data were {how} {' '.join(parts)}."
    if others := made.grid.get("other_b0_directions"):
        told = "; ".join(f"({', '.join(f'{b:.3f}' for b in other)})" for other in others)
        begin += (
            f" The head was measured in {1 + len(others)} orientations, the others with B0 along "
            f"{told}, registered to the first one."
        )
    return begin


_DONE = {
    "mask": "The brain was masked by {}.",
    "offset": "The phase offset was removed by {}.",
    "unwrap": "The phase was unwrapped by {}.",
    "field": "The echoes were combined to a field map by {}.",
    "relaxation": "R2* was fitted by {}.",
    "background": "The background field was removed by {}.",
}


def _prepared(origin: Origin, cite: _Citations) -> Iterator[str]:
    """Say what every stage did, or where field and mask came from."""
    for stage, settings in origin.stages:
        if stage.key == "given":
            yield "A mask that was drawn beforehand was used as it was."
        elif stage.place is not None:
            yield _DONE[stage.place.key].format(_named(stage, settings, cite))
    if origin.stages:
        return
    masked = Quantity.MASK.key in origin.inputs
    yield (
        "The local field, from which the background had been removed beforehand, was inverted "
        + ("inside a given mask." if masked else "where it was not zero.")
    )


def _inverted(origin: Origin, cite: _Citations) -> Iterator[str]:
    yield f"Susceptibility was computed by {_named(origin.method, origin.settings, cite)}."
    names = {n: origin.method.parameters.model_fields[n] for n in origin.made.chosen
             if n in origin.method.parameters.model_fields}  # fmt: skip
    if names:
        told = " and ".join(spoken(name, field) for name, field in names.items())
        verb = "was" if len(names) == 1 else "were"
        yield f"Of these, {told} {verb} chosen from the data by the program."
    if origin.warm:
        yield "The iteration began at an earlier map."


def _named(process: Process[Any], settings: Mapping[str, Any], cite: _Citations) -> str:
    """Name a piece of work with its references and all its parameters."""
    fields = process.parameters.model_fields
    told = []
    for name, value in settings.items():
        number = f"{value:.4g}" if isinstance(value, float) else str(value)
        shown = f"{spoken(name, fields[name])} = {number} {unit(fields[name])}"
        told.append(shown.strip().replace("_", " "))
    values = f" ({', '.join(told)})" if told else ""
    return f"{process.label}{cite(process.references)}{values}"


_TOLD = (
    ("The field is weighted by", "The field was weighted by"),
    ("The field counts the same", "The field counted the same"),
    ("Converged in", "The solver converged in"),
)


def _told(origin: Origin) -> Iterator[str]:
    """Say in the past tense what the notes say of weights and of convergence."""
    for note in dict.fromkeys(origin.made.notes):
        for begin, past in _TOLD:
            if note.startswith(begin):
                yield past + note.removeprefix(begin)


def _referenced(origin: Origin, cite: _Citations) -> Iterator[str]:
    begin = "Susceptibility is relative to"
    found = next((note for note in reversed(origin.made.notes) if note.startswith(begin)), "")
    if not found:
        return
    mark = "" if origin.reference is None else cite(find_stage("reference").references)
    what = found.removeprefix(begin).partition(" (")[0].rstrip(".")
    if "ventricles" in found:
        what = " its mean in the ventricles (CSF)"
    yield f"Susceptibility was referenced to{what}{mark}."


def _software(origin: Origin) -> str:
    known = {"torch": "PyTorch", "numpy": "NumPy", "python": "Python"}
    software = dict(origin.made.software)
    version = software.pop("napari-qsm", "")
    beside = ", ".join(f"{known.get(name, name)} {number}" for name, number in software.items())
    with_these = f" ({beside}, on {origin.made.device})" if beside else ""
    return f"All computations were done with napari-qsm {version}{with_these}."
