"""What single image files are: phase or magnitude, which echo, of which series.

Three kinds of folders hold the same thing under different names: what dcm2niix writes, BIDS, and
files that people named themselves. A `Part` says what name, header and sidecar tell of one file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from napari_qsm.acquisition import Grid, InputError
from napari_qsm.io.nifti import read_grid
from napari_qsm.io.sidecar import Sidecar, read_json, read_sidecar, sidecar_path


class Role(Enum):
    """What the numbers of a file are."""

    MAGNITUDE = "magnitude"
    PHASE = "phase"
    REAL = "real part"
    IMAGINARY = "imaginary part"
    COMPLEX = "complex signal"
    DIFFERENCE = "phase difference"
    FIELD = "field map"
    DERIVED = "derived image"
    OTHER = "other"


PHASES = (Role.PHASE, Role.REAL, Role.COMPLEX, Role.DIFFERENCE, Role.FIELD)
"""Roles without one of which a measurement is of no use."""


@dataclass(frozen=True)
class Part:
    """One image file, as far as its header and its sidecar tell.

    Parameters
    ----------
    path : Path
        The file.
    role : Role
        What its numbers are.
    stem : str
        Its name without what tells echoes and roles apart.
    echo : int, optional
        Number of the echo.
    sidecar : Sidecar
        What is stated about it.
    grid : Grid, optional
        Where it lies; None if the file is damaged.
    volumes : int
        Length of the fourth dimension.
    problem : str
        Why it cannot be used; empty if it can.
    """

    path: Path
    role: Role
    stem: str
    echo: int | None = None
    sidecar: Sidecar = field(default_factory=Sidecar)
    grid: Grid | None = field(default=None, compare=False)
    volumes: int = 1
    problem: str = ""

    @property
    def time(self) -> float | None:
        """The time in s of its one echo, where it is stated."""
        times = self.sidecar.echo_times
        return times[0] if len(times) == 1 else None

    def text(self, key: str) -> str:
        """Return what the sidecar states under `key` as text, empty if nothing."""
        value = self.sidecar.stated.get(key)
        return " ".join(map(str, value)) if isinstance(value, list) else str(value or "")

    def number(self, key: str) -> float | None:
        """Return what the sidecar states under `key` as a number, None if it is none."""
        value = self.sidecar.stated.get(key)
        return float(value) if isinstance(value, int | float) else None

    @property
    def seconds(self) -> float | None:
        """Time of day of the acquisition in s, where it is stated."""
        if not (match := re.fullmatch(r"(\d+):(\d+):([\d.]+)", self.text("AcquisitionTime"))):
            return None
        hours, minutes, seconds = map(float, match.groups())
        return 3600 * hours + 60 * minutes + seconds

    @property
    def echo_key(self) -> tuple[float, int]:
        """What orders echoes: their time, else their number."""
        return self.time or 0.0, self.echo or 0


def read_part(path: Path, sidecar: Sidecar | None = None) -> Part:
    """Look at one file; what is wrong with it becomes its problem."""
    problem, grid, volumes, complex_ = "", None, 1, False
    stated = sidecar
    try:
        stated = read_sidecar(path) if sidecar is None else sidecar
        grid, volumes, complex_ = read_grid(path)
    except InputError as error:
        problem = str(error)
        stated = stated or _legible(path)
    known = stated or Sidecar()
    name = bare_name(path)
    role = Role.COMPLEX if complex_ else role_of(name, known.stated)
    return Part(path, role, stem_of(name), echo_of(name, known), known, grid, volumes, problem)


def _legible(path: Path) -> Sidecar:
    """Return what a sidecar with a mistake says beside it, so that its file finds its series."""
    try:
        return Sidecar(stated=read_json(sidecar_path(path)))
    except InputError:
        return Sidecar()


def bare_name(path: Path) -> str:
    """Return a file's name without ``.nii`` or ``.nii.gz``."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


_IMAGE_TYPES = {
    "PHASE": Role.PHASE,
    "P": Role.PHASE,
    "REAL": Role.REAL,
    "R": Role.REAL,
    "IMAGINARY": Role.IMAGINARY,
    "I": Role.IMAGINARY,
    "FIELDMAPHZ": Role.FIELD,
    "MAGNITUDE": Role.MAGNITUDE,
    "M": Role.MAGNITUDE,
}

_DERIVED = {"SWI", "MNIP", "MIP", "PROJECTION IMAGE", "UNI"}
"""Image types that a scanner computes from phase and magnitude."""

_WORDS = (
    (r"phasediff|phase_?difference|diff_?phase", Role.DIFFERENCE),
    (r"fieldmap_?hz|fieldmap$|b0map$", Role.FIELD),
    (r"phase|(?<![a-z])(?:pha|ph|phs)(?![a-z])", Role.PHASE),
    (r"magn|(?<![a-z])mag(?![a-z])", Role.MAGNITUDE),
    (r"imag(?![a-z])|imaginary", Role.IMAGINARY),
    (r"(?<![a-z])real(?![a-z])", Role.REAL),
)
"""Words in names, the most telling first."""

_DCM2NIIX = {
    "ph": Role.PHASE,
    "real": Role.REAL,
    "imaginary": Role.IMAGINARY,
    "fieldmaphz": Role.FIELD,
}

_ENDING = re.compile(r"_(ph|real|imaginary|fieldmaphz)[a-z]?$")

_ECHO = re.compile(
    r"(?:(?:^|[_\-. ])(?:echo|te|e)[-_]?|(?<=phase)|(?<=mag)|(?<=magnitude)|(?<=real)|(?<=imag))"
    r"(\d+)[a-z]?(?=$|[_\-. ])",
    re.IGNORECASE,
)


def role_of(name: str, stated: Mapping[str, Any]) -> Role:
    """Tell a role by dcm2niix's endings, then the sidecar, then words in the name."""
    types = stated.get("ImageType")
    kinds = [str(kind).upper() for kind in types] if isinstance(types, list) else []
    if _DERIVED & set(kinds):
        return Role.DERIVED
    match = _ENDING.search(name)
    # dcm2niix puts its own, surest word last.
    found = [_IMAGE_TYPES[kind] for kind in reversed(kinds) if kind in _IMAGE_TYPES]
    if stated.get("ConversionSoftware") == "dcm2niix":
        found.append(Role.MAGNITUDE)  # whatever else it is, it says so
    role = _DCM2NIIX[match.group(1)] if match else found[0] if found else role_by_name(name)
    return Role.DIFFERENCE if role is Role.PHASE and _is_difference(stated) else role


def _is_difference(stated: Mapping[str, Any]) -> bool:
    """Whether a phase is the difference of two echoes, as Siemens' field mapping stores it."""
    guess = stated.get("BidsGuess")
    if isinstance(guess, list) and guess:
        return str(guess[-1]).endswith("_phasediff")
    two = stated.get("EchoTime1") is not None and stated.get("EchoTime2") is not None
    return two and "fm2d2" in str(stated.get("SequenceName"))


def role_by_name(name: str) -> Role:
    """Tell a role by the words in a name alone; `Role.OTHER` if there are none."""
    lowered = name.lower()
    for pattern, role in _WORDS:
        if re.search(pattern, lowered):
            return role
    return Role.OTHER


def echo_of(name: str, sidecar: Sidecar) -> int | None:
    """Return the number of an echo: the sidecar's, else the one in the name."""
    number = sidecar.stated.get("EchoNumber")
    if isinstance(number, int):
        return number
    match = _ECHO.search(name)
    return int(match.group(1)) if match else None


def stem_of(name: str) -> str:
    """Return a name without its echo and without words for roles; equal for all of one series."""
    stem = _ENDING.sub("", name)
    stem = _ECHO.sub("", stem)
    for pattern, _ in _WORDS:
        stem = re.sub(rf"(?:part-)?(?:{pattern})(?:itude|inary|e)?", "", stem, flags=re.IGNORECASE)
    return re.sub(r"[_\-. ]{2,}", "_", stem).strip("_-. ")
