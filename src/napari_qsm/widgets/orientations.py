"""Further orientations of the head: their fields, where B0 was, and what they are good for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Image
from napari.utils.notifications import show_error
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_qsm.acquisition import SAME_DIRECTION, Grid, InputError, Quantity, Volume
from napari_qsm.io.rotation import read_direction
from napari_qsm.preparation.orientations import Orientation, conditioning
from napari_qsm.widgets.constants import DirectionEdit
from napari_qsm.widgets.layer_choice import LayerChoice
from napari_qsm.workbench.layers import grid_of, volume_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

ADD = "Add orientation"
ADD_TIP = (
    "The local field of the same head in another orientation, registered to the first and "
    "resampled on its grid; COSMOS needs two orientations or more."
)
FIELD = "Local field of this orientation, on the grid of the first."
REMOVE = "Leave this orientation out"
MATRIX = "R…"
MATRIX_TIP = (
    "Turn B0 by the rotation of the registration: a matrix of FLIRT (.mat), or 3x3 or 4x4 numbers "
    "that take scanner positions in this image to those in the first."
)
ALIKE = "B0 has the same direction in all: state each one's."
COLOURS = {"good": "#7fb77e", "poor": "#e0a84a", "none": "#e06c6c"}


class OrientationRow(QWidget):
    """One further orientation: a layer, and B0 along the voxel axes of the grid."""

    changed = Signal()
    matrix_wanted = Signal(Path)
    removed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.choice = LayerChoice(viewer, (Quantity.LOCAL_FIELD,), (Image,), FIELD, auto=False)
        self.choice.open_button.hide()
        self.choice.chosen.connect(self._show_own)
        self.direction = DirectionEdit()
        self.direction.value_changed.connect(lambda _: self.changed.emit())
        self._registered: tuple[tuple[float, float, float] | None, str] = (None, "")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 4)
        layout.addWidget(self.choice)
        below = QHBoxLayout()
        below.addWidget(QLabel("B0"))
        below.addWidget(self.direction, 1)
        self.matrix = self._button(MATRIX, MATRIX_TIP, below)
        self.remove = self._button("✕", REMOVE, below)
        layout.addLayout(below)
        self.matrix.clicked.connect(self._ask)
        self.remove.clicked.connect(self.removed)

    @staticmethod
    def _button(text: str, tip: str, row: QHBoxLayout) -> QToolButton:
        made = QToolButton()
        made.setText(text)
        made.setToolTip(tip)
        row.addWidget(made)
        return made

    def _show_own(self) -> None:
        grid = grid_of(self.choice.layer) if self.choice.layer is not None else None
        if grid is not None:
            self.direction.show_understood(grid.b0_direction)
        self.changed.emit()

    def _ask(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, MATRIX_TIP, "", "Matrices (*.mat *.txt *.dat *.csv);;All files (*)"
        )
        if path:
            self.matrix_wanted.emit(Path(path))

    def take(self, direction: tuple[float, float, float], note: str) -> None:
        """Write a direction that was found into the boxes, where it can be corrected."""
        for edit, part in zip(self.direction.edits, direction, strict=True):
            edit.setText(f"{part:.6f}")
        self._registered = self.direction.value, note
        self.changed.emit()

    def orientation(self, beside: Layer | None) -> Orientation | None:
        """Return what was chosen, or None where no layer is."""
        if self.choice.layer is None:
            return None
        volume, stated = volume_of(self.choice.layer, beside=beside), self.direction.value
        known, note = self._registered
        return Orientation(volume, stated, note if stated is not None and stated == known else "")


class OrientationsPanel(QWidget):
    """The list of further orientations, and how well they all determine a map."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._grid: Grid | None = None
        self.rows: list[OrientationRow] = []
        self.add_button = QPushButton(ADD)
        self.add_button.setToolTip(ADD_TIP)
        self.add_button.clicked.connect(self.add)
        self.verdict = QLabel()
        self.verdict.setWordWrap(True)
        self.verdict.hide()
        self._list = QVBoxLayout()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._list)
        layout.addWidget(self.verdict)
        layout.addWidget(self.add_button)

    @property
    def layers(self) -> list[Layer]:
        """The layers that are chosen."""
        return [row.choice.layer for row in self.rows if row.choice.layer is not None]

    def add(self) -> OrientationRow:
        """Add a row."""
        row = OrientationRow(self._viewer)
        row.changed.connect(self.changed)
        row.removed.connect(lambda: self._remove(row))
        row.matrix_wanted.connect(lambda path: self.read_matrix(row, path))
        self.rows.append(row)
        self._list.addWidget(row)
        return row

    def _remove(self, row: OrientationRow) -> None:
        self.rows.remove(row)
        self._list.removeWidget(row)
        row.choice.disconnect_viewer()
        row.deleteLater()
        self.changed.emit()

    def read_matrix(self, row: OrientationRow, path: Path) -> None:
        """Turn the direction of a row's B0 by the registration in a file."""
        try:
            if self._grid is None:
                raise InputError("Choose the first orientation's field before its registrations.")
            row.take(*read_direction(path, self._grid))
        except InputError as error:
            show_error(str(error))

    def chosen(self, beside: Layer | None) -> tuple[Orientation, ...]:
        """Return the orientations that are complete.

        Raises
        ------
        InputError
            If a layer cannot be read as a volume.
        """
        made = (row.orientation(beside) for row in self.rows)
        return tuple(one for one in made if one is not None)

    def judge(
        self,
        first: Volume | None,
        stated: tuple[float, float, float] | None,
        others: tuple[Orientation, ...],
    ) -> None:
        """Show how well these orientations determine a map; `stated` is the first one's B0."""
        self._grid = None if first is None else first.grid
        self.verdict.setVisible(first is not None and bool(others))
        if first is None or not others:
            return
        try:
            grids = [
                volume.grid if b0 is None else volume.grid.with_b0(b0)
                for volume, b0 in ((first, stated), *((o.field, o.b0_direction) for o in others))
            ]
        except InputError as error:
            self._say(str(error), "none")
            return
        judged = conditioning([grid.b0_direction for grid in grids])
        if judged.angle < SAME_DIRECTION:
            self._say(ALIKE, "none")
        else:
            self._say(judged.text, "poor" if judged.is_poor else "good")
        self.verdict.setToolTip(judged.sentence)

    def _say(self, text: str, mark: str) -> None:
        self.verdict.setText(text)
        self.verdict.setStyleSheet(f"color: {COLOURS[mark]}")

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer (the dock closes)."""
        for row in self.rows:
            row.choice.disconnect_viewer()
