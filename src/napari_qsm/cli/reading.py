"""What ``reconstruct`` and ``sweep`` begin with: a local field and what belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_qsm.acquisition import Acquisition


def read_field(
    paths: tuple[Path, Path | None, Path | None, Path | None],
    others: Mapping[str, Path | None] | None = None,
    **constants: Any,
) -> Acquisition:
    """Read field, mask, magnitude and noise, the latter three if they are given, into one.

    The `others` (r2star, r2, r2prime, start, as far as they are given) and the `constants` are
    those of `napari_qsm.preparation.assemble.assemble`.
    """
    from napari_qsm.io.nifti import read_volume
    from napari_qsm.preparation.assemble import assemble

    field, mask, magnitude, noise = paths
    beside = {"mask": mask, "magnitude": magnitude, "noise": noise, **(others or {})}
    given: dict[str, Any] = {name: read_volume(path) for name, path in beside.items() if path}
    return assemble(read_volume(field), **given, **constants)
