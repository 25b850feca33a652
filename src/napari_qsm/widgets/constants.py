"""Lines for the constants of a measurement: empty where what was understood holds."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QRegularExpression, Signal
from qtpy.QtGui import QDoubleValidator, QRegularExpressionValidator
from qtpy.QtWidgets import QHBoxLayout, QLineEdit, QToolButton, QWidget

from napari_qsm.widgets import texts

UNKNOWN = "unknown"


class NumberLine(QLineEdit):
    """A positive number that may be left empty; the placeholder shows what holds then."""

    value_changed = Signal(object)

    def __init__(self, tooltip: str, high: float) -> None:
        super().__init__()
        validator = QDoubleValidator(0.0, high, 6, self)
        validator.setLocale(validator.locale().c())
        self.setValidator(validator)
        self.setToolTip(tooltip)
        self.setPlaceholderText(UNKNOWN)
        self.editingFinished.connect(lambda: self.value_changed.emit(self.value))

    @property
    def value(self) -> float | None:
        """The number, or None where the field is empty."""
        return float(self.text()) if self.text() and self.hasAcceptableInput() else None


class NumbersLine(QLineEdit):
    """Positive numbers separated by commas or spaces, or nothing."""

    value_changed = Signal(object)

    def __init__(self, tooltip: str) -> None:
        super().__init__()
        one = r"\d*\.?\d*(e-?\d+)?"
        pattern = QRegularExpression(rf"\s*{one}([\s,;]+{one})*[\s,;]*")
        self.setValidator(QRegularExpressionValidator(pattern, self))
        self.setToolTip(tooltip)
        self.setPlaceholderText(UNKNOWN)
        self.editingFinished.connect(lambda: self.value_changed.emit(self.value))

    @property
    def value(self) -> tuple[float, ...] | None:
        """The numbers, or None where the field is empty."""
        parts = self.text().replace(",", " ").replace(";", " ").split()
        try:
            return tuple(float(part) for part in parts) or None
        except ValueError:  # a lone point or exponent
            return None

    def show_understood(self, values: Sequence[float]) -> None:
        """Show what holds where nothing is typed."""
        self.setPlaceholderText(", ".join(f"{v:.4g}" for v in values) or UNKNOWN)


class DirectionEdit(QWidget):
    """The three parts of the direction of B0, and a button that empties them again."""

    value_changed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.edits = [QLineEdit() for _ in range(3)]
        cells = QHBoxLayout(self)
        cells.setContentsMargins(0, 0, 0, 0)
        for edit in self.edits:
            validator = QDoubleValidator(-1e3, 1e3, 6, edit)
            validator.setLocale(validator.locale().c())
            edit.setValidator(validator)
            edit.setToolTip(texts.B0_DIRECTION)
            edit.setMinimumWidth(40)
            edit.editingFinished.connect(self._report)
            cells.addWidget(edit)
        reset = QToolButton()
        reset.setText("↺")
        reset.setToolTip(texts.B0_RESET)
        reset.clicked.connect(self.reset)
        cells.addWidget(reset)

    @property
    def value(self) -> tuple[float, float, float] | None:
        """The direction, or None where nothing is typed; an empty part counts as zero."""
        if not any(edit.text() for edit in self.edits):
            return None
        x, y, z = (float(edit.text() or 0) for edit in self.edits)
        return x, y, z

    def clear(self) -> None:
        """Empty all parts without a report."""
        for edit in self.edits:
            edit.clear()

    def reset(self) -> None:
        """Empty all parts: what the file says holds again."""
        self.clear()
        self._report()

    def show_understood(self, direction: Sequence[float]) -> None:
        """Show what holds where nothing is typed."""
        for edit, part in zip(self.edits, direction, strict=True):
            edit.setPlaceholderText(f"{part:.3f}")

    def _report(self) -> None:
        self.value_changed.emit(self.value)
