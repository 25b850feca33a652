"""A mask of the user's own: any Labels layer, noticed whenever somebody paints on it."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from napari.layers import Labels, Layer
from napari.utils.events import EventEmitter
from qtpy.QtCore import QObject, QTimer, Signal

from napari_qsm.acquisition import Acquisition, InputError, Quantity, Volume
from napari_qsm.preparation.registry import Place
from napari_qsm.widgets import texts
from napari_qsm.widgets.background import Latest
from napari_qsm.widgets.source_panel import SourcePanel
from napari_qsm.widgets.stage_layers import StageLayers
from napari_qsm.workbench.layers import layer_data, volume_of
from napari_qsm.workbench.preparation import Preparation
from napari_qsm.workbench.standing import masked

if TYPE_CHECKING:
    from napari.components import ViewerModel


class OwnMask(QObject):
    """Takes the chosen layer as mask of the preparation, and again when it changes.

    Attributes
    ----------
    trouble : str
        Why the chosen layer is no mask of this measurement; empty if it is one.
    """

    changed = Signal()

    def __init__(
        self,
        preparation: Preparation,
        panel: SourcePanel,
        layers: StageLayers,
        viewer: ViewerModel,
    ) -> None:
        super().__init__()
        self._preparation, self._panel, self._layers = preparation, panel, layers
        self._viewer = viewer
        self.trouble = ""
        self._watched: list[EventEmitter] = []
        self._latest = Latest(self._refused)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(150)  # strokes of a brush come quickly one after the other
        self._soon.timeout.connect(self.choose)
        panel.mask.chosen.connect(self.choose)
        panel.edit_wanted.connect(self.edit)
        layers.changed.connect(self._show_ready)

    @property
    def layer(self) -> Layer | None:
        """The chosen layer, or None."""
        return self._panel.mask.layer

    def choose(self) -> None:
        """Take the chosen layer as it is now, or go back to the mask of the chain."""
        layer, measured = self.layer, self._preparation.measured
        self._watch(layer)
        if layer is None or measured is None:
            self._latest.clear()
            self._take(None)
            return
        self._layers.release(layer)  # what the user chose is the user's
        try:
            volume = volume_of(layer, beside=self._beside())
        except InputError as error:
            self._refused(error)
            return
        self._latest.submit(
            lambda: (measured, masked(measured, volume)), lambda outcome: self._arrived(*outcome)
        )

    def _beside(self) -> Layer | None:
        return next(iter(self._layers.of(None)), None)

    def _arrived(self, measured: Acquisition, acquisition: Acquisition) -> None:
        if measured is self._preparation.measured:
            self._take(acquisition)

    def _take(self, acquisition: Acquisition | None) -> None:
        self.trouble = ""
        self._preparation.use_mask(acquisition)
        self.changed.emit()

    def _refused(self, error: Exception) -> None:
        traceback.clear_frames(error.__traceback__)
        self._preparation.use_mask(None)
        self.trouble = str(error)
        self.changed.emit()

    def _watch(self, layer: Layer | None) -> None:
        for event in self._watched:
            event.disconnect(self._look_soon)
        self._watched = []
        if layer is not None:
            self._watched.append(layer.events.data)
        if isinstance(layer, Labels):
            self._watched.append(layer.events.paint)
        for event in self._watched:
            event.connect(self._look_soon)

    def _look_soon(self, event: object = None) -> None:
        self._soon.start()

    # -- editing ----------------------------------------------------------------------------

    def _show_ready(self) -> None:
        self._panel.edit.setEnabled(self._template() is not None)

    def _template(self) -> Layer | None:
        """Return the mask to start from: the brain's, not one that a later stage has eroded."""
        return self._layers[Place.MASK, Quantity.MASK] or self._layers[None, Quantity.MASK]

    def edit(self) -> None:
        """Copy the mask into a layer of the user's own, choose it, and take a brush in hand."""
        template = self._template()
        if template is None:
            return
        known = volume_of(template)
        copy = Volume(known.data, known.grid, source=texts.EDITED_MASK)
        data = layer_data(copy, Quantity.MASK, texts.EDITED_MASK)
        layer = self._viewer.add_layer(Layer.create(*data))
        layer.contour, layer.opacity = 0, 0.4  # filled: one sees what the brush does
        template.visible = False
        self._viewer.layers.selection.active = layer
        layer.mode = "paint"
        self._panel.mask.choose(layer)

    def disconnect_viewer(self) -> None:
        """Stop listening (the dock closes)."""
        self._soon.stop()
        self._latest.clear()
        self._watch(None)
