"""What a user does in the Explore dock, and what the live layer shows at every moment of it."""

import gc
import time
import weakref
from contextlib import suppress

import numpy as np
import pytest
import torch
from napari.components import ViewerModel
from superqt.utils import WorkerBase

from napari_qsm.acquisition import Maps, Quantity
from napari_qsm.generators import finished
from napari_qsm.methods.registry import Parameters, Step, method, methods, parameter, unregister
from napari_qsm.widgets.explore import ExploreWidget
from napari_qsm.workbench.layers import quantity_of
from napari_qsm.workbench.placement import to_display


def own(key, acquisition, **settings):
    """The method's own map, as the viewer would show it."""
    work = methods()[key](acquisition, methods()[key].with_settings(settings))
    return to_display(finished(work)[Quantity.CHI], acquisition.grid)


class Fingers:
    """A hand on the slider, and eyes on the layer."""

    def __init__(self, explore, viewer, qtbot):
        self.explore, self.viewer, self.qtbot = explore, viewer, qtbot
        self.panel, self.live = explore.panel, explore.live

    def choose(self, key):
        self.panel.combo.setCurrentIndex(self.panel.combo.findData(key))

    @property
    def layer(self):
        return self.live.layer.layer

    @property
    def acquisition(self):
        return self.explore.workbench.understanding.acquisition

    def wait(self, until, timeout=30_000):
        self.qtbot.waitUntil(until, timeout=timeout)

    def hold(self, *positions):
        """Press the slider and drag it over some of its 1000 positions."""
        slider = self.panel.control.slider
        slider.setSliderDown(True)
        for position in positions:
            slider.setSliderPosition(position)

    def let_go(self):
        self.panel.control.slider.setSliderDown(False)

    @property
    def complete(self):
        """Whether the volume of the newest value is on show, with its residual."""
        facts = {} if self.layer is None else self.layer.metadata["qsm"]
        return facts.get("residual") is not None

    def settle(self, *positions):
        self.hold(*positions)
        self.let_go()
        if self.layer is not None:
            self.layer.metadata["qsm"]["residual"] = None
        self.wait(lambda: self.complete)

    @property
    def shown_value(self):
        facts = self.layer.metadata["qsm"]
        return facts["params"][methods()[facts["method"]].tuning]

    @property
    def top(self):
        return None if self.layer is None else self.layer.data.max()

    def plane(self):
        """What napari would paint: the slice of the present step."""
        return self.layer.data[self.viewer.dims.current_step[0]]


@pytest.fixture
def fingers(dock, viewer, qtbot):
    """The Explore dock beside the Reconstruct dock, on a viewer without a window."""
    explore = ExploreWidget(viewer)
    viewer.dims.set_current_step(0, 9)
    yield Fingers(explore, viewer, qtbot)
    explore.shut_down()
    with suppress(RuntimeError):  # a test may have taken it away
        explore.deleteLater()
    WorkerBase.await_workers(10_000)


@pytest.mark.parametrize("key", [m.key for m in methods().values() if m.symbol])
def test_the_layer_becomes_the_methods_own_map_of_the_last_value(fingers, key):
    fingers.choose(key)
    fingers.settle(200, 300, 400)
    value = fingers.panel.value
    assert fingers.shown_value == value
    assert f"{value:g}" in fingers.layer.name
    expected = own(key, fingers.acquisition, **{methods()[key].tuning: value})
    assert np.abs(fingers.layer.data - expected).max() < 1e-6
    assert "residual" in fingers.panel.status.text()


def test_every_movement_shows_the_slice_before_the_volume(fingers):
    fingers.choose("tkd")
    fingers.settle(200)
    volumes = fingers.live.filter.live.volumes
    for position in (400, 600, 800):
        fingers.hold(position)
        value = fingers.panel.value
        fingers.live._idle.stop()  # as if the next movement came at once
        fingers.wait(lambda value=value: fingers.shown_value == value)
        expected = own("tkd", fingers.acquisition, threshold=value)
        for axis, step in enumerate(fingers.viewer.dims.current_step):
            plane, wanted = fingers.layer.data.take(step, axis), expected.take(step, axis)
            assert np.abs(plane - wanted).max() < 1e-6
    assert fingers.live.filter.live.volumes == volumes


def test_a_slice_of_an_older_value_is_never_seen(fingers):
    """Scrolling while only planes are new: what comes into view is empty, then new."""
    fingers.choose("tkd")
    fingers.settle(200)
    old = fingers.layer.data.copy()
    fingers.hold(700)
    fingers.live._idle.stop()
    value = fingers.panel.value
    fingers.wait(lambda: fingers.shown_value == value)
    expected = own("tkd", fingers.acquisition, threshold=value)
    for step in (8, 7, 9, 12):
        fingers.viewer.dims.set_current_step(0, step)
        fingers.live._idle.stop()
        seen = fingers.plane()
        fresh = np.abs(seen - expected[step]).max() < 1e-6
        assert fresh or not seen.any()
        fingers.wait(lambda: fingers.live._seen is fingers.live._wished)
        assert np.abs(fingers.plane() - expected[step]).max() < 1e-6
    assert not np.allclose(old[8], expected[8])
    fingers.live._complete()
    fingers.wait(lambda: fingers.complete)
    assert np.abs(fingers.layer.data - expected).max() < 1e-6


def test_turning_to_3d_between_planes_and_volume_shows_nothing_old(fingers):
    fingers.choose("tkd")
    fingers.settle(200)
    fingers.hold(700)
    fingers.live._idle.stop()
    value = fingers.panel.value
    fingers.wait(lambda: fingers.shown_value == value)
    fingers.viewer.dims.ndisplay = 3
    assert not fingers.layer.data.any()
    fingers.wait(lambda: "coarse" in fingers.layer.name or fingers.complete)
    fingers.wait(lambda: fingers.complete)
    expected = own("tkd", fingers.acquisition, threshold=value)
    assert np.abs(fingers.layer.data - expected).max() < 1e-6
    fingers.hold(300)
    fingers.live._idle.stop()
    fingers.wait(lambda: "coarse" in fingers.layer.name)
    assert fingers.shown_value == fingers.panel.value


def test_in_3d_the_layer_is_alone_and_the_others_come_back(fingers):
    fingers.choose("tkd")
    fingers.settle(200)
    before = [layer.visible for layer in fingers.viewer.layers]
    assert sum(before) > 2
    fingers.viewer.dims.ndisplay = 3
    assert [x for x in fingers.viewer.layers if x.visible] == [fingers.layer]
    fingers.viewer.dims.ndisplay = 2
    assert [layer.visible for layer in fingers.viewer.layers] == before
    fingers.viewer.dims.ndisplay = 3
    fingers.viewer.layers.remove(fingers.layer)
    assert all(layer.visible for layer in fingers.viewer.layers)


def test_new_inputs_are_followed_and_old_maps_say_so(fingers):
    fingers.choose("tkd")
    fingers.settle(400)
    mask = next(x for x in fingers.viewer.layers if quantity_of(x) is Quantity.MASK)
    before = fingers.acquisition
    mask.data[: mask.data.shape[0] // 2] = 0
    mask.events.data(value=mask.data)
    fingers.wait(lambda: "earlier inputs" in fingers.layer.name)
    fingers.wait(lambda: fingers.acquisition not in (None, before))
    fingers.wait(lambda: "earlier" not in fingers.layer.name)
    fingers.wait(lambda: not fingers.layer.data[: mask.data.shape[0] // 2].any())
    assert fingers.layer.data.any()


class WarmParameters(Parameters):
    weight: float = parameter(1.0, "A weight.", low=0.01, high=100, log=True, alias="lambda")
    steps: int = parameter(100, "How many steps of 10 ms it takes.", low=1, high=1000)


@pytest.fixture
def warm():
    """A slow method that notes where it started from, how often, and how it ended."""
    state = type("State", (), {})()
    state.began, state.ended, state.held = [], [], None

    @method(
        key="warm",
        label="Warm",
        summary="Waits.",
        parameters=WarmParameters,
        references=("10.0/x",),
        uses=(Quantity.MASK, Quantity.CHI),
        tuning="weight",
    )
    def run(acquisition, parameters, device):
        start = acquisition[Quantity.CHI].max() if Quantity.CHI in acquisition else None
        state.began.append((parameters.weight, start))
        work = torch.full(acquisition.grid.shape, parameters.weight)
        state.held = weakref.ref(work)
        try:
            for k in range(parameters.steps):
                time.sleep(0.01)
                yield Step(k / parameters.steps, "waiting", (work / 2).numpy)
            return Maps(acquisition.grid, {Quantity.CHI: work.numpy() * acquisition.mask})
        finally:
            state.ended.append(parameters.weight)

    yield state
    WorkerBase.await_workers(10_000)
    unregister("warm")


@pytest.fixture
def solving(warm, viewer, qtbot, request):
    """Docks that know the slow method, chosen."""
    reconstruct, fingers = request.getfixturevalue("dock"), request.getfixturevalue("fingers")
    fingers.choose("warm")
    reconstruct.workbench.settings["warm"] = {"steps": 5}
    return fingers


def solve(fingers, position):
    fingers.hold(position)
    fingers.let_go()
    value = fingers.panel.value
    fingers.wait(
        lambda: fingers.layer is not None and fingers.layer.data.max() == np.float32(value)
    )
    return value


def test_a_solver_starts_on_release_and_from_the_last_map(solving, warm):
    solving.hold(500, 520)
    solving.qtbot.wait(250)
    assert not warm.began
    assert "Release to solve" in solving.panel.status.text()
    first = solve(solving, 520)
    second = solve(solving, 600)
    assert warm.began == [(first, None), (second, np.float32(first))]
    assert "from the last map" in solving.panel.status.text()
    assert f"{second:g}" in solving.layer.name


def test_while_dragging_the_layer_says_what_it_still_shows(solving):
    first = solve(solving, 500)
    solving.hold(700)
    assert f"{first:g}" in solving.layer.name
    assert (solving.top, solving.shown_value) == (np.float32(first), first)
    assert f"= {solving.panel.value:g}" in solving.panel.status.text()


def test_a_new_release_cancels_the_running_solver(solving, warm):
    solving.explore.workbench.settings["warm"] = {"steps": 1000}
    solving.hold(300)
    solving.let_go()
    solving.wait(lambda: solving.layer is not None and "running" in solving.layer.name)
    assert solving.top == np.float32(solving.panel.value / 2)  # a preview
    older = solving.panel.value
    solving.explore.workbench.settings["warm"] = {"steps": 5}
    last = solve(solving, 800)
    assert [weight for weight, _ in warm.began] == [older, last] == warm.ended
    assert "running" not in solving.layer.name


def test_stop_leaves_what_was_shown_and_says_so(solving, warm):
    solving.explore.workbench.settings["warm"] = {"steps": 1000}
    solving.hold(300)
    solving.let_go()
    solving.wait(lambda: solving.layer is not None and "running" in solving.layer.name)
    solving.panel.stop.click()
    solving.wait(lambda: "stopped early" in solving.layer.name)
    solving.wait(lambda: not WorkerBase._worker_set)
    gc.collect()
    assert warm.held() is None


@pytest.mark.parametrize("key", ["tkd", "warm"])
def test_taking_the_dock_away_mid_run_leaves_no_thread_and_no_tensor(solving, warm, key):
    solving.explore.workbench.settings["warm"] = {"steps": 1000}
    solving.choose(key)
    solving.hold(300, 500)
    solving.let_go()
    solving.wait(lambda: solving.layer is not None)
    runner = solving.live.filter
    held = warm.held if key == "warm" else weakref.ref(runner.live._filter._sliced)
    assert held() is not None
    del runner
    solving.explore.deleteLater()
    solving.wait(lambda: not any("Live" in layer.name for layer in solving.viewer.layers))
    solving.wait(lambda: not WorkerBase._worker_set, timeout=5000)
    gc.collect()
    assert held() is None


def test_taking_the_layer_away_frees_the_spectrum(fingers):
    fingers.choose("tkd")
    fingers.settle(300)
    held = weakref.ref(fingers.live.filter.live)
    fingers.viewer.layers.remove(fingers.layer)
    fingers.wait(lambda: not WorkerBase._worker_set)
    gc.collect()
    assert held() is None
    fingers.settle(400)  # and the next movement brings it back
    assert fingers.layer in fingers.viewer.layers


def test_keep_makes_a_result_with_provenance_and_use_fills_the_form(fingers, dock):
    fingers.choose("tkd")
    fingers.settle(700)
    value = fingers.panel.value
    fingers.panel.keep.click()
    fingers.wait(lambda: len(dock.results) == 1 and dock.layers.settled)
    kept = next(x for x in fingers.viewer.layers if "maps" in x.metadata.get("qsm", {}))
    assert kept.metadata["qsm"]["provenance"].parameters["threshold"] == value
    assert dock.results == [f"TKD threshold={value:g} #1"]
    assert dock.workbench.parameters.threshold != value  # what is set there stays set
    fingers.panel.use.click()
    assert dock.workbench.method == "tkd"
    assert dock.method.form.controls["threshold"].value == value


@pytest.mark.parametrize("key", ["tv", "tikhonov"])
def test_auto_shows_which_value_the_method_took(fingers, key):
    fingers.choose(key)
    fingers.settle(900) if key == "tikhonov" else None
    fingers.panel.auto.click()
    assert fingers.panel.automatic
    fingers.wait(lambda: not fingers.panel.automatic)
    fingers.wait(lambda: fingers.shown_value == fingers.panel.value and fingers.complete)
    assert f"{fingers.panel.value:g}" in fingers.layer.name
    chosen = own(key, fingers.acquisition)
    assert np.abs(fingers.layer.data - chosen).max() < 1e-6


def test_without_inputs_it_says_what_is_missing(qtbot):
    from napari_qsm.widgets.reconstruct import ReconstructWidget

    viewer = ViewerModel()
    reconstruct = ReconstructWidget(viewer)
    qtbot.addWidget(reconstruct, before_close_func=lambda w: w.shut_down())
    explore = ExploreWidget(viewer)
    qtbot.addWidget(explore, before_close_func=lambda w: w.shut_down())
    explore.panel.choose("tkd")
    explore.panel.control.slider.setSliderPosition(300)
    assert "local field" in explore.panel.status.text()
    assert not explore.panel.keep.isEnabled()


def test_a_picked_point_of_a_sweep_moves_the_slider_only(fingers, dock):
    dock.workbench.choose_method("tv")
    fingers.explore.sweep.picked.emit({"regularization": 3e-4})
    assert fingers.panel.method.key == "tv"
    assert fingers.panel.value == 3e-4
    assert not fingers.live.solver.running


def test_there_is_one_choice_of_method_for_slider_sweep_and_reconstruct(fingers, dock):
    bench, panel = dock.workbench, fingers.panel
    assert panel.method.key == bench.method
    fingers.choose("tikhonov")
    assert bench.method == "tikhonov" == dock.method.combo.currentData()
    assert "Tikhonov" in fingers.explore.sweep.method.text()
    bench.choose_method("tkd")
    assert panel.method.key == "tkd"
    assert "threshold" in panel.name.text()
    bench.choose_method(next(m.key for m in bench.methods.values() if not m.tuning))
    assert panel.method.key == "tkd"
    assert "nothing to tune" in panel.badge.text()
    bench.choose_method("tv+two_pass")
    assert panel.method.key == "tv"
    assert "without two passes" in panel.badge.text()
    bench.set_parameter("regularization", 2e-4)
    panel.show_value(3e-4)
    panel.use.click()  # the wrapper stays
    assert bench.method == "tv+two_pass"
    assert bench.parameters.regularization == 3e-4


def test_a_zero_that_the_slider_does_not_know_is_named(fingers, dock):
    assert "relative" not in fingers.panel.badge.text()
    dock.inputs.zero.choose("none")
    fingers.wait(lambda: "relative to the mean of the mask" in fingers.panel.badge.text())
