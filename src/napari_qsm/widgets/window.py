"""A napari window with the plugin's docks, as the command line and the demo open it."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import napari

from napari_qsm.widgets.explore import ExploreWidget
from napari_qsm.widgets.prepare import PrepareWidget
from napari_qsm.widgets.readout import ReadoutWidget
from napari_qsm.widgets.reconstruct import ReconstructWidget

PLUGIN = "napari-qsm"
PREPARE = "Prepare field"
RECONSTRUCT = "Reconstruct susceptibility"
EXPLORE = "Explore lambda"
COMPARE = "Compare maps"
READOUT = "Values at the cursor"

TABS = {PREPARE: "Prepare", RECONSTRUCT: "Reconstruct", EXPLORE: "Explore", COMPARE: "Compare"}
"""Docks in the order of work, with what their tabs say: the names in napari's menu would be cut."""


class Window(NamedTuple):
    """A viewer and its docks."""

    viewer: napari.Viewer
    prepare: PrepareWidget
    reconstruct: ReconstructWidget
    explore: ExploreWidget


def make_window() -> Window:
    """Open napari with the docks of the manifest as tabs in the order of work, Prepare in front."""
    viewer = napari.Viewer(title="napari-qsm")
    window, widgets = viewer.window, {}
    for name, title in TABS.items():
        dock, widgets[name] = window.add_plugin_dock_widget(PLUGIN, name, tabify=bool(widgets))
        dock.setWindowTitle(title)
    prepare, reconstruct, explore = (widgets[name] for name in (PREPARE, RECONSTRUCT, EXPLORE))
    _, readout = window.add_plugin_dock_widget(PLUGIN, READOUT)
    to_front(viewer, PREPARE)
    assert isinstance(prepare, PrepareWidget)
    assert isinstance(reconstruct, ReconstructWidget)
    assert isinstance(explore, ExploreWidget)
    assert isinstance(readout, ReadoutWidget)
    # Python looks through all objects now and then, half a second in which the window stands
    # still; what was made up to here stays anyway and need not be looked through.
    gc.collect()
    gc.freeze()
    return Window(viewer, prepare, reconstruct, explore)


def to_front(viewer: napari.Viewer, name: str) -> object:
    """Bring one of the plugin's docks to the front, opening it if need be, and return it."""
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    dock.show()
    dock.raise_()
    return widget


def open_window(paths: Sequence[Path] = ()) -> None:
    """Open a window with `paths` loaded and run it until the user closes it."""
    viewer, prepare, *_ = make_window()
    if folders := [path for path in paths if path.is_dir()]:
        prepare.open(folders)
    elif paths:
        to_front(viewer, RECONSTRUCT)
    for path in paths:
        if path not in folders:
            viewer.open(str(path), plugin=PLUGIN)
    napari.run()
