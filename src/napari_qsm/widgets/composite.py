"""Iron and myelin in one picture: two separated maps as two colours of light on a black ground."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from napari.utils import Colormap
from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QPushButton

from napari_qsm.acquisition import Quantity
from napari_qsm.widgets import separation_texts as texts
from napari_qsm.workbench.layers import facts_of, quantity_of

if TYPE_CHECKING:
    from napari.components import LayerList, ViewerModel
    from napari.layers import Layer

IRON = Colormap([[0, 0, 0], [0.85, 0.1, 0.0], [1.0, 0.8, 0.1]], name="iron")
MYELIN = Colormap([[0, 0, 0], [0.0, 0.2, 0.85], [0.1, 0.85, 1.0]], name="myelin")
"""Colours of chi+ and chi-: where there is much of both, their light adds up to white."""

_LOOK = ("colormap", "contrast_limits", "gamma", "blending", "opacity", "rendering", "visible")

_DEEP_WINDOW, _DEEP_GAMMA = 2.5, 1.3
"""How much wider the window is in 3D, and its gamma: a projection shows the brightest of every ray,
and in the window of a slice all of it would be white."""


class Pair(NamedTuple):
    """The layers of the two maps of one separation."""

    positive: Layer
    negative: Layer


def pair_of(layers: Iterable[Layer], active: Layer | None = None) -> Pair | None:
    """Return the pair the active layer belongs to, else the topmost; None if there is none.

    Layers of one result belong together; layers from files do if they lie on one grid.
    """
    there = list(reversed(list(layers)))
    found = [
        Pair(positive, negative)
        for positive in there
        if quantity_of(positive) is Quantity.CHI_POS
        for negative in there
        if quantity_of(negative) is Quantity.CHI_NEG and _belong(positive, negative)
    ]
    meant = [pair for pair in found if active in pair or _one_result(pair.positive, active)]
    return next(iter((*meant, *found)), None)


def _maps(layer: Layer | None) -> Any:
    return None if layer is None else (facts_of(layer) or {}).get("maps")


def _one_result(one: Layer, other: Layer | None) -> bool:
    return _maps(one) is not None and _maps(one) is _maps(other)


def _belong(one: Layer, other: Layer) -> bool:
    if _maps(one) is not None or _maps(other) is not None:
        return _one_result(one, other)
    first, second = facts_of(one) or {}, facts_of(other) or {}
    return one.data.shape == other.data.shape and np.allclose(first["affine"], second["affine"])


def link_window(layers: LayerList, added: Layer) -> None:
    """Let both maps of a separation share their window, once the second one is there."""
    pair = pair_of(layers, added)
    if pair is not None and added in pair:
        layers.link_layers(pair, ("contrast_limits",))


class CompositeButton(QPushButton):
    """Shows a pair and nothing else, in its two colours, and then everything as it was.

    It is there while there is a pair. No signed map looks right in 3D, so that in 3D the composite
    comes by itself unless maps are side by side, and goes with it.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers.

    Attributes
    ----------
    shown : Signal
        Emitted with the two layers, and whether they are the composite now.
    """

    shown = Signal(tuple, bool)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__(texts.COMPOSITE)
        self.setToolTip(texts.COMPOSITE_TIP)
        self.setCheckable(True)
        self._viewer = viewer
        self._before: WeakKeyDictionary[Layer, dict[str, Any]] = WeakKeyDictionary()
        self._grid, self._ground = False, None
        self._by_itself = False
        self.toggled.connect(self._toggle)
        events = viewer.layers.events
        events.inserted.connect(self._came)
        events.removed.connect(self._went)
        viewer.dims.events.ndisplay.connect(self._turned)
        viewer.canvas.grid.events.enabled.connect(self._arranged)
        self._refresh()

    @property
    def pair(self) -> Pair | None:
        """The pair there is to show."""
        return pair_of(self._viewer.layers, self._viewer.layers.selection.active)

    def _refresh(self) -> None:
        self.setVisible(self.pair is not None)

    def _came(self, event: Any) -> None:
        self.setChecked(False)  # what comes is to be seen
        if quantity_of(event.value) in (Quantity.CHI_POS, Quantity.CHI_NEG):
            link_window(self._viewer.layers, event.value)
        self._refresh()
        pair = self.pair
        if pair is not None and _one_result(event.value, pair.positive):
            self._turned()

    def _went(self, event: Any) -> None:
        if quantity_of(event.value) in (Quantity.CHI_POS, Quantity.CHI_NEG):
            self.setChecked(False)
        self._refresh()

    def _turned(self, event: object = None) -> None:
        viewer, pair = self._viewer, self.pair
        self._set_depth()
        if viewer.dims.ndisplay == 2:
            if self._by_itself:
                self.setChecked(False)
        elif pair is not None and not self.isChecked() and not viewer.canvas.grid.enabled:
            maps = [layer for layer in viewer.layers if _one_result(layer, pair.positive)]
            if any(layer.visible for layer in (*pair, *maps)):
                self.setChecked(True)
                self._by_itself = True

    def _arranged(self, event: object = None) -> None:
        """Give way where somebody puts maps side by side."""
        if self._viewer.canvas.grid.enabled and self.isChecked():
            self._grid = True
            self.setChecked(False)

    def _toggle(self, on: bool) -> None:
        self._by_itself = False
        pair = self.pair
        if not on:
            self._restore()
        elif pair is None:
            with QSignalBlocker(self):
                self.setChecked(False)
        else:
            self._compose(pair)
            self.shown.emit(tuple(pair), True)

    def _compose(self, pair: Pair) -> None:
        viewer = self._viewer
        canvas = viewer.canvas
        self._grid, self._ground = canvas.grid.enabled, canvas.background_color_override
        canvas.grid.enabled = False
        canvas.background_color_override = "black"
        for layer in viewer.layers:
            looked = _LOOK if layer in pair else ("visible",)
            self._before[layer] = {name: getattr(layer, name) for name in looked}
            layer.visible = layer in pair
        for layer, colours in zip(pair, (IRON, MYELIN), strict=True):
            layer.colormap, layer.blending = colours, "additive"
            layer.opacity, layer.rendering = 1.0, "mip"
        self._set_depth()
        viewer.layers.selection.active = pair.positive  # its window is the one to turn
        viewer.fit_to_view()

    def _set_depth(self) -> None:
        """Widen the window of the composite in 3D, and give it back in 2D."""
        deep = self._viewer.dims.ndisplay == 3
        for layer, look in self._before.items():
            if len(look) > 1:
                low, high = look["contrast_limits"]
                layer.contrast_limits = (low, _DEEP_WINDOW * high if deep else high)
                layer.gamma = _DEEP_GAMMA if deep else look["gamma"]

    def _restore(self) -> None:
        """Show everything as it was; what has come since stays as it is."""
        pair = tuple(layer for layer, look in self._before.items() if len(look) > 1)
        canvas = self._viewer.canvas
        for layer, look in self._before.items():
            for name, value in look.items():
                setattr(layer, name, value)
        self._before.clear()
        canvas.background_color_override = self._ground
        grid, self._grid = self._grid, False
        self.shown.emit(pair, grid)
        canvas.grid.enabled = grid
        self._viewer.fit_to_view()

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer (the dock closes)."""
        events = self._viewer.layers.events
        events.inserted.disconnect(self._came)
        events.removed.disconnect(self._went)
        self._viewer.dims.events.ndisplay.disconnect(self._turned)
        self._viewer.canvas.grid.events.enabled.disconnect(self._arranged)
