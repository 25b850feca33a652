"""How a dock is laid out: panels that scroll under headings, and a footer always in reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QFrame, QLabel, QScrollArea, QVBoxLayout, QWidget


def lay_out(
    dock: QWidget, sections: Mapping[str, Iterable[QWidget]], footer: Iterable[QWidget]
) -> None:
    """Give a dock its panels.

    Parameters
    ----------
    dock : QWidget
        The dock, which has no layout yet.
    sections : mapping
        Panels by heading, from top to bottom; they scroll.
    footer : iterable of QWidget
        What stays in reach, however much the panels above have to say.
    """
    inner = QWidget()
    column = QVBoxLayout(inner)
    column.setSpacing(6)
    for heading, panels in sections.items():
        column.addWidget(QLabel(f"<b>{heading}</b>"))
        for panel in panels:
            column.addWidget(panel)
    column.addStretch(1)
    scroll = _Column()
    scroll.setWidget(inner)
    layout = QVBoxLayout(dock)
    layout.setContentsMargins(0, 0, 0, 6)
    layout.addWidget(scroll, 1)
    below = QVBoxLayout()
    below.setContentsMargins(9, 0, 9, 0)
    for panel in footer:
        below.addWidget(panel)
    layout.addLayout(below)


class _Column(QScrollArea):
    """Scrolls up and down, and is never narrower than what it holds beside its scroll bar."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def minimumSizeHint(self) -> QSize:
        hint = super().minimumSizeHint()
        if self.widget() is not None:
            bar = self.verticalScrollBar().sizeHint().width()
            hint.setWidth(self.widget().minimumSizeHint().width() + bar)
        return hint

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.LayoutRequest:  # what it holds has another form now
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))
