"""The JSON file beside a NIfTI file: what BIDS lets it say about units, B0 and echo times."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_qsm.acquisition import InputError


@dataclass(frozen=True)
class Sidecar:
    """What a sidecar states; every field is empty where it states nothing.

    Parameters
    ----------
    name : str
        File name, empty if there is no sidecar.
    unit : str, optional
        ``Units``.
    field_strength : float, optional
        ``MagneticFieldStrength`` in T.
    echo_times : tuple[float, ...]
        ``EchoTime`` or ``EchoTimes`` in s.
    b0_direction : tuple[float, ...], optional
        ``B0_dir``, along the stored voxel axes.
    difference : tuple[float, float], optional
        ``EchoTime1`` and ``EchoTime2`` in s: the echoes that a phase difference was made of.
    stated : mapping
        Everything it says.
    """

    name: str = ""
    unit: str | None = None
    field_strength: float | None = None
    echo_times: tuple[float, ...] = ()
    b0_direction: tuple[float, float, float] | None = None
    difference: tuple[float, float] | None = None
    stated: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


def sidecar_path(image: Path) -> Path:
    """Return where the sidecar of ``image`` (``x.nii`` or ``x.nii.gz``) lies: ``x.json``."""
    stem = image.name.removesuffix(".gz").removesuffix(".nii")
    return image.with_name(f"{stem}.json")


def read_sidecar(image: Path) -> Sidecar:
    """Read the sidecar of ``image``; without one, return an empty `Sidecar`.

    Raises
    ------
    InputError
        If the file is no JSON object or a key holds something else than BIDS says.
    """
    path = sidecar_path(image)
    if path == image or not path.is_file():
        return Sidecar()
    return sidecar_of(path, read_json(path))


def is_own_result(image: Path) -> bool:
    """Whether the sidecar of ``image`` says that this program has computed it.

    A sidecar that cannot be read says nothing.
    """
    path = sidecar_path(image)
    if not path.is_file():
        return False
    try:
        made = read_json(path).get("Provenance")
    except InputError:
        return False
    software = made.get("software") if isinstance(made, dict) else None
    return isinstance(software, dict) and "napari-qsm" in software


def sidecar_of(path: Path, stated: Mapping[str, Any]) -> Sidecar:
    """Check what ``stated`` says, be it of one file or inherited from several; errors name `path`.

    Raises
    ------
    InputError
        If a key holds something else than BIDS says.
    """
    unit = stated.get("Units")
    if unit is not None and not isinstance(unit, str):
        raise _wrong(path, "Units", unit, "a text such as 'ppm' or 'Hz'")
    return Sidecar(
        name=path.name,
        unit=unit or None,
        field_strength=_field_strength(path, stated),
        echo_times=_echo_times(path, stated),
        b0_direction=_direction(path, stated),
        difference=_difference(path, stated),
        stated=stated,
    )


def write_sidecar(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as indented JSON; what JSON does not know is written as text."""
    path.write_text(
        json.dumps(dict(content), indent=2, ensure_ascii=False, default=str) + "\n",
        encoding="utf-8",
    )


def read_json(path: Path) -> Mapping[str, Any]:
    """Read a JSON object.

    Raises
    ------
    InputError
        If the file cannot be read or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise InputError(
            f"The sidecar {path.name} is not valid JSON (line {error.lineno}: "
            f"{error.msg.lower()}); repair it or move it away."
        ) from None
    except (UnicodeDecodeError, RecursionError, OSError) as error:
        raise InputError(
            f"The sidecar {path.name} cannot be read as JSON text ({type(error).__name__}); repair "
            "it or move it away."
        ) from None
    if not isinstance(content, dict):
        raise InputError(
            f"The sidecar {path.name} holds no keys where a JSON object {{...}} was expected; "
            "repair it or move it away."
        )
    return content


def _wrong(path: Path, key: str, value: Any, expected: str) -> InputError:
    found = json.dumps(value, default=str)
    found = found if len(found) <= 60 else f"{found[:57]}..."
    return InputError(
        f"The sidecar {path.name} states {key} {found} where {expected} was expected; correct it."
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too long for a float
        return False


def _field_strength(path: Path, stated: Mapping[str, Any]) -> float | None:
    value = stated.get("MagneticFieldStrength")
    if value is None:
        return None
    if not _is_number(value) or not 0 < value < 30:
        raise _wrong(path, "MagneticFieldStrength", value, "a number of tesla between 0 and 30")
    return float(value)


def _echo_times(path: Path, stated: Mapping[str, Any]) -> tuple[float, ...]:
    for key in ("EchoTime", "EchoTimes"):
        if stated.get(key) is not None:
            return _times(path, key, stated[key])
    return ()


def _times(path: Path, key: str, value: Any) -> tuple[float, ...]:
    times = value if isinstance(value, list) else [value]
    if not times or not all(_is_number(t) and 0 < t <= 1 for t in times):
        raise _wrong(path, key, value, "a positive number of seconds (at most 1)")
    return tuple(float(t) for t in times)


def _difference(path: Path, stated: Mapping[str, Any]) -> tuple[float, float] | None:
    if stated.get("EchoTime1") is None or stated.get("EchoTime2") is None:
        return None
    first, second = (_times(path, key, stated[key])[0] for key in ("EchoTime1", "EchoTime2"))
    return first, second


def _direction(path: Path, stated: Mapping[str, Any]) -> tuple[float, float, float] | None:
    value = stated.get("B0_dir")
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 3 or not all(map(_is_number, value)):
        raise _wrong(path, "B0_dir", value, "a list of three numbers")
    x, y, z = map(float, value)
    if math.hypot(x, y, z) < 1e-6:
        raise _wrong(path, "B0_dir", value, "a direction that is not zero")
    return x, y, z
