"""The *Prepare* dock: from raw phase to a local field, every stage visible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from napari.layers import Layer
from napari.utils.notifications import show_error
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QApplication,
    QPushButton,
    QWidget,
)

from napari_qsm import devices
from napari_qsm.acquisition import Acquisition, InputError
from napari_qsm.io.importer import Source
from napari_qsm.preparation.checks import Finding
from napari_qsm.preparation.registry import Place
from napari_qsm.widgets import texts
from napari_qsm.widgets.dock_layout import lay_out
from napari_qsm.widgets.findings import FindingsPanel
from napari_qsm.widgets.own_mask import OwnMask
from napari_qsm.widgets.prepare_files import PrepareFiles
from napari_qsm.widgets.run_panel import RunPanel, duration
from napari_qsm.widgets.source_panel import SourcePanel
from napari_qsm.widgets.source_reader import Loaded, SourceReader
from napari_qsm.widgets.stage_layers import StageLayers
from napari_qsm.widgets.stage_row import StageRow
from napari_qsm.widgets.stage_runner import StageRunner
from napari_qsm.widgets.warm_up import warm_up
from napari_qsm.workbench.preparation import Preparation
from napari_qsm.workbench.standing import State

if TYPE_CHECKING:
    from napari.components import ViewerModel


class PrepareWidget(QWidget):
    """Controller of the dock: connects source, rows and viewer with the preparation.

    Parameters
    ----------
    napari_viewer : ViewerModel
        The viewer that shows what is measured and made.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.preparation = Preparation()
        self.reader = SourceReader()
        self.layers = StageLayers(napari_viewer)
        self.source = SourcePanel(napari_viewer)
        self.mask = OwnMask(self.preparation, self.source, self.layers, napari_viewer)
        self.findings = FindingsPanel(fold=True)
        self.rows = {place: StageRow(place) for place in Place}
        self.run = RunPanel(texts.PREPARE, texts.PREPARE_DEVICE, preview=False)
        self.runner = StageRunner(self.preparation, self._device, lambda: self.layers.settled)
        self.onward = QPushButton(texts.TO_RECONSTRUCT)
        self.onward.setToolTip(texts.TO_RECONSTRUCT_TIP)
        self.run.top.addWidget(self.onward)
        self.files = PrepareFiles(napari_viewer, self.preparation)
        self._found: tuple[Finding, ...] = ()
        self._reason = ""
        self._closed = False
        warm_up()
        self._lay_out()
        self._connect()
        for place in Place:
            self._show_choice(place)
        self._show_standing()
        self._show_findings()

    def _lay_out(self) -> None:
        sections = {
            "Source": [self.source],
            "Input check": [self.findings],
            "Stages": list(self.rows.values()),
        }
        lay_out(self, sections, [self.run, self.files])
        self.setMinimumWidth(430)
        self.setAcceptDrops(True)

    def _connect(self) -> None:
        bench, reader, source = self.preparation, self.reader, self.source
        bench.changed.connect(self._show_standing)
        bench.recipe_changed.connect(self._show_choice)
        reader.listed.connect(self._listed)
        reader.loaded.connect(self._loaded)
        reader.progressed.connect(self.run.show_progress)
        reader.failed.connect(self._failed)
        reader.busy_changed.connect(self._show_running)
        source.paths_chosen.connect(self.open)
        source.head_wanted.connect(self.open_digital_head)
        source.measurement_chosen.connect(lambda _: self._read())
        source.corrected.connect(lambda: self._read(again=True))
        self.mask.changed.connect(self._show_findings)
        self.layers.changed.connect(self._show_layers)
        self.runner.running_changed.connect(self._show_running)
        self.runner.progressed.connect(self.run.show_progress)
        self.runner.made.connect(self.layers.show)
        self.runner.ended.connect(self._ended)
        self.run.run_wanted.connect(self.start)
        self.run.cancel_wanted.connect(self.cancel)
        self.onward.clicked.connect(self._go_on)
        self.files.failed.connect(self._failed)
        self.files.said.connect(self.run.show_outcome)
        for place, row in self.rows.items():
            self._connect_row(place, row)
        # As in the Reconstruct dock: napari deletes docks without closing them.
        shut_down = self.shut_down
        self.destroyed.connect(lambda: shut_down())
        if (app := QApplication.instance()) is not None:
            app.aboutToQuit.connect(self.cancel)

    def _connect_row(self, place: Place, row: StageRow) -> None:
        bench = self.preparation
        row.stage_chosen.connect(lambda key: bench.choose_stage(place, key))
        row.parameter_set.connect(lambda name, value: self._set(place, name, value))
        row.reset_wanted.connect(lambda: bench.reset_parameters(place))
        row.show_wanted.connect(lambda: self._toggle(self.layers.main(place)))
        row.layer_wanted.connect(self._toggle)

    def _device(self) -> torch.device:
        return devices.choose(self.run.device.currentText())

    # -- source -----------------------------------------------------------------------------

    def open(self, paths: list[Path]) -> None:
        """Look at files or folders in the background and take the measurement in them."""
        self.cancel()
        self.reader.open(paths)

    def open_digital_head(self) -> None:
        """Simulate the raw measurement of a head and take that."""
        self.simulate(_digital_head, texts.DIGITAL_HEAD)

    def simulate(self, make: Callable[[], Acquisition], name: str) -> None:
        """Take the measurement that a function makes."""
        self.cancel()
        self.source.show_measurements((), name=name)
        self.files.name = name
        self.reader.simulate(make)
        self.run.show_outcome(texts.SIMULATING)

    def _listed(self, source: Source) -> None:
        self.source.show_measurements(source.measurements)
        self._found = tuple(Finding("note", note) for note in source.notes)
        self._show_findings()
        self._read()

    def _read(self, *, again: bool = False) -> None:
        chosen = self.source.chosen
        if chosen is None:
            self.run.show_outcome(f"{self.source.measurement.placeholderText()}.")
            return
        self.files.name = chosen.name
        self.run.show_outcome(texts.READING)
        self.reader.read(chosen, self.source.corrections.value, again=again)

    def _loaded(self, loaded: Loaded) -> None:
        bench, acquisition = self.preparation, loaded.acquisition
        noted = self.reader.source.notes if self.reader.source else ()
        self._found = (*loaded.findings, *(Finding("note", note) for note in noted))
        self.layers.remove_placeholders()
        if not loaded.again:
            self.layers.clear()
        bench.load(acquisition, again=loaded.again)
        if acquisition is not None:
            self.source.show_understood(acquisition)
            self.layers.show(None, loaded.layers)
        self.mask.choose()
        self.run.show_outcome("")
        self._show_findings()
        self._show_ready(anew=True)
        if any(finding.severity == "error" for finding in loaded.findings):
            self.source.fold.setChecked(True)  # what is missing can be typed there

    def _show_findings(self) -> None:
        trouble = (Finding("error", self.mask.trouble),) if self.mask.trouble else ()
        empty = "Nothing suspicious found." if self.preparation.measured else texts.NOTHING_OPEN
        self.findings.show_findings((*trouble, *self._found), empty=empty)
        self._show_ready()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take files and folders from the desktop."""
        if any(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Open what was dropped."""
        urls = event.mimeData().urls()
        self.open([Path(url.toLocalFile()) for url in urls if url.isLocalFile()])

    # -- rows -------------------------------------------------------------------------------

    def _show_choice(self, place: Place) -> None:
        bench = self.preparation
        self.rows[place].show_choice(bench.stage(place), bench.parameters(place))

    def _set(self, place: Place, name: str, value: Any) -> None:
        try:
            self.preparation.set_parameter(place, name, value)
        except InputError as error:
            self._failed(str(error))
            self._show_choice(place)

    def _show_standing(self) -> None:
        bench = self.preparation
        for place, row in self.rows.items():
            row.show_standing(bench.standing(place))
        self._show_ready()
        self.files.show_ready()
        self.onward.setEnabled(bench.complete and hasattr(self._viewer, "window"))

    def _show_ready(self, *, anew: bool = False) -> None:
        errors = [finding.text for finding in self._found if finding.severity == "error"]
        reason = self.mask.trouble or "".join(errors[:1]) or self.preparation.reason_not_to_run()
        if (anew or reason != self._reason) and not self.reader.job:
            if self._reason and not reason:
                self.run.show_outcome("")  # what was said last does not hold any more
            self._reason = reason
            self.run.show_ready(reason)

    def _show_layers(self) -> None:
        for place, row in self.rows.items():
            row.show_layers(self.layers.of(place), main=self.layers.main(place))

    def _toggle(self, layer: Layer | None) -> None:
        if layer is not None:
            self.layers.toggle(layer)

    # -- running ----------------------------------------------------------------------------

    def start(self) -> None:
        """Bring everything up to date that is not."""
        if self.run.button.isEnabled() and not self.reader.job:
            self.runner.start()

    def cancel(self) -> None:
        """Ask whatever runs to stop."""
        self.reader.cancel()
        self.runner.cancel()

    def _show_running(self, running: bool) -> None:
        self.run.show_running(running)
        self._show_ready(anew=True)

    def _ended(self, text: str) -> None:
        bench = self.preparation
        if bench.complete:
            self.layers.hand_over(self.mask.layer, bench.history)
            seconds = sum(bench.standing(place).seconds or 0 for place in self.runner.ran)
            text = text or texts.PREPARED.format(duration(seconds))
        for place in Place:
            standing = bench.standing(place)
            if standing.state is State.FAILED:
                text = text or f"{place.label}: {standing.text}"
        if text:
            self.run.show_outcome(text)

    def _go_on(self) -> None:
        from napari_qsm.widgets.window import RECONSTRUCT, to_front

        to_front(self._viewer, RECONSTRUCT)

    def _failed(self, text: str) -> None:
        self.run.show_outcome(text)
        if text != texts.CANCELLED:
            show_error(text)

    def shut_down(self) -> None:
        """Stop everything and stop listening (the dock or the window closes); may come twice."""
        if self._closed:
            return
        self._closed = True
        # Its callbacks would reach for widgets that Qt has deleted by now.
        self.preparation.changed.disconnect()
        self.preparation.recipe_changed.disconnect()
        self.runner.close()
        self.reader.close()
        self.layers.disconnect_viewer()
        self.mask.disconnect_viewer()
        self.source.disconnect_viewer()


def _digital_head() -> Acquisition:
    from napari_qsm.training.raw_head import sample_raw_head

    return sample_raw_head("haemorrhage and calcification", 2.0).acquisition
