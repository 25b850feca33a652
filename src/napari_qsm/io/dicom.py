"""DICOM is converted by dcm2niix, a small program that comes as a wheel of the extra ``dicom``.

It runs beside the program, so that it can be watched and stopped, and writes into a folder of its
own, never into the source.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from napari_qsm.acquisition import InputError
from napari_qsm.process import Step

PAUSE = 0.05
"""Seconds between two looks at the converter."""

_INSTALL = "pip install 'napari-qsm[dicom]'"

_DEPTH = 9
"""Folders below the source that are searched; dcm2niix knows no more."""

_TOLD = (
    (r"(\d+) images have identical time, series, acquisition and instance values",
     "Of the DICOM files, {0} {were} there twice and left out."),
    (r"File not large enough to store image data: (.+)",
     "The DICOM file {0} is truncated, so its images are missing; copy it again."),
    (r"Missing images\? (?:Expected|Found) (\d+) images",
     "A series with {0} images is not complete by its numbers."),
)  # fmt: skip
"""What dcm2niix says that the user must know, and how we say it."""


def converter() -> str:
    """Return the path of dcm2niix.

    Raises
    ------
    InputError
        If it is not installed.
    """
    spec = importlib.util.find_spec("dcm2niix")
    if spec is not None and spec.origin is not None:
        import dcm2niix

        return str(dcm2niix.bin)
    if found := shutil.which("dcm2niix"):
        return found
    raise InputError(f"DICOM files need the converter dcm2niix; install it with {_INSTALL}.")


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def convert(source: Path | Sequence[Path], target: Path) -> Generator[Step, None, tuple[str, ...]]:
    """Convert DICOM files to NIfTI files with sidecars.

    Closing the generator stops the converter.

    Parameters
    ----------
    source : Path or sequence of Path
        A folder, which is searched with all folders in it, or single files.
    target : Path
        An existing, empty folder for what is made, ``series_echo.nii`` with ``.json``.

    Returns
    -------
    tuple of str
        What the converter had to say, one sentence each.

    Raises
    ------
    InputError
        If there is no converter, no DICOM, or it fails.
    """
    program = converter()
    folder = source if isinstance(source, Path) else _linked(source, target)
    log = target / "dcm2niix.log"
    command = [
        program, "-g", "i", "-b", "y", "-ba", "o", "-z", "n", "-d", str(_DEPTH), "-w", "2",
        "--progress", "y", "-f", "%s_%d", "-o", str(target), str(folder.absolute()),
    ]  # fmt: skip
    yield Step(0.0, "Converting DICOM")
    with log.open("wb") as output:
        running = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        done = 0.0
        while running.poll() is None:
            done = max(done, _progress(log))
            yield Step(done, "Converting DICOM")
            try:
                running.wait(PAUSE)
            except subprocess.TimeoutExpired:
                continue
    finally:
        if running.poll() is None:
            running.kill()
        running.wait()
    said = log.read_text(errors="replace")
    if not any(target.glob("*.nii")):
        raise InputError(_failure(folder, source, running.returncode, said))
    return tuple(dict.fromkeys(_notes(said)))


def _linked(files: Sequence[Path], target: Path) -> Path:
    """Gather single files in a folder of links; the converter reads folders."""
    folder = target / "chosen"
    folder.mkdir()
    for index, file in enumerate(files):
        link = folder / f"{index:06d}.dcm"
        try:
            link.symlink_to(file.absolute())
        except OSError:  # systems on which links need a privilege
            shutil.copyfile(file, link)
    return folder


def _progress(log: Path) -> float:
    found = re.findall(rb"Progress: ([0-9.]+)", log.read_bytes()[-4096:])
    return min(0.99, float(found[-1])) if found else 0.0


def _notes(said: str) -> Iterator[str]:
    for pattern, text in _TOLD:
        for match in re.finditer(pattern, said):
            found = Path(match.group(1).strip()).name
            yield text.format(found, were="was" if found == "1" else "were")


def _failure(folder: Path, source: Path | Sequence[Path], status: int, said: str) -> str:
    """Say why nothing was converted."""
    count = sum(1 for path in folder.rglob("*") if path.is_file())
    where = f"The folder {folder.name}" if isinstance(source, Path) else "The choice"
    if cut := list(_notes(said)):
        return cut[0]
    if "Unable to find any DICOM" in said or "No valid DICOM" in said:
        files = "1 file" if count == 1 else f"{count} files"
        return (
            f"{where} holds {files}, none of them a complete DICOM image; choose the folder with "
            "the scanner's images."
        )
    errors = [line for line in said.splitlines() if line.startswith("Error")]
    reason = errors[-1].removeprefix("Error: ") if errors else f"status {status}"
    return (
        f"dcm2niix could not convert {folder.name} ({reason.strip().rstrip('.')}); export it again."
    )
