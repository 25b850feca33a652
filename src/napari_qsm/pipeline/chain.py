"""The chain itself: what a recipe means for a measurement, and the generators that run it."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from napari_qsm.acquisition import Acquisition, InputError, Maps, Quantity
from napari_qsm.generators import relayed
from napari_qsm.methods.registry import Method
from napari_qsm.methods.registry import find as find_method
from napari_qsm.pipeline.recipe import (
    GIVEN_MASK,
    NONE,
    REFERENCE,
    Choice,
    Recipe,
    reference_stage,
    stage_at,
)
from napari_qsm.preparation.registry import Place, Stage
from napari_qsm.process import Parameters, Step, Work

if TYPE_CHECKING:
    import torch


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
    return tuple(walk(acquisition, recipe))


def walk(acquisition: Acquisition, recipe: Recipe) -> Iterator[Planned]:
    """Say the same place after place, as far as the chain can go.

    Raises
    ------
    InputError
        At the first place that cannot be left out and has a stage that cannot run.
    """
    present = set(acquisition.volumes)
    for place in Place:
        entry = _planned(place, acquisition, recipe, present)
        if entry.stage is not None:
            present.update(entry.stage.gives)
        yield entry


_FOUND_BY = {"csf": Quantity.R2STAR, "roi": Quantity.LABELS}
"""What two kinds of reference need; to be missed before a long computation, not after it."""


def plan_method(
    acquisition: Acquisition, planned: Iterable[Planned], recipe: Recipe
) -> tuple[Method[Any], Parameters]:
    """Say which method will run behind a plan, and with which parameters.

    Raises
    ------
    InputError
        If the method or its reference needs something that will not be there.
    """
    method: Method[Any] = find_method(recipe.method.use)
    parameters = method.with_settings(recipe.method.settings)
    planned = tuple(planned)
    made = {q for entry in planned if entry.stage is not None for q in entry.stage.gives}
    if missing := [q.label for q in method.needs if q not in made and q not in acquisition]:
        names = " and a ".join(missing)
        raise InputError(f"{method.label} needs a {names}; choose another method.")
    left_out = [e for e in planned if e.stage is None and e.place.gives in method.one_of]
    others = "".join(f", or another stage for [{e.place.key}]: {e.reason}" for e in left_out)
    method.check_choice({*made, *acquisition.volumes}, others)
    method.check_orientations(acquisition)
    found_by = _FOUND_BY.get(str(recipe.reference.settings.get("to")))
    if found_by and found_by not in made and found_by not in acquisition:
        raise InputError(
            f"The reference is found by its {found_by.label}, and there will be none; choose "
            "another reference."
        )
    return method, parameters


def _planned(
    place: Place, acquisition: Acquisition, recipe: Recipe, present: Collection[Quantity]
) -> Planned:
    chosen, reason = recipe.choice(place), ""
    if place is Place.MASK and Quantity.MASK in acquisition:
        if chosen.use != GIVEN_MASK:
            chosen, reason = Choice(GIVEN_MASK), "your own mask goes first"
    elif there := [q for q in _SUPERSEDED[place] if q in acquisition]:
        return Planned(place, reason=f"the {there[0].label} is there already")
    if chosen.use == NONE:
        if not place.optional:
            raise InputError(f"[{place.key}] cannot be left out; choose a stage for it.")
        return Planned(place, reason="left out on request")
    stage = stage_at(place, chosen)
    parameters = stage.with_settings(chosen.settings)
    if place is Place.UNWRAP and (wrapped := _takes_wrapped(recipe)):
        return Planned(place, reason=f"{wrapped.label} works on the wrapped phase")
    if obstacle := stage.obstacle(acquisition, present):
        if not place.optional:
            raise InputError(f"{stage.label} {obstacle}; choose another stage for [{place.key}].")
        return Planned(place, reason=f"{stage.label} {obstacle}")
    return Planned(place, stage, parameters, reason)


def _takes_wrapped(recipe: Recipe) -> Stage[Any] | None:
    """Return the stage that makes the field, if it has no use for unwrapped phase."""
    chosen = recipe.choice(Place.FIELD)
    if chosen.use == NONE:
        return None
    stage = stage_at(Place.FIELD, chosen)
    return None if Quantity.UNWRAPPED in (*stage.needs, *stage.uses) else stage


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
    """Run the chain from what was measured to the local field.

    A stage that refuses the data at a place that may be left out is left out, and
    `Prepared.plan` says why.

    Raises
    ------
    InputError
        If a place that cannot be left out has a stage that cannot run.
    """
    planned = list(plan(acquisition, recipe))
    count = sum(entry.stage is not None for entry in planned)
    made: dict[Place, Maps] = {}
    done = 0
    for index, entry in enumerate(planned):
        if entry.stage is None:
            continue
        work = entry.stage(acquisition, entry.parameters, device)
        span = (done / count, (done + 1) / count)
        done += 1
        try:
            maps = yield from _within(work, f"{entry.place.label}: ", *span)
        except InputError as error:
            if not entry.place.optional:
                raise
            reason = str(error).removesuffix(".")
            planned[index] = Planned(entry.place, reason=reason[:1].lower() + reason[1:])
            continue
        acquisition = acquisition.following(maps)
        made[entry.place] = maps
    return Prepared(acquisition, MappingProxyType(made), tuple(planned))


T = TypeVar("T")


def _within(
    work: Generator[Step, None, T], title: str, begin: float, end: float
) -> Generator[Step, None, T]:
    """Pass a part's steps on as steps of the whole, of which it fills `begin` to `end`."""

    def part(step: Step) -> Step:
        fraction = begin + (end - begin) * step.fraction
        return Step(fraction, f"{title}{step.message}", step.preview, step.values)

    return (yield from relayed(work, part))


_REFERENCING = 0.97
"""Fraction of a reconstruction at which its reference is decided, a matter of one mean."""


def reconstruct(prepared: Acquisition, recipe: Recipe, device: torch.device | str = "cpu") -> Work:
    """Invert a prepared acquisition with the recipe's method and reference the result.

    Raises
    ------
    InputError
        If the method or the reference lacks something.
    """
    method: Method[Any] = find_method(recipe.method.use)
    parameters = method.with_settings(recipe.method.settings)
    maps = yield from _within(method(prepared, parameters, device), "", 0.0, _REFERENCING)
    work = referenced(maps, prepared, recipe.reference, device)
    return (yield from _within(work, "Reference: ", _REFERENCING, 1.0))


def referenced(
    maps: Maps, prepared: Acquisition, choice: Choice, device: torch.device | str = "cpu"
) -> Work:
    """Give the susceptibility in `maps` the reference that `choice` states, and record it.

    Raises
    ------
    InputError
        If the choice names no reference or what it needs is missing.
    """
    stage = reference_stage(choice)
    if stage is None or Quantity.CHI not in maps:
        return maps
    if Quantity.CHI_POS in maps:  # chi is chi+ less chi-, and must stay that
        return maps if choice.settings.get("to", "mask") == "mask" else _with_own_zero(maps)
    acquisition = prepared.with_volumes({Quantity.CHI: maps[Quantity.CHI]})
    made = yield from stage(acquisition, stage.with_settings(choice.settings), device)
    return _with_reference(maps, made, len(prepared.notes))


def _with_own_zero(maps: Maps) -> Maps:
    told = "The reference was left aside: chi is chi+ less chi- and keeps its own zero."
    notes = (*maps.provenance.notes, told)
    return replace(maps, provenance=replace(maps.provenance, notes=notes))


def _with_reference(maps: Maps, made: Maps, shared: int) -> Maps:
    provenance = maps.provenance
    decided = made.provenance.notes[shared:]
    if made.provenance.parameters.get("to") != NONE:  # the method's own reference is history
        kept = [n for n in provenance.notes if not n.startswith("Susceptibility is relative to")]
    else:
        kept = list(provenance.notes)
    notes = (*kept, *decided)
    parameters = {**provenance.parameters, REFERENCE: dict(made.provenance.parameters)}
    return replace(
        maps,
        volumes={**maps.volumes, Quantity.CHI: made[Quantity.CHI]},
        provenance=replace(provenance, notes=notes, parameters=parameters),
    )
