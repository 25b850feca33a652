"""Sweep the tuning parameter of a method: a path of maps, and the curves to choose from it by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_qsm.workbench.session import Workbench

if TYPE_CHECKING:
    from napari.components import ViewerModel


class SweepPanel(QWidget):
    """Range and number of points, Run, the curves, and what can be done with a point of them.

    Parameters
    ----------
    viewer : ViewerModel
        The viewer that shows the path of maps as one layer.
    workbench : Workbench
        Whose method is swept on whose inputs, and which takes the settings of a point.

    Attributes
    ----------
    picked : Signal
        Emitted with the settings of a point that was clicked, by parameter.
    """

    picked = Signal(dict)

    def __init__(self, viewer: ViewerModel, workbench: Workbench) -> None:
        super().__init__()
        self._viewer, self._workbench = viewer, workbench
        self._closed = False
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)

    def shut_down(self) -> None:
        """Stop the sweep and stop listening (the dock or the window closes); may come twice."""
        self._closed = True
