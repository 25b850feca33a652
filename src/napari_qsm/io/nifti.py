"""NIfTI files <-> `Volume` and `Maps`, in stored voxel order and bit-exact on their grid.

Headers are parsed by nibabel without its repairs: what is wrong with a file becomes a sentence for
the user instead of a line in a log. Nothing is reoriented or resampled here.
"""

from __future__ import annotations

import gzip
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import Grid, InputError, Maps, Provenance, Quantity, Volume
from napari_qsm.io.nifti_file import GEOMETRY, HEADERS, NiftiFile
from napari_qsm.io.sidecar import Sidecar, read_sidecar, sidecar_path, write_sidecar
from napari_qsm.io.together import (
    Job,
    refuse_existing,
    refuse_stem,
    refuse_unwritable,
    write_together,
)


def read_volume(
    path: str | Path, sidecar: Sidecar | None = None, *, complex_too: bool = False
) -> Volume:
    """Read a ``.nii`` or ``.nii.gz`` file (NIfTI-1 or NIfTI-2) and its JSON sidecar.

    The numbers keep the stored voxel order (x, y, z) or (x, y, z, echo); the grid carries the true
    affine in mm RAS and, in `Grid.stored`, the header's own geometry fields.

    Parameters
    ----------
    path : str or Path
        The image.
    sidecar : Sidecar, optional
        What is known of it; without one, ``x.json`` beside ``x.nii.gz`` is read.
    complex_too : bool
        Whether complex numbers are welcome.

    Returns
    -------
    Volume
        Its notes say what was assumed or converted.

    Raises
    ------
    InputError
        If the file is missing, damaged, coloured, not 3D or 4D, complex though that is not
        welcome, or its sidecar is wrong.

    Notes
    -----
    The sform is believed only if its code is 1 (scanner); codes 2 to 4 name registered frames in
    which B0 has no known direction, so a valid qform goes first (NIfTI-1 standard, methods 2, 3).
    """
    path = Path(path)
    file = NiftiFile(path)
    shape = file.shape()
    values = file.values(shape, complex_too=complex_too)
    grid = _grid(file, shape)
    sidecar = read_sidecar(path) if sidecar is None else sidecar
    if sidecar.b0_direction is None:
        file.notes += [file.doubt] if file.doubt else []
    elif (angle := _angle(stated := grid.with_b0(sidecar.b0_direction), grid)) > 1e-4:
        grid = stated
        file.notes.append(
            f"B0 was taken from {sidecar.name}, {angle:.3g} degrees from what the affine says"
        )
    return Volume(
        data=values,
        grid=grid,
        unit=sidecar.unit or ("rad" if file.is_phase else None),
        field_strength=sidecar.field_strength,
        echo_times=sidecar.echo_times,
        source=str(path),
        notes=tuple(f"{path.name}: {note}." for note in file.notes),
    )


def read_grid(path: Path) -> tuple[Grid, int, bool]:
    """Read a file's header alone: its grid, its number of volumes, and whether it is complex.

    Raises
    ------
    InputError
        As `read_volume`, as far as the header shows it.
    """
    file = NiftiFile(path, header_only=True)
    shape = file.shape()
    return _grid(file, shape), math.prod(shape[3:]), file.is_complex


def _grid(file: NiftiFile, shape: tuple[int, ...]) -> Grid:
    affine = file.affine()
    try:
        return Grid(shape[:3], affine, stored=file.geometry())  # type: ignore[arg-type]
    except InputError as error:
        raise InputError(f"{file.name}: {error}") from None


def orientation(grid: Grid) -> str:
    """Return the anatomical directions in which the stored axes run, such as ``RAS``."""
    codes = nib.aff2axcodes(grid.affine)
    return "".join(str(code) for code in codes)


def write_maps(
    maps: Maps, folder: str | Path, *, stem: str = "", overwrite: bool = False
) -> list[Path]:
    """Write every map as ``<stem>_<suffix>.nii.gz`` with a sidecar that says how it was made.

    All files are written under temporary names and renamed at the end, so a failure leaves the
    folder as it was.

    Parameters
    ----------
    maps : Maps
        What a method returned.
    folder : str or Path
        Created if it does not exist.
    stem : str
        Begin of the file names, such as ``sub-1``.
    overwrite : bool
        Whether existing files may be replaced.

    Returns
    -------
    list of Path
        The images, in the order of the maps; each sidecar lies beside its image.

    Raises
    ------
    InputError
        If a file exists already or the folder cannot be written to.
    """
    targets = targets_of(maps.volumes, folder, stem=stem, overwrite=overwrite)
    made = (image_jobs(targets[q], maps[q], maps.grid, sidecar_of(maps, q)) for q in maps.volumes)
    write_together(itertools.chain.from_iterable(made))
    return list(targets.values())


def targets_of(
    quantities: Iterable[Quantity], folder: str | Path, *, stem: str = "", overwrite: bool = False
) -> dict[Quantity, Path]:
    """Say where maps will be written; ask before a long computation, not after.

    Raises
    ------
    InputError
        If one of the files or sidecars exists and must not be overwritten, the stem is no name, or
        the folder cannot be written to.
    """
    folder = Path(folder)
    refuse_stem(stem)
    refuse_unwritable(folder)
    targets = _targets(quantities, folder, stem)
    refuse_existing([p for t in targets.values() for p in (t, sidecar_path(t))], overwrite)
    return targets


def _targets(quantities: Iterable[Quantity], folder: Path, stem: str) -> dict[Quantity, Path]:
    begin = f"{stem}_" if stem else ""
    return {q: folder / f"{begin}{q.suffix}.nii.gz" for q in quantities}


def of_earlier_runs(
    written: Sequence[Path], quantities: Iterable[Quantity], *, stem: str = ""
) -> list[Path]:
    """Return maps beside those just written that only look as if they belonged to them.

    Overwriting takes nothing away: a method without an uncertainty leaves that of the one before.
    """
    folder = written[0].parent
    candidates = _targets(quantities, folder, stem).values()
    return [path for path in candidates if path.exists() and path not in written]


def write_volume(
    path: str | Path,
    data: NDArray[Any],
    grid: Grid,
    sidecar: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one array on ``grid``: bool as uint8, everything else as float32.

    Raises
    ------
    InputError
        If the file exists, its name does not end in .nii or .nii.gz, or it cannot be written.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"{path.name} does not end in .nii or .nii.gz; choose such a name.")
    refuse_existing([path] if sidecar is None else [path, sidecar_path(path)], overwrite)
    write_together(image_jobs(path, data, grid, sidecar))
    return path


def sidecar_of(maps: Maps, quantity: Quantity) -> dict[str, Any]:
    """Return what the sidecar of a map says: unit, constants and how it was made."""
    made = maps.provenance
    times = list(made.echo_times)
    content: dict[str, Any] = {"Quantity": quantity.key, "Units": quantity.unit}
    if made.field_strength is not None:
        content["MagneticFieldStrength"] = made.field_strength
    if times:
        content["EchoTime"] = times[0] if len(times) == 1 else times
    content["B0_dir"] = list(maps.grid.b0_direction)
    return {**content, "Provenance": _plain(made)}


def _plain(made: Provenance) -> dict[str, Any]:
    """Return a provenance, and those of its history, as what JSON knows."""
    told = {f: dict(v) if isinstance(v, Mapping) else v for f, v in vars(made).items()}
    return {**told, "history": [_plain(earlier) for earlier in made.history]}


def image_jobs(
    path: Path, data: NDArray[Any], grid: Grid, sidecar: Mapping[str, Any] | None = None
) -> Iterator[Job]:
    """Say how an image and its sidecar are written, for `write_together`."""
    yield path, lambda temporary: temporary.write_bytes(_encode(path, data, grid))
    if sidecar is not None:
        yield sidecar_path(path), lambda temporary: write_sidecar(temporary, sidecar)


def _encode(path: Path, data: NDArray[Any], grid: Grid) -> bytes:
    """Return the content of a NIfTI file that lies exactly where the grid's own file lies.

    The bytes are put together here because nibabel's images repair the geometry of a header while
    they save it.
    """
    array = np.asarray(data)
    if array.shape[:3] != grid.shape:
        raise InputError(f"The map has shape {array.shape} where {grid.shape} was expected.")
    array = array.astype(np.uint8 if array.dtype == bool else np.float32)
    size = grid.stored.get("sizeof_hdr", 348)
    header = HEADERS[size]()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_slope_inter(1, 0)
    header["vox_offset"] = size + 4
    if grid.stored:
        for key in GEOMETRY:
            header[key] = grid.stored[key]
        header["pixdim"][4:] = 1  # a step between components, never the input's step in time
    else:
        header.set_xyzt_units("mm")
        header["pixdim"][1:4] = grid.voxel_size
        header.set_sform(grid.affine, code=1)
        if grid.shear < 0.01:  # a quaternion cannot hold a sheared affine
            header.set_qform(grid.affine, code=1)
    content: bytes = header.binaryblock + bytes(4) + array.tobytes(order="F")
    # A fixed time stamp: the same map gives the same file.
    return gzip.compress(content, compresslevel=3, mtime=0) if path.suffix == ".gz" else content


def _angle(grid: Grid, other: Grid) -> float:
    """Angle in degrees between the B0 axes of two grids, whose sign has no meaning."""
    cosine = abs(float(np.dot(grid.b0_direction, other.b0_direction)))
    return math.degrees(math.acos(min(1.0, cosine)))
