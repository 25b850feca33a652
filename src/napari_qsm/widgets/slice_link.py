"""The main window's part in the linked crosshair: its slices and its mouse."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_qsm.workbench.crosshair import Position

STILL = 4
"""Pixels a mouse may slip in what is still a click."""


def clicks(
    act: Callable[[Any], None],
) -> Callable[[ViewerModel, Any], Generator[None, None, None]]:
    """Return a mouse callback of napari that acts on clicks and lets drags alone."""

    def callback(viewer: ViewerModel, event: Any) -> Generator[None, None, None]:
        begin, clicked = np.asarray(event.pos), event.button == 1
        yield
        while event.type == "mouse_move":
            clicked = clicked and float(np.abs(np.asarray(event.pos) - begin).max()) <= STILL
            yield
        if clicked:
            act(event)

    return callback


class SliceLink:
    """Leads the slices of a viewer, and tells when its user goes somewhere.

    Parameters
    ----------
    viewer : ViewerModel
        The main window's; S, A and R are its last three axes.
    go : callable
        Called with the drawn position (S, A, R) its user goes to: by a slider, by a click, or by
        the mouse with Shift held.
    here : callable
        Returns the present position.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        go: Callable[[Sequence[float]], None],
        here: Callable[[], Position],
    ) -> None:
        self._viewer, self._go, self._here = viewer, go, here
        self._pressed = clicks(self._pick)
        viewer.dims.events.point.connect(self.follow)
        viewer.mouse_drag_callbacks.append(self._pressed)
        viewer.mouse_move_callbacks.append(self._hovered)

    def _sliced(self) -> list[tuple[int, int]]:
        """Sliders of the viewer, each with the drawn axis it moves along."""
        dims = self._viewer.dims
        pairs = ((axis, axis - (dims.ndim - 3)) for axis in dims.not_displayed)
        return [(axis, spatial) for axis, spatial in pairs if spatial >= 0]

    def follow(self, event: object = None) -> None:
        """Go where the sliders are."""
        position = list(self._here())
        for axis, spatial in self._sliced():
            position[spatial] = self._viewer.dims.point[axis]
        self._go(position)

    def lead(self, position: Position) -> None:
        """Slice the viewer there."""
        for axis, spatial in self._sliced():
            if abs(self._viewer.dims.point[axis] - position[spatial]) > 1e-6:
                self._viewer.dims.set_point(axis, position[spatial])

    def _pick(self, event: Any) -> None:
        # In 3D the main window's cursor has no depth of its own.
        if self._viewer.dims.ndisplay == 2:
            self._go(event.position)

    def _hovered(self, viewer: ViewerModel, event: Any) -> None:
        if "Shift" in event.modifiers:
            self._pick(event)

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer."""
        self._viewer.dims.events.point.disconnect(self.follow)
        self._viewer.mouse_drag_callbacks.remove(self._pressed)
        self._viewer.mouse_move_callbacks.remove(self._hovered)
