"""The *Explore* dock: a method's tuning parameter under the fingers, and sweeps of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication, QLabel, QWidget

from napari_qsm.widgets import separation_texts, texts
from napari_qsm.widgets.dock_layout import lay_out
from napari_qsm.widgets.linearity_panel import LinearityPanel
from napari_qsm.widgets.live import LiveControl
from napari_qsm.widgets.reconstruct import ReconstructWidget, dock_of
from napari_qsm.widgets.sweep_panel import SweepPanel

if TYPE_CHECKING:
    from napari.components import ViewerModel


class ExploreWidget(QWidget):
    """Controller of the dock, on the inputs of the Reconstruct dock of the same viewer.

    Parameters
    ----------
    napari_viewer : ViewerModel
        The viewer that shows the live layer; a Reconstruct dock is opened if it has none.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._docked = False
        self.reconstruct = _reconstruct_dock(napari_viewer)
        self.workbench = self.reconstruct.workbench
        self.live = LiveControl(napari_viewer, self.reconstruct, self)
        self.panel = self.live.panel
        self.sweep = SweepPanel(napari_viewer, self.workbench, self.reconstruct.run.device)
        self.linearity = LinearityPanel(
            napari_viewer,
            self.workbench,
            lambda: self.reconstruct.inputs.roles["field"].layer,
            self.reconstruct.run.device,
        )
        self._closed = False
        notice = QLabel(texts.RESEARCH_USE)
        notice.setStyleSheet("color: gray")
        sections = {
            "Live": [self.panel],
            "Sweep": [self.sweep],
            separation_texts.LINEARITY: [self.linearity],
        }
        lay_out(self, sections, [notice])
        self.setMinimumWidth(400)
        self.panel.keep_wanted.connect(self.keep)
        self.panel.use_wanted.connect(self.use)
        self.panel.method_chosen.connect(self._show_ready)
        self.sweep.picked.connect(self._pick)
        for changed in (self.workbench.running_changed, self.workbench.understood):
            changed.connect(self._show_ready)
        self._show_ready()
        # See ReconstructWidget: only the Python side is left by the time this is called.
        shut_down = self.shut_down
        self.destroyed.connect(lambda: shut_down())
        if (app := QApplication.instance()) is not None:
            app.aboutToQuit.connect(self.shut_down)

    def keep(self) -> None:
        """Reconstruct with the value of the slider, from nothing, into the results."""
        self.reconstruct.start(self.live.method, self.live.parameters)

    def use(self) -> None:
        """Take the value over into the form of the Reconstruct dock."""
        method, bench = self.live.method, self.workbench
        key = bench.method if bench.unwrapped == method.key else method.key
        bench.settings[key] = {**bench.settings.get(key, {}), method.tuning: self.panel.value}
        bench.choose_method(key)

    def _pick(self, settings: dict[str, Any]) -> None:
        """Put the slider where a sweep was clicked, which shows its own map."""
        bench = self.workbench
        self.panel.choose(bench.unwrapped, settings.get(bench.chosen.tuning))

    def _show_ready(self, _: object = None) -> None:
        busy = self.workbench.job is not None
        self.panel.keep.setEnabled(
            not busy and not self.workbench.reason_not_to_run(self.live.method)
        )

    def event(self, event: QEvent) -> bool:
        """Shut down when napari takes the panel out of its dock, which it does not delete."""
        if event.type() == QEvent.Type.ParentChange:
            docked, self._docked = self._docked, self.parent() is not None
            if docked and not self._docked:
                self.shut_down()
        return super().event(event)

    def shut_down(self) -> None:
        """Stop everything and stop listening (the dock or the window closes); may come twice."""
        if self._closed:
            return
        self._closed = True
        for changed in (self.workbench.running_changed, self.workbench.understood):
            changed.disconnect(self._show_ready)
        self.live.shut_down()
        self.sweep.shut_down()
        self.linearity.shut_down()


def _reconstruct_dock(viewer: ViewerModel) -> ReconstructWidget:
    if (dock := dock_of(viewer)) is not None:
        return dock
    from napari_qsm.widgets.window import PLUGIN, RECONSTRUCT

    _, made = viewer.window.add_plugin_dock_widget(PLUGIN, RECONSTRUCT)
    assert isinstance(made, ReconstructWidget)
    return made
