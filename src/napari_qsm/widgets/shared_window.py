"""One display window for all maps of a kind, in ppm or ppb."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QDoubleRangeSlider

from napari_qsm.acquisition import Quantity
from napari_qsm.widgets import compare_texts as texts
from napari_qsm.workbench.comparison import COMPARED
from napari_qsm.workbench.layers import quantity_of

if TYPE_CHECKING:
    from napari.layers import Layer

_REACH = 4.0
"""How far the slider goes, in usual windows; the boxes beside it go further."""
_UNITS = {"ppm": (1.0, 4), "ppb": (1000.0, 1)}


class SharedWindow(QWidget):
    """Low and high of one kind of map, the same for every map of that kind.

    Whatever sets the window of one of them, here or in napari's own controls, sets it for all.

    Attributes
    ----------
    layers : list of Layer
        The maps it serves.
    """

    unit_changed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[Layer] = []
        self._by_hand = False
        self._kinds: dict[Layer, Quantity | None] = {}
        self._led: Layer | None = None
        self.kind = QComboBox()
        self.kind.setToolTip(texts.WINDOW_OF_TIP)
        self.unit = QComboBox()
        self.unit.addItems(list(_UNITS))
        self.unit.setToolTip(texts.UNIT_TIP)
        self.low, self.high = QDoubleSpinBox(), QDoubleSpinBox()
        self.slider = QDoubleRangeSlider(Qt.Orientation.Horizontal)
        self.reset = QPushButton(texts.RESET_WINDOW)
        self.reset.setToolTip(texts.RESET_WINDOW_TIP)
        # After the event that brought the change: others, such as the look for 3D, may be about
        # to change each layer themselves.
        self._later = QTimer(self, singleShot=True, interval=0)
        self._later.timeout.connect(self._spread)
        self._lay_out()
        self._connect()
        self.setEnabled(False)  # until there is a map to serve

    def _lay_out(self) -> None:
        first, second = QHBoxLayout(), QHBoxLayout()
        first.addWidget(self.kind, 1)
        first.addWidget(self.unit)
        first.addWidget(self.reset)
        second.addWidget(self.low)
        second.addWidget(self.slider, 1)
        second.addWidget(self.high)
        for box in (self.low, self.high, self.slider):
            box.setToolTip(texts.WINDOW_TIP)
        for box in (self.low, self.high):
            box.setKeyboardTracking(False)
            box.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
            box.setFixedWidth(72)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(first)
        column.addLayout(second)

    def _connect(self) -> None:
        self.kind.currentIndexChanged.connect(self._show)
        self.kind.activated.connect(self._take_over)
        self.unit.currentTextChanged.connect(self._change_unit)
        self.low.valueChanged.connect(self._boxes_changed)
        self.high.valueChanged.connect(self._boxes_changed)
        self.slider.valueChanged.connect(self._slid)
        self.reset.clicked.connect(self._reset)

    # -- which maps -------------------------------------------------------------------------

    def serve(self, layers: Iterable[Layer]) -> None:
        """Be the window of these maps from now on."""
        found = ((layer, quantity_of(layer)) for layer in layers)
        kinds = {layer: kind for layer, kind in found if kind and kind.unit in _UNITS}
        if kinds == self._kinds:
            return
        self._kinds = kinds
        self._listen(on=False)
        known, self.layers = self.layers, list(kinds)
        self._listen(on=True)
        if set(self.layers) - set(known):  # newcomers take the window that is in use
            self._led = next((layer for layer in known if layer in self.layers), None)
            self._later.start()
        before = self.kind.currentData() if self._by_hand else None
        with QSignalBlocker(self.kind):
            self.kind.clear()
            for kind in sorted(set(kinds.values()), key=COMPARED.index):
                self.kind.addItem(f"{kind.symbol}  {kind.label}", kind.key)
            self.kind.setCurrentIndex(max(0, self.kind.findData(before)))
        self.setEnabled(bool(kinds))
        self._show()

    def _listen(self, *, on: bool) -> None:
        for layer in self.layers:
            event = layer.events.contrast_limits
            event.connect(self._heard) if on else event.disconnect(self._heard)

    @property
    def quantity(self) -> Quantity | None:
        """The kind of map whose window is shown."""
        key = self.kind.currentData()
        return Quantity.named(key) if key else None

    def _kin(self, kind: Quantity | None) -> list[Layer]:
        return [layer for layer in self.layers if quantity_of(layer) is kind]

    def _take_over(self, _: int) -> None:
        """From here on the kind stays what the user chose."""
        self._by_hand = True

    def _heard(self, event: object) -> None:
        self._led = event.source
        self._later.start()

    def _spread(self) -> None:
        """Give every map of that kind the window of the one that was changed last."""
        led, self._led = self._led, None
        if led is None or led not in self.layers:
            return
        for layer in self._kin(quantity_of(led)):
            if tuple(layer.contrast_limits) != tuple(led.contrast_limits):
                with layer.events.contrast_limits.blocker(self._heard):
                    layer.contrast_limits = led.contrast_limits
        self._show()

    # -- the window -------------------------------------------------------------------------

    @property
    def limits(self) -> tuple[float, float]:
        """Low and high in the unit of the maps."""
        scale = _UNITS[self.unit.currentText()][0]
        return self.low.value() / scale, self.high.value() / scale

    def set_limits(self, low: float, high: float) -> None:
        """Give all maps of the chosen kind this window, in their unit."""
        if high <= low:
            high = low + 1e-6
        for layer in self._kin(self.quantity):
            with layer.events.contrast_limits.blocker(self._heard):
                layer.contrast_limits = (low, high)
        self._show()

    def _show(self, _: object = None) -> None:
        kin, kind = self._kin(self.quantity), self.quantity
        if not kin or kind is None:
            return
        low, high = (float(x) for x in kin[0].contrast_limits)
        scale, decimals = _UNITS[self.unit.currentText()]
        usual = max(map(abs, kind.window or (low, high)))
        reach = max(_REACH * usual, abs(low), abs(high))
        signed = low < 0 or (kind.window or (0.0,))[0] < 0
        with QSignalBlocker(self.low), QSignalBlocker(self.high), QSignalBlocker(self.slider):
            for box, value in ((self.low, low), (self.high, high)):
                box.setDecimals(decimals)
                box.setRange(-1000 * scale, 1000 * scale)
                box.setSingleStep(usual * scale / 15)
                box.setValue(value * scale)
            self.slider.setRange(-reach if signed else 0.0, reach)
            self.slider.setValue((low, high))

    def _boxes_changed(self, _: float) -> None:
        self.set_limits(*self.limits)

    def _slid(self, limits: tuple[float, float]) -> None:
        self.set_limits(*limits)

    def _change_unit(self, unit: str) -> None:
        self._show()
        self.unit_changed.emit(unit)

    def _reset(self) -> None:
        if self.quantity is not None and self.quantity.window is not None:
            self.set_limits(*self.quantity.window)

    def shut_down(self) -> None:
        """Let go of all maps."""
        with suppress(RuntimeError):  # Qt's side may be gone already
            self._later.stop()
        self._listen(on=False)
        self.layers, self._kinds, self._led = [], {}, None
