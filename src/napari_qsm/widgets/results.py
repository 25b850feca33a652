"""Results on their way to the viewer: previews while a job runs, layers when it is done."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from napari.layers import Layer
from qtpy.QtCore import QTimer

from napari_qsm.acquisition import FloatArray, Grid, Quantity, Volume
from napari_qsm.workbench.layers import LayerData, layer_data, widen_range
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
        self._queue: deque[LayerData] = deque()

    def show_preview(self, chi: FloatArray, grid: Grid, title: str) -> None:
        """Show the current estimate, in the layer that will later hold the result."""
        if self._preview is None or self._preview not in self._viewer.layers:
            volume = Volume(chi, grid, source="preview")
            data = layer_data(volume, Quantity.CHI, f"χ  {title} (running)", {"preview": True})
            self._preview = self.add(data)
        else:
            self._preview.data = to_display(chi, grid)

    def drop_preview(self) -> None:
        """Take the unfinished estimate away: it is no result."""
        if self._preview is not None and self._preview in self._viewer.layers:
            self._viewer.layers.remove(self._preview)
        self._preview = None

    def show(self, layers: list[LayerData]) -> None:
        """Show the layers of a finished job."""
        self._queue.extend(layers)
        QTimer.singleShot(0, self._show_next)

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
        widen_range(layer)
        # Results lie with the most telling map on top, whichever came first.
        self._viewer.layers.move(self._viewer.layers.index(layer), len(self._viewer.layers))

    def add(self, data: LayerData) -> Layer:
        """Add one layer of ours and return it."""
        layer = self._viewer.add_layer(Layer.create(*data))
        widen_range(layer)
        if self._viewer.canvas.grid.enabled:
            layer.name_overlay.visible = True
            if layer._type_string == "image":
                layer.colorbar.visible = True
        return layer


def _quantity(data: LayerData) -> str | None:
    key: str | None = data[1]["metadata"]["qsm"]["quantity"]
    return key
