"""The whole chain as data: which stage at which place, which method, and what runs of it.

A `Recipe` is a small TOML file. `plan` says what it means for a measurement before anything runs;
`prepare` brings raw phase to a local field; `run` goes on to susceptibility. All of it is composed
of the same generators a single stage or method is.
"""

from __future__ import annotations

import tomllib
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar

import tomli_w
import torch

from napari_qsm import __version__
from napari_qsm.acquisition import Acquisition, InputError, Maps, Quantity
from napari_qsm.methods.registry import DEFAULT_METHOD, Method
from napari_qsm.methods.registry import find as find_method
from napari_qsm.preparation.registry import Place, Stage
from napari_qsm.preparation.registry import find as find_stage
from napari_qsm.process import Parameters, Process, Step, Work

GIVEN_MASK = "given"
"""Key of the stage that takes the user's mask as it is."""

REFERENCE = "reference"
"""Key of the stage that decides what susceptibility is relative to."""

NONE = "none"
"""What a recipe says of a place that is left out."""

_METHOD = "method"


@dataclass(frozen=True)
class Choice:
    """What to run, and its settings where they differ from what is shipped.

    Parameters
    ----------
    use : str
        Key of a stage or method, or ``"none"``.
    settings : mapping
        Values by parameter name.
    """

    use: str
    settings: Mapping[str, Any] = field(default_factory=dict)


DEFAULT_STAGES: Mapping[Place, str] = MappingProxyType(
    {
        Place.MASK: "bet",
        Place.OFFSET: "mcpc3ds",
        Place.UNWRAP: "region_growing",
        Place.FIELD: "weighted",
        Place.RELAXATION: "arlo",
        Place.BACKGROUND: "resharp",
    }
)
"""What is run where a recipe says nothing."""


@dataclass(frozen=True)
class Recipe:
    """The choices for every place, for the method, and for the reference of susceptibility."""

    places: Mapping[Place, Choice] = field(default_factory=dict)
    method: Choice = Choice(DEFAULT_METHOD)
    reference: Choice = Choice(REFERENCE)

    def choice(self, place: Place) -> Choice:
        """Return what is chosen for a place: the shipped stage where nothing is stated."""
        return self.places.get(place) or Choice(DEFAULT_STAGES[place])

    def with_choice(self, place: Place, use: str, **settings: Any) -> Recipe:
        """Return a copy with another choice at `place`."""
        return Recipe({**self.places, place: Choice(use, settings)}, self.method, self.reference)

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """Read a preset.

        Raises
        ------
        InputError
            If it is no TOML, or names an unknown place, stage, method or parameter.
        """
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"The preset is no valid TOML ({error}); repair it.") from None
        tables.pop("napari-qsm", None)
        recipe = cls()
        places = {}
        method, reference = recipe.method, recipe.reference
        for name, table in tables.items():
            if not isinstance(table, dict):
                raise InputError(
                    f"The preset states {name} = {table!r} where a table [{name}] was expected."
                )
            if name == _METHOD:
                method = _choice(table, recipe.method.use)
            elif name == REFERENCE:
                reference = _choice(table, REFERENCE)
            else:
                place = Place.named(name)
                places[place] = _choice(table, DEFAULT_STAGES[place])
        made = cls(places, method, reference)
        made.checked()
        return made

    def checked(self) -> None:
        """Raise `InputError` if a key, a place or a setting is unknown or out of range."""
        for place in Place:
            chosen = self.choice(place)
            if chosen.use != NONE:
                _stage_at(place, chosen).with_settings(chosen.settings)
        find_method(self.method.use).with_settings(self.method.settings)
        if self.reference.use != NONE:
            find_stage(self.reference.use).with_settings(self.reference.settings)

    def to_toml(self) -> str:
        """Write the recipe with every parameter, so that it means the same in later versions."""
        tables: dict[str, Any] = {"napari-qsm": {"version": __version__}}
        for place in Place:
            chosen = self.choice(place)
            process = None if chosen.use == NONE else _stage_at(place, chosen)
            tables[place.key] = _table(chosen, process)
        tables[_METHOD] = _table(self.method, find_method(self.method.use))
        reference = None if self.reference.use == NONE else find_stage(self.reference.use)
        tables[REFERENCE] = _table(self.reference, reference)
        return tomli_w.dumps(tables)


def _choice(table: Mapping[str, Any], use: str) -> Choice:
    return Choice(str(table.get("use", use)), {k: v for k, v in table.items() if k != "use"})


def _stage_at(place: Place, chosen: Choice) -> Stage[Any]:
    stage = find_stage(chosen.use)
    if stage.place is not place:
        raise InputError(
            f"The stage '{stage.key}' does not belong to [{place.key}]; choose another."
        )
    return stage


def _table(chosen: Choice, process: Process[Any] | None) -> dict[str, Any]:
    if process is None:
        return {"use": NONE}
    values = process.with_settings(chosen.settings).model_dump(mode="json")
    # TOML knows no empty value: what is left to the data is left out.
    return {"use": chosen.use, **{k: v for k, v in values.items() if v is not None}}


@dataclass(frozen=True)
class Planned:
    """What will happen at one place.

    Parameters
    ----------
    place : Place
        Where.
    stage : Stage or None
        What runs; None if the place is left out.
    parameters : Parameters or None
        Its parameters.
    reason : str
        Why the place is left out or another stage than the chosen one runs; may be empty.
    """

    place: Place
    stage: Stage[Any] | None = None
    parameters: Parameters | None = None
    reason: str = ""


_SUPERSEDED = {
    Place.OFFSET: (Quantity.UNWRAPPED, Quantity.TOTAL_FIELD, Quantity.LOCAL_FIELD),
    Place.UNWRAP: (Quantity.UNWRAPPED, Quantity.TOTAL_FIELD, Quantity.LOCAL_FIELD),
    Place.FIELD: (Quantity.TOTAL_FIELD, Quantity.LOCAL_FIELD),
    Place.RELAXATION: (Quantity.R2STAR,),
    Place.BACKGROUND: (Quantity.LOCAL_FIELD,),
    Place.MASK: (),
}
"""A place has nothing to do where a measurement brings one of these along."""


def plan(acquisition: Acquisition, recipe: Recipe) -> tuple[Planned, ...]:
    """Say what `recipe` means for a measurement, place by place; nothing is computed.

    Raises
    ------
    InputError
        If a place that cannot be left out has a stage that cannot run.
    """
    return tuple(_planned(acquisition, recipe))


def _planned(acquisition: Acquisition, recipe: Recipe) -> Iterator[Planned]:
    present = set(acquisition.volumes)
    for place in Place:
        chosen = recipe.choice(place)
        reason = ""
        if place is Place.MASK and Quantity.MASK in acquisition:
            if chosen.use != GIVEN_MASK:
                chosen, reason = Choice(GIVEN_MASK), "your own mask goes first"
        elif there := [q for q in _SUPERSEDED[place] if q in acquisition]:
            yield Planned(place, reason=f"the {there[0].label} is there already")
            continue
        if chosen.use == NONE:
            if not place.optional:
                raise InputError(f"[{place.key}] cannot be left out; choose a stage for it.")
            yield Planned(place, reason="left out on request")
            continue
        stage = _stage_at(place, chosen)
        parameters = stage.with_settings(chosen.settings)
        if place is Place.UNWRAP and not _wanted(Quantity.UNWRAPPED, acquisition, recipe):
            yield Planned(
                place, reason=f"{recipe.choice(Place.FIELD).use} works on the wrapped phase"
            )
            continue
        if obstacle := _obstacle(stage, acquisition, present):
            if not place.optional:
                raise InputError(
                    f"{stage.label} {obstacle}; choose another stage for [{place.key}]."
                )
            yield Planned(place, reason=f"{stage.label} {obstacle}")
            continue
        present.update(stage.gives)
        yield Planned(place, stage, parameters, reason)


def _wanted(quantity: Quantity, acquisition: Acquisition, recipe: Recipe) -> bool:
    stage = _stage_at(Place.FIELD, recipe.choice(Place.FIELD))
    return quantity in (*stage.needs, *stage.uses)


def _obstacle(stage: Stage[Any], acquisition: Acquisition, present: set[Quantity]) -> str:
    if missing := [q for q in stage.needs if q not in present]:
        return f"needs a {' and a '.join(q.label for q in missing)}"
    if (count := len(acquisition.echo_times)) < stage.echoes:
        return f"needs {stage.echoes} echoes or more where {count} were measured"
    return ""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A measurement brought to a local field.

    Parameters
    ----------
    acquisition : Acquisition
        Everything measured and made; its mask is the one the last stage left.
    made : mapping of Place to Maps
        What each stage gave, masks included, in the order in which they ran.
    plan : tuple[Planned, ...]
        What was run and what was left out, and why.
    """

    acquisition: Acquisition
    made: Mapping[Place, Maps]
    plan: tuple[Planned, ...]


def prepare(
    acquisition: Acquisition, recipe: Recipe, device: torch.device | str = "cpu"
) -> Generator[Step, None, Prepared]:
    """Run the chain from what was measured to the local field."""
    planned = plan(acquisition, recipe)
    running = [entry for entry in planned if entry.stage is not None]
    made: dict[Place, Maps] = {}
    for index, entry in enumerate(running):
        assert entry.stage is not None
        work = entry.stage(acquisition, entry.parameters, device)
        maps = yield from _within(work, entry.place.label, index, len(running))
        acquisition = acquisition.following(maps)
        made[entry.place] = maps
    return Prepared(acquisition, MappingProxyType(made), planned)


T = TypeVar("T")


def _within(
    work: Generator[Step, None, T], title: str, index: int, count: int
) -> Generator[Step, None, T]:
    """Pass a part's steps on as steps of the whole."""
    try:
        while True:
            step = next(work)
            fraction = (index + step.fraction) / count
            yield Step(fraction, f"{title}: {step.message}", step.preview, step.values)
    except StopIteration as done:
        made: T = done.value
        return made
    finally:
        work.close()


def reconstruct(prepared: Acquisition, recipe: Recipe, device: torch.device | str = "cpu") -> Work:
    """Invert a prepared acquisition with the recipe's method and reference the result."""
    method: Method[Any] = find_method(recipe.method.use)
    parameters = method.with_settings(recipe.method.settings)
    maps = yield from _within(method(prepared, parameters, device), method.label, 0, 1)
    return (yield from referenced(maps, prepared, recipe.reference, device))


def referenced(
    maps: Maps, prepared: Acquisition, choice: Choice, device: torch.device | str = "cpu"
) -> Work:
    """Give the susceptibility in `maps` the reference that `choice` states, and record it."""
    if choice.use == NONE or Quantity.CHI not in maps:
        return maps
    stage = find_stage(choice.use)
    acquisition = prepared.with_volumes({Quantity.CHI: maps[Quantity.CHI]})
    made = yield from stage(acquisition, stage.with_settings(choice.settings), device)
    return _with_reference(maps, made, len(prepared.notes))


def _with_reference(maps: Maps, made: Maps, shared: int) -> Maps:
    provenance = maps.provenance
    notes = (*provenance.notes, *made.provenance.notes[shared:])
    parameters = {**provenance.parameters, REFERENCE: dict(made.provenance.parameters)}
    return replace(
        maps,
        volumes={**maps.volumes, Quantity.CHI: made[Quantity.CHI]},
        provenance=replace(provenance, notes=notes, parameters=parameters),
    )
