"""What the manifest names beside the docks: reader, writer and sample data.

Imported at start-up by napari, so nothing here loads torch or Qt before it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from napari_qsm.generators import finished

LayerData = tuple[Any, dict[str, Any], str]
T = TypeVar("T")


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Return the reader of NIfTI files, or of a folder that holds what a scanner writes."""
    paths = [path] if isinstance(path, str) else path
    if all(Path(p).is_dir() for p in paths):
        return read_folders if all(_holds_images(Path(p)) for p in paths) else None
    if all(p.lower().endswith((".nii", ".nii.gz")) for p in paths):
        return read_layers
    return None


def read_layers(path: str | list[str]) -> list[LayerData]:
    """Read NIfTI files as layers, each at its true place, echoes as one layer with a slider."""
    from napari_qsm.io.nifti import read_volume
    from napari_qsm.workbench.layers import file_layers

    paths = [Path(p) for p in ([path] if isinstance(path, str) else path)]
    return [layer for p in paths for layer in file_layers(p, read_volume(p))]


_LOOKED_AT = 200
"""How many files of a folder are looked at before it is called a foreign one."""


def _holds_images(folder: Path) -> bool:
    """Whether there are NIfTI or DICOM files among the first files of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return any(
        path.name.lower().endswith((".nii", ".nii.gz", ".dcm", ".ima")) or _is_dicom(path)
        for path in islice(files, _LOOKED_AT)
    )


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_folders(path: str | list[str]) -> list[LayerData]:
    """Hand folders to the Prepare dock, which reads them in the background and shows them.

    Without a window, all measurements in them are read at once.
    """
    paths = [Path(p) for p in ([path] if isinstance(path, str) else path)]
    if (dock := _prepare_dock()) is not None:
        dock.open(paths)
        return _NOTHING_YET
    from napari_qsm.io.importer import open_source
    from napari_qsm.workbench.stage_layers import measured_layers

    with finished(open_source(paths)) as source:
        loaded = [source.load(measurement) for measurement in source.measurements]
    return [data for acquisition in loaded for data in measured_layers(acquisition).values()]


_NOTHING_YET: list[Any] = [(None,)]
"""What napari takes from a reader as an answer without a layer."""


def _prepare_dock() -> Any:
    """Return the Prepare dock of the window, opened if need be; None where there is no window."""
    import napari

    viewer = napari.current_viewer()
    if viewer is None:
        return None
    from napari_qsm.widgets.window import PREPARE, to_front

    return to_front(viewer, PREPARE)


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


def sample_raw() -> list[LayerData]:
    """Return the raw measurement of the head at 1 mm, 3 T, 4 echoes, ready to be prepared."""
    return _sample_raw(voxel_size=1.0)


def sample_raw_small() -> list[LayerData]:
    """Return the same raw measurement at 2 mm, for a quick look."""
    return _sample_raw(voxel_size=2.0)


def _sample_raw(voxel_size: float) -> list[LayerData]:
    def make() -> Any:
        from napari_qsm.training.raw_head import sample_raw_head

        return sample_raw_head("haemorrhage and calcification", voxel_size).acquisition

    if (dock := _prepare_dock()) is not None:
        dock.simulate(make, f"Digital head ({voxel_size:g} mm)")
        return [_placeholder()]
    from napari_qsm.workbench.stage_layers import measured_layers

    return list(measured_layers(make()).values())


def _placeholder() -> LayerData:
    """Return a layer to have for a moment: napari takes no sample without one."""
    import numpy as np

    from napari_qsm.widgets import texts
    from napari_qsm.workbench.stage_layers import PLACEHOLDER

    return (
        np.zeros((1, 1, 1), np.float32),
        {"name": texts.SIMULATING, "metadata": PLACEHOLDER},
        "image",
    )


def _sample(voxel_size: float) -> list[LayerData]:
    from napari_qsm.training.phantom import sample_head
    from napari_qsm.workbench.layers import phantom_layers

    return phantom_layers(sample_head("haemorrhage and calcification", voxel_size))
