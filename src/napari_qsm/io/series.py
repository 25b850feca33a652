"""From image files to measurements: which phase and which magnitude were measured together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from napari_qsm.io.parts import PHASES, Part, Role, bare_name


class Kind(Enum):
    """What a measurement consists of."""

    ECHOES = "echoes"
    DIFFERENCE = "phase difference"
    FIELD = "field map"


@dataclass(frozen=True)
class Measurement:
    """One acquisition that was found; nothing of it is loaded yet.

    Parameters
    ----------
    name : str
        Short name to choose it by, unique in its `Source`, such as ``sub-1_acq-GRE``.
    summary : str
        One line: echoes and times, parts, grid, scanner.
    kind : Kind
        What its parts are.
    parts : tuple[Part, ...]
        Its files.
    origin : str
        Where the files came from, if not from where they lie now.
    """

    name: str
    summary: str
    kind: Kind = Kind.ECHOES
    parts: tuple[Part, ...] = ()
    origin: str = ""

    def having(self, *roles: Role) -> tuple[Part, ...]:
        """Return the parts with one of `roles`, in the order of their echoes."""
        return ordered(part for part in self.parts if part.role in roles)


def ordered(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Sort by echo time; where one is unknown, by echo number; else by name, 2 before 10."""
    found = sorted(parts, key=lambda part: natural(part.path.name))
    if all(part.time is not None for part in found):
        return tuple(sorted(found, key=lambda part: part.time or 0.0))
    if all(part.echo is not None for part in found):
        return tuple(sorted(found, key=lambda part: part.echo or 0))
    return tuple(found)


def natural(name: str) -> list[tuple[int, str]]:
    """Return what sorts names as people count."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def group(parts: Iterable[Part]) -> tuple[list[list[Part]], list[Part]]:
    """Sort files into measurements by series, time and grid.

    Scanners store magnitude and phase as one series or as two. Files of one series belong
    together; a series that holds an echo several times holds several measurements; a phase without
    magnitude gets that of the same protocol that lies on its grid and is next in time.

    Returns
    -------
    groups : list of list of Part
        Each with a phase, in the order in which they were measured.
    rest : list of Part
        What belongs to no phase.
    """
    units = [run for unit in _units(parts) for run in _runs(unit)]
    whole = [u for u in units if _has(u, *PHASES)]
    spare = [u for u in units if not _has(u, *PHASES)]
    wanting = sorted(
        ((_distance(unit, other), i, j) for i, unit in enumerate(whole) if _lacks(unit)
         for j, other in enumerate(spare) if _belong(unit, other)),
    )  # fmt: skip
    served: set[int] = set()
    taken: set[int] = set()
    for _, i, j in wanting:
        if i not in served and j not in taken:
            whole[i] = [*whole[i], *spare[j]]
            served.add(i)
            taken.add(j)
    whole = [_with_magnitudes(unit) for unit in whole]
    rest = [part for j, unit in enumerate(spare) if j not in taken for part in unit]
    return sorted(whole, key=_when), rest


def _units(parts: Iterable[Part]) -> list[list[Part]]:
    """Collect the files of each series; a file that states nothing goes by its name."""
    units: dict[tuple[str, ...], list[Part]] = defaultdict(list)
    silent: list[Part] = []
    for part in parts:
        if not part.sidecar.stated:
            silent.append(part)
            continue
        series = part.text("SeriesInstanceUID")
        key = (series,) if series else (str(part.path.parent), part.stem)
        units[(*key, part.text("SeriesNumber"))].append(part)
    for part in silent:
        alike = [u for u in units.values() if _called(u[0]) == _called(part)]
        (alike[0] if alike else units[_called(part)]).append(part)
    return list(units.values())


def _called(part: Part) -> tuple[str, str]:
    return str(part.path.parent), part.stem


def _runs(unit: list[Part]) -> list[list[Part]]:
    """Split a series in which echoes are there several times."""
    seen: dict[tuple[Role, float, int], list[Part]] = defaultdict(list)
    for part in unit:
        seen[(part.role, *part.echo_key)].append(part)
    count = max(len(same) for same in seen.values())
    if count == 1 or min(len(same) for same in seen.values()) < count:
        return [unit]
    for same in seen.values():
        same.sort(key=lambda part: (part.seconds or 0.0, natural(part.path.name)))
    return [[same[i] for same in seen.values()] for i in range(count)]


def _has(unit: Iterable[Part], *roles: Role) -> bool:
    return any(part.role in roles for part in unit)


def _lacks(unit: list[Part]) -> bool:
    """Whether another series must hold what belongs to this phase."""
    if _has(unit, Role.REAL):
        return not _has(unit, Role.IMAGINARY)
    return not _has(unit, Role.MAGNITUDE, Role.COMPLEX, Role.OTHER)


def _belong(unit: list[Part], other: list[Part]) -> bool:
    """Whether a series without phase may belong to one with."""
    wanted = Role.IMAGINARY if _has(unit, Role.REAL) else Role.MAGNITUDE
    if not _has(other, wanted):
        return False
    first, second = unit[0], other[0]
    for key in ("StudyInstanceUID", "ProtocolName"):
        a, b = first.text(key), second.text(key)
        if a and b and a != b:
            return False
    times, others = _times(unit), _times(other)
    if times and others and not times & others:
        return False
    if first.text("ProtocolName") and _series_gap(unit, other) <= 1:
        return True
    return _same_grid(unit, other)


def _times(unit: list[Part]) -> set[int]:
    """Echo times in tenths of ms."""
    times = {round(1e4 * time) for part in unit for time in part.sidecar.echo_times}
    for part in unit:
        if part.role is Role.DIFFERENCE and part.sidecar.difference:
            times |= {round(1e4 * time) for time in part.sidecar.difference}
    return times


def _same_grid(unit: list[Part], other: list[Part]) -> bool:
    a, b = unit[0].grid, other[0].grid
    return a is not None and b is not None and a.mismatch(b) is None


def _series_gap(unit: list[Part], other: list[Part]) -> float:
    a, b = unit[0].number("SeriesNumber"), other[0].number("SeriesNumber")
    return abs(a - b) if a is not None and b is not None else float("inf")


def _distance(unit: list[Part], other: list[Part]) -> tuple[bool, float, float]:
    a, b = unit[0].seconds, other[0].seconds
    gap = abs(a - b) if a is not None and b is not None else float("inf")
    return not _same_grid(unit, other), gap, _series_gap(unit, other)


def _with_magnitudes(unit: list[Part]) -> list[Part]:
    """Take files of a phase's own series whose names tell no role as its magnitude."""
    unit = [part for part in unit if part.role is not Role.DERIVED]
    if _has(unit, Role.MAGNITUDE, Role.REAL, Role.COMPLEX):
        return [part for part in unit if part.role is not Role.OTHER]
    return [replace(p, role=Role.MAGNITUDE) if p.role is Role.OTHER else p for p in unit]


def _when(unit: list[Part]) -> tuple[float, float, list[tuple[int, str]]]:
    series = min((part.number("SeriesNumber") or 0.0 for part in unit), default=0.0)
    return unit[0].seconds or 0.0, series, natural(str(unit[0].path))


def kind_of(parts: Sequence[Part]) -> Kind:
    """Say what a group of files is."""
    if _has(parts, Role.PHASE, Role.REAL, Role.COMPLEX):
        return Kind.ECHOES
    return Kind.DIFFERENCE if _has(parts, Role.DIFFERENCE) else Kind.FIELD


def series_name(parts: Sequence[Part]) -> str:
    """Return a short name from series number and description, else from the first phase."""
    first = min(parts, key=lambda part: part.number("SeriesNumber") or 0.0)
    titles = {part.text("SeriesDescription") for part in parts}
    title = titles.pop() if len(titles) == 1 else first.text("ProtocolName")
    phase = next((part for part in ordered(parts) if part.role in PHASES), first)
    label = f"{first.text('SeriesNumber')}_{title}" if title else bare_name(phase.path)
    return re.sub(r"[^\w\-]+", "_", label).strip("_") or "measurement"


def measurements(named: Iterable[tuple[str, Sequence[Part]]], origin: str = "") -> tuple[
    Measurement, ...
]:  # fmt: skip
    """Make measurements of named groups; names that occur twice get a number."""
    made: list[Measurement] = []
    counts: dict[str, int] = defaultdict(int)
    for name, parts in named:
        counts[name] += 1
        unique = name if counts[name] == 1 else f"{name}_{counts[name]}"
        kind = kind_of(parts)
        made.append(Measurement(unique, summary(parts, kind), kind, tuple(parts), origin))
    return tuple(made)


def summary(parts: Sequence[Part], kind: Kind) -> str:
    """Describe a group of files in one line."""
    pieces = [_echoes_text(parts, kind), _contents(parts, kind)]
    grid = next((part.grid for part in parts if part.grid is not None), None)
    if grid is not None:
        pieces.append("x".join(map(str, grid.shape)))
    strength = next((p.sidecar.field_strength for p in parts if p.sidecar.field_strength), None)
    scanner = [manufacturer(parts), f"{strength:g} T" if strength else "B0 not stated"]
    pieces.append(" ".join(filter(None, scanner)))
    return ", ".join(piece for piece in pieces if piece)


def manufacturer(parts: Iterable[Part]) -> str:
    """Return who built the scanner, empty if nothing says so."""
    return next((text for part in parts if (text := part.text("Manufacturer"))), "")


def _echoes_text(parts: Sequence[Part], kind: Kind) -> str:
    if kind is Kind.FIELD:
        return "field map"
    if kind is Kind.DIFFERENCE:
        pair = next((p.sidecar.difference for p in parts if p.sidecar.difference), None)
        over = f"over {1000 * abs(pair[1] - pair[0]):.4g} ms" if pair else "of unknown echo times"
        return f"phase difference {over}"
    phases = [part for part in parts if part.role in PHASES]
    times = sorted(time for part in phases for time in part.sidecar.echo_times)
    count = max(len(times), sum(part.volumes for part in phases))
    text = "1 echo" if count == 1 else f"{count} echoes"
    if len(times) != count:
        return f"{text}, echo times not stated"
    span = [f"{1000 * time:.4g}" for time in (times[0], times[-1])]
    return f"{text} {' .. '.join(span if count > 1 else span[:1])} ms"


def _contents(parts: Sequence[Part], kind: Kind) -> str:
    if _has(parts, Role.COMPLEX):
        return "complex signal"
    if _has(parts, Role.REAL):
        return "real and imaginary part"
    count = sum(part.role is Role.MAGNITUDE for part in parts)
    if kind is Kind.ECHOES:
        return "magnitude and phase" if count else "phase without magnitude"
    return {0: "no magnitude", 1: "one magnitude"}.get(count, f"{count} magnitudes")
