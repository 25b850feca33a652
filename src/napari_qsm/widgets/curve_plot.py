"""A plot of curves over a sweep: points to click, marks to read, one point highlighted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyqtgraph as pg
from napari.settings import get_settings
from napari.utils.theme import get_theme
from numpy.typing import ArrayLike, NDArray
from qtpy.QtCore import QSize, Qt, Signal

COLOURS = ("#4cc9f0", "#f8961e", "#b5e48c", "#f15bb5", "#ffd166", "#c77dff")
"""Of lines and marks; apart on dark and light, and for people who see no red or green."""

SYMBOLS = {
    "corner": "t1",
    "inflection": "d",
    "u_curve": "s",
    "discrepancy": "star",
    "frequencies": "p",
    "nrmse": "h",
}
GLYPHS = {
    "corner": "▲",
    "inflection": "◆",
    "u_curve": "■",
    "discrepancy": "★",
    "frequencies": "⬟",
    "nrmse": "⬢",
}
"""How a mark is drawn, and what stands for it in words."""


_SIZE = QSize(360, 220)


def colour_of(key: str) -> str:
    """Return the colour of a mark."""
    return COLOURS[list(SYMBOLS).index(key) % len(COLOURS)]


@dataclass(frozen=True)
class Line:
    """A curve.

    Parameters
    ----------
    x, y : array
        The points that can be clicked, in the order of the sweep.
    name : str
        For the legend; empty for a plot of one curve.
    smooth : tuple of array, optional
        Where the line runs; through the points if not given.
    """

    x: ArrayLike
    y: ArrayLike
    name: str = ""
    smooth: tuple[ArrayLike, ArrayLike] | None = None


@dataclass(frozen=True)
class Drawing:
    """What a plot shows.

    Parameters
    ----------
    lines : sequence of Line
        Curves.
    axes : tuple[str, str]
        What runs along x and y, with units.
    tips : sequence of str
        What is said of each point under the mouse.
    marks : sequence of (str, float, float)
        Key of a mark and where it lies.
    verticals : sequence of (str, float)
        Key of a mark and the place of its vertical line.
    log_y : bool
        Whether y is logarithmic; x always is.
    """

    lines: Sequence[Line] = ()
    axes: tuple[str, str] = ("", "")
    tips: Sequence[str] = ()
    marks: Sequence[tuple[str, float, float]] = ()
    verticals: Sequence[tuple[str, float]] = field(default=())
    log_y: bool = True


class ReadableLog(pg.AxisItem):
    """An axis that labels decades and, where there are few, what lies between, as numbers."""

    def tickValues(self, low: float, high: float, size: float) -> Any:
        """Place ticks at 1, 2 and 5 of every decade, the rest unlabelled."""
        if not self.logMode:
            return super().tickValues(low, high, size)
        first, last = int(np.floor(low)), int(np.ceil(high))
        steps = (1, 2, 5) if high - low > 0.5 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
        steps = (1,) if high - low > 3 else steps
        places = [d + np.log10(s) for d in range(first, last + 1) for s in steps]
        minor = [d + np.log10(s) for d in range(first, last + 1) for s in range(2, 10)]
        inside = [p for p in places if low <= p <= high]
        return [(1.0, inside), (0.1, [p for p in minor if low <= p <= high and p not in inside])]

    def tickStrings(self, values: Any, scale: float, spacing: float) -> list[str]:
        """Write a number as short as it is exact."""
        if not self.logMode:
            return list(super().tickStrings(values, scale, spacing))
        if spacing < 1.0:
            return [""] * len(values)
        return [f"{10**v:.3g}" for v in values]


class Ornament(pg.ScatterPlotItem):
    """Something drawn over points that leaves them clickable."""

    def mouseClickEvent(self, event: Any) -> None:
        """Let the click through to what lies below."""
        event.ignore()


class ThemedPlot(pg.PlotWidget):
    """An empty plot in napari's colours that leaves the mouse wheel to its dock."""

    def __init__(self) -> None:
        axes = {side: ReadableLog(side) for side in ("bottom", "left")}
        theme = get_theme(get_settings().appearance.theme)
        super().__init__(background=theme.background.as_hex(), axisItems=axes)
        self._ink = theme.text.as_hex()
        self.setAntialiasing(True)
        self.setMenuEnabled(False)
        self.hideButtons()
        self.setMouseEnabled(x=False, y=False)  # the wheel scrolls the dock
        self.showGrid(x=True, y=True, alpha=0.15)
        for axis in axes.values():
            axis.enableAutoSIPrefix(False)
            axis.setPen(self._ink)
            axis.setTextPen(self._ink)


class CurvePlot(ThemedPlot):
    """Curves on a dark ground, drawn smooth.

    Attributes
    ----------
    picked : Signal
        Emitted with the place of the point that was clicked.
    """

    picked = Signal(int)

    def sizeHint(self) -> QSize:
        """Ask for little: in a dock pyqtgraph's own wish would hide what follows."""
        return _SIZE

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumHeight(_SIZE.height())
        self._drawing = Drawing()
        self._points: list[pg.ScatterPlotItem] = []
        self._ring = Ornament(size=17, pen=pg.mkPen(self._ink, width=2), brush=None, pxMode=True)
        self._ring.setZValue(20)

    def draw(self, drawing: Drawing) -> None:
        """Show other curves; nothing is highlighted."""
        self._drawing = drawing
        item = self.getPlotItem()
        item.clear()
        item.legend = None if item.legend is None else self._drop_legend(item.legend)
        item.setLogMode(x=True, y=drawing.log_y)
        for side, text in zip(("bottom", "left"), drawing.axes, strict=True):
            item.setLabel(side, text, color=self._ink)
        if sum(bool(line.name) for line in drawing.lines) > 1:
            legend = item.addLegend(offset=(-8, 8), labelTextColor=self._ink)
            legend.setBrush(pg.mkBrush(0, 0, 0, 60))
        self._points = [self._draw_line(line, COLOURS[n]) for n, line in enumerate(drawing.lines)]
        for key, at in drawing.verticals:
            pen = pg.mkPen(colour_of(key), width=1.5, style=Qt.PenStyle.DashLine)
            item.addItem(pg.InfiniteLine(np.log10(at), pen=pen))
        for key, x, y in drawing.marks:
            self._draw_mark(key, x, y)
        self._ring.setData([], [])
        item.addItem(self._ring)
        item.enableAutoRange()
        item.getViewBox().updateAutoRange()  # now, and not when it is painted

    def _drop_legend(self, legend: Any) -> None:
        legend.scene().removeItem(legend)

    def _draw_line(self, line: Line, colour: str) -> pg.ScatterPlotItem:
        item = self.getPlotItem()
        x, y = line.smooth if line.smooth is not None else (line.x, line.y)
        pen = pg.mkPen(colour, width=2)
        run = np.stack(self._placed(x, y))
        run = run[:, np.isfinite(run).all(axis=0)]
        item.addItem(pg.PlotCurveItem(*run, pen=pen, name=line.name or None, antialias=True))
        points = pg.ScatterPlotItem(
            size=10,
            symbol="o",
            brush=pg.mkBrush(colour),
            pen=pg.mkPen(self.backgroundBrush().color(), width=1),
            hoverable=True,
            hoverSize=14,
            tip=lambda x, y, data: self._tip(data),
        )
        points.setZValue(10)
        places = np.stack(self._placed(line.x, line.y))
        there = np.flatnonzero(np.isfinite(places).all(axis=0))
        points.setData(*places[:, there], data=there)
        points.sigClicked.connect(self._clicked)
        item.addItem(points)
        return points

    def _draw_mark(self, key: str, x: float, y: float) -> None:
        mark = Ornament(
            size=16,
            symbol=SYMBOLS[key],
            brush=pg.mkBrush(colour_of(key)),
            pen=pg.mkPen(self._ink, width=1),
        )
        mark.setZValue(15)
        mark.setData(*self._placed([x], [y]))
        self.getPlotItem().addItem(mark)

    def _placed(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Where numbers lie in the plot's own coordinates; NaN where a logarithm has none."""
        return _logarithm(x), _logarithm(y) if self._drawing.log_y else np.asarray(y, float)

    def _tip(self, index: Any) -> str:
        place = int(index)
        return self._drawing.tips[place] if place < len(self._drawing.tips) else ""

    def _clicked(self, item: Any, points: Any, event: Any = None) -> None:
        if len(points):
            self.picked.emit(int(points[0].data()))

    def highlight(self, index: int | None) -> None:
        """Put a ring around a point on every curve, or around none."""
        spots = [
            [*self._placed([np.asarray(line.x)[index]], [np.asarray(line.y)[index]])]
            for line in self._drawing.lines
            if index is not None and index < len(np.asarray(line.x))
        ]
        there = [(float(x[0]), float(y[0])) for x, y in spots if np.isfinite([x[0], y[0]]).all()]
        self._ring.setData([x for x, _ in there], [y for _, y in there])

    def position(self, index: int, line: int = 0) -> Any:
        """Return where a point lies on the widget, for those who want to click it."""
        curve = self._drawing.lines[line]
        x, y = self._placed([np.asarray(curve.x)[index]], [np.asarray(curve.y)[index]])
        view = self.getPlotItem().getViewBox()
        return self.mapFromScene(view.mapViewToScene(pg.Point(float(x[0]), float(y[0]))))


def _logarithm(values: ArrayLike) -> NDArray[Any]:
    given = np.asarray(values, float)
    return np.log10(given, out=np.full(given.shape, np.nan), where=given > 0)
