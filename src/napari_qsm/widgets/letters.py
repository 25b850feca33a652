"""Which way the patient lies: letters at the borders of a canvas, and the left-right switch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.components.overlays import TextOverlay
from numpy.typing import NDArray
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox, QWidget

from napari_qsm.widgets import texts
from napari_qsm.widgets.view_panel import set_convention
from napari_qsm.workbench.bearings import Letters, border_letters, screen_directions
from napari_qsm.workbench.layers import grid_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_qsm.acquisition import Grid

_PLACES = ("middle_left", "middle_right", "top_center", "bottom_center")
_CHARACTER = 9
"""Pixels that a character of a layer's name takes, generously."""


def screen_of(
    viewer: ViewerModel,
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Drawn (S, A, R) vectors that point right and up; None where other axes are on show."""
    dims, camera = viewer.dims, viewer.scene.camera
    displayed = [axis - (dims.ndim - 3) for axis in dims.displayed]
    if min(displayed) < 0:
        return None
    orientation = tuple(str(getattr(o, "value", o)) for o in camera.orientation)
    if len(displayed) == 2:
        return screen_directions(displayed, orientation)
    return screen_directions(displayed, orientation, camera.view_direction, camera.up_direction)


def letters_of(viewer: ViewerModel, grid: Grid | None) -> Letters | None:
    """Return what to write at the four borders of a viewer that shows this grid."""
    screen = screen_of(viewer)
    return None if screen is None else border_letters(*screen, grid)


class BorderLetters:
    """Keeps letters at the borders of every box of a viewer, whatever turns or is shown.

    The lower border, where the scale bar and the notice are, is lettered only where long names
    take the upper one: the one implies the other.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._overlays = {
            f"border_{place}": TextOverlay(position=place, font_size=12, gridded=True, box=False)
            for place in _PLACES
        }
        for name, overlay in self._overlays.items():
            viewer.canvas.overlays[name] = overlay
        for event in self._events():
            event.connect(self.update)
        self.update()

    def _events(self) -> tuple:
        dims, camera, layers = self._viewer.dims, self._viewer.scene.camera, self._viewer.layers
        return (
            dims.events.order,
            dims.events.ndisplay,
            dims.events.ndim,
            camera.events.orientation,
            camera.events.angles,
            layers.events.inserted,
            layers.events.removed,
            self._viewer.canvas.grid.events.enabled,
        )

    def update(self, event: object = None) -> None:
        """Write what is true now; nothing where no layer of ours says how it lies."""
        shown = [layer for layer in reversed(self._viewer.layers) if layer.visible]
        grid = next((g for g in map(grid_of, shown) if g is not None), None)
        found = letters_of(self._viewer, grid) if grid is not None else None
        left, right, top, bottom = found or ("",) * 4
        top, bottom = ("", bottom) if self._crowded(shown) else (top, "")
        for overlay, text in zip(self._overlays.values(), (left, right, top, bottom), strict=True):
            overlay.text = text
            overlay.visible = bool(text)

    def _crowded(self, shown: list[Layer]) -> bool:
        """Whether names reach the middle of the upper border of a box."""
        canvas = self._viewer.canvas
        if not canvas.grid.enabled:
            return False
        columns = canvas.grid.actual_shape(self._viewer.layers)[1]
        room = canvas.size[1] / columns / 2
        return any(_CHARACTER * len(layer.name) > room for layer in shown)

    def disconnect_viewer(self) -> None:
        """Take the letters away and stop listening (the dock closes)."""
        for event in self._events():
            event.disconnect(self.update)
        for name in self._overlays:
            self._viewer.canvas.overlays.pop(name, None)


class ConventionChoice(QComboBox):
    """Radiological or neurological: turns a viewer's camera, and follows whoever else turns it."""

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.addItems([texts.RADIOLOGICAL, texts.NEUROLOGICAL])
        self.setToolTip(texts.CONVENTION)
        self.follow()
        self.currentTextChanged.connect(lambda text: set_convention(viewer, text))
        viewer.scene.camera.events.orientation.connect(self.follow)

    def follow(self, event: object = None) -> None:
        """Show the convention the viewer has."""
        with QSignalBlocker(self):
            self.setCurrentText(convention_of(self._viewer))

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer (the dock closes)."""
        self._viewer.scene.camera.events.orientation.disconnect(self.follow)


def convention_of(viewer: ViewerModel) -> str:
    """Return the convention by where the patient's right is drawn."""
    side = viewer.scene.camera.orientation[2]
    return texts.RADIOLOGICAL if getattr(side, "value", side) == "left" else texts.NEUROLOGICAL
