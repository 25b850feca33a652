"""Local fields of many measurements, and what belongs to each, found by their names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from napari_qsm.acquisition import Acquisition, InputError
from napari_qsm.io.nifti import read_volume
from napari_qsm.io.parts import bare_name
from napari_qsm.preparation.assemble import assemble

FIELDS = ("desc-local_fieldmap", "localfield", "local_field")
"""How the names of local fields end; the first is what 'prepare' writes."""

MASKS = ("desc-reliable_mask", "mask", "desc-brain_mask")
MAGNITUDES = ("part-mag_MEGRE", "magnitude", "mag")
NOISES = ("desc-noise_fieldmap", "fieldnoise", "noise")
"""How the names of what belongs to a field end; what comes first goes first."""

IMAGES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Member:
    """Files of one measurement.

    Parameters
    ----------
    field : Path
        Local field.
    mask, magnitude, noise : Path, optional
        What lies beside it.
    """

    field: Path
    mask: Path | None = None
    magnitude: Path | None = None
    noise: Path | None = None

    def read(self) -> Acquisition:
        """Read the files.

        Raises
        ------
        InputError
            If they are damaged or do not fit together; it names the field.
        """
        others = (self.mask, self.magnitude, self.noise)
        try:
            return assemble(
                read_volume(self.field), *(read_volume(path) if path else None for path in others)
            )
        except InputError as error:
            name = self.field.name
            told = str(error)
            raise error if name in told else InputError(f"{name}: {told}") from None


def members(inputs: Iterable[Path]) -> list[Member]:
    """Find local fields in files and folders, folders within folders included.

    A file that is named is a local field whatever it is called. In folders these are files whose
    names end as `FIELDS` says. What belongs to one lies in its folder and begins like it:
    ``a_localfield.nii.gz`` with ``a_mask.nii.gz``.

    Raises
    ------
    InputError
        If a file or folder is not there, a folder holds no local field, or nothing was named.
    """
    found: dict[Path, Member] = {}
    for given in inputs:
        if given.is_file():
            fields = [given]
        elif given.is_dir():
            fields = [path for path in sorted(given.rglob("*.nii*")) if _begin(path) is not None]
        else:
            raise InputError(f"{given} is neither a file nor a folder; name local fields.")
        if not fields:
            raise InputError(
                f"{given} holds no local field: files called {_shown(FIELDS)} were looked for, "
                f"with masks called {_shown(MASKS)} beside them; rename them or name the files."
            )
        found |= {path.resolve(): _member(path) for path in fields}
    if not found:
        raise InputError("There are no local fields; name files or folders.")
    return list(found.values())


def _member(field: Path) -> Member:
    begin = _begin(field)
    if begin is None:
        begin = f"{bare_name(field)}_"
    return Member(field, *(_beside(field, begin, ends) for ends in (MASKS, MAGNITUDES, NOISES)))


def _begin(path: Path) -> str | None:
    """Return a local field's name up to what makes it one, None if nothing does."""
    if not path.name.endswith(IMAGES):
        return None
    name = bare_name(path)
    return next((name.removesuffix(end) for end in FIELDS if _ends(name, end)), None)


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith((f"_{end}", f"-{end}"))


def _beside(field: Path, begin: str, ends: Iterable[str]) -> Path | None:
    candidates = (field.with_name(f"{begin}{end}{suffix}") for end in ends for suffix in IMAGES)
    return next((path for path in candidates if path.is_file()), None)


def _shown(ends: Iterable[str]) -> str:
    return " or ".join(f"*{end}.nii.gz" for end in ends)
