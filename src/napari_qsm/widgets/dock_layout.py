"""How a dock is laid out: panels that scroll under headings that fold, and a footer in reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QToolButton, QVBoxLayout, QWidget

_HEADING = "QToolButton { font-weight: bold; border: none; padding: 0; background: transparent; }"


def lay_out(
    dock: QWidget, sections: Mapping[str, Iterable[QWidget]], footer: Iterable[QWidget]
) -> None:
    """Give a dock its panels.

    Parameters
    ----------
    dock : QWidget
        The dock, which has no layout yet.
    sections : mapping
        Panels by heading, from top to bottom; they scroll, and a click on a heading folds them.
    footer : iterable of QWidget
        What stays in reach, however much the panels above have to say.
    """
    inner = QWidget()
    column = QVBoxLayout(inner)
    column.setSpacing(6)
    for heading, panels in sections.items():
        section = Section(heading, panels)
        column.addWidget(section.heading)
        column.addWidget(section)
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


class Section(QWidget):
    """Panels that fold under a heading.

    Parameters
    ----------
    heading : str
        What is written above.
    panels : iterable of QWidget
        From top to bottom.
    """

    def __init__(self, heading: str, panels: Iterable[QWidget]) -> None:
        super().__init__()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for panel in panels:
            column.addWidget(panel)
        self.heading = QToolButton()
        self.heading.setText(heading)
        self.heading.setToolTip(f"Hide or show: {heading}.")
        self.heading.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.heading.setStyleSheet(_HEADING)
        self.heading.setCheckable(True)
        self.heading.toggled.connect(self._show)
        self.heading.setChecked(True)

    def _show(self, shown: bool) -> None:
        self.heading.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)
        self.setVisible(shown)


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
