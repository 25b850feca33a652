"""What a user does in the Reconstruct dock, and what happens then."""

import gc
import weakref

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtCore import Qt
from superqt.utils import WorkerBase

from napari_qsm.acquisition import Grid, Quantity
from napari_qsm.io.nifti import read_volume, write_volume
from napari_qsm.methods.registry import methods
from napari_qsm.widgets import texts
from napari_qsm.widgets.reconstruct import ReconstructWidget
from napari_qsm.workbench.layers import quantity_of


def choose(dock, key):
    dock.method.combo.setCurrentIndex(dock.method.combo.findData(key))


def click(dock, qtbot):
    qtbot.mouseClick(dock.run.button, Qt.MouseButton.LeftButton)


def finish(dock, qtbot, results=1):
    qtbot.waitUntil(lambda: len(dock.results) == results, timeout=60_000)
    qtbot.waitUntil(lambda: dock.layers.settled, timeout=10_000)


def shown(dock):
    made = (Quantity.CHI, Quantity.RESIDUAL)
    return sum(quantity_of(layer) in made for layer in dock._viewer.layers)


@pytest.mark.parametrize("key", [k for k, m in methods().items() if m.orientations == 1])
def test_clicking_run_brings_the_maps_as_layers(dock, qtbot, viewer, add, brain, key):
    choose(dock, key)
    wanted = methods()[key]
    for quantity in {*wanted.needs, *wanted.one_of[:1]} - {Quantity.LOCAL_FIELD}:
        rate = np.random.default_rng(1).uniform(15, 25, brain.shape).astype(np.float32)
        add(viewer, rate * brain, quantity)
    qtbot.waitUntil(dock.run.button.isEnabled, timeout=10_000)
    click(dock, qtbot)
    finish(dock, qtbot)
    chi = next(layer for layer in viewer.layers if quantity_of(layer) is Quantity.CHI)
    assert chi is viewer.layers[-1]
    assert tuple(chi.contrast_limits) == Quantity.CHI.window
    assert np.allclose(chi.scale, (1.5, 1, 1))  # S, A, R in mm
    assert chi.metadata["qsm"]["provenance"].method == key
    assert dock.run.button.text() == texts.RUN
    assert viewer.canvas.grid.enabled


def test_run_says_why_it_cannot(viewer, qtbot):
    for layer in list(viewer.layers):
        viewer.layers.remove(layer)
    dock = ReconstructWidget(viewer)
    qtbot.addWidget(dock, before_close_func=lambda w: w.shut_down())
    qtbot.waitUntil(lambda: dock.run.status.text() != "", timeout=5000)
    assert not dock.run.button.isEnabled()
    assert "local field" in dock.run.status.text()


def test_a_mask_of_another_shape_is_refused_in_words(dock, qtbot, viewer, add, brain):
    odd = Grid((24, 28, 19), dock.workbench.understanding.acquisition.grid.affine)
    wrong = add(viewer, brain[..., :19], Quantity.MASK, name="cut", on=odd)
    dock.inputs.roles["mask"].choose(wrong)
    qtbot.waitUntil(lambda: not dock.run.button.isEnabled(), timeout=5000)
    assert "(24, 28, 19)" in dock.findings.text()
    assert "mask" in dock.run.status.text().lower()


def test_a_corrected_b0_direction_is_used(dock, qtbot):
    for edit, text in zip(dock.inputs.direction.edits, ("0", "1", "1"), strict=True):
        edit.setText(text)
    dock.inputs.direction.edits[0].editingFinished.emit()

    def corrected():
        acquisition = dock.workbench.understanding.acquisition
        return acquisition and acquisition.grid.b0_direction[1] > 0.7

    qtbot.waitUntil(corrected, timeout=5000)


def test_run_turns_into_cancel_and_cancel_frees_everything(slow, dock_with_slow, qtbot):
    dock = dock_with_slow
    click(dock, qtbot)
    qtbot.waitUntil(lambda: slow.held is not None, timeout=5000)
    assert dock.run.button.text() == texts.CANCEL
    qtbot.waitUntil(lambda: dock.run.bar.value() > 0, timeout=5000)
    click(dock, qtbot)
    qtbot.waitUntil(lambda: dock.workbench.job is None, timeout=5000)
    assert dock.run.status.text() == "Cancelled."
    assert slow.closed
    qtbot.waitUntil(lambda: shown(dock) == 0, timeout=5000)  # an unfinished estimate is no result
    qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=5000)
    gc.collect()
    assert slow.held() is None


def test_a_finished_job_holds_no_memory_either(slow, dock_with_slow, qtbot):
    dock = dock_with_slow
    dock.workbench.set_parameter("steps", 3)
    click(dock, qtbot)
    finish(dock, qtbot)
    qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=5000)
    gc.collect()
    assert slow.held() is None


def test_previews_appear_only_when_wanted(slow, dock_with_slow, qtbot, viewer):
    dock = dock_with_slow
    dock.run.preview.setChecked(False)
    click(dock, qtbot)
    qtbot.waitUntil(lambda: dock.run.bar.value() > 20, timeout=10_000)
    assert shown(dock) == 0
    dock.run.preview.setChecked(True)

    def growing():
        return any(
            isinstance(x, Image) and "running" in x.name and x.data.any() for x in viewer.layers
        )

    qtbot.waitUntil(growing, timeout=10_000)
    dock.cancel()


def test_taking_the_dock_away_stops_the_job(slow, viewer, qtbot):
    dock = ReconstructWidget(viewer)
    choose(dock, "slow")
    qtbot.waitUntil(lambda: not dock.workbench.reason_not_to_run(), timeout=10_000)
    dock.start()
    qtbot.waitUntil(lambda: slow.held is not None, timeout=5000)
    assert any("running" in layer.name for layer in viewer.layers)
    dock.deleteLater()  # what napari does with a dock that is closed
    qtbot.waitUntil(lambda: slow.closed, timeout=2000)
    assert not any("running" in layer.name for layer in viewer.layers)


@pytest.fixture
def dock_with_slow(slow, viewer, qtbot):
    made = ReconstructWidget(viewer)
    qtbot.addWidget(made, before_close_func=lambda w: w.shut_down())
    choose(made, "slow")
    qtbot.waitUntil(lambda: not made.workbench.reason_not_to_run(), timeout=10_000)
    return made


def test_a_reference_brings_an_error_map_and_a_figure(dock, qtbot, viewer, add, brain):
    truth = add(viewer, brain * 0.05, Quantity.CHI, name="truth")
    dock.inputs.roles["reference"].choose(truth)
    choose(dock, "tkd")
    qtbot.waitUntil(lambda: dock.workbench.inputs.reference is not None, timeout=5000)
    qtbot.waitUntil(lambda: not dock.workbench.reason_not_to_run(), timeout=5000)
    click(dock, qtbot)
    qtbot.waitUntil(
        lambda: any(quantity_of(x) is Quantity.ERROR for x in viewer.layers), timeout=10_000
    )
    assert "NRMSE" in dock.run.status.text()


def test_saved_maps_lie_on_the_grid_of_the_field_and_are_not_overwritten(
    dock, qtbot, tmp_path, grid, monkeypatch
):
    choose(dock, "tkd")
    click(dock, qtbot)
    finish(dock, qtbot)
    dock.save(tmp_path)
    qtbot.waitUntil(lambda: len(list(tmp_path.glob("[!.]*"))) == 4, timeout=5000)  # sidecars, too
    volume = read_volume(next(tmp_path.glob("*Chimap.nii.gz")))
    assert np.array_equal(volume.grid.affine, grid.affine)
    assert volume.data.shape == grid.shape
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    asked = []
    monkeypatch.setattr(
        "napari_qsm.widgets.saving.QMessageBox.question", lambda *a: asked.append(a)
    )
    dock.save(tmp_path)
    qtbot.waitUntil(lambda: bool(asked), timeout=5000)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_painting_on_the_mask_counts_at_the_next_run(dock, qtbot, viewer):
    mask = next(x for x in viewer.layers if quantity_of(x) is Quantity.MASK)
    mask.data[: mask.data.shape[0] // 2] = 0
    choose(dock, "tkd")
    click(dock, qtbot)
    finish(dock, qtbot)
    chi = viewer.layers[-1].data
    assert not chi[: chi.shape[0] // 2].any()
    assert chi[chi.shape[0] // 2 :].any()


def test_parameters_are_remembered_per_method_and_reset(dock):
    choose(dock, "tkd")
    threshold = dock.method.form.controls["threshold"]
    assert threshold.value is None  # chosen from the data until somebody takes it over
    threshold.auto.click()
    threshold.control.text.setText("0.25")
    threshold.control.text.editingFinished.emit()
    choose(dock, "tv")
    choose(dock, "tkd")
    assert dock.method.form.controls["threshold"].value == 0.25
    assert dock.workbench.parameters.threshold == 0.25
    dock.method.reset_button.click()
    assert dock.method.form.controls["threshold"].value is None
    assert dock.workbench.parameters.threshold is None


def test_a_file_opened_for_a_role_is_chosen_for_it(dock, qtbot, tmp_path, grid, brain):
    magnitude = np.random.default_rng(0).uniform(1, 2, (*grid.shape, 2)).astype(np.float32)
    path = write_volume(tmp_path / "whatever.nii.gz", magnitude, grid)
    dock.open_file(path, "magnitude")
    qtbot.waitUntil(lambda: dock.inputs.roles["magnitude"].layer is not None, timeout=5000)
    assert dock.inputs.roles["magnitude"].layer.name == "whatever"
    qtbot.waitUntil(lambda: dock.workbench.inputs.magnitude is not None, timeout=5000)


def test_a_file_that_cannot_be_read_is_refused_in_a_sentence(dock, qtbot, tmp_path):
    path = tmp_path / "broken.nii.gz"
    path.write_bytes(b"no image")
    dock.open_file(path, "field")
    qtbot.waitUntil(lambda: "broken.nii.gz" in dock.run.status.text(), timeout=5000)


def test_a_layer_that_cannot_be_placed_disables_run_and_says_why(dock, qtbot, viewer):
    mirrored = Image(np.ones((20, 28, 24)), scale=(1, 1, -1), name="mirrored")
    dock.inputs.roles["magnitude"].choose(viewer.add_layer(mirrored))
    qtbot.waitUntil(lambda: "mirrored" in dock.findings.text(), timeout=5000)
    assert not dock.run.button.isEnabled()


def test_results_live_as_long_as_their_layers(dock, qtbot, viewer):
    choose(dock, "tkd")
    click(dock, qtbot)
    finish(dock, qtbot)
    maps = weakref.ref(viewer.layers[-1].metadata["qsm"]["maps"])
    viewer.layers.selection.active = viewer.layers[0]  # napari itself keeps the selected layer
    for layer in list(viewer.layers):
        if quantity_of(layer) in (Quantity.CHI, Quantity.RESIDUAL):
            viewer.layers.remove(layer)
    del layer
    qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=5000)
    gc.collect()
    assert maps() is None


def test_a_painted_region_becomes_the_zero_of_susceptibility(dock, qtbot, viewer):
    field = next(x for x in viewer.layers if quantity_of(x) is Quantity.LOCAL_FIELD)
    mask = next(x for x in viewer.layers if quantity_of(x) is Quantity.MASK)
    painted = np.zeros(field.data.shape, np.uint8)
    painted[: len(painted) // 2] = 1
    region = viewer.add_labels(painted, name="region", scale=field.scale, translate=field.translate)
    dock.inputs.zero.combo.setCurrentIndex(dock.inputs.zero.combo.findData("roi"))
    assert dock.inputs.zero.maps["roi"].isVisibleTo(dock)
    dock.inputs.zero.maps["roi"].choose(region)
    qtbot.waitUntil(lambda: dock.workbench.inputs.zero_map is not None, timeout=5000)
    qtbot.waitUntil(lambda: not dock.workbench.reason_not_to_run(), timeout=5000)
    choose(dock, "tkd")
    click(dock, qtbot)
    finish(dock, qtbot)
    chi = next(x for x in viewer.layers if quantity_of(x) is Quantity.CHI)
    inside = (painted > 0) & (np.asarray(mask.data) > 0)
    assert abs(np.asarray(chi.data)[inside].mean()) < 1e-5
    assert any("labelled voxels" in n for n in chi.metadata["qsm"]["notes"])
