"""The maps there are, which of them are on show, and the window they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_qsm.widgets import compare_texts as texts
from napari_qsm.widgets.view_panel import show_grid
from napari_qsm.workbench.comparison import is_compared, is_overlay

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_ROW = 22
_STYLE = """
QListWidget::item { padding: 2px }
QListWidget::indicator:unchecked { border: 1px solid gray }
"""
_CHECKED, _UNCHECKED = Qt.CheckState.Checked, Qt.CheckState.Unchecked


class MapList(QWidget):
    """Check boxes of all maps; a tick is nothing but the layer's visibility.

    Attributes
    ----------
    changed : Signal
        The maps or the ticks have changed.
    """

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self.layers: list[Layer] = []
        self._aside: WeakSet[Layer] = WeakSet()
        self.list = QListWidget()
        self.list.setToolTip(texts.MAPS_TIP)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.list.setStyleSheet(_STYLE)
        self.empty = QLabel(texts.NO_MAPS)
        self.empty.setWordWrap(True)
        self.side_by_side = QPushButton(texts.SIDE_BY_SIDE, checkable=True)
        self.side_by_side.setToolTip(texts.SIDE_BY_SIDE_TIP)
        self.all, self.none = QPushButton(texts.ALL), QPushButton(texts.NONE)
        buttons = QHBoxLayout()
        buttons.addWidget(self.side_by_side, 2)
        buttons.addWidget(self.all, 1)
        buttons.addWidget(self.none, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.empty)
        column.addWidget(self.list)
        column.addLayout(buttons)
        self._connect()
        self.refresh()

    def _connect(self) -> None:
        self.list.itemChanged.connect(self._ticked)
        self.side_by_side.toggled.connect(self._toggle_grid)
        self.all.clicked.connect(lambda: self.tick(self.layers))
        self.none.clicked.connect(lambda: self.tick([]))
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self.refresh)
        self._viewer.canvas.grid.events.enabled.connect(self._grid_changed)
        self._grid_changed()

    @property
    def ticked(self) -> list[Layer]:
        """The maps on show, the top one first."""
        return [layer for layer in self.layers if layer.visible]

    def tick(self, layers: list[Layer]) -> None:
        """Show exactly these maps."""
        for layer in self.layers:
            layer.visible = layer in layers
        self._arrange()

    def refresh(self, event: object = None) -> None:
        """List the maps there are now, the top one first."""
        self._listen(on=False)
        self.layers = [layer for layer in reversed(self._viewer.layers) if is_compared(layer)]
        self._listen(on=True)
        with QSignalBlocker(self.list):
            self.list.clear()
            for layer in self.layers:
                item = QListWidgetItem(layer.name)
                item.setToolTip(layer.name)
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
                item.setCheckState(_CHECKED if layer.visible else _UNCHECKED)
                self.list.addItem(item)
        self.empty.setVisible(not self.layers)
        self.list.setVisible(bool(self.layers))
        self.list.setFixedHeight(_ROW * min(max(len(self.layers), 2), 8) + 6)
        self.changed.emit()

    def _listen(self, *, on: bool) -> None:
        # What a layer is may change too: a preview becomes the result.
        for layer in self.layers if not on else self._viewer.layers:
            events = layer.events
            for event, slot in (
                (events.visible, self._show_ticks),
                (events.name, self.refresh),
                (events.metadata, self.refresh),
            ):
                event.connect(slot) if on else event.disconnect(slot)

    def _show_ticks(self, event: object = None) -> None:
        with QSignalBlocker(self.list):
            for row, layer in enumerate(self.layers):
                self.list.item(row).setCheckState(_CHECKED if layer.visible else _UNCHECKED)
        self.changed.emit()

    def _ticked(self, item: QListWidgetItem) -> None:
        self.layers[self.list.row(item)].visible = item.checkState() == _CHECKED
        self._arrange()

    def _arrange(self) -> None:
        """Two ticked maps are there to be seen next to each other, and nothing else with them."""
        if len(self.ticked) > 1 and not any(map(is_overlay, self.ticked)):
            self.side_by_side.setChecked(True)
        if self.side_by_side.isChecked():
            self._put_aside()

    def _put_aside(self) -> None:
        """Hide what is no map: a field or a mask would take a box of its own."""
        for layer in self._viewer.layers:
            if layer.visible and layer not in self.layers:
                layer.visible = False
                self._aside.add(layer)

    def _toggle_grid(self, on: bool) -> None:
        if on:
            self._put_aside()
        show_grid(self._viewer, on)
        if not on:
            for layer in self._aside:
                layer.visible = True
            self._aside.clear()
        self._viewer.fit_to_view()

    def _grid_changed(self, event: Any = None) -> None:
        # Somebody else's switch does not hide what is no map.
        with QSignalBlocker(self.side_by_side):
            self.side_by_side.setChecked(self._viewer.canvas.grid.enabled)

    def disconnect_viewer(self) -> None:
        """Stop listening and let go of all layers (the dock closes)."""
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.disconnect(self.refresh)
        self._viewer.canvas.grid.events.enabled.disconnect(self._grid_changed)
        self._listen(on=False)
        self.layers = []
