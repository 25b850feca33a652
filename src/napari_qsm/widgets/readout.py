"""A table of every map's value at the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QHeaderView,
    QLabel,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_qsm.workbench.readout import Readout, read_at

if TYPE_CHECKING:
    from napari.components import ViewerModel

_ROW_HEIGHT = 22


class ReadoutWidget(QWidget):
    """Voxel, scanner position and the value of every map under the mouse."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.place = QLabel("Move the mouse over a map.")
        self.place.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.place.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.table = QTableWidget(0, 2)
        self.table.horizontalHeader().hide()
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        self.table.setShowGrid(False)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.horizontalHeader().setSectionResizeMode(
            1, QHeaderView.ResizeMode.ResizeToContents
        )
        self.table.setMinimumHeight(4 * _ROW_HEIGHT)
        self.table.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(9, 2, 9, 2)
        self.setMaximumHeight(7 * _ROW_HEIGHT)  # the reconstruct dock above needs the room more
        layout.addWidget(self.place)
        layout.addWidget(self.table)
        napari_viewer.mouse_move_callbacks.append(self._moved)
        disconnect = self.disconnect_viewer
        self.destroyed.connect(lambda: disconnect())

    def _moved(self, viewer: Any, event: Any) -> None:
        # In 3D the cursor has no depth of its own; say nothing rather than something arbitrary.
        if viewer.dims.ndisplay == 3:
            self.place.setText("The cursor has no depth in 3D; switch to 2D to read values.")
            self.table.setRowCount(0)
            return
        if len(event.position) >= 3:  # echoes and sweeps have an axis in front
            self.show_readout(read_at(viewer.layers, event.position))

    def show_readout(self, readout: Readout | None) -> None:
        """Show one readout, or that there is none."""
        if readout is None:
            self.place.setText("Outside the maps.")
            self.table.setRowCount(0)
            return
        i, j, k = readout.voxel
        self.place.setText(f"voxel {i}, {j}, {k}   ·   {anatomical(readout.position)}")
        self.table.setRowCount(len(readout.readings))
        for row, reading in enumerate(readout.readings):
            value = f"{reading.value:.4g} {reading.unit}".rstrip()
            for column, text in enumerate((reading.name, value)):
                item = self.table.item(row, column)
                if item is None:
                    item = QTableWidgetItem()
                    self.table.setItem(row, column, item)
                item.setText(text)
            right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            self.table.item(row, 1).setTextAlignment(right)

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer (the dock closes)."""
        if self._moved in self._viewer.mouse_move_callbacks:
            self._viewer.mouse_move_callbacks.remove(self._moved)


def anatomical(position: tuple[float, float, float]) -> str:
    """Say a scanner position in words: ``R 12.0  A -3.5  S 40.1 mm``."""
    letters = (("L", "R"), ("P", "A"), ("I", "S"))
    parts = (
        f"{pair[value >= 0]} {abs(value):.1f}"
        for pair, value in zip(letters, position, strict=True)
    )
    return "  ".join(parts) + " mm"
