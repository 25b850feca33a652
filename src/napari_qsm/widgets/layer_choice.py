"""Choose a layer for a role, or open a file for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QSizePolicy, QToolButton, QWidget

from napari_qsm.acquisition import Quantity
from napari_qsm.widgets import texts
from napari_qsm.workbench.layers import quantity_of
from napari_qsm.workbench.stage_layers import is_on_its_way, is_prepared

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class LayerChoice(QWidget):
    """A combo box of the layers that may play a role, beside a button that opens a file.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers to offer.
    accepts : tuple[Quantity, ...]
        Quantities that may play the role; layers of unknown quantity are offered too.
    kinds : tuple[type[Layer], ...]
        Layer types offered.
    auto : bool
        Whether a layer is chosen by itself: the one the preparation ended with, else the first
        whose quantity is accepted. What the user has chosen stays chosen.
    empty : str
        What the combo box says where nothing is chosen.
    """

    chosen = Signal()
    file_wanted = Signal(Path)

    def __init__(
        self,
        viewer: ViewerModel,
        accepts: tuple[Quantity, ...],
        kinds: tuple[type[Layer], ...],
        tooltip: str,
        *,
        auto: bool = True,
        empty: str = texts.NONE,
    ) -> None:
        super().__init__()
        self._empty = empty
        self._viewer, self.accepts, self._kinds, self._auto = viewer, accepts, kinds, auto
        self._offered: list[Layer] = []
        self._by_hand = False
        self.combo = QComboBox()
        self.combo.setToolTip(tooltip)
        self.combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.combo.activated.connect(self._take_over)
        self.combo.currentIndexChanged.connect(lambda _: self.chosen.emit())
        self.open_button = QToolButton()
        self.open_button.setText("Open…")
        self.open_button.setToolTip(texts.OPEN)
        self.open_button.clicked.connect(self._ask)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo, 1)
        layout.addWidget(self.open_button)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self.refresh)
        self.refresh()

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer (the dock closes)."""
        for event in (self._viewer.layers.events.inserted, self._viewer.layers.events.removed):
            event.disconnect(self.refresh)
        self._offer([])

    @property
    def layer(self) -> Layer | None:
        """The chosen layer, or None."""
        index = self.combo.currentIndex() - 1
        return self._offered[index] if 0 <= index < len(self._offered) else None

    def choose(self, layer: Layer | None) -> None:
        """Choose a layer for the user; does nothing if it may not play the role."""
        if layer is None or layer in self._offered:
            self._take_over()
            self._select(layer)

    def _take_over(self, _: object = None) -> None:
        """From here on only the user decides."""
        self._by_hand = True

    def _select(self, layer: Layer | None) -> None:
        self.combo.setCurrentIndex(0 if layer is None else self._offered.index(layer) + 1)

    def refresh(self, event: object = None) -> None:
        """Offer the layers there are now and keep the user's choice where it still exists."""
        before = self.layer
        self._offer([layer for layer in self._viewer.layers if self._may_play(layer)])
        there = before if before in self._offered else None
        self._by_hand = self._by_hand and there is before
        after = there if self._by_hand else self._obvious(there)
        with QSignalBlocker(self.combo):
            self.combo.clear()
            self.combo.addItems([self._empty, *(layer.name for layer in self._offered)])
            self._select(after)
        if after is not before:
            self.chosen.emit()

    def _offer(self, layers: list[Layer]) -> None:
        for layer in self._offered:
            layer.events.name.disconnect(self._rename)
            layer.events.metadata.disconnect(self.refresh)
        self._offered = layers
        for layer in self._offered:
            layer.events.name.connect(self._rename)
            layer.events.metadata.connect(self.refresh)

    def _may_play(self, layer: Layer) -> bool:
        # Several echoes are refused later, in words, where one volume is needed.
        if not isinstance(layer, self._kinds) or layer.ndim not in (3, 4):
            return False
        quantity = quantity_of(layer)
        return quantity is None or quantity in self.accepts

    def _obvious(self, there: Layer | None) -> Layer | None:
        if not self._auto:
            return there
        # A field must not be inverted in the brain's mask while its own is still to come.
        fitting = [
            layer
            for layer in self._offered
            if quantity_of(layer) in self.accepts and not is_on_its_way(layer)
        ]
        return next(filter(is_prepared, fitting), there or next(iter(fitting), None))

    def _rename(self, event: object = None) -> None:
        for index, layer in enumerate(self._offered, start=1):
            self.combo.setItemText(index, layer.name)

    def _ask(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, texts.OPEN, "", "NIfTI (*.nii *.nii.gz);;All files (*)"
        )
        if path:
            self.file_wanted.emit(Path(path))
