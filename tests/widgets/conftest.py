"""What the tests of the window share: a small head, a slow method, a user's hands, and patience."""

import time

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels, Layer
from qtpy.QtCore import Qt
from superqt.utils import WorkerBase

from napari_qsm.acquisition import Grid, Maps, Quantity, Volume
from napari_qsm.methods.registry import Parameters, Step, method, parameter, unregister
from napari_qsm.preparation.registry import Place
from napari_qsm.widgets.prepare import PrepareWidget
from napari_qsm.widgets.reconstruct import ReconstructWidget
from napari_qsm.workbench.layers import layer_data
from napari_qsm.workbench.preparation import Preparation

SHAPE = (24, 28, 20)
AFFINE = np.diag([1.0, 1.0, 1.5, 1.0]) + np.array(
    [[0, 0, 0, -12.0], [0, 0, 0, -14], [0, 0, 0, -15], [0] * 4]
)


@pytest.fixture
def grid():
    return Grid(SHAPE, AFFINE)


@pytest.fixture
def brain():
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    return sum(a**2 for a in axes) < 0.8


@pytest.fixture
def add(grid):
    """Add a volume to a viewer as a file of that quantity would arrive."""

    def add_layer(viewer, data, quantity, *, name=None, on=grid, b0=3.0):
        volume = Volume(data, on, quantity.unit or None, b0, (0.02,), f"{quantity.key}.nii.gz")
        made = Layer.create(*layer_data(volume, quantity, name or quantity.key))
        return viewer.add_layer(made)

    return add_layer


@pytest.fixture
def viewer(add, brain):
    """A viewer model, without a window, that holds a field and a mask."""
    model = ViewerModel()
    noise = np.random.default_rng(0).normal(0, 0.01, SHAPE).astype(np.float32)
    add(model, noise * brain, Quantity.LOCAL_FIELD)
    add(model, brain, Quantity.MASK)
    return model


@pytest.fixture
def dock(viewer, qtbot):
    """The Reconstruct dock on that viewer, its input check done."""
    made = ReconstructWidget(viewer)
    qtbot.addWidget(made, before_close_func=lambda w: w.shut_down())
    qtbot.waitUntil(lambda: not made.workbench.reason_not_to_run(), timeout=10_000)
    yield made
    WorkerBase.await_workers(10_000)


class SlowParameters(Parameters):
    steps: int = parameter(200, "How many steps of 20 ms it takes.", low=1, high=1000)


@pytest.fixture
def slow():
    """A registered method that takes its time; `slow.held` refers weakly to its working memory."""
    state = type("State", (), {"held": None, "closed": False})()

    @method(
        key="slow",
        label="Slow",
        summary="Waits.",
        parameters=SlowParameters,
        references=("10.0/x",),
    )
    def run(acquisition, parameters, device):
        import weakref

        import torch

        work = torch.zeros(acquisition.grid.shape)
        state.held = weakref.ref(work)
        try:
            for k in range(parameters.steps):
                time.sleep(0.02)
                work += 1  # in place: the preview shows the running sum
                yield Step((k + 1) / parameters.steps, f"waiting {k}", work.numpy().copy)
            chi = work.numpy() * acquisition.mask
            return Maps(acquisition.grid, {Quantity.CHI: chi, Quantity.RESIDUAL: 0 * chi})
        finally:
            state.closed = True

    yield state
    WorkerBase.await_workers(10_000)
    unregister("slow")


class Hands:
    """What a user does with the Prepare dock, and sees there."""

    shape = (20, 22, 18)

    def __init__(self, dock, viewer, toys, qtbot):
        self.dock, self.viewer, self.toys, self.qtbot = dock, viewer, toys, qtbot

    def simulate(self, measurement):
        self.dock.simulate(lambda: measurement, "toy")
        self.wait(lambda: self.dock.preparation.measured is measurement)
        self.wait(lambda: self.dock.layers.settled)

    def wait(self, until, timeout=30_000):
        self.qtbot.waitUntil(until, timeout=timeout)

    def click(self):
        self.qtbot.mouseClick(self.dock.run.button, Qt.MouseButton.LeftButton)

    def prepare(self):
        self.click()
        self.wait(lambda: not self.dock.runner.running)
        self.wait(lambda: self.dock.layers.settled)
        self.qtbot.wait(20)

    def standing(self, state):
        return {p for p in Place if self.dock.preparation.standing(p).state is state}

    @property
    def names(self):
        return [layer.name for layer in self.viewer.layers]

    def painted(self, first=6):
        """Add a Labels layer as napari makes one on top of echoes."""
        beside = self.viewer.layers["magnitude"]
        data = np.zeros(beside.data.shape[1:], np.uint8)
        data[first:] = 1
        places = {"scale": beside.scale[1:], "translate": beside.translate[1:]}
        return self.viewer.add_layer(Labels(data, name="mine", **places))


@pytest.fixture
def bare(toys, qtbot, monkeypatch):
    """The Prepare dock with toys for stages, and nothing opened."""
    recipe = toys.recipe()
    monkeypatch.setattr("napari_qsm.widgets.prepare.Preparation", lambda: Preparation(recipe))
    viewer = ViewerModel()
    dock = PrepareWidget(viewer)
    qtbot.addWidget(dock, before_close_func=lambda w: w.shut_down())
    yield Hands(dock, viewer, toys, qtbot)
    dock.shut_down()
    WorkerBase.await_workers(10_000)


@pytest.fixture
def hands(bare, toys):
    """The same with a raw measurement on show."""
    bare.simulate(toys.measurement(shape=bare.shape))
    return bare
