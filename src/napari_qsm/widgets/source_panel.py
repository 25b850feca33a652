"""What is prepared: files, the measurement among them, the user's corrections and own mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Image, Labels
from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.io.importer import Corrections, Measurement
from napari_qsm.widgets import texts
from napari_qsm.widgets.constants import UNKNOWN, DirectionEdit, NumberLine, NumbersLine
from napari_qsm.widgets.layer_choice import LayerChoice
from napari_qsm.workbench.placement import stored_codes

if TYPE_CHECKING:
    from napari.components import ViewerModel


class CorrectionsForm(QWidget):
    """What the user states instead of the files; grey is what was understood."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.echo_times = NumbersLine(texts.ECHO_TIMES)
        self.field_strength = NumberLine(texts.PREPARE_B0, 30)
        self.field_strength.setFixedWidth(70)
        self.direction = DirectionEdit()
        self.flip = QCheckBox(texts.FLIP_PHASE)
        self.flip.setToolTip(texts.FLIP_PHASE_TIP)
        self.scale = QComboBox()
        self.scale.setToolTip(texts.PHASE_SCALE)
        self.scale.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        for key, words in texts.PHASE_SCALES.items():
            self.scale.addItem(words, key)
        times = QHBoxLayout()
        times.addWidget(self.echo_times, 1)
        times.addWidget(QLabel("B0 [T]"))
        times.addWidget(self.field_strength)
        phase = QHBoxLayout()
        phase.addWidget(self.flip)
        phase.addWidget(self.scale, 1)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("TE [ms]", times)
        form.addRow("B0 direction", self.direction)
        form.addRow("Phase", phase)
        for line in (self.echo_times, self.field_strength, self.direction):
            line.value_changed.connect(self._report)
        self.flip.toggled.connect(self._report)
        self.scale.currentIndexChanged.connect(self._report)
        self._reported = Corrections()

    @property
    def value(self) -> Corrections:
        """The corrections as typed."""
        times = self.echo_times.value
        return Corrections(
            echo_times=tuple(t / 1000 for t in times) if times else None,
            field_strength=self.field_strength.value,
            b0_direction=self.direction.value,
            flip_phase=self.flip.isChecked(),
            phase_scale=self.scale.currentData(),
        )

    def reset(self) -> None:
        """Take all corrections back without a report."""
        self.echo_times.clear()
        self.field_strength.clear()
        self.direction.clear()
        with QSignalBlocker(self.flip), QSignalBlocker(self.scale):
            self.flip.setChecked(False)
            self.scale.setCurrentIndex(0)
        self._reported = Corrections()

    def show_understood(self, acquisition: Acquisition) -> None:
        """Show what the program goes by where nothing is typed."""
        self.echo_times.show_understood([1000 * t for t in acquisition.echo_times])
        b0 = acquisition.field_strength
        self.field_strength.setPlaceholderText(f"{b0:.4g}" if b0 else UNKNOWN)
        self.direction.show_understood(acquisition.grid.b0_direction)

    def _report(self, _: object = None) -> None:
        # A line reports whenever it loses the focus; only another value is a correction.
        if (value := self.value) != self._reported:
            self._reported = value
            self.changed.emit()


class SourcePanel(QWidget):
    """Buttons that open something, the list of measurements, corrections, and the mask row."""

    paths_chosen = Signal(list)
    head_wanted = Signal()
    measurement_chosen = Signal(object)
    corrected = Signal()
    edit_wanted = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._measurements: Sequence[Measurement] = ()
        self._said = ""
        self.measurement = QComboBox()
        self.measurement.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.measurement.setToolTip(texts.MEASUREMENT)
        self.measurement.activated.connect(self._choose)
        self.summary = QLabel(texts.DROP)
        self.summary.setWordWrap(True)
        self.summary.setStyleSheet("color: gray")
        self.mask = LayerChoice(
            viewer,
            (Quantity.MASK,),
            (Labels, Image),
            texts.OWN_MASK,
            auto=False,
            empty=texts.OWN_MASK_NONE,
        )
        self.edit = QToolButton()
        self.edit.setText(texts.EDIT_MASK)
        self.edit.setToolTip(texts.EDIT_MASK_TIP)
        self.edit.setEnabled(False)
        self.edit.clicked.connect(self.edit_wanted)
        self.corrections = CorrectionsForm()
        self.corrections.changed.connect(self.corrected)
        self.corrections.hide()
        self.fold = QToolButton()
        self.fold.setText(texts.CORRECTIONS)
        self.fold.setToolTip(texts.CORRECTIONS_TIP)
        self.fold.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.fold.setArrowType(Qt.ArrowType.RightArrow)
        self.fold.setCheckable(True)
        self.fold.toggled.connect(self._unfold)
        self._lay_out()

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        for words, tip, act in (
            (texts.OPEN_FOLDER, texts.OPEN_FOLDER_TIP, self._ask_folder),
            (texts.OPEN_FILES, texts.OPEN_FILES_TIP, self._ask_files),
            (texts.DIGITAL_HEAD, texts.DIGITAL_HEAD_TIP, self.head_wanted.emit),
        ):
            button = QPushButton(words)
            button.setToolTip(tip)
            button.clicked.connect(lambda _=False, act=act: act())
            buttons.addWidget(button, 1)
        mask = QHBoxLayout()
        mask.addWidget(QLabel("Mask"))
        mask.addWidget(self.mask, 1)
        mask.addWidget(self.edit)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(buttons)
        column.addWidget(self.measurement)
        column.addWidget(self.summary)
        column.addLayout(mask)
        column.addWidget(self.fold)
        column.addWidget(self.corrections)
        self.measurement.hide()

    # -- files ------------------------------------------------------------------------------

    def _ask_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, texts.OPEN_FOLDER_TIP)
        if folder:
            self.paths_chosen.emit([Path(folder)])

    def _ask_files(self) -> None:
        files, _ = QFileDialog.getOpenFileNames(
            self, texts.OPEN_FILES_TIP, "", "NIfTI (*.nii *.nii.gz);;All files (*)"
        )
        if files:
            self.paths_chosen.emit([Path(file) for file in files])

    # -- measurements -----------------------------------------------------------------------

    def show_measurements(self, measurements: Sequence[Measurement], *, name: str = "") -> None:
        """List what was found; one is chosen at once, the choice among several is the user's."""
        self._measurements, several = measurements, len(measurements) > 1
        with QSignalBlocker(self.measurement):
            self.measurement.clear()
            for index, found in enumerate(measurements):
                self.measurement.addItem(f"{found.name} · {found.summary}")
                self.measurement.setItemData(
                    index, f"<p>{found.summary}</p>", Qt.ItemDataRole.ToolTipRole
                )
            self.measurement.setCurrentIndex(-1 if several else 0)
        self.measurement.setPlaceholderText(texts.SEVERAL.format(len(measurements)))
        self.measurement.setVisible(several)
        self.corrections.reset()
        self._said = name
        self.summary.setText(measurements[0].summary if len(measurements) == 1 else name)

    @property
    def chosen(self) -> Measurement | None:
        """The chosen measurement, or None where there are none."""
        index = self.measurement.currentIndex()
        return self._measurements[index] if 0 <= index < len(self._measurements) else None

    def _choose(self, index: int) -> None:
        found = self._measurements[index]
        self.summary.setText(found.summary)
        self.corrections.reset()
        self.measurement_chosen.emit(found)

    def show_understood(self, acquisition: Acquisition) -> None:
        """Show the constants and the grid the program goes by."""
        self.corrections.show_understood(acquisition)
        grid = acquisition.grid
        size = "×".join(f"{v:.3g}" for v in grid.voxel_size)
        shape = "×".join(map(str, grid.shape))
        said = self.chosen.summary.rstrip(".") if self.chosen else f"{self._said}, {shape}"
        self.summary.setText(f"{said}, {size} mm, stored {stored_codes(grid)}")

    def _unfold(self, on: bool) -> None:
        self.fold.setArrowType(Qt.ArrowType.DownArrow if on else Qt.ArrowType.RightArrow)
        self.corrections.setVisible(on)

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer (the dock closes)."""
        self.mask.disconnect_viewer()
