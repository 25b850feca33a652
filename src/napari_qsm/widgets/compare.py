"""The *Compare* dock: maps next to each other, in one picture, in figures, and at one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_qsm.widgets import compare_texts as texts
from napari_qsm.widgets.compare_maps import MapList
from napari_qsm.widgets.compare_table import ScoreTable
from napari_qsm.widgets.convention import ConventionChoice
from napari_qsm.widgets.dock_layout import lay_out
from napari_qsm.widgets.letters import BorderLetters
from napari_qsm.widgets.orthogonal import OrthogonalWindow
from napari_qsm.widgets.overlay_panel import OverlayPanel
from napari_qsm.widgets.picture import save_picture
from napari_qsm.widgets.shared_window import SharedWindow
from napari_qsm.widgets.view_panel import DepthWindow

if TYPE_CHECKING:
    from napari.components import ViewerModel


class CompareWidget(QWidget):
    """Controller of the dock: its panels work on the layers of one viewer.

    Parameters
    ----------
    napari_viewer : ViewerModel
        The viewer whose maps are compared.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._closed = False
        self.maps = MapList(napari_viewer)
        self.window_of = SharedWindow()
        self.blend = OverlayPanel(napari_viewer)
        self.scores = ScoreTable(napari_viewer, lambda: self.maps.ticked)
        self.convention = ConventionChoice(napari_viewer)
        self.letters = BorderLetters(napari_viewer)
        self._depth = DepthWindow(napari_viewer)
        self.views: OrthogonalWindow | None = None
        self.open_views = QPushButton(texts.ORTHOGONAL)
        self.open_views.setToolTip(texts.ORTHOGONAL_TIP)
        self.screenshot = QPushButton(texts.SCREENSHOT)
        self.screenshot.setToolTip(texts.SCREENSHOT_TIP)
        self._lay_out()
        self._connect()
        self._maps_changed()

    def _lay_out(self) -> None:
        sections = {
            texts.MAPS: [self.maps],
            texts.WINDOW: [self.window_of],
            texts.OVERLAY: [self.blend],
            texts.TABLE: [self.scores],
        }
        buttons = QWidget()
        row = QHBoxLayout(buttons)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.open_views, 1)
        row.addWidget(self.screenshot, 1)
        lay_out(self, sections, [self.convention, buttons])
        self.setMinimumWidth(400)

    def _connect(self) -> None:
        self.maps.changed.connect(self._maps_changed)
        self.open_views.clicked.connect(self.show_views)
        self.screenshot.clicked.connect(lambda: save_picture(self, self.picture))
        self.window_of.unit_changed.connect(self._unit_changed)
        # napari deletes docks without closing them. By the time this is called only the Python
        # side of the widget is left, which is all that `shut_down` touches.
        shut_down = self.shut_down
        self.destroyed.connect(lambda: shut_down())

    def _maps_changed(self) -> None:
        self.window_of.serve(self.maps.layers)
        self.scores.refresh()
        self.letters.update()

    # -- the orthogonal views ---------------------------------------------------------------

    def show_views(self) -> None:
        """Open the orthogonal views, or bring them to the front."""
        if self.views is not None:
            self.views.raise_()
            self.views.activateWindow()
            return
        self.views = OrthogonalWindow(self._viewer, self)
        self.views.closed.connect(self._views_closed)
        self.views.panel.ppb.setChecked(self.window_of.unit.currentText() == "ppb")
        self.open_views.setEnabled(False)
        self.views.opened.connect(self._views_opened)
        self.views.open()

    def _views_opened(self) -> None:
        self.open_views.setEnabled(True)

    def _views_closed(self) -> None:
        self.views = None
        self.open_views.setEnabled(True)

    def _unit_changed(self, unit: str) -> None:
        if self.views is not None:
            with QSignalBlocker(self.views.panel.ppb):
                self.views.panel.ppb.setChecked(unit == "ppb")
            self.views.panel.refresh()

    # -- the picture ------------------------------------------------------------------------

    def picture(self) -> QImage:
        """Take a picture of the canvas with all boxes, names, letters and colour bars."""
        pixels = self._viewer.screenshot(canvas_only=True, flash=False)
        height, width = pixels.shape[:2]
        return QImage(pixels.tobytes(), width, height, QImage.Format.Format_RGBA8888).copy()

    def shut_down(self) -> None:
        """Stop work, close the views and stop listening (the dock closes); may come twice."""
        if self._closed:
            return
        self._closed = True
        if self.views is not None:
            self.views.shut_down()
        self.maps.disconnect_viewer()
        self.window_of.shut_down()
        self.blend.shut_down()
        self.scores.shut_down()
        self._depth.disconnect_viewer()
        self.letters.disconnect_viewer()
        self.convention.disconnect_viewer()
