"""What is measured: the volumes and the constants that give them meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Image, Labels, Layer
from napari.utils.events import EventEmitter
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QLabel, QWidget

from napari_qsm.acquisition import InputError, Quantity, Volume
from napari_qsm.physics.units import FieldUnit
from napari_qsm.widgets import texts
from napari_qsm.widgets.constants import UNKNOWN, DirectionEdit, NumberLine
from napari_qsm.widgets.layer_choice import LayerChoice
from napari_qsm.widgets.orientations import OrientationsPanel
from napari_qsm.widgets.zero import ZeroChoice
from napari_qsm.workbench.layers import volume_of
from napari_qsm.workbench.placement import stored_codes
from napari_qsm.workbench.session import Understanding, Workbench

if TYPE_CHECKING:
    from napari.components import ViewerModel

_ROLES: dict[str, tuple[str, tuple[Quantity, ...], tuple[type[Layer], ...], str, bool]] = {
    "field": ("Field", (Quantity.LOCAL_FIELD,), (Image,), texts.FIELD, True),
    "mask": ("Mask", (Quantity.MASK,), (Labels, Image), texts.MASK, True),
    "magnitude": ("Magnitude", (Quantity.MAGNITUDE,), (Image,), texts.MAGNITUDE, True),
    "noise": ("Field noise", (Quantity.FIELD_NOISE,), (Image,), texts.NOISE, True),
    "r2prime": ("R2'", (Quantity.R2PRIME,), (Image,), texts.R2PRIME, True),
    "r2star": ("R2*", (Quantity.R2STAR,), (Image,), texts.R2STAR, True),
    "r2": ("R2", (Quantity.R2,), (Image,), texts.R2, True),
    "start": ("Start at χ", (Quantity.CHI,), (Image,), texts.START, False),
    "reference": ("Reference χ", (Quantity.CHI,), (Image,), texts.REFERENCE, False),
}
_SPECIAL = ("r2prime", "r2star", "r2", "start")
"""Roles whose rows are there only for methods that use them, and count only then."""


class InputsPanel(QWidget):
    """Rows for the volumes that go in and the reference, and for unit, B0, TE and B0 direction.

    It tells the workbench what was chosen; what the program understood comes back through
    `show_understanding` as placeholders, so that a typed number always means a correction.
    """

    def __init__(self, viewer: ViewerModel, workbench: Workbench) -> None:
        super().__init__()
        self._workbench = workbench
        self.roles = {
            key: LayerChoice(viewer, accepts, kinds, tip, auto=auto)
            for key, (_, accepts, kinds, tip, auto) in _ROLES.items()
        }
        self._form = layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(3)  # many rows, and the method's lambda should stay in sight
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for key, choice in self.roles.items():
            layout.addRow(_ROLES[key][0], choice)
            choice.chosen.connect(self._choose_soon)
        self.zero = ZeroChoice(viewer)
        self.zero.chosen.connect(self._choose_soon)
        layout.addRow("χ relative to", self.zero)
        self.orientations = OrientationsPanel(viewer)
        self.orientations.changed.connect(self._choose_soon)
        self._add_constants(layout)
        # Several layers may come or go in one turn of the event loop; look once.
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self.choose)
        self._watched: list[EventEmitter] = []
        self._unused: tuple[str, ...] = ()
        workbench.method_changed.connect(self._show_special)
        self._show_special()

    def _show_special(self, _: object = None) -> None:
        """Show what only some methods use: rates, and for those that separate a map to start at.

        Their susceptibility has a zero of its own, so that they are not asked for one.
        """
        chosen = self._workbench.chosen
        separates = Quantity.CHI_POS in chosen.gives
        self._form.setRowVisible(self.zero, not separates)
        used = {*chosen.needs, *chosen.uses} - (set() if separates else {Quantity.CHI})
        unused = tuple(key for key in _SPECIAL if self.roles[key].accepts[0] not in used)
        if unused != self._unused:
            self._unused = unused
            for key in _SPECIAL:
                self._form.setRowVisible(self.roles[key], key not in unused)
            self._choose_soon()

    def _add_constants(self, layout: QFormLayout) -> None:
        self.unit = QComboBox()
        self.unit.addItems(["from file", *(unit.value for unit in FieldUnit)])
        self.unit.setToolTip(texts.UNIT)
        self.unit.currentIndexChanged.connect(self._choose_soon)
        self.field_strength = NumberLine(texts.FIELD_STRENGTH, 30)
        self.echo_time = NumberLine(texts.ECHO_TIME, 1000)
        for line in (self.field_strength, self.echo_time):
            line.value_changed.connect(self._choose_soon)
        row = QWidget()
        cells = QHBoxLayout(row)
        cells.setContentsMargins(0, 0, 0, 0)
        for widget, stretch in (
            (self.unit, 2),
            (QLabel("B0 [T]"), 0),
            (self.field_strength, 1),
            (QLabel("TE [ms]"), 0),
            (self.echo_time, 1),
        ):
            cells.addWidget(widget, stretch)
        layout.addRow("Unit", row)
        self.direction = DirectionEdit()
        self.direction.value_changed.connect(self._choose_soon)
        layout.addRow("B0 direction", self.direction)
        layout.addRow("Orientations", self.orientations)
        self.grid = QLabel()
        self.grid.setWordWrap(True)
        self.grid.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout.addRow("Grid", self.grid)

    def _choose_soon(self, *_: object) -> None:
        self._soon.start()

    def choose(self) -> None:
        """Tell the workbench what is chosen now."""
        roles = {
            key: None if key in self._unused else choice.layer for key, choice in self.roles.items()
        }
        layers = [self.zero.layer, *roles.values(), *self.orientations.layers]
        self._watch([layer for layer in layers if layer is not None])
        field = roles["field"]
        try:
            volumes = {key: self._volume(layer, field) for key, layer in roles.items()}
            volumes["zero_map"] = self._volume(self.zero.layer, field)
            orientations = self.orientations.chosen(field)
        except InputError as error:
            self._workbench.reject(str(error))
            return
        self.orientations.judge(volumes["field"], self.direction.value, orientations)
        index = self.unit.currentIndex()
        echo_time = self.echo_time.value
        self._workbench.choose_inputs(
            **volumes,
            orientations=orientations,
            unit=list(FieldUnit)[index - 1] if index else None,
            field_strength=self.field_strength.value,
            echo_time=echo_time / 1000 if echo_time else None,
            b0_direction=self.direction.value,
            zero=self.zero.key,
        )

    @staticmethod
    def _volume(layer: Layer | None, field: Layer | None) -> Volume | None:
        return None if layer is None else volume_of(layer, beside=field)

    def _watch(self, layers: list[Layer]) -> None:
        """Look again when a chosen layer gets other data or somebody has painted on a mask."""
        for event in self._watched:
            event.disconnect(self._choose_soon)
        self._watched = [layer.events.data for layer in layers]
        self._watched += [layer.events.paint for layer in layers if isinstance(layer, Labels)]
        for event in self._watched:
            event.connect(self._choose_soon)

    def show_understanding(self, understanding: Understanding) -> None:
        """Show the constants the program goes by where the user typed none."""
        acquisition = understanding.acquisition
        if acquisition is None:
            self.grid.setText("")
            return
        grid = acquisition.grid
        size = "×".join(f"{v:.3g}" for v in grid.voxel_size)
        shape = "×".join(map(str, grid.shape))
        self.grid.setText(f"{shape}, {size} mm, stored {stored_codes(grid)}")
        self.direction.show_understood(grid.b0_direction)
        b0, times = acquisition.field_strength, acquisition.echo_times
        self.field_strength.setPlaceholderText(f"{b0:g}" if b0 else UNKNOWN)
        self.echo_time.setPlaceholderText(f"{times[-1] * 1000:g}" if times else UNKNOWN)

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer (the dock closes)."""
        self._watch([])
        self._workbench.method_changed.disconnect(self._show_special)
        self.zero.disconnect_viewer()
        self.orientations.disconnect_viewer()
        for choice in self.roles.values():
            choice.disconnect_viewer()
