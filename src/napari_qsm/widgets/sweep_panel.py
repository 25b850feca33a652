"""Sweep the tuning parameter of a method: a path of maps, and the curves to choose from it by."""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import Signal
from qtpy.QtGui import QDoubleValidator
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_qsm import devices
from napari_qsm.acquisition import InputError
from napari_qsm.evaluation.sweep_range import POINTS
from napari_qsm.evaluation.swept import Sweep
from napari_qsm.widgets import sweep_texts as texts
from napari_qsm.widgets.background import run_function, run_generator
from napari_qsm.widgets.results import ResultLayers
from napari_qsm.widgets.run_panel import RunPanel, duration
from napari_qsm.widgets.sweep_curves import SweepCurves
from napari_qsm.widgets.sweep_layer import SweepLayer
from napari_qsm.workbench.session import Workbench
from napari_qsm.workbench.sweeping import Range, Sweeping, kept, symbol, unit

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_qsm.workbench.job import Progress


class SweepPanel(QWidget):
    """Range and number of points, Run, the curves, and what can be done with a point of them.

    Parameters
    ----------
    viewer : ViewerModel
        The viewer that shows the path of maps as one layer.
    workbench : Workbench
        Whose method is swept on whose inputs, and which takes the settings of a point.
    device : QComboBox, optional
        Where the device is chosen; None offers a choice here.

    Attributes
    ----------
    picked : Signal
        Emitted with the settings of a point that was clicked, by parameter.
    """

    picked = Signal(dict)

    def __init__(
        self, viewer: ViewerModel, workbench: Workbench, device: QComboBox | None = None
    ) -> None:
        super().__init__()
        self._workbench = workbench
        self.sweeping: Sweeping | None = None
        """The sweep under way."""
        self.sweep: Sweep | None = None
        """The sweep on show."""
        self._began, self._closed = 0.0, False
        self.layer = SweepLayer(viewer)
        self.layers = ResultLayers(viewer)
        self.curves = SweepCurves()
        self.run = RunPanel(texts.SWEEP, texts.DEVICE, preview=False)
        self._device = device or self.run.device
        if device is not None:
            self.run.hide_device()
        self._lay_out()
        self._connect()
        self._show_ready()

    def _lay_out(self) -> None:
        self.method = QLabel()
        self.method.setToolTip(texts.METHOD)
        self.low, self.high = QLineEdit(), QLineEdit()
        self.points = QSpinBox()
        self.points.setRange(2, 50)
        self.points.setValue(POINTS)
        self.points.setToolTip(texts.POINTS)
        over = QHBoxLayout()
        for edit, name, tip in ((self.low, "from", texts.FROM), (self.high, "to", texts.TO)):
            validator = QDoubleValidator(self)
            validator.setLocale(validator.locale().c())
            edit.setValidator(validator)
            edit.setToolTip(tip)
            over.addWidget(QLabel(name))
            over.addWidget(edit, 1)
        over.addWidget(QLabel("points"))
        over.addWidget(self.points)
        self.keep, self.export = QPushButton(texts.KEEP), QPushButton(texts.EXPORT)
        self.keep.setToolTip(texts.KEEP_TIP)
        self.export.setToolTip(texts.EXPORT_TIP)
        ends = QHBoxLayout()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (self.method, over, self.run, self.curves, ends):
            add = layout.addWidget if isinstance(part, QWidget) else layout.addLayout
            add(part)
        ends.addWidget(self.keep)
        ends.addWidget(self.export)

    def _connect(self) -> None:
        self.run.run_wanted.connect(self.start)
        self.run.cancel_wanted.connect(self.cancel)
        self.curves.picked.connect(self.pick)
        self.layer.moved.connect(self.curves.highlight)
        self.layer.gone.connect(self._forget)
        self.keep.clicked.connect(self.keep_point)
        self.export.clicked.connect(lambda: self.export_table())
        self._signals = (
            self._workbench.method_changed,
            self._workbench.understood,
            self._workbench.inputs_changed,
            self._workbench.running_changed,
        )
        for changed in self._signals:
            changed.connect(self._show_ready)
        # napari deletes docks without closing them; see ReconstructWidget.
        shut_down = self.shut_down
        self.destroyed.connect(lambda: shut_down())

    # -- what can be done -------------------------------------------------------------------

    def reason_not_to_run(self) -> str:
        """Say why nothing can be swept now; empty when something can."""
        bench = self._workbench
        if not bench.chosen.tuning:
            return texts.NO_PARAMETER.format(bench.chosen.label)
        if bench.job is not None:
            return texts.BUSY
        return bench.reason_not_to_run()

    def _show_ready(self, _: object = None) -> None:
        method = self._workbench.chosen
        self.method.setText(f"<b>{method.label}</b>")
        if method.tuning:
            its_unit = f" [{unit(method)}]" if unit(method) else ""
            self.method.setText(f"<b>{method.label}</b> over {symbol(method)}{its_unit}")
        for edit in (self.low, self.high):
            edit.setPlaceholderText(texts.AUTO)
        self.run.show_ready(self.reason_not_to_run())
        self.keep.setEnabled(self.sweep is not None)
        self.export.setEnabled(self.sweep is not None)

    # -- running ----------------------------------------------------------------------------

    def start(self) -> None:
        """Sweep with the present choices."""
        if self.sweeping is not None or self.reason_not_to_run():
            return
        bench = self._workbench
        try:
            device = devices.choose(self._device.currentText())
        except InputError as error:
            self._failed(error)
            return
        low, high = (float(e.text()) if e.text() else None for e in (self.low, self.high))
        self.layer.drop()
        self._forget()
        bench.runs += 1
        over = Range(low, high, self.points.value())
        self.sweeping = sweeping = Sweeping(
            bench.inputs, bench.chosen, bench.parameters, device, over, bench.runs
        )
        self._began = time.perf_counter()
        self.run.show_running(True)
        run_generator(
            lambda: self.layer.steps(sweeping),
            on_step=self._progressed,
            on_done=self._finished,
            on_error=self._failed,
        )

    def cancel(self) -> None:
        """Ask the running sweep to stop; what it has solved stays."""
        if self.sweeping is not None:
            self.sweeping.job.cancel()

    def _progressed(self, progress: Progress) -> None:
        self.run.show_progress(progress)
        self._show_points()

    def _show_points(self) -> None:
        """Show what has been solved since the last look."""
        running = self.sweeping
        if running is None or self._closed or running.sweep is None or running.layer is None:
            return
        if running.sweep is not self.sweep:
            self.sweep = running.sweep
            self.curves.show_sweep(self.sweep)
            self.layer.show(running.layer, self.sweep)

    def _finished(self, sweep: Sweep | None) -> None:
        if self._closed:
            return
        self._show_points()
        running, self.sweeping = self.sweeping, None
        self.run.show_running(False)
        told = texts.STOPPED_EARLY
        if sweep is not None:
            spent = duration(time.perf_counter() - self._began)
            told = texts.DONE.format(sweep.method.label, len(sweep.points), spent)
        elif self.sweep is not None and running is not None and running.layer is not None:
            told = texts.STOPPED.format(len(self.sweep.points), len(running.layer[0]))
            self.layer.cut(self.sweep)
        self.run.show_outcome(told)
        self._show_ready()

    def _failed(self, error: Exception) -> None:
        # The frames of the traceback hold the tensors of the failed job.
        traceback.clear_frames(error.__traceback__)
        if self._closed:
            return
        if self.sweeping is not None:
            self.sweeping = None
            self.run.show_running(False)
            self.layer.drop()
            self._forget()
        text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        self.run.show_outcome(text)
        self._show_ready()
        show_error(text)

    # -- points -----------------------------------------------------------------------------

    def pick(self, index: int) -> None:
        """Show a point's map, put its parameter into the form, and tell others of it."""
        if self.sweep is None:
            return
        self.layer.go_to(index)
        self.curves.highlight(index)
        method, bench = self.sweep.method, self._workbench
        value = self.sweep.points[index].provenance.parameters[method.tuning]
        if method.key in bench.methods:
            kept_settings = bench.settings.get(method.key, {})
            bench.settings[method.key] = {**kept_settings, method.tuning: value}
            bench.choose_method(method.key)
        self.picked.emit({method.tuning: value})

    def keep_point(self) -> None:
        """Make the point on show a result like any other."""
        sweep, index, bench = self.sweep, self.layer.index, self._workbench
        if sweep is None or index is None:
            return
        bench.runs += 1
        number = bench.runs

        def show(made: Any) -> None:
            if not self._closed:
                result, layers = made
                bench.result_added.emit(result)
                self.layers.show(layers)

        run_function(lambda: kept(sweep, index, number), on_done=show, on_error=self._failed)

    def export_table(self, path: Path | None = None) -> None:
        """Write the figures of all points to a file, replacing what is there; ask, without path."""
        if path is None:
            path = Path(QFileDialog.getSaveFileName(self, texts.EXPORT, "sweep.csv", texts.CSV)[0])
        if (sweep := self.sweep) is not None and path.name:
            run_function(
                lambda: path.write_text(sweep.table(), encoding="utf-8"),
                on_done=lambda _: show_info(texts.EXPORTED.format(path)),
                on_error=self._failed,
            )

    # -- the end ----------------------------------------------------------------------------

    def _forget(self) -> None:
        """Let the sweep on show go, and its memory."""
        self.sweep = None
        if not self._closed:
            self.curves.show_sweep(None)
            self._show_ready()

    def shut_down(self) -> None:
        """Stop the sweep and stop listening (the dock or the window closes); may come twice."""
        if self._closed:
            return
        self._closed = True
        for changed in self._signals:
            changed.disconnect(self._show_ready)
        running = self.sweeping is not None
        self.cancel()
        self.sweeping = self.sweep = None
        self.curves.forget()
        self.layer.shut_down(unfinished=running)
