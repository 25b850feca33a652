"""What ``reconstruct`` and ``sweep`` begin with: a local field and what belongs to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_qsm.acquisition import Acquisition


def read_field(
    paths: tuple[Path, Path | None, Path | None, Path | None], **constants: Any
) -> Acquisition:
    """Read field, mask, magnitude and noise, the latter three if they are given, into one.

    The `constants` are those of `napari_qsm.preparation.assemble.assemble`.
    """
    from napari_qsm.io.nifti import read_volume
    from napari_qsm.preparation.assemble import assemble

    field, *rest = paths
    beside = (read_volume(path) if path else None for path in rest)
    return assemble(read_volume(field), *beside, **constants)
