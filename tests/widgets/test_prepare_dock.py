"""What a user does in the Prepare dock, and what happens then."""

import gc
import time
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from superqt.utils import WorkerBase

from napari_qsm.acquisition import InputError, Quantity
from napari_qsm.io.importer import Measurement
from napari_qsm.preparation.registry import Place
from napari_qsm.process import Step
from napari_qsm.widgets import texts
from napari_qsm.widgets.prepare import PrepareWidget
from napari_qsm.widgets.reconstruct import ReconstructWidget
from napari_qsm.workbench.layers import facts_of, quantity_of
from napari_qsm.workbench.preparation import Preparation
from napari_qsm.workbench.stage_layers import is_prepared
from napari_qsm.workbench.standing import State

SHAPE = (20, 22, 18)


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def dock(viewer, toys, qtbot, monkeypatch):
    """The dock with toys for stages and nothing opened."""
    recipe = toys.recipe()
    monkeypatch.setattr("napari_qsm.widgets.prepare.Preparation", lambda: Preparation(recipe))
    made = PrepareWidget(viewer)
    qtbot.addWidget(made, before_close_func=lambda w: w.shut_down())
    yield made
    made.shut_down()
    WorkerBase.await_workers(10_000)


@pytest.fixture
def loaded(dock, toys, qtbot):
    """The dock with a raw measurement on show."""
    simulate(dock, toys.measurement(shape=SHAPE), qtbot)
    return dock


def simulate(dock, measurement, qtbot):
    dock.simulate(lambda: measurement, "toy")
    qtbot.waitUntil(lambda: dock.preparation.measured is measurement, timeout=10_000)
    qtbot.waitUntil(lambda: dock.layers.settled, timeout=10_000)


def click(dock, qtbot):
    qtbot.mouseClick(dock.run.button, Qt.MouseButton.LeftButton)


def prepare(dock, qtbot):
    click(dock, qtbot)
    qtbot.waitUntil(lambda: not dock.runner.running, timeout=30_000)
    qtbot.waitUntil(lambda: dock.layers.settled, timeout=10_000)
    qtbot.wait(20)


def standing(dock, state):
    return {p for p in Place if dock.preparation.standing(p).state is state}


def names(viewer):
    return [layer.name for layer in viewer.layers]


def understood(reconstruct):
    return reconstruct.workbench.understanding.acquisition is not None


class FakeSource:
    """A source of toys, with what the importer promises."""

    def __init__(self, toys, count=1, wrong=False):
        self.measurements = tuple(
            Measurement(f"run-{k + 1}", f"{k + 2} echoes, toy scanner") for k in range(count)
        )
        self.notes = ("A localizer was left aside.",)
        self.toys, self.wrong, self.closed, self.asked = toys, wrong, False, []

    def load(self, measurement, corrections):
        self.asked.append((measurement, corrections))
        if self.wrong and not corrections.echo_times:
            raise InputError("No echo times are stated; type them.")
        return self.toys.measurement(shape=SHAPE, echoes=self.measurements.index(measurement) + 2)

    def close(self):
        self.closed = True


def opening(monkeypatch, source, pause=0.0):
    def open_source(paths):
        for k in range(20):
            time.sleep(pause)
            yield Step(k / 20, "looking")
        return source

    monkeypatch.setattr("napari_qsm.widgets.source_reader.open_source", open_source)
    return source


# -- source ---------------------------------------------------------------------------------


def test_opening_a_folder_shows_echoes_on_a_slider_and_what_was_understood(
    dock, toys, viewer, qtbot, monkeypatch, tmp_path
):
    opening(monkeypatch, FakeSource(toys))
    dock.open([tmp_path])
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=10_000)
    qtbot.waitUntil(lambda: dock.layers.settled, timeout=10_000)
    assert names(viewer) == ["magnitude", "phase"]
    assert viewer.dims.axis_labels == ("echo", "S", "A", "R")
    assert viewer.dims.point[0] == 0
    assert [layer.visible for layer in viewer.layers] == [True, False]
    assert dock.source.corrections.echo_times.placeholderText() == "4, 8"
    assert "toy scanner" in dock.source.summary.text()
    assert dock.run.button.isEnabled()
    dock.findings.linkActivated.emit("notes")
    assert "localizer" in dock.findings.text()


def test_of_several_measurements_the_user_chooses(dock, toys, viewer, qtbot, monkeypatch, tmp_path):
    source = opening(monkeypatch, FakeSource(toys, count=3))
    dock.open([tmp_path])
    qtbot.waitUntil(lambda: not dock.source.measurement.isHidden(), timeout=10_000)
    assert not source.asked
    assert "3 measurements" in dock.run.status.text()
    dock.source.measurement.setCurrentIndex(1)
    dock.source.measurement.activated.emit(1)
    qtbot.waitUntil(lambda: dock.preparation.measured is not None, timeout=10_000)
    assert source.asked[0][0].name == "run-2"
    assert len(dock.preparation.measured.echo_times) == 3


def test_a_correction_reads_the_same_measurement_again(
    dock, toys, viewer, qtbot, monkeypatch, tmp_path
):
    source = opening(monkeypatch, FakeSource(toys, wrong=True))
    dock.open([tmp_path])
    qtbot.waitUntil(lambda: "No echo times" in dock.findings.text(), timeout=10_000)
    assert not dock.run.button.isEnabled()
    dock.source.corrections.echo_times.setText("5; 10")
    dock.source.corrections.echo_times.editingFinished.emit()
    qtbot.waitUntil(lambda: dock.preparation.measured is not None, timeout=10_000)
    assert source.asked[-1][1].echo_times == (0.005, 0.010)
    prepare(dock, qtbot)
    assert standing(dock, State.DONE) == set(Place)
    before = list(viewer.layers)
    dock.source.corrections.flip.click()
    qtbot.waitUntil(lambda: standing(dock, State.STALE) == set(Place), timeout=10_000)
    qtbot.waitUntil(lambda: dock.layers.settled, timeout=10_000)
    assert list(viewer.layers) == before  # exchanged in place


def test_opening_can_be_cancelled_and_leaves_nothing(dock, toys, qtbot, monkeypatch, tmp_path):
    opening(monkeypatch, FakeSource(toys), pause=0.05)
    dock.open([tmp_path])
    qtbot.waitUntil(lambda: dock.run.bar.value() > 0, timeout=5000)
    assert dock.run.button.text() == texts.CANCEL
    click(dock, qtbot)
    qtbot.waitUntil(lambda: dock.reader.job is None, timeout=5000)
    assert dock.run.button.text() == texts.PREPARE
    assert dock.reader.source is None


def test_a_source_is_closed_when_another_comes_and_when_the_dock_goes(
    dock, toys, qtbot, monkeypatch, tmp_path
):
    first = opening(monkeypatch, FakeSource(toys))
    dock.open([tmp_path])
    qtbot.waitUntil(lambda: dock.preparation.measured is not None, timeout=10_000)
    second = opening(monkeypatch, FakeSource(toys))
    dock.open([tmp_path])
    qtbot.waitUntil(lambda: dock.reader.source is second, timeout=10_000)
    assert first.closed
    dock.shut_down()
    assert second.closed


def test_what_cannot_be_opened_is_told(dock, qtbot, tmp_path):
    before = dock.run.status.text()
    dock.open([tmp_path / "missing"])
    qtbot.waitUntil(lambda: dock.reader.job is None, timeout=10_000)
    assert dock.run.status.text() != before
    assert not dock.run.button.isEnabled()


def test_a_dropped_folder_is_opened(dock, monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(dock, "open", opened.append)
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path))])
    event = QDropEvent(
        QPointF(5, 5),
        Qt.DropAction.CopyAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    dock.dropEvent(event)
    assert opened == [[tmp_path]]


# -- stages ---------------------------------------------------------------------------------


def test_prepare_makes_every_stage_a_layer_and_shows_the_field_in_its_mask(loaded, viewer, qtbot):
    prepare(loaded, qtbot)
    assert standing(loaded, State.DONE) == set(Place)
    assert names(viewer) == [
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


def test_only_what_a_change_concerns_runs_again_and_no_layer_is_added(loaded, toys, viewer, qtbot):
    prepare(loaded, qtbot)
    before, data = list(viewer.layers), {x.name: x.data.copy() for x in viewer.layers}
    toys.LOG.clear()
    row = loaded.rows[Place.FIELD]
    row.fold.click()
    row.drawer.findChild(type(row.drawer.findChildren(object)[0]))
    form = next(w for w in row.drawer.children() if hasattr(w, "controls"))
    form.controls["scale"].text.setText("2")
    form.controls["scale"].text.editingFinished.emit()
    assert standing(loaded, State.STALE) == {Place.FIELD, Place.BACKGROUND}
    assert "◐" in row.mark.text()
    assert loaded.run.button.isEnabled()
    prepare(loaded, qtbot)
    assert toys.LOG == ["toy_field", "toy_background"]
    assert list(viewer.layers) == before
    field = "total field"
    assert np.allclose(viewer.layers[field].data, 2 * data[field])


def test_another_stage_gives_its_layers_another_name(loaded, viewer, qtbot):
    prepare(loaded, qtbot)
    row = loaded.rows[Place.MASK]
    row.combo.setCurrentIndex(row.combo.findData("toy_mask_2"))
    row.combo.activated.emit(row.combo.currentIndex())
    prepare(loaded, qtbot)
    assert "mask · Toy mask 2" in names(viewer)
    assert "mask · Toy mask" not in names(viewer)


def test_a_place_can_be_left_out(loaded, viewer, qtbot):
    row = loaded.rows[Place.RELAXATION]
    row.combo.setCurrentIndex(row.combo.findText(texts.LEAVE_OUT))
    row.combo.activated.emit(row.combo.currentIndex())
    prepare(loaded, qtbot)
    assert loaded.preparation.complete
    assert not any("R2*" in name for name in names(viewer))
    assert "left out" in row.said.text()
    assert loaded.rows[Place.MASK].combo.findText(texts.LEAVE_OUT) == -1


def test_a_failure_is_told_in_its_row(loaded, viewer, qtbot):
    loaded.preparation.set_parameter(Place.UNWRAP, "fails", True)
    prepare(loaded, qtbot)
    row = loaded.rows[Place.UNWRAP]
    assert "told to fail" in row.said.text()
    assert not row.said.isHidden()
    assert "waits for: Unwrapping" in loaded.rows[Place.FIELD].said.text()
    assert not loaded.files.results_button.isEnabled()


def test_cancel_stops_at_once_and_gives_memory_back(loaded, toys, qtbot):
    loaded.preparation.set_parameter(Place.UNWRAP, "pause", 0.05)
    click(loaded, qtbot)
    qtbot.waitUntil(lambda: loaded.preparation.running is Place.UNWRAP, timeout=10_000)
    assert loaded.run.button.text() == texts.CANCEL
    qtbot.waitUntil(lambda: "at work" in loaded.run.status.text(), timeout=5000)
    began = time.perf_counter()
    click(loaded, qtbot)
    qtbot.waitUntil(lambda: not loaded.runner.running, timeout=5000)
    assert time.perf_counter() - began < 0.3
    assert loaded.run.status.text() == texts.CANCELLED
    assert loaded.preparation.standing(Place.UNWRAP).state is State.NOT_RUN
    assert standing(loaded, State.DONE) == {Place.MASK, Place.OFFSET}
    assert toys.LOG == toys.CLOSED
    measured = weakref.ref(loaded.preparation.measured)
    loaded.preparation.load(None)
    qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=5000)
    loaded.layers.clear()
    qtbot.waitUntil(lambda: loaded.layers.settled, timeout=5000)
    gc.collect()
    assert measured() is None


def test_a_change_under_a_running_stage_starts_it_anew(loaded, toys, qtbot):
    loaded.preparation.set_parameter(Place.OFFSET, "pause", 0.1)
    click(loaded, qtbot)
    qtbot.waitUntil(lambda: "toy_offset" in toys.LOG, timeout=10_000)
    loaded.preparation.set_parameter(Place.OFFSET, "scale", 3.0)
    qtbot.waitUntil(lambda: not loaded.runner.running, timeout=10_000)
    assert toys.LOG.count("toy_offset") == 2
    assert standing(loaded, State.DONE) == set(Place)


def test_taking_the_dock_away_stops_everything(toys, viewer, qtbot, monkeypatch):
    recipe = toys.recipe()
    monkeypatch.setattr("napari_qsm.widgets.prepare.Preparation", lambda: Preparation(recipe))
    dock = PrepareWidget(viewer)
    simulate(dock, toys.measurement(), qtbot)
    dock.preparation.set_parameter(Place.MASK, "pause", 0.1)
    dock.start()
    qtbot.waitUntil(lambda: toys.LOG == ["toy_mask"], timeout=5000)
    dock.deleteLater()  # what napari does with a dock that is closed
    qtbot.waitUntil(lambda: toys.CLOSED == ["toy_mask"], timeout=5000)
    qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=5000)
    assert toys.LOG == ["toy_mask"]


def test_the_eye_brings_a_layer_into_sight_and_back(loaded, viewer, qtbot):
    prepare(loaded, qtbot)
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


def test_another_measurement_takes_the_layers_of_the_last_one_away(loaded, toys, viewer, qtbot):
    prepare(loaded, qtbot)
    simulate(loaded, toys.measurement(shape=(10, 11, 12)), qtbot)
    assert names(viewer) == ["magnitude", "phase"]
    assert viewer.layers[0].data.shape == (3, 12, 11, 10)
    assert standing(loaded, State.NOT_RUN) == set(Place)


# -- masks ----------------------------------------------------------------------------------


def painted(viewer, first=6):
    """A Labels layer as napari makes one on top of echoes."""
    beside = viewer.layers["magnitude"]
    data = np.zeros(beside.data.shape[1:], np.uint8)
    data[first:] = 1
    return viewer.add_layer(
        Labels(data, scale=beside.scale[1:], translate=beside.translate[1:], name="mine")
    )


def test_a_painted_mask_goes_first_untouched_and_painting_on_makes_stale(loaded, viewer, qtbot):
    mine = painted(viewer)
    before = mine.data.copy()
    loaded.source.mask.choose(mine)
    qtbot.waitUntil(lambda: loaded.preparation.own_mask, timeout=5000)
    prepare(loaded, qtbot)
    assert np.array_equal(mine.data, before)
    assert not any(name.startswith("mask · Toy mask") for name in names(viewer))
    assert "your own mask" in loaded.rows[Place.MASK].title.toolTip().lower()
    mine.fill((7, 3, 3), 0)
    qtbot.waitUntil(
        lambda: loaded.preparation.standing(Place.BACKGROUND).state is State.STALE, timeout=5000
    )
    assert loaded.preparation.standing(Place.OFFSET).state is State.DONE
    loaded.source.mask.choose(None)
    qtbot.waitUntil(lambda: not loaded.preparation.own_mask, timeout=5000)


def test_a_mask_of_another_shape_is_refused_and_nothing_runs(loaded, viewer, qtbot):
    wrong = viewer.add_layer(Labels(np.ones((4, 5, 6), np.uint8), name="wrong"))
    loaded.source.mask.choose(wrong)
    qtbot.waitUntil(lambda: "shape" in loaded.findings.text(), timeout=5000)
    assert not loaded.run.button.isEnabled()
    loaded.source.mask.choose(None)
    qtbot.waitUntil(lambda: loaded.run.button.isEnabled(), timeout=5000)
    assert "shape" not in loaded.findings.text()


def test_editing_copies_the_brain_mask_and_leaves_that_of_the_stage_alone(loaded, viewer, qtbot):
    assert not loaded.source.edit.isEnabled()
    prepare(loaded, qtbot)
    made = viewer.layers["mask · Toy mask"]
    before = made.data.copy()
    loaded.source.edit.click()
    copy = viewer.layers[texts.EDITED_MASK]
    assert np.array_equal(copy.data, before)
    assert loaded.source.mask.layer is copy
    qtbot.waitUntil(lambda: loaded.preparation.own_mask, timeout=5000)
    copy.fill((0, 0, 0), 0)
    prepare(loaded, qtbot)
    assert loaded.preparation.made[Place.MASK].maps.provenance.method == "given"


# -- what comes of it -----------------------------------------------------------------------


@pytest.fixture
def reconstruct(viewer, qtbot):
    made = ReconstructWidget(viewer)
    qtbot.addWidget(made, before_close_func=lambda w: w.shut_down())
    yield made
    made.shut_down()
    WorkerBase.await_workers(10_000)


def test_the_field_flows_to_reconstruct_without_a_click(loaded, reconstruct, viewer, qtbot):
    prepare(loaded, qtbot)
    roles = reconstruct.inputs.roles
    assert roles["field"].layer.name == "local field · Toy background"
    assert roles["mask"].layer.name == "mask · after Toy background"
    assert roles["magnitude"].layer.name == "magnitude"
    qtbot.waitUntil(lambda: understood(reconstruct), timeout=10_000)
    acquisition = reconstruct.workbench.understanding.acquisition
    assert [p.method for p in acquisition.history] == [
        loaded.preparation.recipe.choice(place).use for place in Place
    ]
    assert np.array_equal(
        acquisition.mask, loaded.preparation.made[Place.BACKGROUND].maps[Quantity.MASK]
    )


def test_a_rerun_updates_what_reconstruct_holds(loaded, reconstruct, viewer, qtbot):
    prepare(loaded, qtbot)
    qtbot.waitUntil(lambda: understood(reconstruct), timeout=10_000)
    loaded.preparation.set_parameter(Place.BACKGROUND, "scale", 3.0)
    prepare(loaded, qtbot)

    def told():
        acquisition = reconstruct.workbench.understanding.acquisition
        return bool(acquisition) and acquisition.history[-1].parameters["scale"] == 3.0

    qtbot.waitUntil(told, timeout=10_000)
    made = loaded.preparation.made[Place.BACKGROUND].maps[Quantity.LOCAL_FIELD]
    acquisition = reconstruct.workbench.understanding.acquisition
    assert np.allclose(acquisition[Quantity.LOCAL_FIELD], made)


def test_a_choice_of_the_users_is_left_alone(loaded, reconstruct, viewer, qtbot):
    mine = painted(viewer)
    combo = reconstruct.inputs.roles["mask"].combo
    combo.setCurrentIndex(combo.findText("mine"))
    combo.activated.emit(combo.currentIndex())
    prepare(loaded, qtbot)
    assert reconstruct.inputs.roles["mask"].layer is mine
    assert reconstruct.inputs.roles["field"].layer is not None


def test_only_the_newest_masks_and_fields_are_marked(loaded, viewer, qtbot):
    prepare(loaded, qtbot)
    marked = {layer.name for layer in viewer.layers if is_prepared(layer)}
    assert marked == {"local field · Toy background", "mask · after Toy background", "magnitude"}
    field = viewer.layers["local field · Toy background"]
    assert quantity_of(field) is Quantity.LOCAL_FIELD
    assert facts_of(field)["history"][-1].method == "toy_background"


def test_a_preset_holds_both_docks(loaded, reconstruct, toys, qtbot, tmp_path):
    loaded.preparation.set_parameter(Place.FIELD, "scale", 2.0)
    reconstruct.workbench.choose_method("tkd")
    reconstruct.workbench.set_parameter("threshold", 0.3)
    reconstruct.inputs.zero.choose("csf")
    path = tmp_path / "mine.toml"
    loaded.files.save_preset(path)
    loaded.preparation.reset_parameters(Place.FIELD)
    reconstruct.workbench.choose_method("tv")
    reconstruct.inputs.zero.choose("mask")
    loaded.files.load_preset(path)
    assert loaded.preparation.parameters(Place.FIELD).scale == 2.0
    assert loaded.rows[Place.FIELD].combo.currentData() == "toy_field"
    assert reconstruct.method.combo.currentData() == "tkd"
    assert reconstruct.workbench.parameters.threshold == 0.3
    assert reconstruct.inputs.zero.key == "csf"


def test_a_broken_preset_is_refused_in_a_sentence(loaded, tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("[mask]\nuse = 'nonsense'\n")
    before = loaded.preparation.recipe
    loaded.files.load_preset(path)
    assert "nonsense" in loaded.run.status.text()
    assert loaded.preparation.recipe is before


def test_results_are_saved_with_their_recipe(loaded, qtbot, tmp_path):
    prepare(loaded, qtbot)
    assert loaded.files.results_button.isEnabled()
    loaded.files.save(tmp_path)
    qtbot.waitUntil(lambda: "Saved" in loaded.run.status.text(), timeout=10_000)
    written = {path.name for path in tmp_path.iterdir()}
    assert "toy_desc-local_fieldmap.nii.gz" in written
    assert any(name.endswith(".toml") for name in written)
