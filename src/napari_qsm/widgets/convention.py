"""Radiological or neurological: the switch, the cameras, and the notice that tells which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox, QWidget

from napari_qsm.widgets import texts

if TYPE_CHECKING:
    from napari.components import ViewerModel

# Both are left-handed triples, as (S, A, R) is: setting only the 2D pair would mirror the 3D view.
_ORIENTATIONS = {
    texts.RADIOLOGICAL: ("away", "up", "left"),
    texts.NEUROLOGICAL: ("towards", "up", "right"),
}
_CORNERS = {texts.RADIOLOGICAL: "R on the left", texts.NEUROLOGICAL: "L on the left"}
LETTERS = "border_"
"""How the overlays are called that letter the borders of a canvas."""


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
    write_notice(viewer)


def convention_of(viewer: ViewerModel) -> str:
    """Return the convention by where the patient's right is drawn."""
    return texts.RADIOLOGICAL if _orientation(viewer)[2] == "left" else texts.NEUROLOGICAL


def _orientation(viewer: ViewerModel) -> tuple[str, ...]:
    return tuple(str(getattr(o, "value", o)) for o in viewer.scene.camera.orientation)


def write_notice(viewer: ViewerModel) -> None:
    """Write under the canvas what it is not for, and the convention where no letters tell it."""
    lettered = any(name.startswith(LETTERS) for name in viewer.canvas.overlays)
    text, side = viewer.canvas.overlays.text, _CORNERS[convention_of(viewer)]
    text.text = texts.RESEARCH_ONLY if lettered else f"{side} · {texts.RESEARCH_ONLY}"
    # Small, so that it stays out of the way of letters in the middle of a narrow box.
    text.font_size = 8
    text.visible = True


class ConventionChoice(QComboBox):
    """Radiological or neurological: turns a viewer's camera, and follows whoever else turns it.

    A camera that looks neither way, as napari's does at first, is turned to the radiological one.
    """

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.addItems([texts.RADIOLOGICAL, texts.NEUROLOGICAL])
        self.setToolTip(texts.CONVENTION)
        if _orientation(viewer) not in _ORIENTATIONS.values():  # nobody has chosen one
            set_convention(viewer, texts.RADIOLOGICAL)
        self.follow()
        self.currentTextChanged.connect(lambda text: set_convention(viewer, text))
        viewer.scene.camera.events.orientation.connect(self.follow)

    def follow(self, event: object = None) -> None:
        """Show the convention the viewer has."""
        with QSignalBlocker(self):
            self.setCurrentText(convention_of(self._viewer))

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer (the dock closes)."""
        self._viewer.scene.camera.events.orientation.disconnect(self.follow)
