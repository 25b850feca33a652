"""A napari window with the plugin's docks, as the command line and the demo open it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import napari

from napari_qsm.widgets.readout import ReadoutWidget
from napari_qsm.widgets.reconstruct import ReconstructWidget

PLUGIN = "napari-qsm"


def make_window() -> tuple[napari.Viewer, ReconstructWidget]:
    """Open napari with the Reconstruct and Values docks through the plugin's manifest."""
    viewer = napari.Viewer(title="napari-qsm")
    _, reconstruct = viewer.window.add_plugin_dock_widget(PLUGIN, "Reconstruct susceptibility")
    _, readout = viewer.window.add_plugin_dock_widget(PLUGIN, "Values at the cursor")
    assert isinstance(reconstruct, ReconstructWidget)
    assert isinstance(readout, ReadoutWidget)
    return viewer, reconstruct


def open_window(paths: Sequence[Path] = ()) -> None:
    """Open a window with `paths` loaded and run it until the user closes it."""
    viewer, _ = make_window()
    for path in paths:
        viewer.open(str(path), plugin=PLUGIN)
    napari.run()
