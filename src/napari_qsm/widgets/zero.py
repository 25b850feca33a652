"""What susceptibility is relative to, as a row of the form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Image, Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_qsm.acquisition import Quantity
from napari_qsm.widgets import texts
from napari_qsm.widgets.layer_choice import LayerChoice

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class ZeroChoice(QWidget):
    """The choice of a reference, with the layer it is found in shown only where one is needed."""

    chosen = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.combo = QComboBox()
        self.combo.setToolTip(texts.ZERO)
        for key, label in texts.ZEROS.items():
            self.combo.addItem(label, key)
        self.maps = {
            "csf": LayerChoice(viewer, (Quantity.R2STAR,), (Image,), texts.ZERO_MAPS["csf"]),
            "roi": LayerChoice(
                viewer, (Quantity.LABELS,), (Labels,), texts.ZERO_MAPS["roi"], auto=False
            ),
        }
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo)
        for choice in self.maps.values():
            choice.open_button.hide()
            choice.hide()
            layout.addWidget(choice)
            choice.chosen.connect(self.chosen)
        self.combo.currentIndexChanged.connect(self._show_map)

    def _show_map(self) -> None:
        for key, choice in self.maps.items():
            choice.setVisible(key == self.key)
        self.chosen.emit()

    @property
    def key(self) -> str:
        """The chosen reference, as the stage 'reference' calls it."""
        return str(self.combo.currentData())

    @property
    def layer(self) -> Layer | None:
        """The layer the reference is found in, where one is needed and chosen."""
        choice = self.maps.get(self.key)
        return choice.layer if choice is not None else None

    def choose(self, key: str) -> None:
        """Choose a reference by what the stage 'reference' calls it."""
        self.combo.setCurrentIndex(self.combo.findData(key))

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer (the dock closes)."""
        for choice in self.maps.values():
            choice.disconnect_viewer()
