"""How the chosen method follows a lesion: a region, strengths, a plot, slopes."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels, Layer
from napari.utils.notifications import show_error
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_qsm import devices
from napari_qsm.acquisition import InputError, Quantity, Volume
from napari_qsm.evaluation.linearity import STRENGTHS, Linearity
from napari_qsm.widgets import separation_texts as texts
from napari_qsm.widgets import texts as general
from napari_qsm.widgets.background import run_generator
from napari_qsm.widgets.constants import NumbersLine
from napari_qsm.widgets.layer_choice import LayerChoice
from napari_qsm.widgets.response_plot import ResponsePlot, told
from napari_qsm.widgets.run_panel import RunPanel, duration
from napari_qsm.workbench.job import Job
from napari_qsm.workbench.layers import layer_data, volume_of
from napari_qsm.workbench.linearity import Lesion, linearity_job
from napari_qsm.workbench.session import Workbench

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel

    from napari_qsm.workbench.job import Progress


class LinearityPanel(QWidget):
    """Region, label, strengths and Run; then the plot and the slopes.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers of labels are lesions.
    workbench : Workbench
        Whose method is tried on whose inputs.
    field : callable
        Returns the layer of the field, on whose grid lesions are drawn.
    device : QComboBox
        Where the device is chosen.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        workbench: Workbench,
        field: Callable[[], Layer | None],
        device: QComboBox,
    ) -> None:
        super().__init__()
        self._viewer, self._workbench, self._field, self._device = viewer, workbench, field, device
        self.made: Linearity | None = None
        self._job: Job[Linearity] | None = None
        self._began, self._closed = 0.0, False
        self.method = QLabel()
        self.method.setToolTip(f"<p>{texts.LINEARITY_TIP}</p>")
        self.region = LayerChoice(
            viewer,
            (Quantity.LABELS, Quantity.MASK),
            (Labels,),
            texts.REGION,
            auto=False,
            empty=texts.CHOOSE_REGION,
        )
        self.region.open_button.hide()
        self.draw_button = QPushButton(texts.DRAW)
        self.draw_button.setToolTip(texts.DRAW_TIP)
        self.label = QSpinBox()
        self.label.setRange(1, 255)
        self.label.setToolTip(texts.NUMBER)
        self.strengths = NumbersLine(texts.STRENGTHS)
        self.strengths.setText(", ".join(f"{s:g}" for s in STRENGTHS))
        self.run = RunPanel(texts.TRY, preview=False)
        self.run.hide_device()
        self.plot = ResponsePlot()
        self.slopes = QLabel()
        self.slopes.setWordWrap(True)
        self._lay_out()
        self._connect()
        self._show_ready()

    def _lay_out(self) -> None:
        first, second = QHBoxLayout(), QHBoxLayout()
        for widget, stretch in (
            (self.region, 1),
            (QLabel("label"), 0),
            (self.label, 0),
            (self.draw_button, 0),
        ):
            first.addWidget(widget, stretch)
        second.addWidget(QLabel("strengths"))
        second.addWidget(self.strengths, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.method)
        layout.addLayout(first)
        layout.addLayout(second)
        for widget in (self.run, self.plot, self.slopes):
            layout.addWidget(widget)
        for widget in (self.plot, self.slopes):
            widget.hide()

    def _connect(self) -> None:
        self.draw_button.clicked.connect(self.draw)
        self.region.chosen.connect(self._show_ready)
        self.run.run_wanted.connect(self.start)
        self.run.cancel_wanted.connect(self.cancel)
        bench = self._workbench
        self._signals = (bench.method_changed, bench.understood, bench.running_changed)
        for changed in self._signals:
            changed.connect(self._show_ready)

    # -- the lesion -------------------------------------------------------------------------

    def draw(self) -> None:
        """Add a layer of labels on the grid of the field, choose it, and take a brush in hand."""
        field = self._field()
        if field is None:
            self.run.show_outcome(texts.NO_FIELD)
            return
        grid = volume_of(field).grid
        empty = Volume(np.zeros(grid.shape, np.uint8), grid, source=texts.DRAWN)
        layer = self._viewer.add_layer(
            Layer.create(*layer_data(empty, Quantity.LABELS, texts.DRAWN))
        )
        layer.n_edit_dimensions = 3  # a ball, and not a disc
        layer.brush_size = 6
        self._viewer.layers.selection.active = layer
        layer.mode = "paint"
        self.region.choose(layer)

    # -- what can be done -------------------------------------------------------------------

    def reason_not_to_run(self) -> str:
        """Say why nothing can be tried now; empty when something can."""
        if self._workbench.job is not None:
            return texts.BUSY
        if reason := self._workbench.reason_not_to_run():
            return reason
        return "" if self.region.layer is not None else texts.NO_REGION

    def _show_ready(self, _: object = None) -> None:
        self.method.setText(f"<b>{self._workbench.chosen.label}</b>")
        self.run.show_ready(self.reason_not_to_run())

    # -- running ----------------------------------------------------------------------------

    def start(self) -> None:
        """Try the strengths with the present choices."""
        if self._job is not None or self.reason_not_to_run():
            return
        bench = self._workbench
        try:
            device = devices.choose(self._device.currentText())
            lesion = Lesion(volume_of(self.region.layer, self._field()), self.label.value())
        except InputError as error:
            self._failed(error)
            return
        job = self._job = linearity_job(
            bench.inputs,
            lesion,
            bench.chosen,
            bench.parameters,
            device,
            self.strengths.value or STRENGTHS,
        )
        self._began = time.perf_counter()
        self.run.show_running(True)
        run_generator(
            job.run, on_step=self._progressed, on_done=self._finished, on_error=self._failed
        )

    def cancel(self) -> None:
        """Ask the running job to stop."""
        if self._job is not None:
            self._job.cancel()

    def _progressed(self, progress: Progress) -> None:
        if not self._closed:
            self.run.show_progress(progress)

    def _finished(self, made: Linearity | None) -> None:
        if self._closed:
            return
        self._job = None
        self.run.show_running(False)
        if made is None:
            self.run.show_outcome(general.CANCELLED)
        else:
            self.made = made
            self.plot.draw(made)
            self.slopes.setText(told(made))
            for widget in (self.plot, self.slopes):
                widget.show()
            spent = duration(time.perf_counter() - self._began)
            done = texts.TRIED.format(made.label, made.voxels, len(made.strengths), spent)
            self.run.show_outcome(done, made.notes)
        self._show_ready()

    def _failed(self, error: Exception) -> None:
        # The frames of the traceback hold the tensors of the failed job.
        traceback.clear_frames(error.__traceback__)
        if self._closed:
            return
        if self._job is not None:
            self._job = None
            self.run.show_running(False)
        text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        self.run.show_outcome(text)
        self._show_ready()
        show_error(text)

    def shut_down(self) -> None:
        """Stop and stop listening (the dock or the window closes); may come twice."""
        if self._closed:
            return
        self._closed = True
        for changed in self._signals:
            changed.disconnect(self._show_ready)
        self.cancel()
        self.region.disconnect_viewer()
