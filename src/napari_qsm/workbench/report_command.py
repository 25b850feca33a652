"""A result as command lines that make it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from napari_qsm.acquisition import Maps, Quantity
from napari_qsm.io.derivatives import name_of
from napari_qsm.pipeline import GIVEN_MASK, METHOD, NONE, REFERENCE
from napari_qsm.preparation.registry import Place
from napari_qsm.preparation.registry import find as find_stage
from napari_qsm.workbench.origin import (
    BESIDE,
    MEASURED_RATES,
    Given,
    Origin,
    Raw,
    changed,
    origin_of,
)

OUTPUT = "results"
"""Folder the commands write to."""

STEM = "again"
"""Begin of the names of the files there."""


def as_command(maps: Maps, output: str = OUTPUT) -> str:
    """Return the command line, or the lines, that make `maps` again, bit by bit on the same device.

    What was chosen from the data is stated; parameters as they are shipped are not. What was no
    file is named in a comment.

    Parameters
    ----------
    maps : Maps
        A result.
    output : str
        Folder the commands will write to.

    Raises
    ------
    InputError
        If no method of the program made them.
    """
    origin = origin_of(maps)
    lines = [f"# {sentence}" for sentence in (*origin.placeholders, *_doubts(origin))]
    if origin.raw is None:
        lines += [_line(_reconstruct(origin, output)), *_reference(origin, output)]
    elif origin.in_one_go or not _can_be_handed_over(origin.raw):
        lines.append(_line(_run(origin, origin.raw, output)))
    else:
        lines += [
            _line(_prepare(origin, origin.raw, output)),
            _line(_reconstruct(origin, output, _prepared(origin, origin.raw, output))),
            *_reference(origin, output),
        ]
    return "\n".join(lines) + "\n"


def _doubts(origin: Origin) -> Iterator[str]:
    if origin.warm:
        yield "It began at a map that was there; from nothing it comes as close as it converges."
    raw = origin.raw
    if raw is not None and not origin.complete and not _can_be_handed_over(raw):
        yield (
            "It was not given all that the chain makes (such as the noise of the field), but this "
            "command gives it all of it, so the map may differ a little."
        )
    elif raw is not None and origin.chosen and not _can_be_handed_over(raw):
        names = " and ".join(Quantity.named(key).label for key in origin.chosen)
        yield f"It was given another {names}, which this command cannot; the map will differ."


def _can_be_handed_over(raw: Raw) -> bool:
    """Whether ``reconstruct`` can be given the magnitude: it takes one file."""
    return len(raw.magnitude) <= 1 and not raw.select


def _line(words: Iterable[str]) -> str:
    return shlex.join(["napari-qsm", *words])


def _numbers(values: Iterable[float]) -> str:
    return ",".join(repr(float(value)) for value in values)


def _sets(settings: Mapping[str, Any], place: str = "") -> Iterator[str]:
    begin = f"{place}." if place else ""
    for name, value in settings.items():
        yield from ("--set", f"{begin}{name}={value}")


def _reconstruct(
    origin: Origin, output: str, inputs: Mapping[str, Given] | None = None
) -> Iterator[str]:
    """Yield the words of ``reconstruct``."""
    made, given = origin.made, inputs or origin.inputs
    yield from ("reconstruct", given[Quantity.LOCAL_FIELD.key].path)
    for quantity, name in BESIDE.items():
        if quantity.key in given:
            yield from (f"--{name}", given[quantity.key].path)
    yield from ("--method", origin.method.key)
    yield from _sets(changed(origin.method, origin.settings))
    yield from ("--unit", "ppm" if inputs else origin.unit)
    if made.field_strength is not None:
        yield from ("--b0", repr(made.field_strength))
    if len(made.echo_times) == 1:
        yield from ("--te", repr(made.echo_times[0]))
    if origin.b0_direction is not None:
        yield from ("--b0-dir", _numbers(origin.b0_direction))
    for number, direction in enumerate(made.grid.get("other_b0_directions", ()), start=2):
        other = given[f"{Quantity.LOCAL_FIELD.key}@{number}"].path
        yield from ("--also", f"{other}={_numbers(direction)}")
    yield from ("--device", made.device, "--output", output, "--stem", STEM)


def _measured(raw: Raw) -> Iterator[str]:
    """Yield the files of a measurement and what was stated instead of them."""
    yield from (one.path for one in raw.phase)
    for one in raw.magnitude:
        yield from ("--magnitude", one.path)
    if raw.mask is not None:
        yield from ("--mask", raw.mask.path)
    if raw.select:
        yield from ("--select", raw.select)
    elif raw.echo_times:
        yield from ("--te", _numbers(raw.echo_times))
    if raw.field_strength is not None:
        yield from ("--b0", repr(raw.field_strength))
    if raw.b0_direction is not None:
        yield from ("--b0-dir", _numbers(raw.b0_direction))
    if raw.flip_phase:
        yield "--flip-phase"
    if raw.phase_scale != "auto":
        yield from ("--phase-scale", raw.phase_scale)


def _stages(origin: Origin) -> Iterator[str]:
    """Yield what runs at every place, as far as it is not what is shipped."""
    recipe = origin.recipe()
    for place, choice in recipe.places.items():
        if choice.use != GIVEN_MASK:  # a mask of the user's goes first by itself
            yield from ("--stage", f"{place.key}={choice.use}")
        if choice.use != NONE:
            yield from _sets(changed(find_stage(choice.use), choice.settings), place.key)


def _prepare(origin: Origin, raw: Raw, output: str) -> Iterator[str]:
    yield from ("prepare", *_measured(raw), *_stages(origin))
    yield from ("--device", origin.made.history[0].device, "--output", output, "--stem", STEM)


def _run(origin: Origin, raw: Raw, output: str) -> Iterator[str]:
    yield from ("run", *_measured(raw), *_stages(origin), "--method", origin.method.key)
    given = {**origin.chosen, **origin.rates}
    for quantity in MEASURED_RATES:
        if quantity.key in given:
            yield from (f"--{BESIDE[quantity]}", given[quantity.key].path)
    yield from _sets(changed(origin.method, origin.settings), METHOD)
    if origin.reference is None:
        yield from ("--stage", f"{REFERENCE}={NONE}")
    else:
        yield from _sets(changed(find_stage(REFERENCE), origin.reference), REFERENCE)
        if origin.reference.get("to") == "roi":
            yield from ("--labels", "labels.nii.gz")
    yield from ("--device", origin.made.device, "--output", output, "--stem", STEM)


def _prepared(origin: Origin, raw: Raw, output: str) -> dict[str, Given]:
    """Return the files that ``prepare`` writes and ``reconstruct`` then takes."""
    masks = [s.place for s, _ in origin.stages if Quantity.MASK in s.gives]
    places: dict[Quantity, Place | None] = {Quantity.LOCAL_FIELD: Place.BACKGROUND}
    if masks:
        places[Quantity.MASK] = masks[-1]
    if Quantity.FIELD_NOISE.key in origin.made.inputs:
        places[Quantity.FIELD_NOISE] = Place.FIELD
    if Quantity.R2STAR.key in origin.made.inputs:
        places[Quantity.R2STAR] = Place.RELAXATION
    made = {
        quantity.key: Given(f"{output}/{STEM}_{name_of(place, quantity)}.nii.gz")
        for quantity, place in places.items()
    }
    if raw.magnitude and Quantity.MAGNITUDE.key in origin.made.inputs:
        made[Quantity.MAGNITUDE.key] = raw.magnitude[0]
    return {**made, **origin.chosen, **origin.rates}


def _reference(origin: Origin, output: str) -> Iterator[str]:
    """Yield the line that gives the map its reference, where ``reconstruct`` does not."""
    if origin.reference is None:
        return
    to = str(origin.reference.get("to"))
    found_in = {"csf": Quantity.R2STAR, "roi": Quantity.LABELS}.get(to)
    words = ["stage", REFERENCE, "--input", f"chi={output}/{STEM}_{Quantity.CHI.suffix}.nii.gz"]
    mask = origin.inputs.get(Quantity.MASK.key)
    if mask is not None:
        words += ["--input", f"mask={mask.path}"]
    if found_in is not None:
        yield f"# {found_in.key}.nii.gz stands for the map the reference was found in."
        words += ["--input", f"{found_in.key}={found_in.key}.nii.gz"]
    words += _sets(changed(find_stage(REFERENCE), origin.reference))
    yield _line([*words, "--output", output, "--stem", f"{STEM}-referenced"])
