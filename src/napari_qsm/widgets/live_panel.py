"""The slider of a method's tuning parameter, and what is said about what it shows."""

from __future__ import annotations

from html import escape
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_qsm import process
from napari_qsm.acquisition import Quantity
from napari_qsm.methods.registry import Method
from napari_qsm.methods.wrapping import wrappers
from napari_qsm.widgets import texts
from napari_qsm.widgets.number import NumberControl
from napari_qsm.widgets.parameters import number_control, row_label
from napari_qsm.workbench.live import Tuned
from napari_qsm.workbench.session import Workbench

_STYLE = """
QSlider { min-height: 34px; }
QSlider::groove:horizontal { height: 8px; border-radius: 4px; }
QSlider::handle:horizontal { width: 22px; height: 22px; margin: -7px 0; border-radius: 11px; }
"""


class LivePanel(QWidget):
    """Method, slider, figures, and the two ways on from here.

    Attributes
    ----------
    method_chosen : Signal
        Another method is to be tuned; `method` is it.
    moved : Signal
        The value changed and may change again at once: the slider is being dragged.
    settled : Signal
        The slider was released, a number was typed or stepped to, or auto was asked for.
    keep_wanted, use_wanted, stop_wanted : Signal
        The buttons.
    """

    method_chosen = Signal()
    moved = Signal()
    settled = Signal()
    keep_wanted = Signal()
    use_wanted = Signal()
    stop_wanted = Signal()

    def __init__(self, workbench: Workbench) -> None:
        super().__init__()
        self._workbench = workbench
        self._methods = {k: m for k, m in workbench.methods.items() if m.tuning}
        self.control: NumberControl | None = None
        self._automatic = False
        self._build()
        for key, method in self._methods.items():
            self.combo.addItem(f"⚡ {method.label}" if method.symbol else method.label, key)
            tip = f"<p>{method.summary}</p>"
            self.combo.setItemData(self.combo.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self.combo.setCurrentIndex(max(0, self.combo.findData(workbench.unwrapped)))
        self.combo.currentIndexChanged.connect(self._choose_method)
        workbench.method_changed.connect(self._follow)
        workbench.inputs_changed.connect(self._show_badge)
        self._show_method()

    def _build(self) -> None:
        self.combo = QComboBox()
        self.combo.setToolTip(texts.LIVE_METHOD)
        self.badge, self.name, self.status = QLabel(), QLabel(), QLabel()
        self.badge.setStyleSheet("color: gray")
        for text in (self.badge, self.status):
            text.setWordWrap(True)
        self.status.setTextFormat(Qt.TextFormat.RichText)
        self.status.setMinimumHeight(2 * self.status.fontMetrics().lineSpacing())
        self.status.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.auto, self.stop = QToolButton(), QToolButton()
        self.auto.setText(texts.LIVE_AUTO)
        self.auto.setToolTip(texts.LIVE_AUTO_TIP)
        self.auto.clicked.connect(self._choose_auto)
        self.stop.setText("✕")
        self.stop.setToolTip(texts.LIVE_STOP)
        self.stop.clicked.connect(self.stop_wanted)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(8)
        self.keep, self.use = QPushButton(texts.LIVE_KEEP), QPushButton(texts.LIVE_USE)
        self.keep.setToolTip(texts.LIVE_KEEP_TIP)
        self.use.setToolTip(texts.LIVE_USE_TIP)
        self.keep.clicked.connect(self.keep_wanted)
        self.use.clicked.connect(self.use_wanted)
        self._heading, self._slider = _row(self.name), _row(self.auto)
        self._heading.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo)
        layout.addWidget(self.badge)
        for row in (self._heading, self._slider, _row(self.bar, self.stop)):
            layout.addLayout(row)
        layout.addWidget(self.status)
        layout.addLayout(_row(self.keep, self.use))
        self.show_running(None)

    # -- what is chosen ---------------------------------------------------------------------

    @property
    def method(self) -> Method[Any]:
        """The method that is tuned."""
        return self._methods[self.combo.currentData()]

    @property
    def automatic(self) -> bool:
        """Whether the value is left to the method."""
        return self._automatic

    @automatic.setter
    def automatic(self, on: bool) -> None:
        self._automatic = on
        field = self.method.parameters.model_fields[self.method.tuning]
        left = " <span style='color:gray'>chosen from the data</span>" if on else ""
        self.name.setText(f"<b>{escape(row_label(self.method.tuning, field))}</b>{left}")

    @property
    def dragging(self) -> bool:
        """Whether the slider is held."""
        return self.control is not None and self.control.slider.isSliderDown()

    @property
    def value(self) -> float | int | None:
        """The value of the tuning parameter; None while it is left to the method."""
        if self.automatic or self.control is None:
            return None
        return round(self.control.value) if self._number.whole else self.control.value

    def choose(self, key: str, value: float | None = None) -> None:
        """Choose a method and, without asking for anything to be shown, a value."""
        if key in self._methods:
            self.combo.setCurrentIndex(self.combo.findData(key))
            if value is not None:
                self.show_value(value)

    def show_value(self, value: float) -> None:
        """Put the slider where a value is that the method chose or somebody picked."""
        self.automatic = False
        if self.control is not None:
            self.control.set_value(value)

    def _choose_method(self, _: int) -> None:
        """Choose the method that was picked here for Reconstruct and the sweep, too."""
        self._show_method()
        self._workbench.change_method(self.method.key)

    def _follow(self, _: str = "") -> None:
        """Show the method that was chosen in Reconstruct, if it has something to tune."""
        index = self.combo.findData(self._workbench.unwrapped)
        if index not in (-1, self.combo.currentIndex()):
            with QSignalBlocker(self.combo):
                self.combo.setCurrentIndex(index)
            self._show_method()
        self._show_badge()

    def _show_badge(self, _: object = None) -> None:
        """Say when the slider acts, and what it leaves out of what Reconstruct says."""
        method, bench = self.method, self._workbench
        warm = Quantity.CHI in method.uses
        told = [texts.LIVE_WARM if warm else texts.LIVE_RELEASE]
        if method.symbol:
            told = [texts.LIVE_FOLLOWS]
        if bench.unwrapped != method.key:
            told = [texts.LIVE_UNTUNED.format(bench.chosen.label, method.label)]
        elif bench.wrappers:
            left_out = (wrappers()[key].label for key in bench.wrappers)
            told.append(texts.LIVE_PLAIN.format(" and ".join(left_out)))
        if bench.inputs.zero != "mask":
            told.append(texts.LIVE_ZERO)
        self.badge.setText("; ".join(told) + ".")

    def disconnect_workbench(self) -> None:
        """Stop listening (the dock closes)."""
        self._workbench.method_changed.disconnect(self._follow)
        self._workbench.inputs_changed.disconnect(self._show_badge)

    def _show_method(self) -> None:
        method = self.method
        field = method.parameters.model_fields[method.tuning]
        number = process.number(field)
        assert number is not None
        self._number = number
        settings = self._workbench.settings.get(method.key, {})
        value = getattr(method.with_settings(settings), method.tuning)
        if self.control is not None:
            self._slider.removeWidget(self.control)
            self.control.hide()
            self.control.deleteLater()
        self.control = number_control(number.typical if value is None else value, number)
        self.control.slider.setStyleSheet(_STYLE)
        self.control.value_changed.connect(self._changed)
        self.control.slider.sliderReleased.connect(self.settled)
        self.automatic = value is None
        self.auto.setVisible(number.optional)
        self._slider.insertWidget(0, self.control, 1)
        for part in (self.name, self.control):
            part.setToolTip(f"<p>{field.description}</p>")
        self._show_badge()
        for part in (self.bar, self.stop):
            part.setVisible(method.symbol is None)
        self.say(texts.LIVE_MOVE)
        self.method_chosen.emit()

    def _changed(self, _: float) -> None:
        self.automatic = False
        (self.moved if self.dragging else self.settled).emit()

    def _choose_auto(self) -> None:
        self.automatic = True
        self.settled.emit()

    # -- what is said -----------------------------------------------------------------------

    def say(self, text: str, *, small: str = "") -> None:
        """Say what is shown, or why nothing is."""
        told = f" <span style='color:gray'>{escape(small)}</span>" if small else ""
        self.status.setText(f"{escape(text)}{told}")

    def tell(self, shown: Tuned, *spent: str) -> None:
        """Say what is shown and what it took; the slider goes where the method put the value."""
        if self.automatic and shown.number is not None:
            self.show_value(shown.number)
        told = list(spent)
        if shown.residual is not None:
            told.append(f"residual {100 * shown.residual:.1f} % of the field")
        self.say(shown.value, small=" · ".join(told))

    def show_running(self, fraction: float | None) -> None:
        """Show how far a solver is; None where none runs."""
        self.bar.setValue(0 if fraction is None else round(1000 * fraction))
        self.stop.setEnabled(fraction is not None)


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row
