"""A table of figures that sort as numbers."""

from __future__ import annotations

import math

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QTableWidget, QTableWidgetItem

from napari_qsm.workbench.scores import METRICS, Metric

ROW, NAME, FIGURE = 24, 130, 64
"""Height of a row, and widths of the first column and of the others, in pixels."""


class Figure(QTableWidgetItem):
    """A number in the table: shown short, sorted by its value, what is no number last."""

    def __init__(self, value: float, metric: Metric) -> None:
        super().__init__("–" if math.isnan(value) else f"{value:.4g}")
        self.value = value
        self._last = -math.inf if metric.rises else math.inf
        self.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)

    def __lt__(self, other: QTableWidgetItem) -> bool:
        """Compare numbers, not their digits."""
        mine, others = (
            self._last if math.isnan(item.value) else item.value for item in (self, other)
        )
        return mine < others


def figure_table() -> QTableWidget:
    """Return the table with its headings and no rows."""
    table = QTableWidget(0, len(METRICS) + 1)
    for column, metric in enumerate(METRICS, start=1):
        head = QTableWidgetItem(metric.heading + (f"\n{metric.unit}" if metric.unit else "\n"))
        better = "More" if metric.rises else "Less"
        head.setToolTip(f"{metric.help} {better} is better.")
        table.setHorizontalHeaderItem(column, head)
    table.setHorizontalHeaderItem(0, QTableWidgetItem("map\n"))
    table.verticalHeader().hide()
    table.verticalHeader().setDefaultSectionSize(ROW)
    table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
    table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
    table.setWordWrap(False)
    table.horizontalHeader().setMinimumSectionSize(FIGURE)
    table.horizontalHeader().setDefaultSectionSize(FIGURE)
    table.setStyleSheet("QHeaderView::section { padding: 1px; font-size: 8pt }")
    table.setColumnWidth(0, NAME)
    table.horizontalHeader().setSortIndicator(2, Qt.SortOrder.AscendingOrder)
    table.setSortingEnabled(True)
    table.setFixedHeight(3 * ROW + 22)
    return table
