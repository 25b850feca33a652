"""The window stays alive during a run and obeys Cancel at once, at the size of a whole head."""

import time

import numpy as np
import pytest
from qtpy.QtCore import QObject, QTimer

from napari_qsm.acquisition import Grid, Quantity
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
def head_in_a_window(make_napari_viewer_proxy, add, qtbot):
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


@pytest.mark.window
def test_tv_on_a_whole_head_neither_freezes_the_window_nor_ignores_cancel(head_in_a_window, qtbot):
    viewer, dock = head_in_a_window
    dock.start()
    qtbot.waitUntil(lambda: "iteration" in dock.run.status.text(), timeout=60_000)
    heart = Heartbeat()
    heart.start()
    qtbot.wait(6000)
    heart.stop()
    began = time.perf_counter()
    dock.run.button.click()
    qtbot.waitUntil(lambda: dock.workbench.job is None, timeout=10_000)
    cancelled = time.perf_counter() - began
    longest = sorted(heart.gaps)[-3:]
    stalls = [f"{1000 * gap:.0f} ms" for gap in longest]
    print(f"longest stalls {stalls}, cancel {1000 * cancelled:.0f} ms")
    assert any(quantity_of(x) is Quantity.LOCAL_FIELD for x in viewer.layers)
    assert cancelled < CANCEL
    assert longest[-1] < STALL
