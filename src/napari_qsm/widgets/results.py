"""Results on their way to the viewer: previews while a job runs, layers when it is done."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Layer
from qtpy.QtCore import QTimer

from napari_qsm.acquisition import FloatArray, Grid, Quantity, Volume
from napari_qsm.widgets.view_panel import label
from napari_qsm.workbench.layers import LayerData, dress, layer_data
from napari_qsm.workbench.placement import to_display

if TYPE_CHECKING:
    from napari.components import ViewerModel


class ResultLayers:
    """Shows previews and results of one viewer.

    Layers are added one per turn of the event loop: each costs a texture upload, and the window
    must stay alive between them.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._preview: Layer | None = None
        self._grid: Grid | None = None
        self._queue: deque[LayerData] = deque()

    def prepare_preview(self, grid: Grid, title: str) -> None:
        """Make room for previews before the job starts.

        A new layer costs a texture upload, which the running window should not have to pay; later
        previews only exchange its data.
        """
        empty = Volume(np.zeros(grid.shape, np.float32), grid, source="preview")
        data = layer_data(empty, Quantity.CHI, f"χ  {title} (running)", {"preview": True})
        self._preview, self._grid = self.add(data), grid
        self._preview.opacity = 0.0  # nothing to see yet, so do not hide the field below

    def show_preview(self, chi: FloatArray) -> None:
        """Show the current estimate, in the layer that will later hold the result."""
        if self._preview is not None and self._grid is not None:
            self._preview.data = to_display(chi, self._grid)
            self._preview.opacity = 1.0

    def drop_preview(self) -> None:
        """Take the unfinished estimate away: it is no result."""
        if self._preview is not None and self._preview in self._viewer.layers:
            self._viewer.layers.remove(self._preview)
        self._preview = self._grid = None

    def show(self, layers: list[LayerData]) -> None:
        """Show the layers of a finished job."""
        self._queue.extend(layers)
        QTimer.singleShot(0, self._show_next)

    @property
    def settled(self) -> bool:
        """Whether everything handed over is on show and nothing unfinished is."""
        return not self._queue and self._preview is None

    def _show_next(self) -> None:
        if not self._queue:
            return
        data = self._queue.popleft()
        if self._preview is not None and _quantity(data) == Quantity.CHI.key:
            self._complete_preview(data)
        else:
            self.add(data)
        QTimer.singleShot(0, self._show_next)

    def _complete_preview(self, data: LayerData) -> None:
        layer, self._preview = self._preview, None
        if layer is None or layer not in self._viewer.layers:
            self.add(data)
            return
        layer.data = data[0]
        layer.name = data[1]["name"]
        layer.metadata = data[1]["metadata"]
        layer.opacity = 1.0
        dress(layer)
        # Results lie with the most telling map on top, whichever came first.
        self._viewer.layers.move(self._viewer.layers.index(layer), len(self._viewer.layers))
        self._viewer.layers.selection.active = layer

    def add(self, data: LayerData) -> Layer:
        """Add one layer of ours and return it."""
        layer = self._viewer.add_layer(Layer.create(*data))
        if self._viewer.canvas.grid.enabled:
            label(layer, True)
        return layer


def _quantity(data: LayerData) -> str | None:
    key: str | None = data[1]["metadata"]["qsm"]["quantity"]
    return key
