"""BIDS by names and JSON: entities, sidecars inherited from parent folders, what is raw phase.

Only what names and sidecars say is used; no index of the data set is built.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_qsm.acquisition import InputError
from napari_qsm.io.parts import PHASES, Part, Role, bare_name, read_part
from napari_qsm.io.sidecar import Sidecar, read_json, sidecar_of, sidecar_path

_ROLES = {
    "mag": Role.MAGNITUDE,
    "phase": Role.PHASE,
    "real": Role.REAL,
    "imag": Role.IMAGINARY,
}
"""What ``part-`` says."""

_FIELD_MAPS = {
    "phasediff": Role.DIFFERENCE,
    "phase1": Role.PHASE,
    "phase2": Role.PHASE,
    "fieldmap": Role.FIELD,
    "magnitude": Role.MAGNITUDE,
    "magnitude1": Role.MAGNITUDE,
    "magnitude2": Role.MAGNITUDE,
}
"""Suffixes of the folder ``fmap``, which are one measurement for each run."""

_GRADIENT_ECHO = {"MEGRE", "T2starw", "GRE", "swi"}
"""Suffixes whose images without ``part-`` are the magnitude."""

_ASIDE = {"derivatives", "sourcedata", "code", "stimuli"}
"""Folders of a data set that hold no raw images of it."""


def entities(name: str) -> tuple[dict[str, str], str]:
    """Split ``sub-1_echo-2_part-mag_MEGRE`` into its entities and its suffix."""
    *pairs, suffix = name.split("_")
    known = dict(pair.split("-", 1) for pair in pairs if "-" in pair)
    if "-" in suffix:
        key, value = suffix.split("-", 1)
        return {**known, key: value}, ""
    return known, suffix


def is_bids(path: Path) -> bool:
    """Whether a file's name is one of BIDS: it begins with a subject and ends with a suffix."""
    known, suffix = entities(bare_name(path))
    return "sub" in known and bool(suffix) and path.name.startswith("sub-")


def raw_images(images: Iterable[Path], folder: Path) -> list[Path]:
    """Choose the images below a folder that may be raw phase or belong to it."""
    chosen = []
    for path in images:
        inside = set(path.relative_to(folder).parts[:-1])
        known, suffix = entities(bare_name(path))
        fits = "part" in known or suffix in _GRADIENT_ECHO or suffix in _FIELD_MAPS
        if fits and is_bids(path) and not inside & _ASIDE:
            chosen.append(path)
    return chosen


def sidecar(image: Path) -> Sidecar:
    """Return what is stated about an image, in its own sidecar and in those it inherits.

    A JSON file in a parent folder applies where its suffix is the same and the image has all its
    entities; what lies closer, and among neighbours what names more, goes first.

    Raises
    ------
    InputError
        If a file is no JSON object, or a key holds something else than BIDS says.
    """
    wanted, suffix = entities(bare_name(image))
    stated: dict[str, Any] = {}
    for folder in _up_to_root(image):
        applicable = []
        for path in sorted(folder.glob("*.json")):
            known, end = entities(path.name.removesuffix(".json"))
            if end == suffix and known.items() <= wanted.items():
                applicable.append((len(known), path))
        for _, path in sorted(applicable):
            stated.update(read_json(path))
    return sidecar_of(sidecar_path(image), stated) if stated else Sidecar()


def _up_to_root(image: Path) -> list[Path]:
    """Return the folders from the data set's root down to the one that holds `image`.

    The root has a description; without one it is the folder that holds the subject's.
    """
    folders = list(image.absolute().parents)
    for depth, folder in enumerate(folders, start=1):
        if (folder / "dataset_description.json").is_file():
            return folders[:depth][::-1]
    for depth, folder in enumerate(folders, start=1):
        if folder.name.startswith("sub-"):
            return folders[: depth + 1][::-1]
    return folders[:1]


def read(image: Path) -> Part:
    """Look at one image of a BIDS folder; what is wrong with it becomes its problem."""
    try:
        known = sidecar(image)
        part = read_part(image, known)
    except InputError as error:
        part = replace(read_part(image, Sidecar()), problem=str(error))
    tags, suffix = entities(bare_name(image))
    if part.role is not Role.COMPLEX:
        part = replace(part, role=_role(tags, suffix, part.role))
    if "echo" in tags and tags["echo"].isdigit():
        part = replace(part, echo=int(tags["echo"]))
    return part


def _role(tags: Mapping[str, str], suffix: str, fallback: Role) -> Role:
    if tags.get("part") in _ROLES:
        return _ROLES[tags["part"]]
    if suffix in _FIELD_MAPS:
        return _FIELD_MAPS[suffix]
    return Role.MAGNITUDE if suffix in _GRADIENT_ECHO else fallback


def group(parts: Iterable[Part]) -> tuple[list[tuple[str, list[Part]]], list[Part]]:
    """Sort images into measurements by their entities.

    Returns
    -------
    named : list of (str, list of Part)
        Measurements with a phase or a field map, by name.
    rest : list of Part
        What belongs to none.
    """
    found: dict[tuple[str, str], list[Part]] = defaultdict(list)
    for part in parts:
        tags, suffix = entities(bare_name(part.path))
        name = "_".join(f"{k}-{v}" for k, v in tags.items() if k not in {"part", "echo"})
        found[name, "" if suffix in _FIELD_MAPS else suffix].append(part)
    named, rest = [], []
    for (name, suffix), members in found.items():
        if not any(part.role in PHASES for part in members):
            rest += members
            continue
        shared = sum(1 for other, _ in found if other == name) > 1
        tag = suffix or "fmap"
        named.append((f"{name}_{tag}" if shared else name, members))
    return named, rest
