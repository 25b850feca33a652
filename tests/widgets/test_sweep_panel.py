"""What a user does with the panel of sweeps, and what happens then."""

import csv
import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from napari.layers import Layer
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication
from superqt.utils import WorkerBase

from napari_qsm.acquisition import Maps, Quantity
from napari_qsm.methods.registry import Parameters, Step, method, parameter, unregister
from napari_qsm.widgets import sweep_texts as texts
from napari_qsm.widgets.reconstruct import ReconstructWidget
from napari_qsm.widgets.sweep_panel import SweepPanel
from napari_qsm.workbench.layers import quantity_of


@pytest.fixture
def panel(dock, viewer, qtbot):
    """The panel beside a Reconstruct dock on a viewer that holds a field and a mask."""
    made = SweepPanel(viewer, dock.workbench)
    qtbot.addWidget(made, before_close_func=lambda w: w.shut_down())
    made.resize(420, 800)
    made.show()
    yield made
    made.shut_down()
    WorkerBase.await_workers(10_000)


def swept(panel, qtbot, key="tkd", points=4, over=("0.05", "0.3")):
    panel._workbench.choose_method(key)
    panel.points.setValue(points)
    panel.low.setText(over[0])
    panel.high.setText(over[1])
    qtbot.mouseClick(panel.run.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: panel.sweeping is None, timeout=30_000)
    qtbot.waitUntil(lambda: panel.sweep is not None, timeout=5000)


def layers_of(viewer):
    return [layer for layer in viewer.layers if "sweep" in layer.metadata.get("qsm", {})]


def click(plot, position):
    """Click as a mouse does, by events on the plot's own viewport."""
    place, port = QPointF(position), plot.viewport()
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    for kind, held in (
        (QEvent.Type.MouseMove, Qt.MouseButton.NoButton),
        (QEvent.Type.MouseButtonPress, left),
        (QEvent.Type.MouseButtonRelease, Qt.MouseButton.NoButton),
    ):
        button = Qt.MouseButton.NoButton if kind == QEvent.Type.MouseMove else left
        seen = QPointF(port.mapToGlobal(position))
        QApplication.sendEvent(port, QMouseEvent(kind, place, seen, button, held, none))


def test_a_sweep_becomes_one_layer_beside_the_others(panel, qtbot, viewer, dock):
    swept(panel, qtbot)
    (layer,) = layers_of(viewer)
    field = next(x for x in viewer.layers if quantity_of(x) is Quantity.LOCAL_FIELD)
    assert layer.data.shape == (4, *field.data.shape)
    assert np.allclose(layer.scale[1:], field.scale)
    assert np.allclose(layer.translate[1:], field.translate)
    assert tuple(layer.axis_labels) == ("threshold", "S", "A", "R")
    assert viewer.dims.axis_labels[0] == "threshold"
    assert "TKD" in layer.name and "threshold" in layer.name
    assert tuple(layer.contrast_limits) == Quantity.CHI.window
    assert panel.run.status.text().startswith("TKD: 4 points")


def test_the_layer_is_made_away_from_the_main_thread(panel, qtbot, viewer, monkeypatch):
    """It costs a fifth of a second, in which the window would stand still."""
    made, create = [], Layer.create

    def noted(*data):
        made.append(threading.current_thread())
        return create(*data)

    monkeypatch.setattr(Layer, "create", noted)
    swept(panel, qtbot)
    assert len(layers_of(viewer)) == 1
    assert len(made) == 1
    assert made[0] is not threading.main_thread()


def test_every_map_of_the_layer_is_that_of_its_value(panel, qtbot, viewer):
    swept(panel, qtbot)
    (layer,) = layers_of(viewer)
    for index, map_there in enumerate(layer.data):
        assert map_there.any()
        assert np.shares_memory(map_there, panel.sweep.chi[index])
    strength = [float(np.abs(m).sum()) for m in layer.data]
    assert strength == sorted(strength, reverse=True)


def test_clicking_a_point_selects_its_value_everywhere(panel, qtbot, viewer, dock):
    swept(panel, qtbot)
    told = []
    panel.picked.connect(told.append)
    qtbot.waitUntil(lambda: panel.curves.plot.isVisible(), timeout=2000)
    for index in (2, 1):
        click(panel.curves.plot, panel.curves.plot.position(index))
        qtbot.waitUntil(lambda index=index: panel.layer.index == index, timeout=3000)
        value = panel.sweep.points[index].value
        assert viewer.dims.current_step[0] == index
        assert dock.method.form.controls["threshold"].value == value
        assert dock.workbench.parameters.threshold == value
        assert told[-1] == {"threshold": value}
        assert f"{value:.3g}" in panel.curves.figures.text()


def test_a_point_below_a_mark_stays_clickable(panel, qtbot):
    swept(panel, qtbot)
    plot, curve = panel.curves.plot, panel.sweep.curve
    at = float(panel.sweep.values[1])
    place = [1000 * float(v[0]) for v in curve.at([at])]
    plot._draw_mark("corner", *place)
    click(plot, plot.position(1))
    qtbot.waitUntil(lambda: panel.layer.index == 1, timeout=3000)


def test_the_form_goes_back_to_the_method_of_the_sweep(panel, qtbot, dock):
    swept(panel, qtbot)
    dock.workbench.choose_method("tv")
    panel.pick(0)
    assert dock.method.combo.currentData() == "tkd"
    assert dock.method.form.controls["threshold"].value == 0.05


def test_moving_the_slider_moves_the_highlight(panel, qtbot, viewer):
    swept(panel, qtbot)
    viewer.dims.set_current_step(0, 3)
    ring = panel.curves.plot._ring.getData()
    assert panel.layer.index == 3 and len(ring[0]) == 1
    assert ring[0][0] == pytest.approx(np.log10(1000 * panel.sweep.curve.residual[-1]))
    assert "0.3" in panel.curves.figures.text()


def test_a_kept_point_is_a_result_with_all_maps(panel, qtbot, viewer, dock):
    swept(panel, qtbot)
    panel.pick(1)
    qtbot.mouseClick(panel.keep, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: len(dock.results) == 1, timeout=5000)
    qtbot.waitUntil(lambda: len(viewer.layers) == 5 and panel.layers.settled, timeout=5000)
    chi = viewer.layers[-1]
    assert chi.ndim == 3 and np.array_equal(chi.data, layers_of(viewer)[0].data[1])
    provenance = chi.metadata["qsm"]["provenance"]
    assert provenance.parameters["threshold"] == panel.sweep.points[1].value
    assert any(quantity_of(layer) is Quantity.RESIDUAL for layer in viewer.layers)
    assert not np.shares_memory(chi.data, panel.sweep.chi)


def test_the_table_is_exported(panel, qtbot, tmp_path):
    swept(panel, qtbot)
    panel.export_table(tmp_path / "t.csv")
    qtbot.waitUntil(lambda: (tmp_path / "t.csv").exists(), timeout=5000)
    qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=5000)
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [float(row["threshold"]) for row in rows] == list(panel.sweep.values)


def test_the_error_tab_needs_a_reference(panel, qtbot, viewer, dock, add, brain):
    swept(panel, qtbot, points=3)
    error = list(texts.TABS).index(texts.ERROR)
    assert not panel.curves.tabs.isTabEnabled(error)
    rng = np.random.default_rng(1)
    truth = add(viewer, (brain * rng.normal(0, 0.05, brain.shape)).astype("f4"), Quantity.CHI)
    dock.inputs.roles["reference"].choose(truth)
    qtbot.waitUntil(lambda: dock.workbench.inputs.reference is not None, timeout=5000)
    qtbot.waitUntil(lambda: not panel.reason_not_to_run(), timeout=5000)
    swept(panel, qtbot, points=3)
    assert panel.curves.tabs.isTabEnabled(error)
    for tab in range(panel.curves.tabs.count()):
        panel.curves.tabs.setCurrentIndex(tab)
        assert len(panel.curves.plot._points[0].data) == 3
    assert len(layers_of(viewer)) == 1  # a new sweep takes the place of the old one


def test_a_method_without_such_a_parameter_says_so(slow, panel, dock):
    dock.workbench.choose_method("slow")
    assert not panel.run.button.isEnabled()
    assert "no parameter to sweep" in panel.run.status.text()


def test_removing_the_layer_frees_the_maps(panel, qtbot, viewer):
    swept(panel, qtbot)
    maps = weakref.ref(panel.sweep)
    chi = weakref.ref(panel.sweep.chi.base if panel.sweep.chi.base is not None else None)
    (layer,) = layers_of(viewer)
    viewer.layers.selection.active = viewer.layers[0]  # napari itself keeps the selected layer
    viewer.layers.remove(layer)
    del layer
    qtbot.waitUntil(lambda: panel.sweep is None, timeout=5000)
    qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=5000)
    gc.collect()
    assert maps() is None and chi() is None
    assert not panel.keep.isEnabled()


@pytest.fixture
def tardy():
    """A method that takes 2 s for each value; `held` refers weakly to its working memory."""
    state = type("State", (), {"held": None, "closed": 0})()

    class TardyParameters(Parameters):
        strength: float = parameter(0.1, "How strongly.", low=0.01, high=1, log=True)
        steps: int = parameter(100, "Of 20 ms.", low=1, high=1000)

    @method(
        key="tardy",
        label="Tardy",
        summary="Waits.",
        parameters=TardyParameters,
        references=("10.0/x",),
        gives=(Quantity.CHI,),
        tuning="strength",
    )
    def run(acquisition, parameters, device):
        work = torch.zeros(acquisition.grid.shape)
        state.held = weakref.ref(work)
        try:
            for k in range(parameters.steps if parameters.strength > 0.02 else 1):
                threading.Event().wait(0.02)
                yield Step(k / parameters.steps, f"waiting {k}")
            return Maps(acquisition.grid, {Quantity.CHI: work.numpy() + acquisition.mask})
        finally:
            state.closed += 1

    yield state
    WorkerBase.await_workers(10_000)
    unregister("tardy")


def begun(panel, qtbot, tardy, points=3):
    panel._workbench.settings["tardy"] = {}
    panel._workbench.choose_method("tardy")
    panel.points.setValue(points)
    panel.low.setText("0.01")
    panel.high.setText("1")
    panel.start()
    qtbot.waitUntil(lambda: panel.sweep is not None, timeout=10_000)  # the first point is quick


def test_points_appear_while_the_sweep_runs_and_cancel_keeps_them(tardy, panel, qtbot, viewer):
    begun(panel, qtbot, tardy)
    (layer,) = layers_of(viewer)
    assert len(panel.sweep.points) == 1 and layer.data[0].any() and not layer.data[2].any()
    assert panel.layer.index == 0 and viewer.dims.current_step[0] == 0
    qtbot.mouseClick(panel.run.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: panel.sweeping is None, timeout=1000)
    assert tardy.closed == 2
    assert layer.data.shape[0] == 1 and layer.data.any()
    assert panel.run.status.text() == texts.STOPPED.format(1, 3)


@pytest.mark.parametrize("how", ["shut_down", "deleteLater"])
def test_closing_midway_leaves_no_thread_and_no_tensor(how, tardy, dock, qtbot, viewer):
    panel = SweepPanel(viewer, dock.workbench)
    begun(panel, qtbot, tardy)
    held, chi = tardy.held, weakref.ref(panel.sweep.chi.base)
    getattr(panel, how)()  # the latter is what napari does with a dock that is closed
    qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=3000)
    qtbot.waitUntil(lambda: not layers_of(viewer), timeout=3000)
    viewer.layers.selection.active = viewer.layers[0]
    gc.collect()
    assert held() is None and chi() is None
    assert tardy.closed == 2


def test_what_a_method_refuses_is_said_and_nothing_stays(panel, qtbot, viewer):
    panel._workbench.choose_method("tkd")
    panel.low.setText("0.2")
    panel.high.setText("0.1")
    panel.start()
    qtbot.waitUntil(lambda: panel.sweeping is None, timeout=10_000)
    assert "must rise" in panel.run.status.text()
    assert not layers_of(viewer) and panel.run.button.isEnabled()


def test_a_reconstruction_can_be_made_beside(panel, dock, qtbot):
    assert isinstance(dock, ReconstructWidget)
    swept(panel, qtbot, points=2)
    dock.start()
    assert panel.reason_not_to_run() == texts.BUSY
    qtbot.waitUntil(lambda: dock.workbench.job is None, timeout=10_000)
    qtbot.waitUntil(lambda: dock.layers.settled, timeout=10_000)
    assert panel.reason_not_to_run() == ""
