"""Two maps in one layer: their difference, a curtain, a checkerboard, or what the field says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Layer
from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, Signal

from napari_qsm.acquisition import FloatArray, Grid, InputError, Quantity, Volume
from napari_qsm.widgets.background import Latest
from napari_qsm.widgets.view_panel import label
from napari_qsm.workbench.comparison import (
    OVERLAY,
    Blend,
    Kind,
    difference,
    residual,
    shown_volume,
)
from napari_qsm.workbench.layers import LayerData, dress, layer_data, quantity_of
from napari_qsm.workbench.placement import to_display

if TYPE_CHECKING:
    from napari.components import ViewerModel

_AT_ONCE = 2_000_000
"""Voxels that the main thread may copy without being felt."""

_NAMES: dict[Kind, str] = {
    "difference": "Δχ  {a} − {b}",
    "residual": "Dχ-f  {a}",
    "swipe": "swipe  {a} | {b}",
    "checkerboard": "checkerboard  {a} / {b}",
}


class OverlayLayer(QObject):
    """A layer computed of two others, in the background, that follows them.

    The newest request wins: dragging the curtain computes no picture that nobody will see.

    Attributes
    ----------
    shown : Signal
        Whether the layer is there, emitted when that changes.
    """

    shown = Signal(bool)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._latest = Latest(self._failed)
        self._sources: tuple[Layer, ...] = ()
        self._kind: Kind = "difference"
        self._blend = Blend()
        self._drawn: Blend | None = None
        self.layer: Image | None = None
        viewer.layers.events.removed.connect(self._removed)

    @property
    def wanted(self) -> bool:
        """Whether an overlay is on show or on its way."""
        return bool(self._sources)

    @property
    def settled(self) -> bool:
        """Whether nothing is being computed."""
        return not self._latest.busy

    def show(self, kind: Kind, a: Layer, b: Layer, blend: Blend) -> None:
        """Show this overlay of two layers, instead of what is there."""
        if (kind, (a, b)) != (self._kind, self._sources):
            self._change(kind, a, b)
        self._blend = blend
        if self._drawn is None or not self._latest.busy:
            self._draw()

    def _change(self, kind: Kind, a: Layer, b: Layer) -> None:
        """Follow two other layers, or make something else of them."""
        if self._viewer.dims.ndisplay == 3:
            self.remove()  # its look in 2D is remembered elsewhere and would come back
        # Otherwise the layer stays: taking one away and adding one stops the window for a moment.
        layer, self.layer = self.layer, None
        self._forget()
        self.layer = layer
        self._kind, self._sources, self._drawn = kind, (a, b), None
        for source in self._sources:
            source.events.data.connect(self.update)
        self._viewer.dims.events.current_step.connect(self._stepped)
        self.shown.emit(True)

    def _draw(self) -> None:
        """Bring the picture to the blend that is wanted."""
        if self._drawn != self._blend and not self._slid():
            self.update()

    def _slid(self) -> bool:
        """Move the curtain at once where that is a small matter, which a drag of the mouse is."""
        if self.layer is None or self._drawn is None or self._kind != "swipe":
            return False
        if abs(self._blend.share - self._drawn.share) * self.layer.data.size > _AT_ONCE:
            return False
        steps = self._viewer.dims.current_step
        volumes = (shown_volume(layer, steps) for layer in self._sources)
        first, second = (to_display(volume.data, volume.grid) for volume in volumes)
        if self._blend.slide(self.layer.data, self._drawn, first, second) is None:
            return False
        self._drawn = self._blend
        self.layer.refresh()
        return True

    def update(self, event: object = None) -> None:
        """Compute the layer anew."""
        if not self._sources:
            return
        sources, blend, steps = self._sources, self._blend, self._viewer.dims.current_step
        try:
            volumes = [shown_volume(layer, steps) for layer in sources]
        except InputError as error:
            self._failed(error)
            return
        work = _work(self._kind, *volumes, blend)
        known = self.layer is not None and self._drawn is not None
        dressed = None if known else _dressing(self._kind, *sources)
        grid = volumes[0].grid

        def compute() -> LayerData | np.ndarray:
            values = work()
            return to_display(values, grid) if dressed is None else dressed(values, grid)

        self._latest.submit(compute, lambda done: self._take(done, sources, blend))

    def _take(self, done: Any, sources: tuple[Layer, ...], blend: Blend) -> None:
        if sources != self._sources:
            return
        self._drawn = blend
        if self.layer is not None:
            self._renew(done)
        elif not isinstance(done, np.ndarray):
            self.layer = self._viewer.add_layer(Layer.create(*done))
            dress(self.layer)
            label(self.layer, self._viewer.canvas.grid.enabled)
        self._draw()  # the curtain may have gone further meanwhile

    def _renew(self, done: Any) -> None:
        """Show new numbers in the layer there is, and what they are if that has changed too."""
        if isinstance(done, np.ndarray):
            self.layer.data = done
            return
        data, look, _ = done
        self.layer.data = data
        for name in ("name", "metadata", "colormap", "contrast_limits", "scale", "translate"):
            setattr(self.layer, name, look[name])
        dress(self.layer)

    def _stepped(self, event: object = None) -> None:
        if any(layer.ndim == 4 for layer in self._sources):
            self.update()

    def _failed(self, error: Exception) -> None:
        self.remove()
        show_error(str(error))

    def _removed(self, event: Any) -> None:
        if event.value is self.layer:
            self.layer = None
            self._forget()
        elif event.value in self._sources:
            self.remove()

    def remove(self) -> None:
        """Take the layer away and let go of its sources."""
        layer, self.layer = self.layer, None
        self._forget()
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _forget(self) -> None:
        if not self._sources:
            return
        self._latest.clear()
        for source in self._sources:
            source.events.data.disconnect(self.update)
        self._viewer.dims.events.current_step.disconnect(self._stepped)
        self._sources = ()
        with suppress(RuntimeError):  # Qt's side may be gone already
            self.shown.emit(False)

    def shut_down(self) -> None:
        """Stop following; the layer stays, as a map like any other."""
        self.layer = None
        self._viewer.layers.events.removed.disconnect(self._removed)
        with suppress(RuntimeError):  # Qt's side may be gone already
            self.blockSignals(True)
        self._forget()


def _work(kind: Kind, a: Volume, b: Volume, blend: Blend) -> Callable[[], FloatArray]:
    if kind == "difference":
        return lambda: difference(a, b)
    if kind == "residual":
        return lambda: residual(a, b)
    return lambda: blend(a, b)


def _dressing(kind: Kind, a: Layer, b: Layer) -> Callable[[FloatArray, Grid], LayerData]:
    """Return what makes a layer of the numbers; difference and residual have their own windows."""
    own = {"difference": Quantity.ERROR, "residual": Quantity.RESIDUAL}
    quantity = own.get(kind) or quantity_of(a) or Quantity.CHI
    name = _NAMES[kind].format(a=_short(a.name), b=_short(b.name))
    notes, facts = _notes(kind, a, b), {OVERLAY: kind, "of": (a.name, b.name)}

    def dressed(values: FloatArray, grid: Grid) -> LayerData:
        made = Volume(values, grid, quantity.unit, source=name, notes=notes)
        return layer_data(made, quantity, name, facts)

    return dressed


def _notes(kind: Kind, a: Layer, b: Layer) -> tuple[str, ...]:
    if kind == "difference":
        return (f"'{a.name}' minus '{b.name}', voxel by voxel; no mean is taken out.",)
    if kind == "residual":
        return (f"Field of '{a.name}' minus '{b.name}', its mean taken out.",)
    return (f"A {kind} of '{a.name}' and '{b.name}' to look at; not a map of anything.",)


def _short(name: str) -> str:
    """Return a layer's name without the symbol before it."""
    return name.split("  ")[-1]
