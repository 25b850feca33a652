"""A text as high as it needs to be, up to some lines; beyond, it scrolls."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QFrame, QLabel, QScrollArea


class CappedText(QScrollArea):
    """Shows a label that wraps its words, and takes no more room than some lines of it.

    Parameters
    ----------
    label : QLabel
        Whatever it says, now and later.
    lines : int
        Height in lines at most.
    """

    def __init__(self, label: QLabel, lines: int) -> None:
        super().__init__()
        self._label, self._most = label, lines * label.fontMetrics().lineSpacing()
        self.setWidget(label)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        label.installEventFilter(self)
        self._fit()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Fit anew when the label has something else to say."""
        if event.type() == QEvent.Type.LayoutRequest:
            self._fit()
        return super().eventFilter(watched, event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Fit anew to another width."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        # Of the whole width: were it that beside a scroll bar, the two would chase each other.
        wanted = self._label.heightForWidth(self.contentsRect().width())
        height = min(max(wanted, self._label.minimumHeight()), self._most)
        if height != self.height():
            self.setFixedHeight(height)
