"""Text files in which registration leaves how a head was turned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import Grid, InputError
from napari_qsm.preparation.orientations import Frame, turned_direction

LARGEST = 100_000
"""Bytes beyond which a file is no matrix."""


def read_rotation(path: Path) -> tuple[NDArray[np.float64], Frame]:
    """Read a 3x3 or 4x4 matrix and in which axes it is stated.

    FLIRT's matrices are known by their suffix, ``.mat``; any other file holds positions in scanner
    axes (mm RAS). Numbers are separated by blanks or commas; lines that begin with # are skipped.

    Raises
    ------
    InputError
        If the file cannot be read or holds no such matrix.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}; check its name.")
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        rows = [
            [float(part) for part in line.replace(",", " ").split()]
            for line in lines
            if line.strip() and not line.lstrip().startswith("#")
        ]
        matrix = np.array(rows, dtype=np.float64)
        if matrix.shape not in ((3, 3), (4, 4)):
            raise ValueError
    except (OSError, ValueError):
        raise InputError(
            f"{path.name} holds no 3x3 or 4x4 matrix of numbers as text; choose a file of FLIRT "
            "(.mat), or convert the transform to one."
        ) from None
    return matrix, "flirt" if path.suffix == ".mat" else "scanner"


def read_direction(path: Path, grid: Grid) -> tuple[tuple[float, float, float], str]:
    """Find B0 along the voxel axes of `grid` by a registration to it; with a note that says how.

    Raises
    ------
    InputError
        If the file holds no rotation.
    """
    matrix, frame = read_rotation(path)
    try:
        direction = turned_direction(matrix, grid, frame)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None
    shown = ", ".join(f"{part:.3f}" for part in direction)
    how = {
        "flirt": "read as FLIRT's, from an image stored like the first one",
        "scanner": "read in scanner axes, from this image to the first one",
    }
    return direction, f"B0 was turned to ({shown}) by the rotation in {path.name}, {how[frame]}."
