"""Curves of the running job: the figures that an iterative method reports, over its iterations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pyqtgraph as pg
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_qsm.widgets.curve_plot import COLOURS, ThemedPlot

ITERATION = "iteration"
PLOTS = 2
HEIGHT = 130


@dataclass(frozen=True)
class Shown:
    """How a figure is shown.

    Parameters
    ----------
    name : str
        What it is called, with its unit.
    scale : float
        What its value is multiplied by.
    log : bool
        Whether its axis is logarithmic.
    relative : bool
        Whether it is shown in percent of where it began.
    """

    name: str
    scale: float = 1.0
    log: bool = False
    relative: bool = False


KNOWN = {
    "elbo": Shown("−ELBO per voxel", -1.0),
    # Methods count it in ppm, in the field's error, or weighted: only how it falls is common.
    "residual": Shown("residual [% of the start]", 100.0, relative=True),
    "change": Shown("relative change", log=True),
    "loss": Shown("loss", log=True),
    "sigma": Shown("mean σ [ppb]", 1000.0),
    "scatter": Shown("scatter [ppb]", 1000.0),
}
"""Figures of methods; the first ones that a job reports are drawn, the rest is told in words."""


class RunCurves(QWidget):
    """Two small plots side by side, and a line with what is not drawn.

    It is hidden until a job has reported two iterations.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows = QHBoxLayout()
        self._rows.setSpacing(4)
        self.plots = [_Plot(COLOURS[place]) for place in range(PLOTS)]
        for plot in self.plots:
            self._rows.addWidget(plot, 1)
        self.others = QLabel()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(self._rows)
        layout.addWidget(self.others)
        self.begin()

    def begin(self) -> None:
        """Forget the last job."""
        self.series: dict[str, list[float]] = {}
        self.iterations: list[float] = []
        self._before = 0.0
        self.hide()

    def add(self, values: Mapping[str, float]) -> None:
        """Take in the figures of an iteration; those of one that is known replace them."""
        figures = {k: float(v) for k, v in values.items() if k != ITERATION}
        if not figures or ITERATION not in values:
            return
        if set(figures) != set(self.series):
            self.begin()
            self.series = {name: [] for name in figures}
        now = self._before + float(values[ITERATION])
        if self.iterations and now < self.iterations[-1]:  # another round of a nested solver
            now += self.iterations[-1] - self._before
            self._before = self.iterations[-1]
        again = bool(self.iterations) and now == self.iterations[-1]
        rows = {ITERATION: self.iterations, **self.series}
        for name, value in {ITERATION: now, **figures}.items():
            rows[name][len(rows[name]) - again :] = [value]
        if len(self.iterations) > 1:
            self._draw()

    def _draw(self) -> None:
        names = sorted(self.series, key=_rank)
        drawn = names[:PLOTS]
        for plot, name in zip(self.plots, drawn, strict=False):
            plot.draw(_shown(name), self.iterations, self.curve(name))
        for plot in self.plots:
            plot.setVisible(self.plots.index(plot) < len(drawn))
        told = [f"{_shown(n).name}: {self.curve(n)[-1]:.3g}" for n in names[PLOTS:]]
        self.others.setText(" · ".join(told))
        self.others.setVisible(bool(told))
        self.show()

    def curve(self, name: str) -> list[float]:
        """Return a figure's values as they are shown."""
        shown, values = _shown(name), self.series[name]
        start = values[0] if shown.relative and values[0] else 1.0
        return [shown.scale * value / start for value in values]


def _shown(name: str) -> Shown:
    return KNOWN.get(name, Shown(name.replace("_", " ")))


def _rank(name: str) -> int:
    return list(KNOWN).index(name) if name in KNOWN else len(KNOWN)


class _Plot(ThemedPlot):
    """One figure over the iterations."""

    def __init__(self, colour: str) -> None:
        super().__init__()
        self.setFixedHeight(HEIGHT)
        self.setMinimumWidth(100)
        self._line = pg.PlotDataItem(pen=pg.mkPen(colour, width=2), antialias=True)
        self.getPlotItem().addItem(self._line)

    def draw(self, shown: Shown, x: list[float], y: list[float]) -> None:
        """Show a figure under its name."""
        item = self.getPlotItem()
        item.setTitle(shown.name, color=self._ink, size="9pt")
        item.setLogMode(x=False, y=shown.log)
        self._line.setData(x, [v if v > 0 or not shown.log else math.nan for v in y])
