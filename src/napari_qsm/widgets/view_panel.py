"""How the maps are looked at: the linked grid and the left-right convention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QPushButton, QWidget

from napari_qsm.widgets import texts

if TYPE_CHECKING:
    from napari.components import ViewerModel

# Both are left-handed triples, as (S, A, R) is: setting only the 2D pair would mirror the 3D view.
_ORIENTATIONS = {
    texts.RADIOLOGICAL: ("away", "up", "left"),
    texts.NEUROLOGICAL: ("towards", "up", "right"),
}
_CORNERS = {texts.RADIOLOGICAL: "R on the left", texts.NEUROLOGICAL: "L on the left"}


def set_convention(viewer: ViewerModel, convention: str) -> None:
    """Turn the 2D and 3D cameras to the radiological or neurological convention.

    Parameters
    ----------
    viewer : ViewerModel
        The viewer.
    convention : str
        `texts.RADIOLOGICAL` or `texts.NEUROLOGICAL`.
    """
    viewer.scene.camera.orientation = _ORIENTATIONS[convention]
    text = viewer.canvas.overlays.text
    text.text = f"{_CORNERS[convention]} · {texts.RESEARCH_USE}"
    text.visible = True


def show_grid(viewer: ViewerModel, on: bool) -> None:
    """Show every visible layer in a box of its own, or all on top of each other."""
    viewer.canvas.grid.enabled = on
    viewer.canvas.overlays.scale_bar.visible = True
    viewer.canvas.overlays.scale_bar.gridded = False
    for layer in viewer.layers:
        layer.name_overlay.visible = on
        if layer._type_string == "image":
            layer.colorbar.visible = on


class ViewPanel(QWidget):
    """Grid switch, convention and the save button."""

    save_wanted = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self.grid = QPushButton("Linked grid")
        self.grid.setCheckable(True)
        self.grid.setToolTip(texts.GRID)
        self.grid.toggled.connect(self._toggle_grid)
        self.convention = QComboBox()
        self.convention.addItems(list(_ORIENTATIONS))
        self.convention.setToolTip(texts.CONVENTION)
        self.convention.currentTextChanged.connect(lambda text: set_convention(viewer, text))
        self.save = QPushButton("Save maps…")
        self.save.setToolTip(texts.SAVE)
        self.save.setEnabled(False)
        self.save.clicked.connect(self.save_wanted)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.grid)
        layout.addWidget(self.convention, 1)
        layout.addWidget(self.save)
        set_convention(viewer, self.convention.currentText())
        viewer.canvas.grid.events.enabled.connect(self._grid_changed)

    def _toggle_grid(self, on: bool) -> None:
        show_grid(self._viewer, on)
        self._viewer.fit_to_view()

    def _grid_changed(self, event: object = None) -> None:
        self.grid.setChecked(self._viewer.canvas.grid.enabled)

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer (the dock closes)."""
        self._viewer.canvas.grid.events.enabled.disconnect(self._grid_changed)
