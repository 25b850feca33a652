"""How the maps are looked at: the linked grid and the left-right convention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari.layers import Image, Layer
from qtpy.QtCore import QSignalBlocker, QTimer, Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_qsm.acquisition import Quantity
from napari_qsm.widgets import texts
from napari_qsm.widgets.composite import CompositeButton
from napari_qsm.widgets.convention import ConventionChoice
from napari_qsm.widgets.export_menu import ExportButton
from napari_qsm.workbench.layers import quantity_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

_DEEP = {"rendering": "mip", "colormap": "gray", "contrast_limits": None}


def show_grid(viewer: ViewerModel, on: bool) -> None:
    """Show every visible layer in a box of its own, or all on top of each other."""
    viewer.canvas.grid.stride = -1  # the top layer, the map that matters, comes first
    viewer.canvas.grid.enabled = on
    viewer.canvas.overlays.scale_bar.visible = True
    viewer.canvas.overlays.scale_bar.gridded = False
    for layer in viewer.layers:
        label(layer, on)


def label(layer: Layer, on: bool) -> None:
    """Show a layer's name, and the colour bar of an image, in its box of the grid."""
    layer.name_overlay.font_size = 9
    layer.name_overlay.visible = on
    if isinstance(layer, Image):
        # Small, so that six boxes still have room for six brains.
        layer.colorbar.position = "bottom_left"  # nothing else is written there
        layer.colorbar.size = (10, 80)
        layer.colorbar.tick_length = 3
        layer.colorbar.font_size = 8
        layer.colorbar.visible = on


_flat: WeakKeyDictionary[Layer, dict[str, Any]] = WeakKeyDictionary()
"""How layers that are shown in 3D looked in 2D; common to all docks, lest two of them do it."""


class DepthWindow:
    """In 3D, shows signed maps as a projection of their positive part; in 2D as they were.

    No projection suits signed numbers: zero, the background, would hide one sign or grey out both
    (napari#7444). Iron, blood and veins are positive and stand out; the look of the 2D view comes
    back with it.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        viewer.dims.events.ndisplay.connect(self.update)
        viewer.layers.events.inserted.connect(self.update)

    def update(self, event: object = None) -> None:
        """Give every signed map the look of the present number of dimensions."""
        deep = self._viewer.dims.ndisplay == 3
        for layer in self._viewer.layers:
            quantity = quantity_of(layer)
            if quantity is None or quantity.window is None or quantity.window[0] >= 0:
                continue
            if deep and layer not in _flat:
                _flat[layer] = {name: getattr(layer, name) for name in _DEEP}
                top = max(2 * layer.contrast_limits[1], 1e-3)
                self._set(layer, _DEEP | {"contrast_limits": (0.0, top)})
            elif not deep and layer in _flat:
                self._set(layer, _flat.pop(layer))

    @staticmethod
    def _set(layer: Layer, look: dict[str, Any]) -> None:
        for name, value in look.items():
            setattr(layer, name, value)

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer (the dock closes)."""
        self._viewer.dims.events.ndisplay.disconnect(self.update)
        self._viewer.layers.events.inserted.disconnect(self.update)


class ViewPanel(QWidget):
    """Grid switch, convention, and the buttons that save and export."""

    save_wanted = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._depth = DepthWindow(viewer)
        self.grid = QPushButton("Linked grid")
        self.grid.setCheckable(True)
        self.grid.setToolTip(texts.GRID)
        self.grid.toggled.connect(self._toggle_grid)
        self.composite = CompositeButton(viewer)
        self.composite.shown.connect(self._label)
        self.convention = ConventionChoice(viewer)
        self.save = QPushButton("Save maps…")
        self.save.setToolTip(texts.SAVE)
        self.save.setEnabled(False)
        self.save.clicked.connect(self.save_wanted)
        self.export = ExportButton(viewer)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.grid)
        layout.addWidget(self.composite)
        layout.addWidget(self.convention, 1)
        layout.addWidget(self.save)
        layout.addWidget(self.export)
        # Names and colour bars in boxes that are not there yet would be an error of napari's.
        self._soon = QTimer(self, interval=0, singleShot=True)
        self._soon.timeout.connect(self._follow_grid)
        viewer.canvas.grid.events.enabled.connect(self._grid_changed)

    def show_side_by_side(self) -> None:
        """Switch the grid on for the first result; a mask needs no box of its own."""
        for layer in self._viewer.layers:
            if quantity_of(layer) is Quantity.MASK:
                layer.visible = False
        self.grid.setChecked(True)

    def _toggle_grid(self, on: bool) -> None:
        show_grid(self._viewer, on)
        self._viewer.fit_to_view()

    @staticmethod
    def _label(layers: tuple[Layer, ...], on: bool) -> None:
        for layer in layers:
            label(layer, on)

    def _grid_changed(self, event: object = None) -> None:
        """Follow a grid that somebody else has switched, once napari has its boxes in order."""
        if self.grid.isChecked() != (on := self._viewer.canvas.grid.enabled):
            with QSignalBlocker(self.grid):
                self.grid.setChecked(on)
            self._soon.start()

    def _follow_grid(self) -> None:
        show_grid(self._viewer, self.grid.isChecked())
        if self.composite.isChecked() and self.composite.pair is not None:
            self._label(tuple(self.composite.pair), True)
        self._viewer.fit_to_view()

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer (the dock closes)."""
        self._viewer.canvas.grid.events.enabled.disconnect(self._grid_changed)
        self.composite.disconnect_viewer()
        self.convention.disconnect_viewer()
        self._depth.disconnect_viewer()
