"""The window stays alive during a run and obeys Cancel at once, at the size of a whole head."""

import os
import time

import numpy as np
import pytest
import torch
from qtpy.QtCore import QObject, QTimer

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.preparation.registry import Place
from napari_qsm.workbench.layers import quantity_of

WHOLE_HEAD = (256, 256, 160)
STALL = 0.050
CANCEL = 0.300


class Heartbeat(QObject):
    """A timer on the main thread; the longest gap between its beats is the longest stall."""

    def __init__(self):
        super().__init__()
        self.gaps = []
        self._last = None
        self._timer = QTimer(self)
        self._timer.setInterval(2)
        self._timer.timeout.connect(self._beat)

    def start(self):
        self.gaps, self._last = [], time.perf_counter()
        self._timer.start()

    def stop(self):
        self._timer.stop()

    def _beat(self):
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now


@pytest.fixture
def all_threads():
    """As many threads as a user has; other tests run on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def head_in_a_window(all_threads, make_napari_viewer_proxy, add, qtbot):
    """A window that holds the field of a whole head, with the dock ready to run TV."""
    viewer = make_napari_viewer_proxy(show=True)
    _, dock = viewer.window.add_plugin_dock_widget("napari-qsm", "Reconstruct susceptibility")
    grid = Grid(WHOLE_HEAD, np.eye(4))
    noise = np.random.default_rng(0).normal(0, 0.01, WHOLE_HEAD).astype(np.float32)
    add(viewer, noise, Quantity.LOCAL_FIELD, on=grid)
    add(viewer, np.ones(WHOLE_HEAD, bool), Quantity.MASK, on=grid)
    qtbot.waitUntil(lambda: not dock.workbench.reason_not_to_run(), timeout=60_000)
    dock.method.combo.setCurrentIndex(dock.method.combo.findData("tv"))
    qtbot.wait(500)
    yield viewer, dock
    dock.shut_down()


def stall_during(qtbot, seconds, act=lambda: None, every=700):
    """Stall of the event loop in `seconds`, in which `act` happens from time to time."""
    heart, timer = Heartbeat(), QTimer()
    timer.timeout.connect(act)
    timer.start(every)
    heart.start()
    qtbot.wait(round(1000 * seconds))
    heart.stop()
    timer.stop()
    print("longest gaps, ms:", [round(1000 * gap) for gap in sorted(heart.gaps)[-5:]])
    return sorted(heart.gaps)[-3]  # the machine itself may be absent twice


def repaint_cost(viewer, qtbot, quantity=Quantity.LOCAL_FIELD):
    """Stall that exchanging a volume costs this machine's window with nothing running."""
    layer = next(x for x in viewer.layers if quantity_of(x) is quantity)

    def exchange():
        layer.data = layer.data

    return stall_during(qtbot, 4, exchange)


def transform_cost():
    """Time of one Fourier transform of the padded volume, the longest piece of an iteration."""
    volume = torch.zeros([round(1.25 * n) for n in WHOLE_HEAD])
    torch.fft.rfftn(volume)
    began = time.perf_counter()
    torch.fft.rfftn(volume)
    return time.perf_counter() - began


@pytest.mark.window
def test_tv_on_a_whole_head_neither_freezes_the_window_nor_ignores_cancel(head_in_a_window, qtbot):
    """Stalls stay below 50 ms and Cancel below 300 ms, previews included.

    On a machine that is busy, or whose software renderer needs longer than that for a single
    repaint, the limits are three bare repaints and five bare transforms, measured here.
    """
    viewer, dock = head_in_a_window
    dock.workbench.set_parameter("max_iterations", 1000)  # or it may end before it is cancelled
    dock.workbench.set_parameter("tolerance", 1e-6)
    stall_limit = max(STALL, 3 * repaint_cost(viewer, qtbot))
    cancel_limit = max(CANCEL, 5 * transform_cost())
    dock.start()
    qtbot.waitUntil(lambda: "iteration" in dock.run.status.text(), timeout=60_000)
    stall = stall_during(qtbot, 6)
    ended = []
    dock.workbench.running_changed.connect(lambda _: ended.append(time.perf_counter()))
    began = time.perf_counter()
    dock.run.button.click()
    qtbot.waitUntil(lambda: bool(ended), timeout=10_000)
    cancel = ended[0] - began
    print(f"stall {1000 * stall:.0f} of {1000 * stall_limit:.0f} ms")
    print(f"cancel {1000 * cancel:.0f} of {1000 * cancel_limit:.0f} ms")
    assert stall < stall_limit
    assert cancel < cancel_limit


@pytest.fixture
def raw_head_in_a_window(all_threads, make_napari_viewer_proxy, qtbot):
    """A window with the Prepare dock, in which two echoes of a whole head are open."""
    viewer = make_napari_viewer_proxy(show=True)
    _, dock = viewer.window.add_plugin_dock_widget("napari-qsm", "Prepare field")
    dock.simulate(raw_head, "a ball")
    qtbot.waitUntil(lambda: dock.preparation.measured is not None, timeout=120_000)
    qtbot.waitUntil(lambda: dock.layers.settled, timeout=60_000)
    for place, stage in ((Place.MASK, "threshold"), (Place.UNWRAP, "laplacian")):
        dock.preparation.choose_stage(place, stage)
    for place in (Place.OFFSET, Place.RELAXATION):
        dock.preparation.choose_stage(place, "none")
    yield viewer, dock
    dock.shut_down()


def raw_head():
    """A ball of 100 mm radius that fills its field of view, with a field of its own."""
    x, y, z = np.meshgrid(
        *[np.arange(n, dtype=np.float32) - n / 2 for n in WHOLE_HEAD], indexing="ij"
    )
    inside = np.sqrt(x**2 + y**2 + (1.5 * z) ** 2) < 100
    field = 0.2 * np.sin(x / 30) * np.cos(y / 40) + 1e-5 * z**2
    times = (0.005, 0.010)
    rng = np.random.default_rng(0)
    phase = np.empty((*WHOLE_HEAD, 2), np.float32)
    for echo, time_ in enumerate(times):
        turns = 2 * np.pi * 42.577 * 3 * field * time_ + rng.normal(0, 0.02, WHOLE_HEAD)
        phase[..., echo] = np.where(inside, turns, rng.uniform(-3, 3, WHOLE_HEAD))
    phase = np.angle(np.exp(1j * phase)).astype(np.float32)
    signal = 100.0 * inside + rng.uniform(0, 1, WHOLE_HEAD)
    volumes = {Quantity.PHASE: phase, Quantity.MAGNITUDE: np.stack([signal, 0.9 * signal], axis=-1)}
    return Acquisition(Grid(WHOLE_HEAD, np.eye(4)), volumes, 3.0, times)


@pytest.mark.window
def test_preparing_a_whole_head_neither_freezes_the_window_nor_ignores_cancel(
    raw_head_in_a_window, qtbot
):
    """The same limits while the background is removed; new layers are napari's own affair."""
    viewer, dock = raw_head_in_a_window
    stall_limit = max(STALL, 3 * repaint_cost(viewer, qtbot, Quantity.MAGNITUDE))
    cancel_limit = max(CANCEL, 5 * transform_cost())
    dock.start()
    qtbot.waitUntil(lambda: "RESHARP" in dock.run.status.text(), timeout=240_000)
    stall = stall_during(qtbot, 4)
    assert dock.runner.running
    began = time.perf_counter()
    dock.run.button.click()
    qtbot.waitUntil(lambda: not dock.runner.running, timeout=10_000)
    cancel = time.perf_counter() - began
    print(f"stall {1000 * stall:.0f} of {1000 * stall_limit:.0f} ms")
    print(f"cancel {1000 * cancel:.0f} of {1000 * cancel_limit:.0f} ms")
    assert stall < stall_limit
    assert cancel < cancel_limit
