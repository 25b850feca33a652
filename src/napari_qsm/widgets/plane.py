"""One canvas of the orthogonal views: a plane or 3D, its crosshair and its letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image
from napari.qt import QtViewer
from numpy.typing import ArrayLike, NDArray
from qtpy.QtCore import QEvent, QObject, QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QFont, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_qsm.widgets.letters import letters_of, screen_of
from napari_qsm.widgets.slice_link import clicks
from napari_qsm.workbench.crosshair import Position, brightest_along
from napari_qsm.workbench.layers import grid_of

if TYPE_CHECKING:
    from napari.layers import Layer

_LINE = QColor(90, 220, 255, 200)
_LETTER = QColor(255, 214, 102)
_NAME = QColor(230, 230, 230)
_GAP = 8
"""Pixels about the crosshair's centre that stay free, so that what it points at is seen."""


class Marks(QWidget):
    """Crosshair, letters and the view's name, painted over its canvas.

    Painted by Qt rather than drawn as a layer: moving the crosshair then costs no slicing.
    """

    def __init__(self, canvas: QWidget, plane: Plane) -> None:
        super().__init__(canvas)
        self._plane = plane
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_NoSystemBackground)
        self.setGeometry(canvas.rect())
        canvas.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Cover the canvas whatever its size."""
        if event.type() == QEvent.Type.Resize:
            self.setGeometry(self.parentWidget().rect())
        return False

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint what the plane knows."""
        painter = QPainter(self)
        painter.setPen(QPen(_LINE, 1))
        for begin, end in self._plane.lines():
            painter.drawLine(QPointF(*begin), QPointF(*end))
        area = QRectF(self.rect()).adjusted(6, 4, -6, -4)
        painter.setPen(_NAME)
        align = Qt.AlignmentFlag
        painter.drawText(area, align.AlignLeft | align.AlignTop, self._plane.name)
        font = QFont(self.font())
        font.setPointSize(14)
        font.setBold(True)
        painter.setFont(font)
        painter.setPen(_LETTER)
        sides = (
            align.AlignLeft | align.AlignVCenter,
            align.AlignRight | align.AlignVCenter,
            align.AlignHCenter | align.AlignTop,
            align.AlignHCenter | align.AlignBottom,
        )
        for side, text in zip(sides, self._plane.letters, strict=True):
            painter.drawText(area, side, text)


class Plane(QWidget):
    """A `ViewerModel` of its own with one layer that shares its data with a map's.

    Parameters
    ----------
    name : str
        What is written in its corner.
    order : tuple of int
        Drawn axes (S, A, R): the one that is sliced, the vertical and the horizontal one.
    deep : bool
        Whether it is the 3D view.
    """

    picked = Signal(tuple)

    def __init__(self, name: str, order: tuple[int, int, int], *, deep: bool = False) -> None:
        super().__init__()
        self.name, self.order, self.deep = name, order, deep
        self.model = ViewerModel()
        self.canvas = QtViewer(self.model)
        self.canvas.dims.hide()
        self.canvas.setAcceptDrops(False)
        # The keys of napari's main canvas would turn this one away from its plane.
        self.canvas.canvas.native.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.position: Position = (0.0, 0.0, 0.0)
        self._source: Layer | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.canvas)
        self.setMinimumSize(160, 160)
        self.marks = Marks(self.canvas.canvas.native, self)
        self.model.mouse_drag_callbacks.append(clicks(self._pick))
        self.model.mouse_move_callbacks.append(self._hovered)
        camera = self.model.scene.camera
        for event in (camera.events.center, camera.events.zoom, camera.events.angles):
            event.connect(self._repaint)

    def _repaint(self, event: object = None) -> None:
        self.marks.update()

    # -- what is shown ----------------------------------------------------------------------

    @property
    def layer(self) -> Image | None:
        """The layer on show."""
        return self.model.layers[0] if self.model.layers else None

    def show_map(self, source: Layer, data: NDArray[Any]) -> None:
        """Show a map; the array is shared, not copied."""
        self._source = source
        last = {name: getattr(source, name)[-3:] for name in ("scale", "translate")}
        same_place = self.layer is not None and all(
            np.array_equal(getattr(self.layer, name), values) for name, values in last.items()
        )
        if same_place and self.layer.data.shape == data.shape:
            self.layer.data = data
            return
        self._take_away()
        kind = {"interpolation2d": "linear", "rendering": "mip"}
        self.model.add_layer(Image(data, name=source.name, **last, **kind))
        self.model.dims.order = self.order
        self.model.dims.ndisplay = 3 if self.deep else 2
        if self.deep:
            self._stand_before(str(self.model.scene.camera.orientation[2]))

    def clear(self) -> None:
        """Show nothing."""
        self._source = None
        self._take_away()
        self.marks.update()

    def _take_away(self) -> None:
        """Remove the layer, in the canvas's own context.

        OpenGL deletes by number, in the context that is current: that of the canvas drawn last,
        which may be the main window's, whose things have the same numbers.
        """
        self.canvas.canvas._scene_canvas.set_current()
        self.model.layers.clear()

    def _stand_before(self, side: str) -> None:
        """Look in 3D from the front, or from behind where the patient's left is on the left.

        A mirrored head would be no head, so the viewer walks round it instead.
        """
        front = 1.0 if side == "left" else -1.0
        self.model.scene.camera.set_view_direction((-0.25, -front, 0.35 * front), (1, 0, 0))

    def set_look(self, limits: tuple[float, float], colormap: Any, gamma: float) -> None:
        """Take window and colours of the map; signed maps show their positive part in 3D."""
        if self.layer is None:
            return
        if self.deep and limits[0] < 0:
            limits, colormap, gamma = (0.0, max(2 * limits[1], 1e-6)), "gray", 1.0
        self.layer.colormap, self.layer.gamma = colormap, gamma
        self.layer.contrast_limits = limits

    def set_orientation(self, orientation: tuple[str, str, str]) -> None:
        """Draw left and right as the main window does; a sagittal view keeps the nose left."""
        if self.order[0] == 2 and not self.deep:
            orientation = ("away", "up", "left")
        camera = self.model.scene.camera
        if tuple(str(o) for o in camera.orientation) == orientation:
            return
        camera.orientation = orientation
        if self.deep:
            self._stand_before(orientation[2])
        self.marks.update()

    @property
    def letters(self) -> tuple[str, ...]:
        """What stands at the left, right, upper and lower border."""
        if self._source is None or self.layer is None:
            return ("",) * 4
        return letters_of(self.model, grid_of(self._source)) or ("",) * 4

    # -- the crosshair ----------------------------------------------------------------------

    def move_to(self, position: Position) -> None:
        """Slice at the crosshair and draw it."""
        self.position = position
        sliced = self.order[0]
        if self.layer is None:
            return
        if not self.deep and self.model.dims.point[sliced] != position[sliced]:
            self.model.dims.set_point(sliced, position[sliced])
        self.marks.update()

    def on_canvas(self, position: ArrayLike) -> tuple[float, float]:
        """Pixel of the canvas at which a drawn position lies."""
        right, up = screen_of(self.model)
        camera, size = self.model.scene.camera, self.marks.size()
        centre = np.array(self.position)
        shown = list(self.model.dims.displayed)
        centre[shown] = camera.center[-len(shown) :]
        away = camera.zoom * (np.asarray(position, float) - centre)
        return size.width() / 2 + float(right @ away), size.height() / 2 - float(up @ away)

    def lines(self) -> list[tuple[tuple[float, float], tuple[float, float]]]:
        """Lines of the crosshair in pixels, free about their centre."""
        if self.layer is None or screen_of(self.model) is None:
            return []
        extent = self.layer.extent.world
        here = self.on_canvas(self.position)
        lines = []
        for axis in self.model.dims.displayed:
            for end in extent[:, axis]:
                far = np.array(self.position)
                far[axis] = end
                there = self.on_canvas(far)
                length = float(np.hypot(there[0] - here[0], there[1] - here[1]))
                if length > _GAP:
                    part = _GAP / length
                    near = tuple(h + part * (t - h) for h, t in zip(here, there, strict=True))
                    lines.append((near, there))
        return lines

    def _hovered(self, model: ViewerModel, event: Any) -> None:
        if "Shift" in event.modifiers:
            self._pick(event)

    def _pick(self, event: Any) -> None:
        if self.layer is None:
            return
        position: Any = event.position
        if self.deep:
            start, end = self.layer.get_ray_intersections(
                event.position, event.view_direction, event.dims_displayed
            )
            if start is None or end is None:
                return
            position = self.layer.data_to_world(brightest_along(self.layer.data, start, end))
        self.picked.emit(tuple(float(x) for x in position))

    def shut_down(self) -> None:
        """Let go of the map and the canvas; the widget itself is its parent's."""
        self._source = None
        camera = self.model.scene.camera
        for event in (camera.events.center, camera.events.zoom, camera.events.angles):
            event.disconnect(self._repaint)
        self.model.mouse_drag_callbacks.clear()
        self.model.mouse_move_callbacks.clear()
        self._take_away()
        self.canvas.close()
