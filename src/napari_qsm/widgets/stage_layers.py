"""The layers of the preparation: made once, exchanged in place, and never piled up."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from napari.layers import Layer
from qtpy.QtCore import QObject, QTimer, Signal

from napari_qsm.acquisition import Provenance, Quantity
from napari_qsm.preparation.registry import Place
from napari_qsm.widgets.view_panel import label
from napari_qsm.workbench.layers import LayerData, dress
from napari_qsm.workbench.placement import ECHO_AXIS
from napari_qsm.workbench.stage_layers import PLACEHOLDER, PREPARED, is_prepared, mark

if TYPE_CHECKING:
    from napari.components import ViewerModel

Key = tuple[Place | None, Quantity]
"""Where a layer comes from (None: it was measured) and what it shows."""


def _rank(key: Key) -> tuple[bool, int, bool, int]:
    """Order from bottom to top: measured, stage after stage, main maps last; outlines above all."""
    place, quantity = key
    position = -1 if place is None else list(Place).index(place)
    main = place is not None and place.gives is quantity
    return quantity is Quantity.MASK, position, main, list(Quantity).index(quantity)


class StageLayers(QObject):
    """Shows what was measured and what every stage made, in one viewer.

    Layers come and change one per turn of the event loop: each costs a texture upload, and the
    window must stay alive between them. A new layer is shown and those it follows from are hidden;
    an exchanged one stays as the user left it.
    """

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._book: dict[Key, Layer] = {}
        self._queue: deque[tuple[Key, LayerData | None]] = deque()
        self._telling: Layer | None = None
        self._handover: tuple[Layer | None, tuple[Provenance, ...]] | None = None
        self._turn = QTimer(self)
        self._turn.setInterval(10)  # the window paints and listens in between
        self._turn.timeout.connect(self._show_next)
        viewer.layers.events.removed.connect(self._removed)

    def __getitem__(self, key: Key) -> Layer | None:
        return self._book.get(key)

    def of(self, place: Place | None) -> list[Layer]:
        """Return the layers of one place, from bottom to top."""
        keys = sorted((key for key in self._book if key[0] is place), key=_rank)
        return [self._book[key] for key in keys]

    def main(self, place: Place) -> Layer | None:
        """Return the layer that a place exists for."""
        return self._book.get((place, place.gives))

    @property
    def settled(self) -> bool:
        """Whether everything handed over is on show."""
        return not self._queue

    # -- coming and going -------------------------------------------------------------------

    def show(self, place: Place | None, layers: Mapping[Quantity, LayerData]) -> None:
        """Show what a place has made anew; what it no longer makes goes."""
        gone = [key for key in self._book if key[0] is place and key[1] not in layers]
        self._queue.extend((key, None) for key in gone)
        self._queue.extend(((place, quantity), data) for quantity, data in layers.items())
        self._turn.start()

    def clear(self) -> None:
        """Take all layers away: another measurement comes."""
        self._queue.clear()
        self._handover = None
        self._queue.extend((key, None) for key in self._book)
        self._turn.start()

    def _show_next(self) -> None:
        if not self._queue:
            self._turn.stop()
            if self._telling in self._viewer.layers:
                self._viewer.layers.selection.active = self._telling
            self._telling = None
            self._mark_handover()
            self.changed.emit()
            return
        key, data = self._queue.popleft()
        layer = self._book.get(key)
        if layer is None and data is not None:
            self._add(key, data)
        elif layer is not None and data is not None:
            self._exchange(layer, data)
        elif layer is not None:
            self._viewer.layers.remove(layer)

    def _exchange(self, layer: Layer, data: LayerData) -> None:
        values, keywords, _ = data
        layer.name = keywords["name"]
        mark(layer, **keywords["metadata"]["qsm"])
        layer.data = values
        dress(layer)

    def _add(self, key: Key, data: LayerData) -> None:
        layer, layers = Layer.create(*data), self._viewer.layers
        layer.visible = self._useful(key)
        if layer.visible:
            self._hide_what_it_follows(key)
        above = [layers.index(o) for k, o in self._book.items() if _rank(k) > _rank(key)]
        self._book[key] = layer
        layers.insert(min(above, default=len(layers)), layer)
        dress(layer)
        layer.events.visible.connect(self._changed)
        if self._viewer.canvas.grid.enabled:
            label(layer, True)
        if layer.visible and key[1] is not Quantity.MASK:
            self._telling = layer
        if layer.visible and key[0] is None:
            self._look_at(layer)

    def remove_placeholders(self) -> None:
        """Take away what stood for a measurement until it was there."""
        for layer in [x for x in self._viewer.layers if PLACEHOLDER.items() <= x.metadata.items()]:
            self._viewer.layers.remove(layer)

    def _look_at(self, layer: Layer) -> None:
        """Turn to the middle of a measurement, and to its first echo."""
        dims, middle = self._viewer.dims, layer.extent.world.mean(axis=0)
        dims.point = (*dims.point[: -len(middle)], *middle)
        if ECHO_AXIS in dims.axis_labels:
            dims.set_point(dims.axis_labels.index(ECHO_AXIS), 0)
        self._viewer.fit_to_view()

    def _useful(self, key: Key) -> bool:
        place, quantity = key
        if place is None:
            return quantity in (Quantity.MAGNITUDE, Quantity.TOTAL_FIELD, Quantity.LOCAL_FIELD) or (
                quantity is Quantity.PHASE and (None, Quantity.MAGNITUDE) not in self._book
            )
        if quantity is Quantity.MASK:
            return not self._viewer.canvas.grid.enabled  # an outline needs no box of its own
        return quantity is place.gives and place not in (Place.OFFSET, Place.RELAXATION)

    def _hide_what_it_follows(self, key: Key) -> None:
        for other, layer in self._book.items():
            same = (other[1] is Quantity.MASK) is (key[1] is Quantity.MASK)
            if same and _rank(other) < _rank(key):
                layer.visible = False

    def _removed(self, event: object = None) -> None:
        gone = [key for key, layer in self._book.items() if layer not in self._viewer.layers]
        for key in gone:
            self._forget(key)
        if gone:
            self.changed.emit()

    def _forget(self, key: Key) -> None:
        self._book.pop(key).events.visible.disconnect(self._changed)

    def release(self, layer: Layer) -> None:
        """Leave a layer to the user: it is never exchanged or removed any more."""
        for key in [key for key, known in self._book.items() if known is layer]:
            self._forget(key)
            self.changed.emit()

    # -- looking ----------------------------------------------------------------------------

    def toggle(self, layer: Layer) -> None:
        """Bring a layer into sight and select it, or hide it if it is in sight."""
        layer.visible = not layer.visible
        if not layer.visible:
            return
        self._viewer.layers.selection.active = layer
        if self._viewer.canvas.grid.enabled or self._is_mask(layer):
            return
        for other in self._book.values():
            if other is not layer and not self._is_mask(other):
                other.visible = False

    def _is_mask(self, layer: Layer) -> bool:
        return any(k[1] is Quantity.MASK and known is layer for k, known in self._book.items())

    def _changed(self, event: object = None) -> None:
        self.changed.emit()

    # -- handing over -----------------------------------------------------------------------

    def hand_over(self, mask: Layer | None, history: tuple[Provenance, ...]) -> None:
        """Mark field, reliable mask, noise, R2* and magnitude as what methods start from.

        Parameters
        ----------
        mask : Layer or None
            The user's own mask, which counts where no stage has made one.
        history : tuple[Provenance, ...]
            How the field came to be.
        """
        self._handover = (mask, history)
        self._turn.start()

    def _mark_handover(self) -> None:
        if self._handover is None:
            return
        (own, history), self._handover = self._handover, None
        field = self.main(Place.BACKGROUND) or self[None, Quantity.LOCAL_FIELD]
        mask, noise = self._last(Quantity.MASK) or own, self._last(Quantity.FIELD_NOISE)
        rates = self.main(Place.RELAXATION) or self[None, Quantity.R2STAR]
        given = (field, mask, noise, rates, self[None, Quantity.MAGNITUDE])
        chosen = [layer for layer in given if layer is not None]
        for layer in self._viewer.layers:
            if is_prepared(layer) and layer not in chosen:
                mark(layer, **{PREPARED: False})
        for layer in chosen:
            told = {"history": history} if layer is field else {}
            mark(layer, **{PREPARED: True, **told})

    def _last(self, quantity: Quantity) -> Layer | None:
        """Return what the last stage (or the measurement) gave of a quantity."""
        keys = [key for key in self._book if key[1] is quantity]
        return self._book[max(keys, key=_rank)] if keys else None

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer (the dock closes); the layers stay."""
        self._queue.clear()
        self._turn.stop()
        self._viewer.layers.events.removed.disconnect(self._removed)
        for key in list(self._book):
            self._forget(key)
