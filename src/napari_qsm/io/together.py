"""Several files that belong together: all of them appear in their folders, or none does."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from uuid import uuid4

from napari_qsm.acquisition import ExistsError, InputError

Job = tuple[Path, Callable[[Path], object]]
"""Where a file goes, and the function that writes it to the path it is called with."""


def refuse_stem(stem: str) -> None:
    """Raise `InputError` if `stem` cannot begin the name of a file."""
    if {"/", "\\", "\0"} & set(stem):
        raise InputError(f"The stem '{stem}' is no part of a file name; leave out the folders.")


def refuse_unwritable(folder: Path) -> None:
    """Raise `InputError` if `folder`, or the one it would be made in, cannot be written to."""
    standing = next((f for f in (folder, *folder.absolute().parents) if f.exists()), folder)
    if not standing.is_dir() or not os.access(standing, os.W_OK):
        raise InputError(f"{standing} is no folder that can be written to; choose another.")


def refuse_existing(paths: Iterable[Path], overwrite: bool) -> None:
    """Raise `ExistsError` if one of `paths` exists and must not be overwritten."""
    if overwrite:
        return
    for path in paths:
        if path.exists():
            text = f"{path} exists already; choose another folder or allow overwriting."
            raise ExistsError(text)


def write_together(jobs: Iterable[Job]) -> None:
    """Write all files under temporary names, then give them their own, or leave nothing.

    Files that are replaced keep their content until every new one has its name, and get it back if
    that fails, so that on a failure the folders are what they were.

    Raises
    ------
    InputError
        If the disk or the permissions do not allow it.
    """
    token = f".{uuid4().hex[:8]}"
    made: list[tuple[Path, Path]] = []
    folders: list[Path] = []
    try:
        for path, write in jobs:
            _make_folder(path.parent, folders)
            made.append((path.with_name(f"{token}-{path.name}"), path))
            write(made[-1][0])
        _exchange(made, token)
    except BaseException as error:
        for temporary, _ in made:
            temporary.unlink(missing_ok=True)
        for folder in reversed(folders):
            folder.rmdir()
        if isinstance(error, OSError):
            raise InputError(
                f"The results cannot be written ({error.strerror or error}); choose another folder."
            ) from error
        raise


def _exchange(made: Iterable[tuple[Path, Path]], token: str) -> None:
    """Give new files their names, and old files theirs back if one of them cannot have its own."""
    kept: list[tuple[Path, Path]] = []
    placed: list[Path] = []
    try:
        for temporary, path in made:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, f"{path.name} is a folder")
            if path.exists():
                kept.append((path.with_name(f"{token}-old-{path.name}"), path))
                path.replace(kept[-1][0])
            placed.append(path)
            temporary.replace(path)
    except BaseException:
        for path in placed:
            path.unlink(missing_ok=True)
        for old, path in kept:
            if old.exists():
                old.replace(path)
        raise
    for old, _ in kept:
        old.unlink()


def _make_folder(folder: Path, made: list[Path]) -> None:
    """Create `folder` and add what had to be created to `made`, outermost first."""
    for missing in [f for f in (folder, *folder.parents) if not f.exists()][::-1]:
        missing.mkdir(exist_ok=True)
        made.append(missing)
