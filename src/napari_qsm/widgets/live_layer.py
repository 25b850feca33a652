"""The layer under the slider: it never shows a voxel of another value than its name says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from napari.layers import Layer

from napari_qsm.acquisition import FloatArray, Grid, Quantity, Volume
from napari_qsm.widgets.view_panel import label
from napari_qsm.workbench.layers import dress, layer_data
from napari_qsm.workbench.live import Tuned, Voxel
from napari_qsm.workbench.placement import locate

if TYPE_CHECKING:
    from napari.components import ViewerModel

_REACH = (-1.0, 1.0)
"""How far the contrast slider goes, in ppm: what comes is not known when the layer is made."""


class LiveLayer:
    """One layer whose array is written in place: planes while a slider moves, then the volume.

    While only planes are of the present value, the rest of the array is older. Whatever of it
    comes into view is blanked by `hide_stale` before it is painted.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: Layer | None = None
        self._grid: Grid | None = None
        self._values: FloatArray | None = None
        self._planes_at: Voxel | None = None
        self._hidden: WeakSet[Layer] = WeakSet()
        self.shown: object = None
        """The volume on show, to tell whether another one is news."""

    @property
    def layer(self) -> Layer | None:
        """The layer, or None before there was anything to show."""
        return self._layer

    @property
    def partial(self) -> bool:
        """Whether only the planes through one voxel are of the value that the name says."""
        return self._planes_at is not None

    def voxel(self, grid: Grid) -> Voxel | None:
        """Return the voxel of `grid` in which the planes in view cross; None outside of it."""
        point = self._viewer.dims.point
        found = locate(point, grid) if len(point) >= 3 else None
        return None if found is None else found[0]

    def show_planes(self, planes: tuple[FloatArray, ...], voxel: Voxel, made: Tuned) -> None:
        """Show the planes x, y and z = const. through a voxel."""
        self._write(planes, voxel)
        self._planes_at, self.shown = voxel, planes
        self._tell(made)
        self._repaint()

    def show_volume(self, chi: FloatArray, made: Tuned, suffix: str = "") -> None:
        """Show a volume, with `suffix` behind its name."""
        if self._values is not None and self.shown is not chi:
            np.copyto(self._values, chi)
        self._planes_at, self.shown = None, chi
        self._tell(made, suffix)
        self._repaint(thumbnail=True)

    def hide_stale(self) -> bool:
        """Blank what has come into view and is of an older value; say whether something was."""
        if self._values is None or self._grid is None or self._planes_at is None:
            return False
        voxel = self.voxel(self._grid)
        if self._viewer.dims.ndisplay == 3:
            self._values[:] = 0
        elif voxel is None or voxel == self._planes_at:
            return False
        else:
            self._write((0, 0, 0), voxel)
            self._planes_at = voxel
        self._repaint()
        return True

    def say_of_it(self, suffix: str, *, instead_of: str = "") -> None:
        """Append something to the name of what is on show, once."""
        if self._layer is None:
            return
        name = self._layer.name
        if name.endswith(instead_of) and not name.endswith(suffix):
            self._layer.name = name.removesuffix(instead_of) + suffix

    def make(self, grid: Grid, name: str) -> None:
        """Add the layer, with nothing to see in it yet, unless it is there for this grid."""
        if self._layer is not None and self._grid is not None and _same(self._grid, grid):
            return
        self.drop()
        self._grid, self._values = grid, np.zeros(grid.shape, np.float32)
        empty = Volume(self._values, grid, "ppm", source="live")
        data, keywords, kind = layer_data(empty, Quantity.CHI, name, {"preview": True})
        keywords["metadata"]["qsm"]["display_range"] = _REACH
        # The layer's data is a view of the array, so that writing to it needs no copy, no event.
        self._layer = bare(self._viewer.add_layer(Layer.create(data, keywords, kind)))
        dress(self._layer)
        self.clear_view()
        if self._viewer.canvas.grid.enabled:
            label(self._layer, True)

    def clear_view(self) -> None:
        """In 3D, hide the other layers for as long as this one is there, for they would mix.

        In 2D this one lies on top and its eye shows what is below; a grid has a box for each.
        """
        grid = self._viewer.canvas.grid.enabled
        if self._layer is not None and self._viewer.dims.ndisplay == 3 and not grid:
            others = [
                x for x in map(bare, self._viewer.layers) if x.visible and x is not self._layer
            ]
            self._hidden.update(others)
        else:
            others = list(self._hidden)
            self._hidden.clear()
        for layer in others:
            layer.visible = layer not in self._hidden

    def drop(self) -> None:
        """Take the layer away: it is no result."""
        layer, self._layer = self._layer, None
        self.forget()
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def forget(self) -> None:
        """Let the array go (somebody else has taken the layer away)."""
        self._layer = self._values = self._grid = self._planes_at = self.shown = None
        self.clear_view()

    def _write(self, planes: tuple[Any, ...], voxel: Voxel) -> None:
        if self._values is None:
            return
        i, j, k = voxel
        self._values[i], self._values[:, j], self._values[:, :, k] = planes

    def _tell(self, made: Tuned, suffix: str = "") -> None:
        if self._layer is not None:
            self._layer.metadata["qsm"].update(made.facts)
            name = made.name + suffix
            if self._layer.name != name:
                self._layer.name = name

    def _repaint(self, *, thumbnail: bool = False) -> None:
        if self._layer is not None:
            self._layer.refresh(thumbnail=thumbnail, highlight=False, extent=False)


def bare(layer: Layer) -> Layer:
    """Return the layer itself: what a plugin gets from its viewer is a new proxy each time."""
    return getattr(layer, "__wrapped__", layer)


def _same(grid: Grid, other: Grid) -> bool:
    return grid.mismatch(other) is None and grid.b0_direction == other.b0_direction
