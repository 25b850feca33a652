"""Icons that napari has in its own layer list only, drawn where they are needed."""

from __future__ import annotations

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap

_SIZE = 32
_COLOUR = QColor("#9aa5b4")  # readable on the dark and on the light theme


def eye_icon() -> QIcon:
    """Return an eye: open for a button that is on, crossed out for one that is off."""
    icon = QIcon()
    icon.addPixmap(_eye(crossed=False), QIcon.Mode.Normal, QIcon.State.On)
    icon.addPixmap(_eye(crossed=True), QIcon.Mode.Normal, QIcon.State.Off)
    return icon


def _eye(*, crossed: bool) -> QPixmap:
    pixmap = QPixmap(_SIZE, _SIZE)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(_COLOUR, 2.4))
    left, right = QPointF(3, 16), QPointF(29, 16)
    lids = QPainterPath(left)
    lids.quadTo(QPointF(16, 1), right)
    lids.quadTo(QPointF(16, 31), left)
    painter.drawPath(lids)
    painter.setBrush(_COLOUR)
    painter.drawEllipse(QRectF(12, 12, 8, 8))
    if crossed:
        painter.drawLine(QPointF(6, 27), QPointF(26, 5))
    painter.end()
    return pixmap
