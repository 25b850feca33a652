"""How a result came to be, read back from its provenance in terms in which it can be repeated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_qsm.acquisition import InputError, Maps, Provenance, Quantity
from napari_qsm.methods.registry import Method
from napari_qsm.methods.registry import find as find_method
from napari_qsm.pipeline import GIVEN_MASK, NONE, REFERENCE, Choice, Recipe
from napari_qsm.preparation.registry import Place, Stage
from napari_qsm.preparation.registry import stages as known_stages
from napari_qsm.process import Process

_NIFTI = (".nii", ".nii.gz")

_CONVERTED = re.compile(r"multiplied by \S+ to come from (\S+) to ppm")

_B0_STATED = "B0 was set to ("

BESIDE = {
    Quantity.MASK: "mask",
    Quantity.MAGNITUDE: "magnitude",
    Quantity.FIELD_NOISE: "noise",
    Quantity.R2PRIME: "r2prime",
    Quantity.R2STAR: "r2star",
    Quantity.R2: "r2",
    Quantity.CHI: "start",
}
"""What goes in beside a local field, by the names of `assemble` and of the options."""

MEASURED_RATES = (Quantity.R2PRIME, Quantity.R2)
"""What goes in beside the phase, being nothing that the chain makes."""


@dataclass(frozen=True)
class Given:
    """A file that goes in, or the name it must be saved under before it can.

    Parameters
    ----------
    path : str
        A NIfTI file or a folder.
    was : str
        What the provenance names instead, where that is no file; empty if it is one.
    """

    path: str
    was: str = ""


@dataclass(frozen=True)
class Raw:
    """The files of a raw measurement, and what was stated instead of them."""

    phase: tuple[Given, ...]
    magnitude: tuple[Given, ...]
    mask: Given | None
    select: str
    echo_times: tuple[float, ...]
    field_strength: float | None
    b0_direction: tuple[float, ...] | None
    flip_phase: bool
    phase_scale: str


@dataclass(frozen=True)
class Origin:
    """What made a result.

    Parameters
    ----------
    made : Provenance
        Of the result.
    method : Method
        What ran, in its wrappers.
    settings : mapping
        Its parameters with what it chose for itself, those that are still unset left out.
    reference : mapping or None
        Parameters of the stage that referenced the map; None if the method's own reference stayed.
    stages : tuple
        The stages that prepared the field with their settings, the first one first.
    raw : Raw or None
        The measurement they began with; None if the field came from a file or a layer.
    inputs : mapping of str to Given
        What the method was given, by name in the provenance; empty if it was prepared from `raw`.
    unit : str
        Unit of the field as it was read.
    b0_direction : tuple[float, ...] or None
        Along the voxel axes, if somebody stated it.
    complete : bool
        Whether the method was given all that the stages made and it can use.
    handed_over : bool
        Whether it was given the prepared volumes one by one, as the window does.
    chosen : mapping of str to Given
        What somebody chose then in place of what the stages made, by name in the provenance.
    rates : mapping of str to Given
        What was measured beside `raw` and went through the chain with it, by name.
    """

    made: Provenance
    method: Method[Any]
    settings: Mapping[str, Any]
    reference: Mapping[str, Any] | None
    stages: tuple[tuple[Stage[Any], Mapping[str, Any]], ...]
    raw: Raw | None
    inputs: Mapping[str, Given]
    unit: str
    b0_direction: tuple[float, ...] | None
    complete: bool
    handed_over: bool
    chosen: Mapping[str, Given]
    rates: Mapping[str, Given]

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Sentences on what must be saved first because it was no file."""
        raw = self.raw
        given = [*self.inputs.values(), *self.chosen.values(), *self.rates.values()]
        if raw is not None:
            given += [*raw.phase, *raw.magnitude, *([raw.mask] if raw.mask else [])]
        return tuple(
            f"'{one.was}' was a layer and no file; save it as {one.path} first."
            for one in dict.fromkeys(given)
            if one.was
        )

    @property
    def in_one_go(self) -> bool:
        """Whether the chain gives the method the very numbers it was given.

        It passes echoes of a magnitude on as they are; handed over, they are combined before.
        """
        combined = self.handed_over and Quantity.MAGNITUDE.key in self.made.inputs
        return self.complete and not combined and not self.chosen

    @property
    def warm(self) -> bool:
        """Whether the method began at a map of susceptibility that nobody chose."""
        begun = Quantity.CHI.key
        return begun in self.made.inputs and begun not in self.made.sources

    def recipe(self) -> Recipe:
        """Return the chain as a recipe; the method has its settings, every choice being stated."""
        ran = {stage.place: (stage.key, settings) for stage, settings in self.stages}
        recipe = Recipe()
        for place in Place:
            if place in ran:
                key, settings = ran[place]
                recipe = recipe.with_choice(place, key, **settings)
            elif place.optional:
                recipe = recipe.with_choice(place, NONE)
        reference = NONE if self.reference is None else REFERENCE
        return Recipe(
            recipe.places,
            Choice(self.method.key, self.settings),
            Choice(reference, self.reference or {}),
        )


def origin_of(maps: Maps) -> Origin:
    """Read back how `maps` were made.

    Raises
    ------
    InputError
        If no method of the program made them, such as a simulated truth.
    """
    made = maps.provenance
    if not made.method:
        raise InputError("Nothing is known of how this map was made; choose a result.")
    method = find_method(made.method)
    reference = made.parameters.get(REFERENCE)
    known = known_stages()
    ran = [(known[one.method], one) for one in made.history if one.method in known]
    stages = tuple((stage, _settings(stage, one)) for stage, one in ran if stage.place)
    raw = _raw(made) if stages else None
    # What a stage of the chain makes has no source; what is assembled for a method has.
    handed_over = bool(raw) and Quantity.LOCAL_FIELD.key in made.sources
    given = {q.key for stage, _ in stages for q in stage.gives}
    wanted = {q.key for q in (*method.needs, *method.uses)} & given
    return Origin(
        made,
        method,
        _settings(method, made),
        None if reference is None else {k: v for k, v in reference.items() if v is not None},
        stages,
        raw,
        {} if raw else _inputs(made),
        _unit(made.notes),
        _direction(made),
        wanted <= set(made.inputs),
        handed_over,
        _chosen(made, [stage for stage, _ in stages]) if handed_over else {},
        _rates(made) if raw and not handed_over else {},
    )


def _settings(process: Process[Any], made: Provenance) -> dict[str, Any]:
    """Return parameters updated with what was chosen; those that are unset are left out."""
    own = process.parameters.model_fields
    values = {**made.parameters, **made.chosen}
    known = process.with_settings({name: values[name] for name in own if name in values})
    stated = known.model_dump(mode="json", exclude_none=True)
    return {name: stated[name] for name in own if name in stated}


def changed(process: Process[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings that are not what is shipped."""
    shipped = process.parameters().model_dump(mode="json")
    return {name: value for name, value in settings.items() if value != shipped.get(name)}


def _unit(notes: Iterable[str]) -> str:
    found = (match.group(1) for note in notes if (match := _CONVERTED.search(note)))
    return next(found, "ppm")


def _direction(made: Provenance) -> tuple[float, ...] | None:
    if not any(note.startswith(_B0_STATED) for note in made.notes):
        return None
    return tuple(float(b) for b in made.grid["b0_direction"])


def _given(source: str, name: str) -> Given:
    """Return a source as a file, or under a name it can be saved as."""
    if source.endswith(_NIFTI):
        return Given(source)
    return Given(f"{name}.nii.gz", source or name.replace("_", " "))


def _inputs(made: Provenance) -> dict[str, Given]:
    """Return what the method was given; a mask that was derived from the field is left out."""
    derived = any(note.startswith("No mask was given") for note in made.notes)
    return {
        name: _given(made.sources.get(name, ""), name.replace("@", "-"))
        for name in made.inputs
        if not (name == Quantity.MASK.key and derived)
        and (name != Quantity.CHI.key or name in made.sources)
        and name.partition("@")[0] in {q.key for q in (Quantity.LOCAL_FIELD, *BESIDE)}
        and ("@" not in name or name.startswith(Quantity.LOCAL_FIELD.key))
    }


def _chosen(made: Provenance, stages: Iterable[Stage[Any]]) -> dict[str, Given]:
    """Return what went in beside the field and is nothing that the stages made."""
    own: dict[str, set[str]] = {q.key: set() for q in BESIDE if q is not Quantity.MAGNITUDE}
    for stage in stages:
        for quantity in stage.gives:
            own.get(quantity.key, set()).add(stage.label)
    sources = {key: made.sources[key] for key in own if key in made.sources}
    return {key: _given(source, key) for key, source in sources.items() if source not in own[key]}


def _rates(made: Provenance) -> dict[str, Given]:
    """Return the rates that no stage made."""
    keys = (quantity.key for quantity in MEASURED_RATES)
    return {key: _given(made.sources[key], key) for key in keys if key in made.sources}


_MEASURED = (Quantity.PHASE, Quantity.TOTAL_FIELD, Quantity.UNWRAPPED)


def _raw(made: Provenance) -> Raw | None:
    """Return the files the chain began with."""
    sources: dict[str, str] = {}
    for one in made.history:
        sources = {**one.sources, **sources}
    begin = next((q for q in _MEASURED if any(q.key in one.inputs for one in made.history)), None)
    if begin is None:
        return None
    phase, select = _several(sources.get(begin.key, ""), begin.key)
    taken = any(Quantity.MAGNITUDE.key in one.inputs for one in made.history)
    signal = sources.get(Quantity.MAGNITUDE.key, "")
    alone = taken and not select and signal != sources.get(begin.key)
    masked = any(one.method == GIVEN_MASK for one in made.history)
    mask = _given(sources.get(Quantity.MASK.key, ""), "mask") if masked else None
    ordered = not any("in the order of their times" in note for note in made.notes)
    return Raw(
        phase,
        _several(signal, Quantity.MAGNITUDE.key)[0] if alone else (),
        mask,
        select,
        made.history[0].echo_times if ordered else (),
        made.history[0].field_strength,
        _direction(made),
        any("turned round as was asked for" in note for note in made.notes),
        _scale(made.notes),
    )


def _scale(notes: Iterable[str]) -> str:
    """Return what was said of the numbers of the phase, as ``--phase-scale`` takes it."""
    for note in notes:
        if note.startswith("The phase was taken in rad") and "as was asked for" in note:
            return "rad"
        if note.startswith("The phase was scaled to rad") and "as was asked for" in note:
            return "range"
    return "auto"


def _several(source: str, name: str) -> tuple[tuple[Given, ...], str]:
    """Return files that are named in one text, and the measurement of a folder, if it is one."""
    parts = source.split(", ")
    if all(part.endswith(_NIFTI) for part in parts):
        return tuple(Given(part) for part in parts), ""
    if found := _of_folder(source.removesuffix(")")):
        folder, measurement = found
        return (Given(folder),), measurement
    return (_given(source, name),), ""


def _of_folder(source: str) -> tuple[str, str] | None:
    """Split ``FOLDER (MEASUREMENT``, either of which may hold a bracket itself."""
    cuts = [(source[: at.start()], source[at.end() :]) for at in re.finditer(r" \(", source)]
    standing = [cut for cut in cuts if Path(cut[0]).is_dir()]
    absolute = [cut for cut in cuts if Path(cut[0]).is_absolute()]
    return next(iter((*standing, *absolute)), None)
