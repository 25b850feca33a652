"""BIDS derivatives: all that a chain has made, how it was made, and the recipe to make it again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from napari_qsm import __version__
from napari_qsm.acquisition import InputError, Maps, Quantity
from napari_qsm.io.nifti import image_jobs, sidecar_of
from napari_qsm.io.sidecar import sidecar_path
from napari_qsm.io.together import (
    Job,
    refuse_existing,
    refuse_stem,
    refuse_unwritable,
    write_together,
)
from napari_qsm.pipeline import GIVEN_MASK, Planned, Prepared, Recipe
from napari_qsm.preparation.registry import Place

INTERMEDIATE = frozenset({Quantity.PHASE, Quantity.OFFSET, Quantity.UNWRAPPED})
"""What is large, mostly of interest to those who look for a fault, and written on request."""

_MASKS = {Place.MASK: "brain", Place.BACKGROUND: "reliable"}
"""What the masks of two places are called; those of others by the key of the place."""

_ENTITIES = ("sub", "ses", "sample", "acq", "ce", "rec", "dir", "run", "task", "inv")
"""Parts of a BIDS name that say which measurement it is; echo, part and suffix are left behind."""

_DESCRIPTION = "dataset_description.json"

Made = Mapping[Place | None, Iterable[Quantity]]
"""What each place gives; that of the method has no place."""


def stem_of(name: str) -> str:
    """Return the begin of file names for a measurement.

    The entities of a BIDS name stay, such as ``sub-1_ses-2_acq-GRE_run-1``; of any other name
    stay letters, digits, dots, plus and minus.
    """
    parts = name.split("_")
    if re.fullmatch(r"sub-[A-Za-z0-9]+", parts[0]):
        return "_".join(p for p in parts if re.fullmatch(rf"({'|'.join(_ENTITIES)})-[\w+]+", p))
    return re.sub(r"[^\w.+-]+", "-", name, flags=re.ASCII).strip("-._") or "measurement"


def place_of(folder: str | Path, stem: str) -> Path:
    """Return the folder of a measurement's files: ``sub-*/ses-*/anat`` if its stem says so."""
    entities = [part for part in stem.split("_") if part.startswith(("sub-", "ses-"))]
    if not stem.startswith("sub-"):
        return Path(folder)
    return Path(folder).joinpath(*entities, "anat")


def targets(
    planned: Iterable[Planned],
    method_gives: Iterable[Quantity],
    folder: str | Path,
    *,
    stem: str,
    overwrite: bool = False,
    keep_intermediate: bool = False,
) -> list[Path]:
    """Say which images and which recipe will be written; ask before a long computation.

    Parameters
    ----------
    planned : iterable of Planned
        What is going to run.
    method_gives : iterable of Quantity
        What the method behind it gives; nothing if there is none.
    folder, stem, overwrite, keep_intermediate
        As for `write_derivatives`.

    Raises
    ------
    InputError
        If one of the files or sidecars exists and must not be overwritten, the stem is no name, or
        the folder cannot be written to or holds measured data.
    """
    made: dict[Place | None, Iterable[Quantity]] = {
        p.place: p.stage.gives for p in planned if p.stage is not None
    }
    made[None] = method_gives
    refuse_stem(stem)
    refuse_unwritable(place_of(folder, stem))
    _refuse_measured(Path(folder))
    names = _names(made, keep_intermediate)
    images = [place_of(folder, stem) / f"{stem}_{name}.nii.gz" for name in names]
    recipe = place_of(folder, stem) / f"{stem}_pipeline.toml"
    refuse_existing([*images, *map(sidecar_path, images), recipe], overwrite)
    return [*images, recipe]


def write_derivatives(
    prepared: Prepared,
    maps: Maps | None,
    recipe: Recipe,
    folder: str | Path,
    *,
    stem: str,
    overwrite: bool = False,
    keep_intermediate: bool = False,
    command: str = "",
) -> list[Path]:
    """Write what a chain has made, the mask of every stage included, all together or not at all.

    Parameters
    ----------
    prepared : Prepared
        What the stages gave.
    maps : Maps or None
        What the method behind them gave.
    recipe : Recipe
        What was asked for; written as a preset that makes all of it again, from the same files,
        mask and corrections.
    folder : str or Path
        Root of the derivatives; created with a ``dataset_description.json`` if it does not exist.
    stem : str
        Begin of the file names; ``sub-*`` and ``ses-*`` in it become folders.
    overwrite : bool
        Whether existing files may be replaced.
    keep_intermediate : bool
        Whether to write offset, corrected and unwrapped phase, too.
    command : str
        What was typed, noted in the preset.

    Returns
    -------
    list of Path
        The images, then the preset; each image has its sidecar beside it.

    Raises
    ------
    InputError
        See `targets`.

    Notes
    -----
    Where two stages give the same quantity the later one is written; masks are all written.
    """
    given: dict[Place | None, Maps] = dict(prepared.made.items())
    written = targets(
        prepared.plan,
        () if maps is None else maps.volumes,
        folder,
        stem=stem,
        overwrite=overwrite,
        keep_intermediate=keep_intermediate,
    )
    preset = written[-1]
    if maps is not None:
        given[None] = maps
    names = _names({place: m.volumes for place, m in given.items()}, keep_intermediate)
    images = {
        preset.with_name(f"{stem}_{name}.nii.gz"): (given[place], quantity)
        for name, (place, quantity) in names.items()
    }
    if GIVEN_MASK in (entry.stage.key for entry in prepared.plan if entry.stage is not None):
        recipe = recipe.stating(Place.MASK.key, GIVEN_MASK)  # another one would draw another mask
    text = recipe.to_toml(**({"command": command} if command else {}))
    write_together(_jobs(images, preset, text, Path(folder) / _DESCRIPTION))
    return [*images, preset]


def _names(made: Made, keep_intermediate: bool) -> dict[str, tuple[Place | None, Quantity]]:
    """Return where every file comes from, by the end of its name; a later place goes first."""
    return {
        name_of(place, quantity): (place, quantity)
        for place, quantities in made.items()
        for quantity in quantities
        if keep_intermediate or quantity not in INTERMEDIATE
    }


def name_of(place: Place | None, quantity: Quantity) -> str:
    """Return the end of the name under which a map that a place gave is written."""
    if quantity is Quantity.PHASE:  # its own suffix is that of the measured one
        return "part-phase_desc-corrected_MEGRE"
    if quantity is Quantity.MASK and place is not None:
        return f"desc-{_MASKS.get(place, place.key)}_{quantity.suffix}"
    return quantity.suffix


def _jobs(
    images: Mapping[Path, tuple[Maps, Quantity]], preset: Path, text: str, description: Path
) -> Iterator[Job]:
    for path, (maps, quantity) in images.items():
        yield from image_jobs(path, maps[quantity], maps.grid, _sidecar(maps, quantity))
    yield preset, lambda temporary: temporary.write_text(text, encoding="utf-8")
    if not description.exists():
        yield description, lambda temporary: temporary.write_text(_described(), encoding="utf-8")


def _sidecar(maps: Maps, quantity: Quantity) -> dict[str, Any]:
    """Return what BIDS asks of a derivative, and our own provenance."""
    content = sidecar_of(maps, quantity)
    made = (*maps.provenance.history, maps.provenance)
    if sources := list(dict.fromkeys(s for one in made for s in one.sources.values())):
        content["Sources"] = sources
    if quantity is Quantity.MASK:
        content["Type"] = "Brain"
    return content


def _described() -> str:
    content = {
        "Name": "Quantitative susceptibility mapping",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "napari-qsm", "Version": __version__}],
    }
    return json.dumps(content, indent=2) + "\n"


def _refuse_measured(folder: Path) -> None:
    """Refuse a folder whose description says that it holds what was measured."""
    path = folder / _DESCRIPTION
    if not path.exists():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        kind = content.get("DatasetType", "raw")
    except (OSError, ValueError, AttributeError, RecursionError):
        raise InputError(f"{path} cannot be read; repair it or choose another folder.") from None
    if kind != "derivative":
        raise InputError(
            f"{folder} holds a {kind} BIDS dataset, to which nothing is added; choose "
            f"{folder / 'derivatives' / 'napari-qsm'} or another folder."
        )
