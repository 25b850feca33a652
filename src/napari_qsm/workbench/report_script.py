"""A result as a short Python script that makes it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from napari_qsm import __version__
from napari_qsm.acquisition import Maps, Quantity
from napari_qsm.workbench.origin import BESIDE, Given, Origin, Raw, origin_of

_FINISH = '''

def finish(work):
    """Run a generator to its end and return what it made; it yields its progress."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value

'''


def as_python(maps: Maps) -> str:
    """Return a script that makes `maps` again, bit by bit on the same device, and writes them.

    Every parameter is stated, with what was chosen from the data; the script says so if its inputs
    are not those of the result. What was no file is named in a comment.

    Parameters
    ----------
    maps : Maps
        A result.

    Raises
    ------
    InputError
        If no method of the program made them.
    """
    origin = origin_of(maps)
    version = origin.made.software.get("napari-qsm", __version__)
    body = [*_from_files(origin)] if origin.raw is None else [*_from_raw(origin, origin.raw)]
    lines = [
        f'"""{origin.method.label}, as napari-qsm {version} ran it."""',
        "",
        *_imports(body),
        _FINISH,
        *(f"# {sentence}" for sentence in origin.placeholders),
        *body,
        *_ending(origin),
    ]
    return "\n".join(lines) + "\n"


_KNOWN: Mapping[str, str] = {
    "Acquisition": "napari_qsm.acquisition",
    "Choice": "napari_qsm.pipeline",
    "Corrections": "napari_qsm.io.importer",
    "FieldUnit": "napari_qsm.physics.units",
    "Orientation": "napari_qsm.preparation.orientations",
    "Quantity": "napari_qsm.acquisition",
    "Recipe": "napari_qsm.pipeline",
    "Volume": "napari_qsm.acquisition",
    "assemble": "napari_qsm.preparation.assemble",
    "find": "napari_qsm.methods.registry",
    "open_source": "napari_qsm.io.importer",
    "prepare": "napari_qsm.pipeline",
    "read_volume": "napari_qsm.io.nifti",
    "reconstruct": "napari_qsm.pipeline",
    "referenced": "napari_qsm.pipeline",
    "with_orientations": "napari_qsm.preparation.orientations",
    "with_rates": "napari_qsm.preparation.rates",
    "write_maps": "napari_qsm.io.nifti",
}
"""Where the names a script may use are found."""


def _imports(body: list[str]) -> list[str]:
    """Return the imports of what the body uses, sorted as formatters sort them."""
    text = "\n".join(body)
    used: dict[str, list[str]] = {}
    for name, module in _KNOWN.items():
        if f"{name}(" in text or f"{name}." in text or name == "write_maps":
            used.setdefault(module, []).append(name)
    ours = [f"from {module} import {', '.join(used[module])}" for module in sorted(used)]
    return ["from pathlib import Path", "", *ours] if "Path(" in text else ours


def _mapping(values: Mapping[str, Any], indent: str = "    ") -> str:
    """Return a dictionary, one entry a line."""
    lines = "".join(f"{indent}{name!r}: {value!r},\n" for name, value in values.items())
    return f"{{\n{lines}}}" if lines else "{}"


def _call(name: str, arguments: Mapping[str, str]) -> str:
    """Return a call, one argument a line; those whose name begins with a digit have none."""
    told = (
        f"    {value},\n" if key[:1].isdigit() else f"    {key}={value},\n"
        for key, value in arguments.items()
    )
    return f"{name}(\n{''.join(told)})"


def _from_files(origin: Origin) -> Iterator[str]:
    """Yield the lines from files to maps."""
    made, given = origin.made, origin.inputs
    arguments = {"1": _read(given[Quantity.LOCAL_FIELD.key])}
    for quantity, name in BESIDE.items():
        if quantity.key in given:
            arguments[name] = _read(given[quantity.key])
    arguments["unit"] = f"FieldUnit.parse({origin.unit!r})"
    arguments |= _constants(origin)
    yield f"acquisition = {_call('assemble', arguments)}"
    if others := made.grid.get("other_b0_directions"):
        yield "others = ["
        for number, direction in enumerate(others, start=2):
            other = given[f"{Quantity.LOCAL_FIELD.key}@{number}"]
            yield f"    Orientation({_read(other)}, {tuple(direction)!r}),"
        yield "]"
        unit = f"FieldUnit.parse({origin.unit!r})"
        yield f"acquisition = with_orientations(acquisition, others, unit={unit})"
    yield from _method(origin)
    yield from _reference(origin)


def _read(given: Given) -> str:
    return f"read_volume({given.path!r})"


def _constants(origin: Origin) -> dict[str, str]:
    made, stated = origin.made, {}
    if made.field_strength is not None:
        stated["field_strength"] = repr(made.field_strength)
    if len(made.echo_times) == 1:
        stated["echo_time"] = repr(made.echo_times[0])
    if origin.b0_direction is not None:
        stated["b0_direction"] = repr(origin.b0_direction)
    return stated


def _method(origin: Origin) -> Iterator[str]:
    if origin.warm:
        yield "# It began at a map that was there; from nothing it comes as close as it converges."
    yield f"method = find({origin.method.key!r})"
    yield f"parameters = method.with_settings({_mapping(origin.settings)})"
    yield f"maps = finish(method(acquisition, parameters, {origin.made.device!r}))"


def _reference(origin: Origin) -> Iterator[str]:
    """Yield the lines that give the map the reference that was asked for."""
    if origin.reference is None:
        return
    found_in = {"csf": Quantity.R2STAR, "roi": Quantity.LABELS}.get(str(origin.reference["to"]))
    if found_in is not None and not (origin.raw and found_in is Quantity.R2STAR):
        name = f"{found_in.key}.nii.gz"
        yield f"# {name} stands for the map the reference was found in."
        yield f"region = {{Quantity.{found_in.name}: read_volume({name!r}).data}}"
        yield "acquisition = acquisition.with_volumes(region)"
    elif found_in is not None:
        region = f"{{Quantity.{found_in.name}: prepared[Quantity.{found_in.name}]}}"
        yield f"acquisition = acquisition.with_volumes({region})"
    choice = f"Choice('reference', {dict(origin.reference)!r})"
    yield f"maps = finish(referenced(maps, acquisition, {choice}))"


def _from_raw(origin: Origin, raw: Raw) -> Iterator[str]:
    """Yield the lines from what was measured to maps."""
    yield f'recipe = Recipe.from_toml("""\n{origin.recipe().to_toml()}""")'
    arguments = {"1": f"[{', '.join(repr(one.path) for one in raw.phase)}]"}
    if raw.magnitude:
        arguments["magnitude"] = f"[{', '.join(repr(one.path) for one in raw.magnitude)}]"
    if raw.mask is not None:
        arguments["mask"] = repr(raw.mask.path)
    paths = {key: _paths(value) for key, value in arguments.items()}
    corrections = _call("Corrections", _stated(raw))
    yield f"corrections = {corrections}"
    yield f"with finish({_call('open_source', paths)}) as source:"
    if raw.select:
        yield f"    chosen = next(m for m in source.measurements if m.name == {raw.select!r})"
    else:
        yield "    chosen = source.measurements[0]"
    yield "    measured = source.load(chosen, corrections)"
    if origin.rates:
        yield "rates = {"
        for key, given in origin.rates.items():
            yield f"    Quantity.{Quantity.named(key).name}: {_read(given)},"
        yield "}"
        yield "measured = with_rates(measured, rates)"
    if origin.reference and origin.reference.get("to") == "roi" and origin.in_one_go:
        yield "# labels.nii.gz stands for the map the reference was found in."
        yield "region = {Quantity.LABELS: read_volume('labels.nii.gz').data}"
        yield "measured = measured.with_volumes(region)"
    device = origin.made.history[0].device
    yield f"prepared = finish(prepare(measured, recipe, {device!r})).acquisition"
    if origin.in_one_go:
        yield f"maps = finish(reconstruct(prepared, recipe, {origin.made.device!r}))"
        return
    yield from _handed_over(origin)
    yield from _method(origin)
    yield from _reference(origin)


def _paths(text: str) -> str:
    """Return text of strings as text of paths."""
    if text.startswith("["):
        return f"[Path(name) for name in {text}]"
    return f"Path({text})"


def _stated(raw: Raw) -> dict[str, str]:
    stated: dict[str, str] = {}
    if raw.echo_times and not raw.select:
        stated["echo_times"] = repr(raw.echo_times)
    if raw.field_strength is not None:
        stated["field_strength"] = repr(raw.field_strength)
    if raw.b0_direction is not None:
        stated["b0_direction"] = repr(raw.b0_direction)
    if raw.flip_phase:
        stated["flip_phase"] = "True"
    if raw.phase_scale != "auto":
        stated["phase_scale"] = repr(raw.phase_scale)
    return stated


def _handed_over(origin: Origin) -> Iterator[str]:
    """Yield the lines that give the method what it was given in the window, and no more."""
    yield ""
    yield ""
    yield "def volume(quantity):"
    yield "    known = (prepared.field_strength, prepared.echo_times)"
    yield "    return Volume(prepared[quantity], prepared.grid, quantity.unit or None, *known)"
    yield ""
    yield ""
    arguments = {"1": "volume(Quantity.LOCAL_FIELD)"}
    for quantity, name in BESIDE.items():
        if quantity.key in origin.chosen:
            arguments[name] = _read(origin.chosen[quantity.key])
        elif quantity.key in origin.made.inputs:
            arguments[name] = f"volume(Quantity.{quantity.name})"
    yield f"acquisition = {_call('assemble', arguments | _constants(origin))}"


def _ending(origin: Origin) -> Iterator[str]:
    yield f"expected = {_mapping(dict(origin.made.inputs))}"
    yield "if maps.provenance.inputs != expected:"
    yield '    print("The inputs are not those of the result, so the maps will differ.")'
    yield 'print(*write_maps(maps, "results", stem="again", overwrite=True), sep="\\n")'
