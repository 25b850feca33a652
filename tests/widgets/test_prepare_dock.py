"""What a user does with the stages in the Prepare dock, and what happens then."""

import gc
import time
import weakref

import numpy as np
import pytest
from superqt.utils import WorkerBase

from napari_qsm.preparation.registry import Place
from napari_qsm.widgets import texts
from napari_qsm.widgets.parameters import ParameterForm
from napari_qsm.widgets.prepare import PrepareWidget
from napari_qsm.workbench.standing import State


@pytest.fixture
def viewer(hands):
    return hands.viewer


@pytest.fixture
def loaded(hands):
    return hands.dock


def test_prepare_makes_every_stage_a_layer_and_shows_the_field_in_its_mask(hands, loaded, viewer):
    hands.prepare()
    assert hands.standing(State.DONE) == set(Place)
    assert hands.names == [
        "magnitude",
        "phase",
        "phase · Toy offset",
        "phase offset",
        "unwrapped phase",
        "total field",
        "R2*",
        "local field · Toy background",
        "mask · Toy mask",
        "mask · after Toy background",
    ]
    visible = {layer.name for layer in viewer.layers if layer.visible}
    assert visible == {"local field · Toy background", "mask · after Toy background"}
    assert "ready" in loaded.run.status.text()
    assert all(row.seconds.text().endswith("s") for row in loaded.rows.values())


def test_only_what_a_change_concerns_runs_again_and_no_layer_is_added(hands, loaded, toys, viewer):
    hands.prepare()
    before, data = list(viewer.layers), {x.name: x.data.copy() for x in viewer.layers}
    toys.LOG.clear()
    row = loaded.rows[Place.FIELD]
    row.fold.click()
    form = row.drawer.findChild(ParameterForm)
    form.controls["scale"].text.setText("2")
    form.controls["scale"].text.editingFinished.emit()
    assert hands.standing(State.STALE) == {Place.FIELD, Place.BACKGROUND}
    assert "◐" in row.mark.text()
    assert loaded.run.status.text() == ""
    assert loaded.run.button.isEnabled()
    hands.prepare()
    assert toys.LOG == ["toy_field", "toy_background"]
    assert list(viewer.layers) == before
    field = "total field"
    assert np.allclose(viewer.layers[field].data, 2 * data[field])


def test_another_stage_gives_its_layers_another_name(hands, loaded):
    hands.prepare()
    row = loaded.rows[Place.MASK]
    row.combo.setCurrentIndex(row.combo.findData("toy_mask_2"))
    row.combo.activated.emit(row.combo.currentIndex())
    hands.prepare()
    assert "mask · Toy mask 2" in hands.names
    assert "mask · Toy mask" not in hands.names


def test_a_place_can_be_left_out(hands, loaded):
    row = loaded.rows[Place.RELAXATION]
    row.combo.setCurrentIndex(row.combo.findText(texts.LEAVE_OUT))
    row.combo.activated.emit(row.combo.currentIndex())
    hands.prepare()
    assert loaded.preparation.complete
    assert not any("R2*" in name for name in hands.names)
    assert "left out" in row.said.text()
    assert loaded.rows[Place.MASK].combo.findText(texts.LEAVE_OUT) == -1


def test_a_failure_is_told_in_its_row(hands, loaded):
    loaded.preparation.set_parameter(Place.UNWRAP, "fails", True)
    hands.prepare()
    row = loaded.rows[Place.UNWRAP]
    assert "told to fail" in row.said.text()
    assert "told to fail" in loaded.run.status.text()
    assert not row.said.isHidden()
    assert "waits for: Unwrapping" in loaded.rows[Place.FIELD].said.text()
    assert not loaded.files.results_button.isEnabled()


def test_cancel_stops_at_once_and_gives_memory_back(hands, loaded, toys, qtbot):
    loaded.preparation.set_parameter(Place.UNWRAP, "pause", 0.05)
    hands.click()
    qtbot.waitUntil(lambda: loaded.preparation.running is Place.UNWRAP, timeout=10_000)
    assert loaded.run.button.text() == texts.CANCEL
    qtbot.waitUntil(lambda: "at work" in loaded.run.status.text(), timeout=5000)
    began = time.perf_counter()
    hands.click()
    qtbot.waitUntil(lambda: not loaded.runner.running, timeout=5000)
    assert time.perf_counter() - began < 0.3
    assert loaded.run.status.text() == texts.CANCELLED
    assert loaded.preparation.standing(Place.UNWRAP).state is State.NOT_RUN
    assert hands.standing(State.DONE) == {Place.MASK, Place.OFFSET}
    assert toys.LOG == toys.CLOSED
    measured = weakref.ref(loaded.preparation.measured)
    loaded.preparation.load(None)
    qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=5000)
    loaded.layers.clear()
    qtbot.waitUntil(lambda: loaded.layers.settled, timeout=5000)
    gc.collect()
    assert measured() is None


def test_a_change_under_a_running_stage_starts_it_anew(hands, loaded, toys, qtbot):
    loaded.preparation.set_parameter(Place.OFFSET, "pause", 0.1)
    hands.click()
    qtbot.waitUntil(lambda: "toy_offset" in toys.LOG, timeout=10_000)
    loaded.preparation.set_parameter(Place.OFFSET, "scale", 3.0)
    qtbot.waitUntil(lambda: not loaded.runner.running, timeout=10_000)
    assert toys.LOG.count("toy_offset") == 2
    assert hands.standing(State.DONE) == set(Place)


def test_taking_the_dock_away_stops_everything(bare, toys, qtbot):
    dock = PrepareWidget(bare.viewer)
    hands = type(bare)(dock, bare.viewer, toys, qtbot)
    hands.simulate(toys.measurement(shape=hands.shape))
    dock.preparation.set_parameter(Place.MASK, "pause", 0.1)
    dock.start()
    hands.wait(lambda: toys.LOG == ["toy_mask"])
    dock.deleteLater()  # what napari does with a dock that is closed
    del dock, hands.dock
    hands.wait(lambda: toys.CLOSED == ["toy_mask"])
    hands.wait(lambda: not WorkerBase._worker_set)
    assert toys.LOG == ["toy_mask"]


def test_the_eye_brings_a_layer_into_sight_and_back(hands, loaded, viewer):
    hands.prepare()
    row = loaded.rows[Place.FIELD]
    row.eye.click()
    field = viewer.layers["total field"]
    assert field.visible
    assert viewer.layers.selection.active is field
    assert not viewer.layers["local field · Toy background"].visible
    assert row.eye.isChecked()
    row.eye.click()
    assert not field.visible
    row.eye.menu().aboutToShow.emit()
    assert [a.text() for a in row.eye.menu().actions()] == ["total field"]
    viewer.layers.remove(field)
    assert row.eye.isHidden()


def test_another_measurement_takes_the_layers_of_the_last_one_away(hands, toys, viewer):
    hands.prepare()
    hands.simulate(toys.measurement(shape=(10, 11, 12)))
    assert hands.names == ["magnitude", "phase"]
    assert viewer.layers[0].data.shape == (3, 12, 11, 10)
    assert hands.standing(State.NOT_RUN) == set(Place)
