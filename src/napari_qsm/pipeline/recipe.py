"""What is to run at every place of the chain: choices, settings, and the TOML they come from."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tomli_w

from napari_qsm import __version__
from napari_qsm.acquisition import InputError, Quantity
from napari_qsm.methods.registry import DEFAULT_METHOD
from napari_qsm.methods.registry import find as find_method
from napari_qsm.preparation.registry import Place, Stage
from napari_qsm.preparation.registry import find as find_stage
from napari_qsm.preparation.registry import stages as find_stages
from napari_qsm.process import Process

GIVEN_MASK = "given"
"""Key of the stage that takes the user's mask as it is."""

REFERENCE = "reference"
"""Key of the stage that decides what susceptibility is relative to."""

NONE = "none"
"""What a recipe says of a place that is left out."""

METHOD = "method"
"""Name of the table in which a recipe states its method."""

_ABOUT = "napari-qsm"
_PRESETS = Path(__file__).parents[1] / "presets"


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
    """The choices for every place, for the method, and for the reference of susceptibility.

    Parameters
    ----------
    places : mapping of Place to Choice
        Where it says nothing, what is shipped runs.
    method : Choice
        The method that inverts the local field.
    reference : Choice
        What susceptibility is relative to; ``"none"`` leaves it as the method gives it.
    """

    places: Mapping[Place, Choice] = field(default_factory=dict)
    method: Choice = Choice(DEFAULT_METHOD)
    reference: Choice = Choice(REFERENCE)

    def choice(self, place: Place) -> Choice:
        """Return what is chosen for a place: the shipped stage where nothing is stated."""
        return self.places.get(place) or Choice(DEFAULT_STAGES[place])

    def with_choice(self, place: Place, use: str, **settings: Any) -> Recipe:
        """Return a copy with another choice at `place`."""
        return replace(self, places={**self.places, place: Choice(use, settings)})

    def stating(
        self, name: str, use: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> Recipe:
        """Return a copy in which one table says something else.

        Parameters
        ----------
        name : str
            Key of a place, ``"method"`` or ``"reference"``: the names of a preset's tables.
        use : str, optional
            What is to run there. If that is new, the settings of what ran there before go.
        settings : mapping, optional
            Parameters that are added or replaced.

        Raises
        ------
        InputError
            If there is no such table, nothing of that key, or a parameter is stated twice.
        """
        place = None if name in (METHOD, REFERENCE) else _place(name)
        before: Choice = getattr(self, name) if place is None else self.choice(place)
        kept = before.settings if use in (None, before.use) else {}
        use = before.use if use is None else use
        stated = _by_field(name, use, settings) if settings else {}
        chosen = Choice(use, {**kept, **stated})
        if place is not None:
            return replace(self, places={**self.places, place: chosen})
        if name == METHOD:
            return replace(self, method=chosen)
        return replace(self, reference=chosen)

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
        tables.pop(_ABOUT, None)
        recipe = cls()
        for name, table in tables.items():
            if not isinstance(table, dict):
                raise InputError(
                    f"The preset states {name} = {table!r} where a table [{name}] was expected."
                )
            settings = dict(table)
            use = settings.pop("use", None)
            recipe = recipe.stating(name, None if use is None else str(use), settings)
        recipe.checked()
        return recipe

    def checked(self) -> None:
        """Raise `InputError` if a key, a place or a setting is unknown or out of range."""
        for chosen, process in self._resolved().values():
            if process is not None:
                process.with_settings(chosen.settings)
            elif chosen.settings:
                raise InputError(
                    f"'{NONE}' has no parameter '{next(iter(chosen.settings))}'; choose what is "
                    "to run or leave its parameters out."
                )

    def to_toml(self, **about: str) -> str:
        """Write the recipe with every parameter, so that it means the same in later versions.

        Parameters
        ----------
        **about : str
            What else is worth noting, such as ``command``; not read back.
        """
        tables: dict[str, Any] = {_ABOUT: {"version": __version__, **about}}
        for name, (chosen, process) in self._resolved().items():
            tables[name] = _table(chosen, process)
        return tomli_w.dumps(tables)

    def _resolved(self) -> dict[str, tuple[Choice, Process[Any] | None]]:
        """Return every choice with what it names, by table; None for what is left out."""
        made: dict[str, tuple[Choice, Process[Any] | None]] = {}
        for place in Place:
            chosen = self.choice(place)
            made[place.key] = (chosen, None if chosen.use == NONE else stage_at(place, chosen))
        made[METHOD] = (self.method, find_method(self.method.use))
        made[REFERENCE] = (self.reference, reference_stage(self.reference))
        return made


def presets() -> dict[str, Path]:
    """Return the shipped presets by name."""
    return {path.stem: path for path in sorted(_PRESETS.glob("*.toml"))}


def read_preset(name: str | Path) -> Recipe:
    """Read a preset from a file, or a shipped one by its name.

    Raises
    ------
    InputError
        If there is neither, or it cannot be understood; the sentence names the file.
    """
    path = presets().get(str(name), Path(name))
    try:
        return Recipe.from_toml(path.read_text(encoding="utf-8"))
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None
    except (OSError, UnicodeDecodeError):
        known = ", ".join(presets()) or "none"
        raise InputError(
            f"There is no preset '{name}' that can be read; name a TOML file or one that is "
            f"shipped ({known})."
        ) from None


def _by_field(name: str, use: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by the fields' own names, so that an alias such as lambda replaces them."""
    if use == NONE:
        return dict(settings)
    process: Process[Any] = find_method(use) if name == METHOD else find_stage(use)
    own = {f.validation_alias: field for field, f in process.parameters.model_fields.items()}
    stated = {str(own.get(key, key)): value for key, value in settings.items()}
    if len(stated) < len(settings):
        twice = next(f"{field} and {key}" for key, field in own.items() if key in settings)
        raise InputError(f"[{name}] states {twice}, which are the same; state it once.")
    return stated


def _place(name: str) -> Place:
    try:
        return Place.named(name)
    except InputError as error:
        text = str(error).removesuffix(".")
        raise InputError(f"{text}; beside them there are {METHOD} and {REFERENCE}.") from None


def stage_at(place: Place, chosen: Choice) -> Stage[Any]:
    """Return the stage that is chosen for a place.

    Raises
    ------
    InputError
        If there is none of that name, or it belongs somewhere else.
    """
    stage = find_stage(chosen.use)
    if stage.place is not place:
        raise InputError(
            f"The stage '{stage.key}' does not belong to [{place.key}]; choose one of "
            f"{', '.join(find_stages(place))}."
        )
    return stage


def reference_stage(chosen: Choice) -> Stage[Any] | None:
    """Return the stage that references susceptibility, or None if that is left out.

    Raises
    ------
    InputError
        If the stage that is named does something else.
    """
    if chosen.use == NONE:
        return None
    stage = find_stage(chosen.use)
    if Quantity.CHI not in stage.gives:
        raise InputError(
            f"The stage '{stage.key}' does not belong to [{REFERENCE}]; choose {REFERENCE} or "
            f"{NONE}."
        )
    return stage


def _table(chosen: Choice, process: Process[Any] | None) -> dict[str, Any]:
    if process is None:
        return {"use": NONE}
    values = process.with_settings(chosen.settings).model_dump(mode="json")
    # TOML knows no empty value: what is left to the data is left out.
    return {"use": chosen.use, **{k: v for k, v in values.items() if v is not None}}
