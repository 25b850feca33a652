"""Run, watch, cancel."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_qsm import devices
from napari_qsm.methods import guard
from napari_qsm.widgets import texts
from napari_qsm.widgets.capped_text import CappedText
from napari_qsm.workbench.job import Progress

_ALARM = "<span style='color:#e8a33d'>▲</span> "
_LINES = 8
"""Lines of an outcome that are seen at once."""


class RunPanel(QWidget):
    """Device, preview switch, the button that is Run or Cancel, and the progress below it.

    Parameters
    ----------
    run : str
        What the button says when it starts something.
    device_tip : str
        What the list of devices says of itself.
    preview : bool
        Whether there is something to preview.
    """

    run_wanted = Signal()
    cancel_wanted = Signal()
    preview_toggled = Signal(bool)

    def __init__(
        self, run: str = texts.RUN, device_tip: str = texts.DEVICE, *, preview: bool = True
    ) -> None:
        super().__init__()
        self._run = run
        self.device = QComboBox()
        self.device.addItems(["auto", *devices.available()])
        self.device.setToolTip(device_tip)
        self.preview = QCheckBox("Live preview")
        self.preview.setChecked(True)
        self.preview.setToolTip(texts.PREVIEW)
        self.preview.toggled.connect(self.preview_toggled)
        self.button = QPushButton(run)
        self.button.setMinimumHeight(32)
        self.button.clicked.connect(self._clicked)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(8)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextFormat(Qt.TextFormat.RichText)  # all that is shown is escaped
        self.status.setMinimumHeight(self.status.fontMetrics().height() * 2)
        self.status.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._running = False
        self._outcome = ""

        self.top = top = QHBoxLayout()
        self._device_label = QLabel("Device")
        top.addWidget(self._device_label)
        top.addWidget(self.device)
        top.addStretch(1)
        top.addWidget(self.preview)
        if not preview:
            self.preview.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(top)
        layout.addWidget(self.button)
        layout.addWidget(self.bar)
        layout.addWidget(CappedText(self.status, _LINES))

    def hide_device(self) -> None:
        """Offer no choice of device: another panel's counts."""
        self._device_label.hide()
        self.device.hide()

    def _clicked(self) -> None:
        if self._running:
            self.button.setEnabled(False)  # one press is enough; the job stops at its next step
            self.status.setText("Cancelling …")
            self.cancel_wanted.emit()
        else:
            self.run_wanted.emit()

    def show_ready(self, reason: str) -> None:
        """Enable Run and say how the last run ended, or say why Run is disabled."""
        if not self._running:
            self.button.setEnabled(not reason)
            self.button.setToolTip(reason)
            self.status.setText(escape(reason) or self._outcome)

    def show_running(self, running: bool) -> None:
        """Turn Run into Cancel and back."""
        self._running = running
        self._outcome = "" if running else self._outcome
        self.button.setEnabled(True)
        self.button.setText(texts.CANCEL if running else self._run)
        self.button.setToolTip("")
        self.device.setEnabled(not running)
        self.bar.setValue(0)

    def show_progress(self, progress: Progress) -> None:
        """Show how far the job is and how long it will still take."""
        self.bar.setValue(round(1000 * progress.fraction))
        if self.button.isEnabled():
            left = "" if progress.remaining is None else f" · {duration(progress.remaining)} left"
            self.status.setText(escape(f"{progress.message}{left}"))

    def show_outcome(self, text: str, notes: Iterable[str] = ()) -> None:
        """Say how the job ended, and what the method wants to be known about its result.

        What a guard says is printed like the outcome, the other notes small and grey.
        """
        notes = tuple(notes)
        plain = guard.said(notes)
        heeded = "".join(f" {_ALARM * alarm}{escape(note)}" for note, alarm in plain.items())
        told = escape(" ".join(note for note in notes if note not in plain))
        small = f" <small style='color:gray'>{told}</small>" if told else ""
        self._outcome = f"{escape(text)}{heeded}{small}"
        self.status.setText(self._outcome)


def duration(seconds: float) -> str:
    """Seconds as people say them: ``4 s``, ``2 min 10 s``."""
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"
