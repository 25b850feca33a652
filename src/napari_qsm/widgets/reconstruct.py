"""The *Reconstruct* dock: inputs, input check, method, run, results."""

from __future__ import annotations

import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QApplication, QFileDialog, QLabel, QWidget

from napari_qsm import devices
from napari_qsm.acquisition import InputError, Maps
from napari_qsm.io.nifti import read_volume, write_maps
from napari_qsm.methods.registry import DEFAULT_METHOD, Method, Parameters, methods
from napari_qsm.pipeline import NONE, REFERENCE, Choice, Recipe
from napari_qsm.widgets import texts
from napari_qsm.widgets.adapt import AdaptPanel
from napari_qsm.widgets.background import Latest, run_function, run_generator
from napari_qsm.widgets.dock_layout import lay_out
from napari_qsm.widgets.findings import FindingsPanel
from napari_qsm.widgets.inputs import InputsPanel
from napari_qsm.widgets.method_panel import MethodPanel
from napari_qsm.widgets.results import ResultLayers
from napari_qsm.widgets.run_curves import RunCurves
from napari_qsm.widgets.run_panel import RunPanel, duration
from napari_qsm.widgets.saving import save_asking
from napari_qsm.widgets.view_panel import ViewPanel
from napari_qsm.workbench.layers import dress, file_layers, map_layers, maps_of
from napari_qsm.workbench.session import Inputs, Result, Understanding, Workbench, understand

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_qsm.workbench.job import Progress


_open: WeakKeyDictionary[ReconstructWidget, ViewerModel] = WeakKeyDictionary()


def dock_of(viewer: ViewerModel) -> ReconstructWidget | None:
    """Return the Reconstruct dock of a viewer, if it has one."""
    return next((dock for dock, serves in _open.items() if serves is viewer), None)


class ReconstructWidget(QWidget):
    """Controller of the dock: connects its panels with the workbench and the viewer.

    Parameters
    ----------
    napari_viewer : ViewerModel
        The viewer whose layers are inputs and which shows the results.

    Attributes
    ----------
    ended : Signal
        A job ended and its layers are on their way, with its `Maps`; None if it gave none.
    """

    ended = Signal(object)

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.workbench = Workbench(methods(), DEFAULT_METHOD)
        self.inputs = InputsPanel(napari_viewer, self.workbench)
        self.findings = FindingsPanel()
        self.method = MethodPanel(self.workbench)
        self.run = RunPanel()
        self.curves = RunCurves()
        self.view = ViewPanel(napari_viewer)
        self.results: list[str] = []
        self.layers = ResultLayers(napari_viewer)
        self._understanding = Latest(self._failed)
        self._title = ""
        self._closed = False
        self.adapt = AdaptPanel(napari_viewer, self)
        self._lay_out()
        self._connect()
        self.inputs.choose()
        _open[self] = napari_viewer

    def _lay_out(self) -> None:
        notice = QLabel(texts.RESEARCH_USE)
        notice.setStyleSheet("color: gray")
        sections = {
            "Input": [self.inputs],
            "Input check": [self.findings],
            "Method": [self.method],
        }
        self.run.top.insertWidget(self.run.top.count() - 1, self.adapt.button)
        lay_out(self, sections, [self.curves, self.run, self.adapt, self.view, notice])
        self.setMinimumWidth(400)

    def _connect(self) -> None:
        bench = self.workbench
        self._viewer.layers.events.inserted.connect(self._dress)
        bench.inputs_changed.connect(self._check_inputs)
        bench.understood.connect(self._show_understanding)
        bench.method_changed.connect(self._show_ready)
        bench.running_changed.connect(self.run.show_running)
        bench.result_added.connect(self._add_result)
        self.run.run_wanted.connect(lambda: self.start())
        self.run.cancel_wanted.connect(self.cancel)
        self.run.preview_toggled.connect(self._set_preview)
        self.view.save_wanted.connect(self._ask_and_save)
        self.method.refused.connect(show_error)
        for role, choice in self.inputs.roles.items():
            choice.file_wanted.connect(lambda path, role=role: self.open_file(path, role))
        # napari deletes docks without closing them. By the time this is called only the Python
        # side of the widget is left, which is all that `shut_down` touches.
        shut_down = self.shut_down
        self.destroyed.connect(lambda: shut_down())
        if (app := QApplication.instance()) is not None:
            app.aboutToQuit.connect(self.cancel)

    @staticmethod
    def _dress(event: Any) -> None:
        dress(event.value)

    # -- inputs -----------------------------------------------------------------------------

    def _check_inputs(self, inputs: Inputs) -> None:
        self._understanding.submit(
            lambda: understand(inputs), lambda outcome: self.workbench.accept(outcome, inputs)
        )

    def _show_understanding(self, understanding: Understanding) -> None:
        self.inputs.show_understanding(understanding)
        empty = (
            "Nothing suspicious found."
            if understanding.acquisition
            else "Open a local field, or File ▸ Open Sample ▸ QSM."
        )
        self.findings.show_findings(understanding.findings, empty=empty)
        self._show_ready()

    def _show_ready(self, _: object = None) -> None:
        self.run.show_ready(self.workbench.reason_not_to_run())

    def open_file(self, path: Path, role: str) -> None:
        """Read a file in the background, show it, and choose it for `role`."""
        choice = self.inputs.roles[role]

        def read() -> Any:
            return file_layers(path, read_volume(path), choice.accepts[0])

        def show(layers: list[Any]) -> None:
            added = [self.layers.add(data) for data in layers]
            choice.choose(added[0])

        run_function(read, on_done=show, on_error=self._failed)

    # -- choices ----------------------------------------------------------------------------

    def completed(self, recipe: Recipe) -> Recipe:
        """Return a recipe with the method, the settings and the reference that are chosen here."""
        bench, zero = self.workbench, self.inputs.zero.key
        method = Choice(bench.method, dict(bench.settings.get(bench.method, {})))
        reference = Choice(REFERENCE, {**recipe.reference.settings, "to": zero})
        return replace(recipe, method=method, reference=reference)

    def use(self, recipe: Recipe) -> None:
        """Take method, settings and reference from a recipe."""
        method, reference = recipe.method, recipe.reference
        self.workbench.settings[method.use] = dict(method.settings)
        self.workbench.choose_method(method.use)
        self.inputs.zero.choose(
            NONE if reference.use == NONE else reference.settings.get("to", "mask")
        )

    # -- running ----------------------------------------------------------------------------

    def start(
        self, method: Method[Any] | None = None, parameters: Parameters | None = None
    ) -> None:
        """Reconstruct with the present choices, or with some that were made elsewhere."""
        if self.workbench.job is not None or self.workbench.reason_not_to_run(method):
            return
        try:
            device = devices.choose(self.run.device.currentText())
        except InputError as error:
            self._failed(error)
            return
        job, self._title = self.workbench.start(device, method, parameters)
        title = self._title
        self.curves.begin()
        self._set_preview(self.run.preview.isChecked())

        def work() -> Any:
            maps = yield from job.run()
            # Windows and ranges need a look at all voxels, which is no work for the main thread.
            return maps, list(map_layers(maps, title)) if maps is not None else []

        run_generator(
            work, on_step=self._progressed, on_done=self._finished, on_error=self._failed_run
        )

    def cancel(self) -> None:
        """Ask the running job to stop."""
        if self.workbench.job is not None:
            self.workbench.job.cancel()

    def _set_preview(self, on: bool) -> None:
        job, acquisition = self.workbench.job, self.workbench.understanding.acquisition
        if job is None or acquisition is None:
            return
        job.wants_preview = on
        if on:
            self.layers.prepare_preview(acquisition.grid, self._title)
        else:
            self.layers.drop_preview()

    def _progressed(self, progress: Progress) -> None:
        self.run.show_progress(progress)
        self.curves.add(progress.values)
        if progress.preview is not None:
            self.layers.show_preview(progress.preview)

    def _finished(self, outcome: tuple[Maps | None, list[Any]]) -> None:
        maps, layers = outcome
        self.workbench.finish(self._title, maps)
        self._show_ready()
        if maps is None:
            self.run.show_outcome(texts.CANCELLED)
            # Afterwards: napari collects garbage when a layer goes, which takes a moment.
            QTimer.singleShot(0, self.layers.drop_preview)
            self.ended.emit(None)
            return
        if len(self.results) == 1:
            self.view.show_side_by_side()
        self.layers.show(layers)
        provenance, known = maps.provenance, self.workbench.understanding.acquisition
        told = provenance.notes[len(known.notes) if known else 0 :]
        self.run.show_outcome(
            f"{self._title}: done in {duration(provenance.seconds)} on {provenance.device}.", told
        )
        self.ended.emit(maps)

    def _failed_run(self, error: Exception) -> None:
        self.layers.drop_preview()
        self.workbench.finish(self._title, None)
        self._show_ready()
        self._failed(error)
        self.ended.emit(None)

    def _failed(self, error: Exception) -> None:
        # The frames of the traceback hold the tensors of the failed job.
        traceback.clear_frames(error.__traceback__)
        text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        self.run.show_outcome(text)
        show_error(text)

    # -- results ----------------------------------------------------------------------------

    def _add_result(self, result: Result) -> None:
        self.results.append(result.title)
        self.view.save.setEnabled(True)

    def _ask_and_save(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, texts.SAVE)
        if folder:
            self.save(Path(folder))

    def save(self, folder: Path) -> None:
        """Save the result of the selected layer, else the topmost one, to `folder`.

        Asks before it replaces anything.
        """
        viewer_layers = self._viewer.layers
        maps = maps_of(viewer_layers, viewer_layers.selection.active)
        if maps is None:
            self._failed(InputError("There is no result to save any more; reconstruct again."))
            return
        stem = maps.provenance.method

        save_asking(
            self,
            lambda again: write_maps(maps, folder, stem=stem, overwrite=again),
            on_done=lambda paths: show_info(f"Saved {len(paths)} files to {folder}."),
            on_error=self._failed,
        )

    def shut_down(self) -> None:
        """Stop the job and stop listening (the dock or the window closes); may come twice."""
        if self._closed:
            return
        self._closed = True
        self.adapt.shut_down()
        _open.pop(self, None)
        self.cancel()
        self.layers.drop_preview()
        self._understanding.clear()
        self._viewer.layers.events.inserted.disconnect(self._dress)
        self.inputs.disconnect_viewer()
        self.view.disconnect_viewer()
