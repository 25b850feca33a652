"""The controls of an overlay: which two maps, what to make of them, where the curtain hangs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_qsm.acquisition import Quantity
from napari_qsm.widgets import compare_texts as texts
from napari_qsm.widgets.layer_choice import LayerChoice
from napari_qsm.widgets.letters import screen_of
from napari_qsm.widgets.overlay import OverlayLayer
from napari_qsm.workbench.comparison import COMPARED, Blend, axis_of, is_overlay

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_STEPS = 1000
_FIELDS = (Quantity.LOCAL_FIELD,)


class MapChoice(LayerChoice):
    """A choice among layers that are no overlays: an overlay of itself would never end."""

    def __init__(
        self,
        viewer: ViewerModel,
        accepts: tuple[Quantity, ...],
        tooltip: str,
        empty: str,
        *,
        auto: bool = False,
    ) -> None:
        super().__init__(viewer, accepts, (Image,), tooltip, auto=auto, empty=empty)
        self.open_button.hide()

    def _may_play(self, layer: Layer) -> bool:
        return super()._may_play(layer) and not is_overlay(layer)


class OverlayPanel(QWidget):
    """Chooses and steers the overlay of one viewer."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self.overlay = OverlayLayer(viewer)
        self.a = MapChoice(viewer, COMPARED, texts.OVERLAY_A_TIP, "A")
        self.b = MapChoice(viewer, COMPARED, texts.OVERLAY_B_TIP, "B")
        self.field = MapChoice(viewer, _FIELDS, texts.FIELD_TIP, "f", auto=True)
        self.kind = QComboBox()
        for key, text in texts.KINDS.items():
            self.kind.addItem(text, key)
        self.kind.setToolTip(texts.KIND_TIP)
        self.axis = QComboBox()
        for letter, text in texts.AXES.items():
            self.axis.addItem(text, letter)
        self.axis.setToolTip(texts.AXIS_TIP)
        self.swipe = QSlider(Qt.Orientation.Horizontal)
        self.swipe.setRange(0, _STEPS)
        self.swipe.setValue(_STEPS // 2)
        self.swipe.setToolTip(texts.SWIPE_TIP)
        self.side = QDoubleSpinBox(minimum=1, maximum=100, value=20, suffix=" mm", decimals=0)
        self.side.setToolTip(texts.SIDE_TIP)
        self.show_button = QPushButton(texts.SHOW_OVERLAY, checkable=True)
        self.why_not = QLabel()
        self._lay_out()
        self._connect()
        self._show_kind()

    def _lay_out(self) -> None:
        maps, how, steer = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        maps.addWidget(self.a, 1)
        maps.addWidget(self.b, 1)
        maps.addWidget(self.field, 1)
        how.addWidget(self.kind, 1)
        how.addWidget(self.show_button)
        steer.addWidget(self.axis)
        steer.addWidget(self.swipe, 1)
        steer.addWidget(self.side)
        steer.addWidget(self.why_not)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for row in (maps, how, steer):
            column.addLayout(row)

    def _connect(self) -> None:
        self.a.chosen.connect(self._changed)
        self.b.chosen.connect(self._changed)
        self.field.chosen.connect(self._changed)
        self.kind.currentIndexChanged.connect(self._show_kind)
        self.axis.currentIndexChanged.connect(self._steered)
        self.swipe.valueChanged.connect(self._steered)
        self.side.valueChanged.connect(self._steered)
        self.show_button.toggled.connect(self._toggled)
        self.overlay.shown.connect(self._show_state)
        self._viewer.scene.camera.events.orientation.connect(self._steered)
        self._viewer.dims.events.order.connect(self._steered)

    @property
    def blend(self) -> Blend:
        """The blend the controls describe; A begins on the left or the upper side of the screen."""
        axis = axis_of(self.axis.currentData())
        kind = "checkerboard" if self.kind.currentData() == "checkerboard" else "swipe"
        share = self.swipe.value() / _STEPS
        return Blend(kind, axis, share, self._begins_far(axis), self.side.value())

    def _begins_far(self, axis: int) -> bool:
        """Whether the far end of an axis (S, A or R) is on the left or on top of the screen."""
        screen = screen_of(self._viewer)
        if screen is None:
            return True
        right, up = screen
        return bool(up[axis] - right[axis] > 0)

    @property
    def second(self) -> Layer | None:
        """Map B, or the field for the residual."""
        return (self.field if self.kind.currentData() == "residual" else self.b).layer

    def missing(self) -> str:
        """Say what is missing; empty when the overlay can be shown."""
        a, b = self.a.layer, self.second
        if a is not None and b is not None and a is not b:
            return ""
        return texts.NEEDS_FIELD if self.kind.currentData() == "residual" else texts.NEEDS_TWO

    def _show_kind(self, _: object = None) -> None:
        kind = self.kind.currentData()
        self.b.setVisible(kind != "residual")
        self.field.setVisible(kind == "residual")
        self.axis.setVisible(kind == "swipe")
        self.swipe.setVisible(kind == "swipe")
        self.side.setVisible(kind == "checkerboard")
        self._changed()

    def _changed(self) -> None:
        missing = self.missing()
        self.why_not.setText(missing)
        self.why_not.setVisible(bool(missing))
        self.show_button.setEnabled(not missing or self.overlay.wanted)
        if self.overlay.wanted:
            self._show() if not missing else self.overlay.remove()

    def _steered(self, _: object = None) -> None:
        if self.overlay.wanted and not self.missing():
            self._show()

    def _toggled(self, on: bool) -> None:
        self._show() if on else self.overlay.remove()

    def _show(self) -> None:
        self.overlay.show(self.kind.currentData(), self.a.layer, self.second, self.blend)

    def _show_state(self, on: bool) -> None:
        self.show_button.setChecked(on)
        self.show_button.setText(texts.HIDE_OVERLAY if on else texts.SHOW_OVERLAY)

    def shut_down(self) -> None:
        """Stop listening and let go of all layers (the dock closes)."""
        self._viewer.scene.camera.events.orientation.disconnect(self._steered)
        self._viewer.dims.events.order.disconnect(self._steered)
        self.overlay.shut_down()
        self.a.disconnect_viewer()
        self.b.disconnect_viewer()
        self.field.disconnect_viewer()
