"""A number with a slider: the slider is quick, the text is exact, and both always agree."""

from __future__ import annotations

import math

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QDoubleValidator, QFocusEvent, QKeyEvent
from qtpy.QtWidgets import QHBoxLayout, QLineEdit, QSlider, QWidget

_POSITIONS = 1000


class NumberEdit(QLineEdit):
    """Text field for one number in a range; shows it as short as it is exact."""

    edited = Signal(float)

    def __init__(self, value: float, low: float, high: float, *, log: bool, whole: bool) -> None:
        super().__init__()
        self._low, self._high, self._log, self._whole = low, high, log, whole
        self._value = value
        validator = QDoubleValidator(low, high, 12, self)
        validator.setNotation(QDoubleValidator.Notation.ScientificNotation)
        validator.setLocale(validator.locale().c())
        self.setValidator(validator)
        self.setFixedWidth(84)
        self.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.show_value(value)
        self.editingFinished.connect(self._take)

    def show_value(self, value: float) -> None:
        """Show `value` without reporting an edit."""
        self._value = value
        self.setText(f"{round(value)}" if self._whole else f"{value:.10g}")

    def _take(self) -> None:
        value = float(self.text())
        if self._whole:
            value = round(value)
        if value != self._value:
            self.show_value(value)
            self.edited.emit(value)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Leave no half-typed number behind."""
        if not self.hasAcceptableInput():
            self.show_value(self._value)
        super().focusOutEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Step with the arrow keys: a tenth of a decade, a hundredth of the range, or one."""
        direction = {Qt.Key.Key_Up: 1, Qt.Key.Key_Down: -1}.get(event.key())
        if direction is None:
            super().keyPressEvent(event)
            return
        if self._log:
            value = float(f"{self._value * 10 ** (0.1 * direction):.3g}")
        else:
            step = 1 if self._whole else (self._high - self._low) / 100
            value = float(f"{self._value + direction * step:.6g}")
        self.setText(f"{min(max(value, self._low), self._high):.10g}")
        self._take()


class NumberControl(QWidget):
    """Slider and exact text for a number, linear or logarithmic.

    Parameters
    ----------
    value, low, high : float
        Start value and inclusive range; `low` must be positive when `log`.
    log : bool
        Whether the slider moves in decades. napari's `LogSlider` rounds to 100 steps and reports
        its position instead of its value, hence this one.
    whole : bool
        Whether only whole numbers are meant.
    """

    value_changed = Signal(float)

    def __init__(
        self, value: float, low: float, high: float, *, log: bool = False, whole: bool = False
    ) -> None:
        super().__init__()
        self._low, self._high, self._log, self._whole = low, high, log, whole
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _POSITIONS)
        self.text = NumberEdit(value, low, high, log=log, whole=whole)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.slider, 1)
        layout.addWidget(self.text)
        self._value = value
        self.set_value(value)
        self.slider.valueChanged.connect(self._slid)
        self.text.edited.connect(self._typed)

    @property
    def value(self) -> float:
        """The exact number; equals what the text shows."""
        return self._value

    def set_value(self, value: float) -> None:
        """Show `value` without reporting a change."""
        self._value = value
        self.text.show_value(value)
        self.slider.blockSignals(True)
        self.slider.setValue(self._position(value))
        self.slider.blockSignals(False)

    def _position(self, value: float) -> int:
        if self._log:
            part = math.log(value / self._low) / math.log(self._high / self._low)
        else:
            part = (value - self._low) / (self._high - self._low)
        return round(_POSITIONS * min(max(part, 0.0), 1.0))

    def _slid(self, position: int) -> None:
        part = position / _POSITIONS
        if self._log:
            value = self._low * (self._high / self._low) ** part
        else:
            value = self._low + (self._high - self._low) * part
        # Three digits, so that the number in the text is the number in use.
        value = round(value) if self._whole else float(f"{value:.3g}")
        self._value = min(max(value, self._low), self._high)
        self.text.show_value(self._value)
        self.value_changed.emit(self._value)

    def _typed(self, value: float) -> None:
        self.set_value(value)
        self.value_changed.emit(value)
