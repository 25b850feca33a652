"""From the scanner's files to raw acquisitions: DICOM, BIDS and plain NIfTI come in here.

`open_source` looks at files and says which measurements they hold; `Source.load` makes one of them
an `Acquisition` of wrapped phase and magnitude. Nothing is written beside the source: what DICOM is
converted to lies in a temporary folder, which goes when the `Source` is closed.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from napari_qsm.acquisition import Acquisition, InputError
from napari_qsm.io import bids, dicom, series
from napari_qsm.io.loading import load
from napari_qsm.io.parts import PHASES, Part, Role, bare_name, read_part
from napari_qsm.io.series import Measurement
from napari_qsm.io.sidecar import is_own_result
from napari_qsm.preparation.raw import AS_STATED, Corrections
from napari_qsm.process import Step

__all__ = ["Corrections", "Measurement", "Source", "open_source"]

_NIFTI = (".nii", ".nii.gz")

_NEVER_DICOM = (".json", ".txt", ".tsv", ".bval", ".bvec")

_LOOKED_AT = 100
"""Files of which the first bytes are read to see whether a folder holds DICOM."""

_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar")


class Source:
    """Files that were looked at, and the measurements they hold; close it when done.

    Parameters
    ----------
    measurements : tuple[Measurement, ...]
        At least one, in the order in which they were measured.
    notes : tuple[str, ...]
        What was found and left aside, one sentence each.
    mask : Path, optional
        The user's mask.
    folder : Path, optional
        The temporary folder that it owns.
    """

    def __init__(
        self,
        measurements: tuple[Measurement, ...],
        notes: tuple[str, ...] = (),
        mask: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        self.measurements = measurements
        self.notes = notes
        self._mask = mask
        # Also when somebody forgets to close it, the folder goes.
        self._remove = weakref.finalize(self, _removed, folder)

    def load(self, measurement: Measurement, corrections: Corrections = AS_STATED) -> Acquisition:
        """Read one measurement.

        Returns
        -------
        Acquisition
            PHASE in rad in [-pi, pi), 3D for one echo, else 4D; MAGNITUDE of the same echoes and
            MASK as far as there are any; TOTAL_FIELD in ppm instead of PHASE for a field map in Hz.
            Echo times in s, B0 in T, and a note for every decision.

        Raises
        ------
        InputError
            If files do not fit together, are damaged, or state too little; one sentence.
        """
        if not self._remove.alive:
            raise InputError("The files were closed; open them again.")
        return load(measurement, self._mask, corrections)

    def close(self) -> None:
        """Remove the temporary files; a second call does nothing."""
        self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _removed(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def open_source(
    paths: Sequence[Path] | Path, *, magnitude: Sequence[Path] = (), mask: Path | None = None
) -> Generator[Step, None, Source]:
    """Look at files or a folder; the generator's return value is the `Source`.

    Closing the generator stops the conversion of DICOM and removes what it has made.

    Parameters
    ----------
    paths : Path or sequence of Path
        A DICOM folder, a BIDS folder, a folder of NIfTI files with sidecars, or files: one 4D
        phase, one phase for each echo, pairs of real and imaginary part, complex numbers, DICOM.
    magnitude : sequence of Path
        Magnitude files that belong to the phase in `paths`: one 4D, or one for each echo.
    mask : Path, optional
        The user's mask.

    Raises
    ------
    InputError
        If nothing usable was found; one sentence that says what was.
    """
    chosen = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    signal = [Path(path) for path in magnitude]
    _refuse_unusable(chosen)
    if len(chosen) == 1 and chosen[0].is_dir():
        if signal:
            raise InputError(
                f"{chosen[0].name} is a folder, so its magnitude is found by itself; leave the "
                "magnitude files out, or choose the phase files."
            )
        return (yield from _from_folder(chosen[0], mask))
    if any(path.name.lower().endswith(_NIFTI) for path in chosen):
        return (yield from _from_files(chosen, signal, mask))
    return (yield from _from_dicom(chosen, mask))


def _refuse_unusable(paths: Sequence[Path]) -> None:
    if not paths:
        raise InputError("No file was chosen; choose a folder or the phase images.")
    for path in paths:
        if not path.exists():
            raise InputError(f"There is no file {path}; check its name.")
        if path.name.lower().endswith(_ARCHIVES):
            raise InputError(f"{path.name} is an archive; unpack it and choose its folder.")
        if path.is_dir() and len(paths) > 1:
            raise InputError(f"{path.name} is a folder; choose one folder, or files only.")
    if len({path.name.lower().endswith(_NIFTI) for path in paths if path.is_file()}) > 1:
        other = next(p for p in paths if not p.name.lower().endswith(_NIFTI))
        raise InputError(f"{other.name} is no NIfTI file, but others are; choose one kind.")


def _from_folder(folder: Path, mask: Path | None) -> Generator[Step, None, Source]:
    """Find the measurements in a folder: its NIfTI files go before its DICOM files."""
    images, others = yield from _listed(folder)
    images = [path for path in images if mask is None or path.resolve() != mask.resolve()]
    images, results = yield from _without_results(images, folder)
    in_bids = any(bids.is_bids(path) for path in images)
    wanted = bids.raw_images(images, folder) if in_bids else images
    parts = []
    for path in wanted:
        yield Step(0.0, f"Reading {path.name}")
        parts.append(bids.read(path) if in_bids else read_part(path))
    if in_bids:
        named, rest = bids.group(parts)
    else:
        groups, rest = series.group(_without_equalised(parts))
        named = [(series.series_name(group), group) for group in groups]
    there = any(dicom.is_dicom(path) for path in others[:_LOOKED_AT])
    if not named and (there or not (images or results)):
        source = yield from _from_dicom(folder, mask)
        source.notes = (*results, *source.notes)
        return source
    if not images:
        raise InputError(
            f"{folder.name} holds results of napari-qsm only; choose the folder with what was "
            "measured, or open the results in the window."
        )
    if not named:
        raise InputError(_no_phase(folder.name, images, parts))
    aside = (f"The DICOM files in {folder.name} were left aside, since it holds NIfTI files.",)
    told = (*(aside if there else ()), *results, *_left_out(rest))
    return Source(series.measurements(named), told, mask)


def _without_results(
    images: Sequence[Path], folder: Path
) -> Generator[Step, None, tuple[list[Path], tuple[str, ...]]]:
    """Leave out what this program has computed and written below a folder; say so in a note."""
    measured: list[Path] = []
    computed: list[Path] = []
    for path in images:
        yield Step(0.0, f"Looking at {path.name}")
        (computed if is_own_result(path) else measured).append(path)
    places = sorted({path.parent.relative_to(folder).as_posix() for path in computed})
    shown = ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
    note = (
        f"{len(computed)} images that napari-qsm has computed (in {shown}) are results and no "
        "measurement; left out."
    )
    return measured, (note,) if computed else ()


def _listed(folder: Path) -> Generator[Step, None, tuple[list[Path], list[Path]]]:
    """List the NIfTI files in a folder and all in it, and the files that may be DICOM."""
    images, others = [], []
    for inside, _, names in os.walk(folder):
        yield Step(0.0, f"Looking into {Path(inside).name}")
        for name in names:
            lowered = name.lower()
            if name.startswith("."):  # what some systems leave beside every file
                continue
            if lowered.endswith(_NIFTI):
                images.append(Path(inside, name))
            elif not lowered.endswith(_NEVER_DICOM):
                others.append(Path(inside, name))
    return sorted(images), sorted(others)


def _from_dicom(source: Path | Sequence[Path], mask: Path | None) -> Generator[Step, None, Source]:
    """Convert DICOM files and find the measurements in what comes out."""
    folder = Path(tempfile.mkdtemp(prefix="napari-qsm-"))
    try:
        said = yield from dicom.convert(source, folder)
        parts = _without_equalised([read_part(path) for path in sorted(folder.glob("*.nii"))])
        groups, rest = series.group(parts)
        origin = str(source if isinstance(source, Path) else source[0].parent)
        if not groups:
            raise InputError(_no_phase(Path(origin).name, [], parts))
        named = [(series.series_name(group), group) for group in groups]
        found = series.measurements(named, origin)
        return Source(found, (*said, *_left_out(rest)), mask, folder)
    except BaseException:
        _removed(folder)
        raise


def _without_equalised(parts: Iterable[Part]) -> list[Part]:
    """Leave out what dcm2niix interpolated where slices are missing, and mark its original."""
    known = {part.path: part for part in parts}
    for path in list(known):
        if not (match := re.match(r"(.+)_(?:Eq|Tilt)_\d+(\.nii(?:\.gz)?)$", path.name)):
            continue
        del known[path]
        original = path.with_name(match.group(1) + match.group(2))
        if original in known:
            text = (
                f"The slices of {bare_name(original)} do not lie at equal distances, so some are "
                "missing; export all slices of the series."
            )
            known[original] = replace(known[original], problem=text)
    return list(known.values())


def _from_files(
    files: Sequence[Path], magnitude: Sequence[Path], mask: Path | None
) -> Generator[Step, None, Source]:
    """Take chosen NIfTI files as one measurement."""
    parts: list[Part] = []
    for index, path in enumerate([*files, *magnitude]):
        yield Step(index / (len(files) + len(magnitude)), f"Reading {path.name}")
        part = bids.read(path) if bids.is_bids(path) else read_part(path)
        if part.problem:
            raise InputError(part.problem)
        forced = Role.MAGNITUDE if path in magnitude else part.role
        parts.append(replace(part, role=forced))
    notes = []
    if magnitude:
        parts = [_not_magnitude(p) if p.path not in magnitude else p for p in parts]
    if unknown := [p for p in parts if p.role in {Role.OTHER, Role.DERIVED}]:
        phase = not any(p.role in PHASES for p in parts)
        role = Role.PHASE if phase else Role.MAGNITUDE
        parts = [replace(p, role=role) if p in unknown else p for p in parts]
        notes.append(
            f"The name of {unknown[0].path.name} does not say what it is; it was taken as "
            f"{role.value}."
        )
    if not any(p.role in PHASES for p in parts):
        raise InputError(_no_phase("The choice", list(files), parts))
    name = series.series_name(parts)
    return Source(series.measurements([(name, parts)]), tuple(notes), mask)


def _not_magnitude(part: Part) -> Part:
    """Believe a user who names the magnitude separately: what is left is phase."""
    return replace(part, role=Role.PHASE) if part.role is Role.MAGNITUDE else part


def _no_phase(name: str, files: Sequence[Path], parts: Sequence[Part]) -> str:
    """Say what there is instead of a phase."""
    if broken := [part.problem for part in parts if part.problem]:
        return broken[0]
    what = [part.text("SeriesDescription") or bare_name(part.path) for part in parts]
    what = list(dict.fromkeys(what or [bare_name(path) for path in files]))
    shown = ", ".join(what[:4]) + (f" and {len(what) - 4} more" if len(what) > 4 else "")
    return (
        f"{name} holds no phase image (found: {shown}); export the phase of a gradient-echo "
        "measurement along with its magnitude."
    )


def _left_out(parts: Iterable[Part]) -> tuple[str, ...]:
    """Say which files belong to no phase."""
    notes: dict[str, int] = {}
    for part in parts:
        number, title = part.text("SeriesNumber"), part.text("SeriesDescription")
        label = f"Series {number} ({title})" if number else part.path.name
        if part.problem:
            label = part.problem.rstrip(".")
        notes[label] = notes.get(label, 0) + 1
    return tuple(
        f"{label}; it was left out." if ";" in label else f"{label} belongs to no phase; left out."
        for label in notes
    )
