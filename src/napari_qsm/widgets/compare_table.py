"""How far every map on show is from a reference: figures that sort, copy and export."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils.notifications import show_error, show_info
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_qsm.acquisition import InputError, Quantity
from napari_qsm.widgets import compare_texts as texts
from napari_qsm.widgets.background import run_function, run_generator
from napari_qsm.widgets.figure_table import NAME, ROW, Figure, figure_table
from napari_qsm.widgets.layer_choice import LayerChoice
from napari_qsm.widgets.overlay_panel import MapChoice
from napari_qsm.workbench.comparison import is_overlay, shown_volume
from napari_qsm.workbench.layers import quantity_of
from napari_qsm.workbench.scores import METRICS, Score, as_table, score

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_qsm.process import Step

_REFERENCES = (Quantity.CHI, Quantity.CHI_POS, Quantity.CHI_NEG, Quantity.MMS)


class ScoreTable(QWidget):
    """Reference, mask, the table and what can be done with it.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers are compared.
    chosen : callable
        Returns the maps on show.
    """

    def __init__(self, viewer: ViewerModel, chosen: Callable[[], list[Layer]]) -> None:
        super().__init__()
        self._viewer, self._chosen = viewer, chosen
        self.reference = MapChoice(viewer, _REFERENCES, texts.REFERENCE_TIP, texts.CHOOSE_REFERENCE)
        self.mask = LayerChoice(
            viewer, (Quantity.MASK,), (Labels, Image), texts.MASK_TIP, empty=texts.CHOOSE_MASK
        )
        self.mask.open_button.hide()
        self.compute = QPushButton(texts.COMPUTE)
        self.copy, self.export = QPushButton(texts.COPY), QPushButton(texts.EXPORT)
        self.bar = QProgressBar(maximum=1000, visible=False)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.table = figure_table()
        self.scores: tuple[Score, ...] = ()
        self._names = ("", "")
        self._running = self._cancelled = False
        self._followed: list[Layer] = []
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        for button, tip in (
            (self.compute, texts.COMPUTE_TIP),
            (self.copy, texts.COPY_TIP),
            (self.export, texts.EXPORT_TIP),
        ):
            button.setToolTip(tip)
        for button in (self.copy, self.export):
            button.setEnabled(False)
        against, buttons = QHBoxLayout(), QHBoxLayout()
        against.addWidget(self.reference, 1)
        against.addWidget(self.mask, 1)
        for button in (self.compute, self.copy, self.export):
            buttons.addWidget(button, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(against)
        column.addWidget(self.table)
        column.addWidget(self.bar)
        column.addWidget(self.status)
        column.addLayout(buttons)

    def _connect(self) -> None:
        self.reference.chosen.connect(self.refresh)
        self.mask.chosen.connect(self.refresh)
        self.compute.clicked.connect(lambda: self.cancel() if self._running else self.start())
        self.copy.clicked.connect(self.copy_table)
        self.export.clicked.connect(lambda: self.save())

    # -- computing --------------------------------------------------------------------------

    def compared(self) -> list[Layer]:
        """Return the maps on show that can be held against the reference."""
        reference = self.reference.layer
        kind = quantity_of(reference) if reference is not None else None
        return [
            layer
            for layer in self._chosen()
            if layer is not reference and quantity_of(layer) is kind and not is_overlay(layer)
        ]

    def refresh(self) -> None:
        """Say whether something can be computed."""
        if self._running:
            return
        missing = ""
        if self.reference.layer is None or self.mask.layer is None:
            missing = texts.NO_REFERENCE
        elif not self.compared():
            missing = texts.NOTHING_TICKED
        self.compute.setEnabled(not missing)
        if not self.scores or missing:
            self.status.setText(missing)

    def start(self) -> None:
        """Compute the figures of all maps on show."""
        reference, steps = self.reference.layer, self._viewer.dims.current_step
        layers = self.compared()
        try:
            maps = {layer.name: shown_volume(layer, steps) for layer in layers}
            truth = shown_volume(reference, steps)
            mask = shown_volume(self.mask.layer, steps, reference).data
        except InputError as error:
            show_error(str(error))
            return
        self._names = (reference.name, self.mask.layer.name)
        self._follow([*layers, reference, self.mask.layer])
        self._show_running(True)

        def work() -> Generator[Step, None, tuple[Score, ...] | None]:
            steps = score(maps, truth, np.asarray(mask) > 0.5)
            while not self._cancelled:
                try:
                    yield next(steps)
                except StopIteration as end:
                    return end.value
            return None

        run_generator(work, on_step=self._progressed, on_done=self._finished, on_error=self._failed)

    def cancel(self) -> None:
        """Stop after the figure that is being computed, which may take a second or two."""
        self._cancelled = True
        if self._running:
            self.compute.setEnabled(False)
            self.status.setText(texts.CANCELLING)

    def _show_running(self, on: bool) -> None:
        self._running, self._cancelled = on, False
        self.bar.setVisible(on)
        self.bar.setValue(0)
        self.compute.setEnabled(True)
        self.compute.setText(texts.CANCEL if on else texts.COMPUTE)

    def _progressed(self, step: Step) -> None:
        if self._cancelled:
            return
        self.bar.setValue(round(1000 * step.fraction))
        self.status.setText(step.message)

    def _finished(self, scores: tuple[Score, ...] | None) -> None:
        self._show_running(False)
        if scores is None:
            self.status.setText(texts.CANCELLED)
            return
        self.scores = scores
        self._fill()
        self.status.setText("\n".join(note for one in scores for note in one.notes))
        for button in (self.copy, self.export):
            button.setEnabled(bool(scores))

    def _failed(self, error: Exception) -> None:
        self._show_running(False)
        self.status.setText(str(error))
        show_error(str(error))

    # -- the table --------------------------------------------------------------------------

    def _fill(self) -> None:
        table = self.table
        table.setSortingEnabled(False)
        table.setRowCount(len(self.scores))
        for row, one in enumerate(self.scores):
            name = QTableWidgetItem(one.name)
            name.setToolTip(one.name)
            table.setItem(row, 0, name)
            for column, metric in enumerate(METRICS, start=1):
                table.setItem(row, column, Figure(one.values[metric.key], metric))
        table.setSortingEnabled(True)
        table.resizeColumnToContents(0)
        table.setColumnWidth(0, min(table.columnWidth(0), NAME))
        table.setFixedHeight(ROW * min(len(self.scores) + 1, 9) + 22)
        self._mark_best()

    def _mark_best(self) -> None:
        """Print the best figure of each column in bold."""
        for column, metric in enumerate(METRICS, start=1):
            items = [self.table.item(row, column) for row in range(self.table.rowCount())]
            known = [item for item in items if not math.isnan(item.value)]
            if len(known) > 1:
                best = (max if metric.rises else min)(known, key=lambda item: item.value)
                font = best.font()
                font.setBold(True)
                best.setFont(font)

    def _follow(self, layers: list[Layer]) -> None:
        """Say so when one of these changes after it was compared."""
        for layer in self._followed:
            layer.events.data.disconnect(self._changed)
        self._followed = layers
        for layer in self._followed:
            layer.events.data.connect(self._changed)

    def _changed(self, event: Any) -> None:
        if self.scores and not self._running:
            self.status.setText(texts.STALE.format(event.source.name))

    def as_text(self, separator: str = ",") -> str:
        """Return the table as text in the order it is sorted."""
        order = [self.table.item(row, 0).text() for row in range(self.table.rowCount())]
        sorted_ = sorted(self.scores, key=lambda one: order.index(one.name))
        return as_table(sorted_, *self._names, separator=separator)

    def copy_table(self) -> None:
        """Put the table on the clipboard as a spreadsheet pastes it."""
        QGuiApplication.clipboard().setText(self.as_text("\t"))
        show_info(texts.COPIED)

    def save(self, path: Path | None = None) -> None:
        """Write the table as CSV in the background; ask where to, unless a path is given."""
        if path is None:
            chosen, _ = QFileDialog.getSaveFileName(self, texts.EXPORT, "", "CSV (*.csv)")
            if not chosen:
                return
            path = Path(chosen)
        text = self.as_text()
        run_function(
            lambda: path.write_text(text, encoding="utf-8"),
            on_done=lambda _: show_info(texts.SAVED.format(path)),
            on_error=lambda error: show_error(str(error)),
        )

    def shut_down(self) -> None:
        """Stop computing and let go of all layers (the dock closes)."""
        self._cancelled = True
        self._follow([])
        self.reference.disconnect_viewer()
        self.mask.disconnect_viewer()
