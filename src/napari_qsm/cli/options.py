"""Options that several commands share, and what their text means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_qsm.acquisition import InputError

if TYPE_CHECKING:
    from napari_qsm.physics.units import FieldUnit

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="A parameter, NAME=VALUE.")]
Noise = Annotated[
    Path | None,
    typer.Option("--noise", help="Standard deviation of FIELD in ppm, as 'prepare' writes it."),
]
Mask = Annotated[Path | None, typer.Option("--mask", help="Brain mask.")]
Magnitude = Annotated[Path | None, typer.Option("--magnitude", help="Magnitude.")]
R2Prime = Annotated[
    Path | None, typer.Option("--r2prime", help="R2' in 1/s or 1/ms, for methods that use it.")
]
R2Star = Annotated[Path | None, typer.Option("--r2star", help="R2* in 1/s or 1/ms.")]
Start = Annotated[
    Path | None, typer.Option("--start", help="Susceptibility in ppm that the method starts from.")
]
R2 = Annotated[Path | None, typer.Option("--r2", help="R2 in 1/s or 1/ms.")]
Unit = Annotated[
    str | None, typer.Option("--unit", help="Unit of FIELD: ppm, ppb, Hz, rad or rad/s.")
]
EchoTime = Annotated[float | None, typer.Option("--te", help="Echo time in seconds.")]
FieldStrength = Annotated[float | None, typer.Option("--b0", help="Field strength in tesla.")]
EchoTimes = Annotated[
    str | None, typer.Option("--te", help="Echo times in seconds: 0.004,0.008,...")
]
Direction = Annotated[
    str | None, typer.Option("--b0-dir", help="B0 along the stored voxel axes: X,Y,Z.")
]
Also = Annotated[
    list[str] | None,
    typer.Option(
        "--also",
        help="Field of another orientation, resampled on FIELD's grid, and its B0 along the voxel "
        "axes there: FILE=X,Y,Z, or FILE=MATRIX with the registration to FIELD; repeat it.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, mps ...")]
Stem = Annotated[str, typer.Option("--stem", help="Begin of the files' names.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist already.")]

Direction3 = tuple[float, float, float]


def pairs(option: str, given: Iterable[str], form: str = "NAME=VALUE") -> dict[str, str]:
    """Split pairs at their first equals sign.

    Raises
    ------
    InputError
        If there is none, a side of it is missing, or a name comes twice.
    """
    split: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        name = name.strip()
        if not equals or not name:
            raise InputError(f"{option} was given '{pair}' where {form} was expected.")
        if name in split:
            raise InputError(f"{option} states {name} twice; state it once.")
        split[name] = value.strip()
    return split


def settings(given: Iterable[str] | None) -> dict[str, str]:
    """Split the pairs of ``--set``; the model of the parameters converts the values."""
    return pairs("--set", given or ())


def placed_settings(given: Iterable[str] | None) -> Mapping[str, dict[str, str]]:
    """Split PLACE.PARAM=VALUE of ``--set`` into parameters by place."""
    form = "PLACE.PARAM=VALUE"
    placed: dict[str, dict[str, str]] = {}
    for name, value in pairs("--set", given or (), form).items():
        place, dot, parameter = name.partition(".")
        if not dot or not place or not parameter:
            raise InputError(f"--set was given '{name}={value}' where {form} was expected.")
        placed.setdefault(place, {})[parameter] = value
    return placed


def unit(text: str | None) -> FieldUnit | None:
    """Read the unit of a field."""
    from napari_qsm.physics.units import FieldUnit

    try:
        return None if text is None else FieldUnit.parse(text)
    except ValueError as error:
        raise InputError(str(error)) from None


def direction(text: str | None) -> tuple[float, float, float] | None:
    """Read three numbers."""
    if text is None:
        return None
    values = _numbers(text)
    if len(values) != 3:
        raise InputError(f"--b0-dir was given '{text}' where three numbers X,Y,Z were expected.")
    x, y, z = values
    return x, y, z


def orientations(given: Iterable[str] | None) -> list[tuple[Path, Direction3 | Path | None]]:
    """Split FILE, FILE=X,Y,Z and FILE=MATRIX of ``--also``."""
    split: list[tuple[Path, Direction3 | Path | None]] = []
    for text in given or ():
        name, equals, where = text.rpartition("=")
        if not equals or Path(text).exists():
            split.append((Path(text), None))
            continue
        if not name or not where:
            raise InputError(
                f"--also was given '{text}' where FILE, FILE=X,Y,Z or FILE=MATRIX was expected."
            )
        values = _numbers(where)
        if values and len(values) != 3:
            raise InputError(f"--also was given '{where}' where three numbers X,Y,Z were expected.")
        split.append((Path(name), (values[0], values[1], values[2]) if values else Path(where)))
    return split


def echo_times(text: str | None) -> tuple[float, ...] | None:
    """Read one number or several; what echo times may be is checked where they are used."""
    if text is None:
        return None
    values = _numbers(text)
    if not values:
        raise InputError(
            f"--te was given '{text}' where echo times in seconds such as 0.004,0.008 were "
            "expected."
        )
    return values


def strengths(text: str) -> tuple[float, ...]:
    """Read several numbers; what strengths may be is checked where they are used."""
    if not (values := _numbers(text)):
        raise InputError(
            f"--strengths was given '{text}' where numbers such as 0.5,1,2 were expected."
        )
    return values


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        return ()
