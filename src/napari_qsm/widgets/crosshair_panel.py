"""Where the crosshair is and what every map says there, beside the orthogonal views."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Labels
from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSpinBox,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_qsm.widgets import compare_texts as texts
from napari_qsm.widgets.convention import ConventionChoice
from napari_qsm.widgets.picture import save_picture
from napari_qsm.widgets.readout import anatomical
from napari_qsm.workbench.crosshair import Position, values_at, voxel_position
from napari_qsm.workbench.layers import grid_of
from napari_qsm.workbench.placement import locate

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class CrosshairPanel(QWidget):
    """Map, convention, position and the table of values.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers are read.
    maps : QComboBox
        The choice of the map on show, which stands on top.
    """

    voxel_chosen = Signal(tuple)
    fit_wanted = Signal()

    def __init__(self, viewer: ViewerModel, maps: QComboBox) -> None:
        super().__init__()
        self._viewer = viewer
        self._source: Layer | None = None
        self._position: Position = (0.0, 0.0, 0.0)
        self.setFixedWidth(330)
        self.convention = ConventionChoice(viewer)
        self.place = QLabel()
        self.place.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.voxel = [QSpinBox() for _ in range(3)]
        self.ppb = QCheckBox("ppb")
        self.ppb.setToolTip(texts.UNIT_TIP)
        self.table = _table()
        self.fit = QPushButton(texts.FIT)
        self.fit.setToolTip(texts.FIT_TIP)
        self.screenshot = QPushButton(texts.SCREENSHOT)
        self.screenshot.setToolTip(texts.WINDOW_SCREENSHOT_TIP)
        self._lay_out(maps)
        self._connect()

    def _lay_out(self, maps: QComboBox) -> None:
        here = QHBoxLayout()
        here.addWidget(self.place, 1)
        here.addWidget(self.ppb)
        voxels = QHBoxLayout()
        voxels.addWidget(QLabel("voxel"))
        for box in self.voxel:
            box.setToolTip(texts.VOXEL_TIP)
            box.setKeyboardTracking(False)
            voxels.addWidget(box, 1)
        buttons = QHBoxLayout()
        buttons.addWidget(self.fit)
        buttons.addWidget(self.screenshot, 1)
        hint = QLabel(texts.HINT)
        hint.setWordWrap(True)
        hint.setStyleSheet("color: gray")
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 0, 4, 0)
        for item in (maps, self.convention, here, voxels, self.table, hint, buttons):
            column.addLayout(item) if isinstance(item, QHBoxLayout) else column.addWidget(item)

    def _connect(self) -> None:
        for box in self.voxel:
            box.valueChanged.connect(self._choose_voxel)
        self.ppb.toggled.connect(lambda _: self.refresh())
        self.fit.clicked.connect(self.fit_wanted)
        self.screenshot.clicked.connect(lambda: save_picture(self, self.window().grab))

    def _choose_voxel(self) -> None:
        grid = grid_of(self._source) if self._source is not None else None
        if grid is not None:
            self.voxel_chosen.emit(voxel_position([box.value() for box in self.voxel], grid))

    def show_position(self, source: Layer | None, position: Position) -> None:
        """Show where a position is on the grid of a map, and all values there."""
        self._source, self._position = source, position
        grid = grid_of(source) if source is not None else None
        hit = locate(position, grid) if grid is not None else None
        self.place.setText(anatomical(hit[1]) if hit else texts.OUTSIDE)
        for axis, box in enumerate(self.voxel):
            with QSignalBlocker(box):
                box.setEnabled(hit is not None)
                if grid is not None and hit is not None:
                    box.setRange(0, grid.shape[axis] - 1)
                    box.setValue(hit[0][axis])
        self.refresh()

    def refresh(self) -> None:
        """Show all values at the crosshair as they are now."""
        layers = [layer for layer in self._viewer.layers if not isinstance(layer, Labels)]
        values = values_at(layers, self._position, self._viewer.dims.current_step)
        self.table.setRowCount(len(values))
        for row, value in enumerate(values):
            texts_of_row = (value.name, value.spoken(ppb=self.ppb.isChecked()))
            for column, text in enumerate(texts_of_row):
                item = self.table.item(row, column)
                if item is None:
                    item = QTableWidgetItem()
                    self.table.setItem(row, column, item)
                item.setText(text)
                item.setToolTip(text)
            right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            self.table.item(row, 1).setTextAlignment(right)

    def shut_down(self) -> None:
        """Let go of the map and the viewer."""
        self._source = None
        self.convention.disconnect_viewer()


def _table() -> QTableWidget:
    table = QTableWidget(0, 2)
    table.setHorizontalHeaderLabels(["map", "value ± σ"])
    table.verticalHeader().hide()
    table.verticalHeader().setDefaultSectionSize(22)
    table.setShowGrid(False)
    table.setWordWrap(False)
    table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
    table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
    header = table.horizontalHeader()
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
    return table
