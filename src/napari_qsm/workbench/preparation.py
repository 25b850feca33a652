"""The preparation as a window drives it: what is chosen, what is made, and what is out of date.

Evented, and free of Qt and napari. Whether a result still holds is decided by what it was made
from: the signature of a place is its stage, its parameters, and the signatures of the places that
give what the stage takes. A result whose signature is no longer that of its place is stale, and
nothing else is; a change that is taken back makes it valid again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from psygnal import Signal

from napari_qsm.acquisition import Acquisition, InputError, Maps, Provenance, Quantity
from napari_qsm.pipeline import NONE, Planned, Prepared, Recipe, walk
from napari_qsm.preparation.registry import Place, Stage, find
from napari_qsm.process import Parameters, Step, Work
from napari_qsm.workbench.job import Job
from napari_qsm.workbench.standing import Made, Signature, Standing, State, following


@dataclass
class Preparation:
    """Holds a raw measurement, the choices for every place, and what came of them.

    Attributes
    ----------
    measured_changed : Signal
        Another measurement, or the same one read differently, is there (or None).
    recipe_changed : Signal
        A place has another stage or other parameters.
    changed : Signal
        The standing of some place may be another.
    """

    recipe: Recipe = field(default_factory=Recipe)
    measured: Acquisition | None = None
    made: dict[Place, Made] = field(default_factory=dict)
    job: Job[Maps] | None = None
    running: Place | None = None

    measured_changed = Signal(object)
    recipe_changed = Signal(Place)
    changed = Signal()

    def __post_init__(self) -> None:
        self._masked: Acquisition | None = None
        self._tokens = {"measured": 0, "mask": 0}
        self._settings: dict[str, Mapping[str, Any]] = {}
        self._failures: dict[Place, tuple[Signature, str]] = {}
        self._begun: Signature = ()
        self._shared: tuple[str, ...] = ()
        self._plan: dict[Place, Planned] = {}
        self._stuck = ""
        self._signatures: dict[Place, Signature] = {}
        self._sources: dict[Place, set[Place]] = {}

    # -- what is measured -------------------------------------------------------------------

    @property
    def acquisition(self) -> Acquisition | None:
        """The measurement, with the user's own mask where there is one."""
        return self._masked or self.measured

    @property
    def own_mask(self) -> bool:
        """Whether a mask of the user's replaces that of the chain."""
        return self._masked is not None

    def load(self, measured: Acquisition | None, *, again: bool = False) -> None:
        """Take a measurement; `again` says it is the same one, read with other corrections.

        What was made of another measurement is forgotten, what was made of this one is stale.
        """
        self.measured, self._masked = measured, None
        self._tokens["measured"] += 1
        self._failures.clear()
        if not again:
            self.made = {}
        self._update()
        self.measured_changed.emit(measured)

    def use_mask(self, acquisition: Acquisition | None) -> None:
        """Take what `masked` made of the measurement, or go back to the mask of the chain."""
        if acquisition is None and self._masked is None:
            return
        self._masked = acquisition
        self._tokens["mask"] += 1
        self._update()

    # -- what is chosen ---------------------------------------------------------------------

    def stage(self, place: Place) -> Stage[Any] | None:
        """Return the chosen stage, or None where the place is to be left out."""
        use = self.recipe.choice(place).use
        return None if use == NONE else find(use)

    def parameters(self, place: Place) -> Parameters | None:
        """Return the parameters of the chosen stage as they stand."""
        stage = self.stage(place)
        if stage is None:
            return None
        chosen: Parameters = stage.with_settings(self.recipe.choice(place).settings)
        return chosen

    def choose_stage(self, place: Place, key: str) -> None:
        """Choose another stage, or ``"none"``; every stage remembers its own parameters."""
        if self.recipe.choice(place).use != key:
            self._choose(place, key, self._settings.get(key, {}))

    def set_parameter(self, place: Place, name: str, value: Any) -> None:
        """Change one parameter of the stage chosen for `place`.

        Raises
        ------
        InputError
            If the value is out of range; the old one stays.
        """
        stage = self.stage(place)
        if stage is not None:
            settings = {**self.recipe.choice(place).settings, name: value}
            stage.with_settings(settings)
            self._choose(place, stage.key, settings)

    def reset_parameters(self, place: Place) -> None:
        """Give the stage chosen for `place` its shipped parameters back."""
        self._choose(place, self.recipe.choice(place).use, {})

    def use_recipe(self, recipe: Recipe) -> None:
        """Take all choices from a preset."""
        self.recipe = recipe
        self._settings = {c.use: c.settings for c in map(recipe.choice, Place)}
        self._update()
        for place in Place:
            self.recipe_changed.emit(place)

    def _choose(self, place: Place, key: str, settings: Mapping[str, Any]) -> None:
        self._settings[key] = settings
        self.recipe = self.recipe.with_choice(place, key, **settings)
        self._update()
        self.recipe_changed.emit(place)

    # -- how things stand -------------------------------------------------------------------

    def _update(self) -> None:
        """Plan anew and sign every place with what it would be made from now."""
        plan: dict[Place, Planned] = {}
        self._stuck = ""
        if self.acquisition is not None:
            try:
                for entry in walk(self.acquisition, self.recipe):
                    plan[entry.place] = entry
            except InputError as error:
                self._stuck = str(error)
        self._plan, self._signatures, self._sources = plan, {}, {}
        if self.acquisition is not None:
            self._sign(self.acquisition)
        current = self._signatures
        self._failures = {p: f for p, f in self._failures.items() if current.get(p) == f[0]}
        self.changed.emit()

    def _sign(self, acquisition: Acquisition) -> None:
        measured = ("measured", self._tokens["measured"])
        given: dict[Quantity, Signature] = dict.fromkeys(acquisition.volumes, measured)
        if self.own_mask:
            given[Quantity.MASK] = ("mask", self._tokens["mask"])
        giver: dict[Quantity, Place] = {}
        for place, entry in self._plan.items():
            if entry.stage is None:
                continue
            taken = [q for q in (*entry.stage.needs, *entry.stage.uses) if q in given]
            signature = (
                measured,
                entry.stage.key,
                entry.parameters,
                *((q, given[q]) for q in taken),
            )
            self._signatures[place] = signature
            self._sources[place] = {giver[q] for q in taken if q in giver}
            given.update(dict.fromkeys(entry.stage.gives, signature))
            giver.update(dict.fromkeys(entry.stage.gives, place))

    def standing(self, place: Place) -> Standing:
        """Say how things stand at one place."""
        if self.measured is None:
            return Standing(State.NOT_RUN)
        entry, made = self._plan.get(place), self.made.get(place)
        if entry is None:
            stuck = list(Place)[len(self._plan)]
            waits = Standing(State.WAITING, f"waits for: {stuck.label}")
            return Standing(State.FAILED, self._stuck) if place is stuck else waits
        if entry.stage is None:
            return Standing(State.LEFT_OUT, entry.reason)
        if place is self.running:
            return Standing(State.RUNNING)
        if made is not None and made.signature == self._signatures[place]:
            said = (f"{entry.reason.capitalize()}.",) if entry.reason else ()
            seconds = made.maps.provenance.seconds
            return Standing(State.DONE, " ".join((*said, *made.notes)), seconds)
        if place in self._failures:
            return Standing(State.FAILED, self._failures[place][1])
        for source in self._sources[place]:
            if self.standing(source).state in (State.FAILED, State.WAITING):
                return Standing(State.WAITING, f"waits for: {source.label}")
        return Standing(State.STALE if made else State.NOT_RUN, entry.reason)

    def _done(self, place: Place) -> bool:
        return self.standing(place).state is State.DONE

    def count_stale(self) -> int:
        """Count the places that are not up to date, the running one included."""
        wanted = (State.NOT_RUN, State.STALE, State.RUNNING)
        return sum(self.standing(place).state in wanted for place in self._signatures)

    def next_stale(self) -> Place | None:
        """Return the first place that can be brought up to date now."""
        for place in self._signatures:
            if self.standing(place).state in (State.NOT_RUN, State.STALE) and all(
                map(self._done, self._sources[place])
            ):
                return place
        return None

    def reason_not_to_run(self) -> str:
        """Say why there is nothing to prepare; empty when there is something."""
        if self.measured is None:
            return "Open a measurement to begin."
        if self.job is not None or self.next_stale() is not None or self._failures:
            return ""
        return self._stuck or "Everything is up to date."

    @property
    def complete(self) -> bool:
        """Whether there is a local field that holds."""
        return Place.BACKGROUND in self._plan and all(
            self.standing(p).state in (State.DONE, State.LEFT_OUT)
            or (p.optional and self.standing(p).state is State.FAILED)
            for p in Place
        )

    # -- running ----------------------------------------------------------------------------

    def retry(self) -> None:
        """Forget failures, so that their places are tried again."""
        self._failures.clear()
        self.changed.emit()

    def start(self, place: Place, device: torch.device | str = "cpu") -> Job[Maps]:
        """Make the job that brings `place` up to date."""
        entry, measured = self._plan[place], self.acquisition
        assert entry.stage is not None
        assert measured is not None
        stage, parameters = entry.stage, entry.parameters
        before = [made for p, made in self.made.items() if _precedes(p, place) and self._done(p)]

        def work() -> Work:
            # Assembled in the thread of the job: looking all voxels over takes a moment.
            yield Step(0.0, "Gathering what is there")
            return (yield from stage(following(measured, before), parameters, device))

        self.running, self._begun = place, self._signatures[place]
        self._shared = measured.notes
        self.job = Job(work)
        self.changed.emit()
        return self.job

    @property
    def running_stage(self) -> Stage[Any] | None:
        """The stage that is running, which need not be the chosen one."""
        return self._plan[self.running].stage if self.running in self._plan else None

    @property
    def outdated(self) -> bool:
        """Whether the running job works with choices that no longer hold."""
        return self.running is not None and self._begun != self._signatures.get(self.running)

    def finish(self, place: Place, maps: Maps | None) -> bool:
        """Take the outcome of the running job: maps, or None if it was cancelled.

        Returns
        -------
        bool
            Whether maps were taken; those of another measurement, from before the present one was
            opened, are not.
        """
        self.job = self.running = None
        taken = maps is not None and self._begun[0] == ("measured", self._tokens["measured"])
        if maps is not None and taken:
            own = maps.provenance.notes[len(self._shared) :]
            made = {**self.made, place: Made(maps, self._begun, own)}
            self.made = {p: made[p] for p in Place if p in made}
            self._failures.pop(place, None)
        self.changed.emit()
        return taken

    def fail(self, place: Place, sentence: str) -> None:
        """Take notice that the running job failed, and why."""
        self._failures[place] = (self._begun, sentence)
        self.finish(place, None)

    @property
    def history(self) -> tuple[Provenance, ...]:
        """How the local field came to be, the first stage first."""
        return tuple(made.provenance for p, made in self.made.items() if self._done(p))

    def prepared(self) -> Prepared:
        """Return the measurement with everything made of it; slow enough for a thread.

        Raises
        ------
        InputError
            If there is no local field that holds.
        """
        if self.acquisition is None or not self.complete:
            raise InputError("The preparation is not complete; press Prepare first.")
        made = {p: m for p, m in self.made.items() if self._done(p)}
        return Prepared(
            following(self.acquisition, made.values()),
            MappingProxyType({p: m.maps for p, m in made.items()}),
            tuple(self._plan.values()),
        )


def _precedes(place: Place, other: Place) -> bool:
    order = list(Place)
    return order.index(place) < order.index(other)
