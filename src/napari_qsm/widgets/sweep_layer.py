"""The layer of a sweep and the slider of its first axis: which point is looked at."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from napari.layers import Layer
from qtpy.QtCore import QObject, QTimer, Signal

from napari_qsm.acquisition import Quantity
from napari_qsm.evaluation.swept import Sweep
from napari_qsm.widgets.view_panel import label
from napari_qsm.workbench.layers import LayerData, dress, quantity_of
from napari_qsm.workbench.sweeping import Sweeping, cut

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_qsm.workbench.job import Progress


class SweepLayer(QObject):
    """Keeps the layer of one viewer, and follows and moves the slider.

    Attributes
    ----------
    moved : Signal
        Emitted with the place in the sweep of the point on show; None where it has none yet.
    gone : Signal
        Somebody removed the layer.
    """

    moved = Signal(object)
    gone = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._layer: Layer | None = None
        self._made_of: LayerData | None = None
        self._ready: tuple[LayerData, Layer] | None = None
        """The layer of a sweep under way, made before it is shown."""
        self._sweep_length = 0
        self._gone = False
        self._led = -1
        """Where the slider was put last, to tell whether somebody has moved it since."""
        viewer.dims.events.current_step.connect(self._stepped)
        viewer.layers.events.removed.connect(self._removed)

    @property
    def layer(self) -> Layer | None:
        """The layer, or None."""
        return self._layer

    @property
    def _step(self) -> int:
        """Where the slider stands; the parameter's axis comes before the three of space."""
        dims = self._viewer.dims
        return round(float(dims.point[dims.ndim - 4])) if dims.ndim >= 4 else 0

    @property
    def index(self) -> int | None:
        """Place in the sweep of the point on show."""
        there = self._layer is not None and 0 <= self._step < self._sweep_length
        return self._step if there else None

    def steps(self, sweeping: Sweeping) -> Generator[Progress, None, Sweep | None]:
        """Run a sweep and make its layer beside it: for a thread other than the main one.

        napari looks through a new layer's data, which stops a window for a fifth of a second.
        """
        steps, known = sweeping.job.run(), None
        try:
            while True:
                step = next(steps)
                known = self._prepared(sweeping.layer, known)
                yield step
        except StopIteration as end:
            made: Sweep | None = end.value
            if made is not None:  # a short sweep reports nothing after its first points
                self._prepared(sweeping.layer, known)
            return made
        finally:
            steps.close()

    def _prepared(self, data: LayerData | None, known: LayerData | None) -> LayerData | None:
        """Make the layer of some data unless that is done; return the data whose layer is made."""
        if data is None or data is known or self._gone:
            return known
        self._ready = data, Layer.create(*data)
        if self._gone:  # while it was made
            self._ready = None
        return data

    def show(self, data: LayerData, sweep: Sweep) -> None:
        """Show the points so far, in a new layer or in the one that is there.

        The slider goes along with what is solved until somebody moves it.
        """
        self._sweep_length = len(sweep.points)
        if self._layer is None or self._made_of is not data:
            self._made_of = data
            ready, self._ready = self._ready, None
            made = ready[1] if ready is not None and ready[0] is data else Layer.create(*data)
            self._layer = self._viewer.add_layer(made)
            dress(self._layer)
            for layer in self._viewer.layers:
                if quantity_of(layer) is Quantity.MASK:  # in 3D it would cover everything
                    layer.visible = False
            if self._viewer.canvas.grid.enabled:
                label(self._layer, True)
            self._led = self._step
        else:
            self._layer.refresh(thumbnail=False, highlight=False, extent=False)
        if self._step == self._led or self._led < 0:
            self.go_to(self._sweep_length - 1)
        self.moved.emit(self.index)

    def go_to(self, index: int) -> None:
        """Move the slider to a point."""
        dims = self._viewer.dims
        if self._layer is not None and dims.ndim >= 4:
            self._led = index
            dims.set_point(dims.ndim - 4, index)

    def cut(self, sweep: Sweep) -> None:
        """Leave out the places that a stopped sweep never came to."""
        if self._layer is None or self._made_of is None:
            return
        index = min(self._step, len(sweep.points) - 1)
        self._layer.data = cut(self._made_of, sweep)[0]
        self.go_to(index)
        self.moved.emit(self.index)

    def _stepped(self, event: Any = None) -> None:
        if self._layer is not None:
            self.moved.emit(self.index)

    def _removed(self, event: Any) -> None:
        if self._layer is not None and event.value is self._layer:
            self._let_go()
            # Afterwards: whoever listens may remove or add layers, too.
            QTimer.singleShot(0, self.gone.emit)

    def _let_go(self) -> None:
        self._layer = self._made_of = self._ready = None
        self._sweep_length, self._led = 0, -1

    def drop(self) -> None:
        """Take the layer away."""
        layer = self._layer
        self._let_go()
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def shut_down(self, *, unfinished: bool) -> None:
        """Stop listening; an unfinished layer goes, a finished one is the viewer's."""
        self._gone = True
        self._viewer.dims.events.current_step.disconnect(self._stepped)
        self._viewer.layers.events.removed.disconnect(self._removed)
        if unfinished:
            self.drop()
        self._let_go()
