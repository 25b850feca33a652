"""What the manifest names beside the docks: reader, writer and sample data.

Imported at start-up by napari, so nothing here loads torch or Qt before it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

LayerData = tuple[Any, dict[str, Any], str]


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Return the NIfTI reader if all paths look like NIfTI files."""
    paths = [path] if isinstance(path, str) else path
    if all(p.lower().endswith((".nii", ".nii.gz")) for p in paths):
        return read_layers
    return None


def read_layers(path: str | list[str]) -> list[LayerData]:
    """Read NIfTI files as layers, each at its true place, echoes as separate layers."""
    from napari_qsm.io.nifti import read_volume
    from napari_qsm.workbench.layers import file_layers

    paths = [Path(p) for p in ([path] if isinstance(path, str) else path)]
    return [layer for p in paths for layer in file_layers(p, read_volume(p))]


def write_layer(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write one layer as NIfTI on the grid of the file it came from, with its sidecar."""
    from napari_qsm.io.nifti import write_volume
    from napari_qsm.workbench.layers import stored_layer

    array, grid, sidecar = stored_layer(data, meta)
    return [str(write_volume(Path(path), array, grid, sidecar))]


def sample_haemorrhage() -> list[LayerData]:
    """Return the digital head with a haemorrhage and a calcification at 1 mm, 3 T."""
    return _sample(voxel_size=1.0)


def sample_small() -> list[LayerData]:
    """Return the same head at 2 mm, for a quick look."""
    return _sample(voxel_size=2.0)


def _sample(voxel_size: float) -> list[LayerData]:
    from napari_qsm.training.phantom import sample_head
    from napari_qsm.workbench.layers import phantom_layers

    return phantom_layers(sample_head("haemorrhage and calcification", voxel_size))
