"""Axial, coronal, sagittal and 3D with one crosshair, in a window of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from numpy.typing import ArrayLike
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QComboBox, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_qsm.widgets import compare_texts as texts
from napari_qsm.widgets.crosshair_panel import CrosshairPanel
from napari_qsm.widgets.plane import Plane
from napari_qsm.widgets.slice_link import SliceLink
from napari_qsm.workbench.comparison import is_compared
from napari_qsm.workbench.crosshair import Crosshair, Position
from napari_qsm.workbench.layers import grid_of
from napari_qsm.workbench.placement import display_shape, place

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_ORDERS = ((0, 1, 2), (1, 0, 2), (2, 0, 1), (0, 1, 2))
_DONE = object()
_REST = 120
"""Milliseconds the crosshair must rest before the 3D view, the costliest, is drawn again."""


class OrthogonalWindow(QWidget):
    """Four linked canvases beside the values of every map at the crosshair.

    The views are made one per turn of the event loop: each costs a canvas, and the program stays
    alive between them.

    Parameters
    ----------
    viewer : ViewerModel
        The main window's; its layers are shown, its slices follow the crosshair and lead it.
    parent : QWidget, optional
        With which the window ends.
    """

    opened = Signal()
    closed = Signal()

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("napari-qsm: " + texts.ORTHOGONAL.rstrip("…"))
        self._viewer = viewer
        self.crosshair = Crosshair()
        self._main = SliceLink(viewer, self.move_to, lambda: self.crosshair.position)
        self.planes: list[Plane] = []
        self.source: Layer | None = None
        self._offered: list[Layer] = []
        self._closed = False
        self._deep = QTimer(self, singleShot=True, interval=_REST)
        self._deep.timeout.connect(self._move_deep)
        self._lay_out()
        self._connect()
        self.resize(1240, 900)

    def _lay_out(self) -> None:
        self.maps = QComboBox()
        self.maps.setToolTip(texts.SHOWN_TIP)
        self.busy = QLabel()
        self.busy.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.panel = CrosshairPanel(self._viewer, self.maps)
        self._views = QGridLayout()
        self._views.setSpacing(4)
        self._views.addWidget(self.busy, 2, 0, 1, 2)
        for line in (0, 1):
            self._views.setRowStretch(line, 1)
            self._views.setColumnStretch(line, 1)
        row = QHBoxLayout(self)
        row.setContentsMargins(4, 4, 4, 4)
        row.addLayout(self._views, 1)
        side = QVBoxLayout()
        side.addWidget(self.panel)
        row.addLayout(side)

    def _connect(self) -> None:
        self.maps.activated.connect(lambda index: self.show_map(self._offered[index]))
        self.panel.voxel_chosen.connect(self.go_to)
        self.panel.fit_wanted.connect(self.fit)
        self.crosshair.moved.connect(self._moved)
        for event, slot in self._main_events():
            event.connect(slot)

    def _main_events(self) -> tuple[tuple[Any, Callable[..., None]], ...]:
        viewer = self._viewer
        return (
            (viewer.layers.events.inserted, self._offer),
            (viewer.layers.events.removed, self._offer),
            (viewer.layers.events.reordered, self._offer),
            (viewer.dims.events.current_step, self._stepped),
            (viewer.scene.camera.events.orientation, self._turn),
        )

    # -- opening ----------------------------------------------------------------------------

    def open(self) -> None:
        """Show the window at once and the views as they are made."""
        self.show()
        self._offer()
        self._go_on(self._opening())

    def _go_on(self, steps: Iterator[None]) -> None:
        """Take one step of the opening per turn of the event loop."""
        if not self._closed and next(steps, _DONE) is not _DONE:
            QTimer.singleShot(0, lambda: self._go_on(steps))

    def _opening(self) -> Iterator[None]:
        for count, (name, order) in enumerate(zip(texts.PLANES, _ORDERS, strict=True)):
            self.busy.setText(texts.OPENING.format(count + 1))
            yield
            plane = Plane(name, order, deep=count == 3)
            plane.picked.connect(self.move_to)
            self.planes.append(plane)
            self._views.addWidget(plane, count // 2, count % 2)
            yield
            self._turn()
            self._fill([plane])
            yield
        self.busy.hide()
        yield
        self.fit()
        for plane in self.planes[:3]:
            plane.model.scene.camera.events.zoom.connect(self._zoomed)
        self.opened.emit()

    def fit(self) -> None:
        """Show everything; the three planes at one scale, so that they can be compared."""
        scales = []
        for plane in self.planes:
            plane.model.fit_to_view()
            scales.append(plane.model.scene.camera.zoom)  # before the link gives it to the others
        for plane in self.planes[:3]:
            plane.model.scene.camera.zoom = min(scales[:3])

    def _zoomed(self, event: Any) -> None:
        for plane in self.planes[:3]:
            camera = plane.model.scene.camera
            if camera.zoom != event.value:
                camera.zoom = event.value

    # -- which map --------------------------------------------------------------------------

    def _offer(self, event: object = None) -> None:
        """Offer the maps there are; keep the one on show where it still exists."""
        layers = [x for x in self._viewer.layers if isinstance(x, Image) and grid_of(x) is not None]
        layers.reverse()  # the top one first
        self._offered = sorted(layers, key=lambda layer: not is_compared(layer))
        self.maps.clear()
        self.maps.addItems([layer.name for layer in self._offered])
        active = self._viewer.layers.selection.active
        wanted = self.source if self.source in self._offered else active
        if wanted not in self._offered:
            wanted = next(iter(self._offered), None)
        self.show_map(wanted)

    def show_map(self, source: Layer | None) -> None:
        """Show another map in all views, under the same crosshair."""
        if source is not self.source:
            self._listen(self.source, on=False)
            self._listen(source, on=True)
            first, self.source = self.source is None, source
            if source is not None and first:
                self._begin_at(source)
        if source is not None:
            self.maps.setCurrentIndex(self._offered.index(source))
        self._show_source()
        self.panel.show_position(self.source, self.crosshair.position)

    def _begin_at(self, source: Layer) -> None:
        """Put the crosshair into the middle, on the slice of the main window."""
        grid = grid_of(source)
        middle = (np.array(display_shape(grid)) - 1) // 2
        placed = place(grid)
        self.crosshair.position = tuple(
            float(x) for x in np.asarray(placed["translate"]) + middle * placed["scale"]
        )
        self._main.follow()

    def _listen(self, layer: Layer | None, *, on: bool) -> None:
        if layer is None:
            return
        events = layer.events
        for event, slot in (
            (events.data, self._show_source),
            (events.contrast_limits, self._dress),
            (events.colormap, self._dress),
            (events.gamma, self._dress),
        ):
            event.connect(slot) if on else event.disconnect(slot)

    def _show_source(self, event: object = None) -> None:
        self._fill(self.planes)

    def _fill(self, planes: Iterable[Plane]) -> None:
        """Show map, window and crosshair as they are in some views."""
        for plane in planes:
            if self.source is None:
                plane.clear()
                continue
            plane.show_map(self.source, self._data())
            plane.move_to(self.crosshair.position)
        self._dress()

    def _data(self) -> Any:
        """Return the 3D array that the main window's slider shows, without copying it."""
        data = self.source.data
        if data.ndim == 3:
            return data
        at = int(self._viewer.dims.current_step[-4])
        return data[min(max(at, 0), data.shape[0] - 1)]

    def _dress(self, event: object = None) -> None:
        # In 3D the main window gives signed maps another look, which is not for planes.
        if self.source is None or (event is not None and self._viewer.dims.ndisplay == 3):
            return
        layer = self.source
        for plane in self.planes:
            plane.set_look(tuple(layer.contrast_limits), layer.colormap, layer.gamma)

    def _turn(self, event: object = None) -> None:
        orientation = tuple(
            str(getattr(o, "value", o)) for o in self._viewer.scene.camera.orientation
        )
        for plane in self.planes:
            plane.set_orientation(orientation)

    # -- the crosshair ----------------------------------------------------------------------

    def move_to(self, position: ArrayLike) -> None:
        """Put the crosshair on the voxel of the map at a drawn position, or the nearest one."""
        grid = grid_of(self.source) if self.source is not None else None
        if grid is None:
            return
        placed = place(grid)
        scale, origin = np.asarray(placed["scale"]), np.asarray(placed["translate"])
        index = np.rint((np.asarray(position, float)[-3:] - origin) / scale)
        index = np.clip(index, 0, np.array(display_shape(grid)) - 1)
        self.crosshair.move(origin + index * scale)

    def go_to(self, position: Position) -> None:
        """Put the crosshair exactly there."""
        self.crosshair.move(position)

    def _moved(self, position: Position) -> None:
        for plane in self.planes[:3]:
            plane.move_to(position)
        self._deep.start()
        self.panel.show_position(self.source, position)
        self._main.lead(position)

    def _move_deep(self) -> None:
        for plane in self.planes[3:]:
            plane.move_to(self.crosshair.position)

    def _stepped(self, event: object = None) -> None:
        """Show another volume of a map that has several."""
        if self.source is not None and self.source.ndim == 4:
            self._show_source()

    # -- the end ----------------------------------------------------------------------------

    def closeEvent(self, event: QCloseEvent) -> None:
        """Let go of everything."""
        self.shut_down()
        super().closeEvent(event)

    def shut_down(self) -> None:
        """Stop listening and let go of maps and canvases; may come twice."""
        if self._closed:
            return
        self._closed = True
        for event, slot in self._main_events():
            event.disconnect(slot)
        self._main.disconnect_viewer()
        self.crosshair.moved.disconnect()
        self._listen(self.source, on=False)
        self.source, self._offered = None, []
        self.panel.shut_down()
        for plane in self.planes:
            plane.shut_down()
        self.planes.clear()
        self.closed.emit()
