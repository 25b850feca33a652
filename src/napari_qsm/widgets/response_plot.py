"""A plot of what a method finds of a lesion over the strength that was simulated."""

from __future__ import annotations

import math

import pyqtgraph as pg
from qtpy.QtCore import QSize, Qt

from napari_qsm.acquisition import Quantity
from napari_qsm.evaluation.linearity import Linearity
from napari_qsm.widgets import separation_texts as texts
from napari_qsm.widgets.curve_plot import ThemedPlot

PPB = 1000.0

COLOURS = {Quantity.CHI_POS: "#f8961e", Quantity.CHI_NEG: "#4cc9f0", Quantity.CHI: "#b5e48c"}
"""Of the maps, as the composite has them."""

_SIZE = QSize(360, 220)


class ResponsePlot(ThemedPlot):
    """One line for each map, and dashed what was simulated."""

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumHeight(_SIZE.height())
        item = self.getPlotItem()
        item.setLabel("bottom", texts.STRENGTH_AXIS, color=self._ink)
        item.setLabel("left", texts.MEAN_AXIS, color=self._ink)

    def sizeHint(self) -> QSize:
        """Ask for little: in a dock pyqtgraph's own wish would hide what follows."""
        return _SIZE

    def draw(self, made: Linearity) -> None:
        """Show other responses."""
        item = self.getPlotItem()
        item.clear()
        if item.legend is not None:
            item.legend.scene().removeItem(item.legend)
            item.legend = None
        legend = item.addLegend(offset=(8, 8), labelTextColor=self._ink)
        legend.setBrush(pg.mkBrush(0, 0, 0, 60))
        for one in made.responses:
            colour = COLOURS[one.quantity]
            found = [PPB * value for value in one.values]
            true = [PPB * one.source * strength for strength in made.strengths]
            dashed = pg.mkPen(colour, width=1, style=Qt.PenStyle.DashLine)
            item.addItem(pg.PlotDataItem(made.strengths, true, pen=dashed))
            line = pg.PlotDataItem(
                made.strengths,
                found,
                pen=pg.mkPen(colour, width=2),
                symbol="o",
                symbolSize=8,
                symbolBrush=colour,
                symbolPen=None,
                name=one.quantity.symbol,
                antialias=True,
            )
            item.addItem(line)
        dashed = pg.mkPen(self._ink, width=1, style=Qt.PenStyle.DashLine)
        legend.addItem(pg.PlotDataItem(pen=dashed), texts.SIMULATED)
        item.enableAutoRange()


def told(made: Linearity) -> str:
    """Return the slopes in words, as rich text."""
    lines = []
    for one in made.responses:
        symbol = f"<span style='color:{COLOURS[one.quantity]}'>●</span> {one.quantity.symbol}"
        source = PPB * one.source
        if math.isnan(one.slope):
            lines.append(texts.NO_SLOPE.format(symbol, source))
        else:
            lines.append(texts.SLOPE.format(symbol, one.slope, source))
    return "<br>".join(lines)
