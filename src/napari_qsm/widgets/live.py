"""A tuning parameter under the fingers: slider, layer, and whoever computes in between."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, QTimer

from napari_qsm import devices
from napari_qsm.acquisition import Acquisition, InputError
from napari_qsm.methods.registry import Method, Parameters
from napari_qsm.widgets.live_layer import LiveLayer, bare
from napari_qsm.widgets.live_panel import LivePanel
from napari_qsm.widgets.live_runner import FilterRunner, Solved, SolverRunner
from napari_qsm.widgets.reconstruct import ReconstructWidget
from napari_qsm.workbench.live import Frame, Live, Tuned, Wish

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_qsm.workbench.job import Progress
    from napari_qsm.workbench.session import Understanding

IDLE = 60
"""Milliseconds without a movement after which the whole volume is worth computing."""

SETTLED = 120
"""Milliseconds before a solver is restarted: the wheel and the arrow keys come in bursts."""

_LOOKS = {"planes": "slices", "coarse": "half resolution", "volume": "volume"}
_ROUGH, _RUNNING = " (coarse)", " (running)"
_STOPPED, _EARLIER = " (stopped early)", " (of earlier inputs)"


class LiveControl(QObject):
    """Shows what the slider of a `LivePanel` says, as soon as it can be had.

    A method that is a Fourier filter follows every movement: the planes in view (in 3D the volume
    at half its resolution) first, the volume when the slider rests. Any other method is solved when
    the slider is released. The layer's name and metadata always say what is shown.

    Parameters
    ----------
    viewer : ViewerModel
        Shows the layer.
    reconstruct : ReconstructWidget
        Whose inputs, settings and device are used.
    parent : QObject
        The dock.
    """

    def __init__(
        self, viewer: ViewerModel, reconstruct: ReconstructWidget, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._viewer, self._reconstruct = viewer, reconstruct
        self._bench = reconstruct.workbench
        self.panel = LivePanel(self._bench)
        self.layer = LiveLayer(viewer)
        self.solver = SolverRunner(self._progressed, self._solved, self._failed)
        self.filter: FilterRunner | None = None
        self._wished: Wish | None = None
        self._seen: Wish | None = None
        self._spent: dict[str, float] = {}
        self._idle, self._settled = _timer(self, IDLE), _timer(self, SETTLED)
        self._connect()

    def _connect(self) -> None:
        self.panel.method_chosen.connect(self._change_method)
        self.panel.moved.connect(self._move)
        self.panel.settled.connect(self._settle)
        self.panel.stop_wanted.connect(self._stop)
        self._idle.timeout.connect(self._complete)
        self._settled.timeout.connect(self._solve)
        self._bench.inputs_changed.connect(self._outdate)
        self._bench.understood.connect(self._understand)
        for event in self._sights():
            event.connect(self._look_elsewhere)
        self._viewer.layers.events.removed.connect(self._removed)
        self._viewer.dims.events.ndisplay.connect(self._turn)

    def _sights(self) -> tuple[Any, ...]:
        events = self._viewer.dims.events
        return events.current_step, events.ndisplay, events.order

    # -- what is asked for ------------------------------------------------------------------

    @property
    def method(self) -> Method[Any]:
        """The method that is tuned."""
        return self.panel.method

    @property
    def parameters(self) -> Parameters:
        """The method's settings in the Reconstruct dock, with the value of the slider."""
        bench, own = self._bench, self.method.parameters.model_fields
        key = bench.method if bench.unwrapped == self.method.key else self.method.key
        settings = {n: v for n, v in bench.settings.get(key, {}).items() if n in own}
        value = {self.method.tuning: self.panel.value}
        made: Parameters = self.method.with_settings({**settings, **value})
        return made

    def _move(self) -> None:
        if self.method.symbol is not None:
            self.follow()
        else:
            shown = f"Shown is {self.layer.layer.name}." if self.layer.layer is not None else ""
            self.panel.say(
                f"Release to solve for {Tuned(self.method, self.parameters).value}.", small=shown
            )

    def _settle(self) -> None:
        if self.method.symbol is not None:
            self.follow()
        else:
            self._settled.start()

    def _usable(self) -> Acquisition | None:
        """Return the acquisition, or None where nothing comes of it; the panel then says why."""
        if reason := self._bench.reason_not_to_run(self.method):
            self.panel.say(reason)
            return None
        return self._bench.understanding.acquisition

    def follow(self) -> None:
        """Show a closed-form method at the slider's value: a quick look now, the volume soon."""
        acquisition, parameters = self._usable(), self.parameters
        if acquisition is None:
            return
        if self.filter is None:
            live = Live(acquisition, self.method, self._device())
            self.filter = FilterRunner(live, self._arrived, self._failed)
        if self._viewer.dims.ndisplay == 3:
            self._wish(Wish(parameters, "coarse"))
        elif (voxel := self.layer.voxel(acquisition.grid)) is not None:
            self._wish(Wish(parameters, "planes", voxel))
        else:
            self._wish(Wish(parameters))
        self._idle.start()

    def _wish(self, wish: Wish) -> None:
        if self.filter is not None:
            self._wished = wish
            self.filter.wish(wish)

    def _complete(self) -> None:
        """Ask for the volume, once the quick look is there and nothing moves any more."""
        wish = self._wished
        if wish is None or wish.look == "volume":
            return
        if self._seen is wish:
            self._wish(Wish(wish.parameters))
        else:
            self._idle.start()

    def _solve(self) -> None:
        acquisition, parameters = self._usable(), self.parameters
        if acquisition is not None and self.method.symbol is None:
            self.solver.solve(acquisition, self.method, parameters, self._device())
            self.panel.show_running(0.0)
            self.panel.say(f"Solving for {Tuned(self.method, parameters).value} …")

    def _device(self) -> Any:
        return devices.choose(self._reconstruct.run.device.currentText())

    def _stop(self) -> None:
        self._settled.stop()
        self.solver.cancel()

    # -- what arrives -----------------------------------------------------------------------

    def _arrived(self, frame: Frame) -> None:
        runner, wish = self.filter, frame.wish
        if runner is None or self._misses(wish):
            return
        made = Tuned(self.method, wish.parameters, frame.chosen, frame.residual)
        self.layer.make(runner.live.acquisition.grid, made.name)
        if isinstance(frame.chi, tuple):
            self.layer.show_planes(frame.chi, wish.voxel, made)
        else:
            self.layer.show_volume(frame.chi, made, _ROUGH if wish.look == "coarse" else "")
        self._seen = wish
        if frame.residual is None:
            self._spent[_LOOKS[wish.look]] = time.perf_counter() - wish.at
        if self._wished is None or wish.parameters == self._wished.parameters:
            spent = [f"{look} in {1000 * s:.0f} ms" for look, s in self._spent.items()]
            self.panel.tell(made, *spent)

    def _misses(self, wish: Wish) -> bool:
        """Whether planes are not those in view any more; the ones that are have been wished for."""
        grid = self._bench.understanding.acquisition
        return wish.look == "planes" and (
            grid is None
            or self._viewer.dims.ndisplay == 3
            or self.layer.voxel(grid.grid) != wish.voxel
        )

    def _progressed(self, parameters: Parameters, progress: Progress) -> None:
        self.panel.show_running(progress.fraction)
        if not self.panel.dragging:
            self.panel.say(progress.message)
        acquisition = self._bench.understanding.acquisition
        if progress.preview is not None and acquisition is not None:
            made = Tuned(self.method, parameters)
            self.layer.make(acquisition.grid, made.name)
            self.layer.show_volume(progress.preview, made, _RUNNING)

    def _solved(self, solved: Solved | None) -> None:
        self.panel.show_running(None)
        if solved is None:
            self.layer.say_of_it(_STOPPED, instead_of=_RUNNING)
            self.panel.say("Stopped.")
            return
        provenance = solved.maps.provenance
        made = Tuned(self.method, solved.parameters, provenance.chosen, solved.residual)
        self.layer.make(solved.acquisition.grid, made.name)
        self.layer.show_volume(solved.chi, made)
        began = " from the last map" if solved.warm else ""
        self.panel.tell(made, f"solved in {provenance.seconds:.1f} s{began}")

    def _failed(self, error: Exception) -> None:
        # The frames of the traceback hold the tensors of what failed.
        traceback.clear_frames(error.__traceback__)
        self._release()
        self.panel.show_running(None)
        text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        self.panel.say(text)
        show_error(text)

    # -- what changes around it -------------------------------------------------------------

    def _look_elsewhere(self, event: object = None) -> None:
        """Show nothing old where the user looks now; what is new there follows."""
        hidden, wish = self.layer.hide_stale(), self._wished
        under_way = wish is not None and wish is not self._seen and wish.look != "volume"
        if (hidden or under_way) and self.filter is not None:
            self.follow()

    def _turn(self, event: object = None) -> None:
        self.layer.clear_view()

    def _change_method(self) -> None:
        self._release()
        self._stop()
        self._spent = {}
        if self.layer.layer is not None and self.method.symbol is not None:
            self.follow()
        elif self.layer.partial:
            self.layer.drop()

    def _outdate(self, inputs: object = None) -> None:
        """Forget what belongs to inputs that are no longer chosen."""
        self._release()
        self._settled.stop()
        self.solver.forget()
        if self.layer.partial:
            self.layer.drop()
        self.layer.say_of_it(_EARLIER)

    def _understand(self, understanding: Understanding) -> None:
        if understanding.acquisition is not None and self.layer.layer is not None:
            self._settle()

    def _removed(self, event: Any) -> None:
        if bare(event.value) is self.layer.layer:
            self.layer.forget()
            self._release()
            self._stop()

    def _release(self) -> None:
        """Free the field's spectrum and whatever is being computed with it."""
        runner, self.filter = self.filter, None
        self._wished = self._seen = None
        if runner is not None:
            runner.close()

    def shut_down(self) -> None:
        """Stop, free everything and stop listening; Qt's side may be gone already."""
        self._release()
        self.solver.close()
        self.panel.disconnect_workbench()
        self._bench.inputs_changed.disconnect(self._outdate)
        self._bench.understood.disconnect(self._understand)
        for event in self._sights():
            event.disconnect(self._look_elsewhere)
        self._viewer.layers.events.removed.disconnect(self._removed)
        self._viewer.dims.events.ndisplay.disconnect(self._turn)
        self.layer.drop()


def _timer(parent: QObject, milliseconds: int) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    return timer
