"""A text as high as it needs to be, up to some lines; beyond, it scrolls."""

from __future__ import annotations

from qtpy.QtCore import QEvent, Qt
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
        self._label, self._lines = label, lines
        self.setWidget(label)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._fit()

    def viewportEvent(self, event: QEvent) -> bool:
        """Fit anew when the label has something else to say, or in another font."""
        done = super().viewportEvent(event)
        if event.type() in (QEvent.Type.LayoutRequest, QEvent.Type.FontChange):
            self._fit()
        return bool(done)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Fit anew to another width."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        # Of the whole width: were it that beside a scroll bar, the two would chase each other.
        wanted = self._label.heightForWidth(self.contentsRect().width())
        least, most = self._label.minimumHeight(), self._lines * self.fontMetrics().lineSpacing()
        height = min(max(wanted, least), most)
        if height != self.height():
            self.setFixedHeight(height)
