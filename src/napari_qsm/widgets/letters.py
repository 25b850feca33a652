"""Which way the patient lies: letters at the borders of a canvas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.components.overlays import TextOverlay
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_qsm.widgets.convention import LETTERS, write_notice
from napari_qsm.workbench.bearings import Letters, border_letters, screen_directions
from napari_qsm.workbench.layers import grid_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_qsm.acquisition import Grid

_PLACES = ("middle_left", "middle_right", "top_center", "bottom_center")
BLANK = " "
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
            f"{LETTERS}{place}": TextOverlay(
                text=BLANK, position=place, font_size=12, gridded=True, box=False, visible=True
            )
            for place in _PLACES
        }
        for name, overlay in self._overlays.items():
            viewer.canvas.overlays[name] = overlay
        # Afterwards: while a layer comes or goes napari has boxes without texts, and cannot lay out
        # a text that changes.
        self._later = QTimer(singleShot=True, interval=0)
        self._later.timeout.connect(self._write)
        for event in self._events():
            event.connect(self.update)
        write_notice(viewer)
        self._write()

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
        """Write what is true as soon as the layers have come to rest."""
        self._later.start()

    def _write(self) -> None:
        """Write what is true now; nothing where no layer of ours says how it lies."""
        shown = [layer for layer in reversed(self._viewer.layers) if layer.visible]
        grid = next((g for g in map(grid_of, shown) if g is not None), None)
        found = letters_of(self._viewer, grid) if grid is not None else None
        left, right, top, bottom = found or ("",) * 4
        top, bottom = ("", bottom) if self._crowded(shown) else (top, "")
        # Always visible, if blank: napari makes one text for each box only of what is visible while
        # boxes come and go, and cannot draw an overlay that has fewer texts than boxes. A text
        # without any character has no vertices, which is an error in OpenGL.
        for overlay, text in zip(self._overlays.values(), (left, right, top, bottom), strict=True):
            overlay.text = text or BLANK

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
        self._later.stop()
        for event in self._events():
            event.disconnect(self.update)
        for name in self._overlays:
            self._viewer.canvas.overlays.pop(name, None)
        write_notice(self._viewer)
