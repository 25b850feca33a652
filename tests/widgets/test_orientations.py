"""Several orientations of a head in the window."""

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from scipy.spatial.transform import Rotation
from superqt.utils import WorkerBase

from napari_qsm.acquisition import Grid, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.training.phantom import orientations, sample_head
from napari_qsm.widgets import orientations as panel
from napari_qsm.widgets.reconstruct import ReconstructWidget
from napari_qsm.workbench.layers import grid_of, quantity_of

TURNS = [Rotation.from_euler(axis, 25, degrees=True) for axis in "xy"]


@pytest.fixture(scope="module")
def head():
    return orientations(sample_head("healthy", 4.0), [turn.apply((0, 0, 1)) for turn in TURNS])


@pytest.fixture
def three(head, add, qtbot):
    """The dock on a viewer that holds three registered fields, a mask and the true map."""
    viewer, first = ViewerModel(), head.acquisition
    grid = Grid(first.grid.shape, first.grid.affine)
    for number, one in enumerate((first, *first.others), start=1):
        add(viewer, one[Quantity.LOCAL_FIELD], Quantity.LOCAL_FIELD, name=f"f{number}", on=grid)
    add(viewer, first.mask, Quantity.MASK, on=grid)
    add(viewer, head.truth[Quantity.CHI], Quantity.CHI, name="truth", on=grid)
    dock = ReconstructWidget(viewer)
    qtbot.addWidget(dock, before_close_func=lambda w: w.shut_down())
    qtbot.waitUntil(lambda: not dock.workbench.reason_not_to_run(), timeout=10_000)
    yield dock
    WorkerBase.await_workers(10_000)


def add_field(dock, name):
    dock.inputs.orientations.add_button.click()
    row = dock.inputs.orientations.rows[-1]
    row.choice.choose(dock._viewer.layers[name])
    return row


def state(row, direction):
    for edit, part in zip(row.direction.edits, direction, strict=True):
        edit.setText(f"{part:.6f}")
    row.direction.edits[0].editingFinished.emit()


def both(dock):
    for name, turn in zip(("f2", "f3"), TURNS, strict=True):
        state(add_field(dock, name), turn.apply((0, 0, 1)))


def choose(dock, key):
    dock.method.combo.setCurrentIndex(dock.method.combo.findData(key))


def understood(dock, qtbot, count):
    def there():
        acquisition = dock.workbench.understanding.acquisition
        return acquisition is not None and len(acquisition.others) == count

    qtbot.waitUntil(there, timeout=10_000)


def reconstruct(dock, qtbot, key, results=1):
    choose(dock, key)
    qtbot.waitUntil(dock.run.button.isEnabled, timeout=10_000)
    qtbot.mouseClick(dock.run.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: len(dock.results) == results, timeout=60_000)
    qtbot.waitUntil(lambda: dock.layers.settled, timeout=10_000)
    return [x for x in dock._viewer.layers if quantity_of(x) is Quantity.CHI][-1]


def test_cosmos_waits_for_more_orientations(three, qtbot):
    choose(three, "cosmos")
    qtbot.waitUntil(lambda: not three.run.button.isEnabled(), timeout=5000)
    assert "needs a head in 2 orientations at least" in three.run.status.text()
    both(three)
    qtbot.waitUntil(three.run.button.isEnabled, timeout=10_000)


def test_clicking_run_with_three_fields_brings_the_map(three, head, qtbot):
    both(three)
    understood(three, qtbot, 2)
    chi = reconstruct(three, qtbot, "cosmos")
    provenance = chi.metadata["qsm"]["provenance"]
    assert provenance.method == "cosmos"
    assert "local_field@3" in provenance.inputs
    maps = chi.metadata["qsm"]["maps"]
    assert nrmse(maps[Quantity.CHI], head.truth[Quantity.CHI], head.acquisition.mask) < 30


def test_a_map_of_cosmos_is_a_reference_for_others(three, qtbot):
    both(three)
    understood(three, qtbot, 2)
    made = reconstruct(three, qtbot, "cosmos")
    reference = three.inputs.roles["reference"]
    reference.choose(made)
    assert reference.layer is made
    qtbot.waitUntil(lambda: three.workbench.inputs.reference is not None, timeout=5000)
    compared = reconstruct(three, qtbot, "tkd", results=2)
    maps = compared.metadata["qsm"]["maps"]
    cosmos = made.metadata["qsm"]["maps"]
    assert Quantity.ERROR in maps
    inside = three.workbench.understanding.acquisition.mask
    error = nrmse(maps[Quantity.CHI], cosmos[Quantity.CHI], inside)
    notes = maps.provenance.notes
    assert f"NRMSE to 'cosmos reconstruction' is {error:.1f} % (means removed)." in notes
    assert any("TKD inverts one orientation of a head: the first of the 3" in n for n in notes)


def test_the_verdict_follows_the_directions(three, qtbot):
    verdict = three.inputs.orientations.verdict
    assert verdict.isHidden()
    first, second = add_field(three, "f2"), add_field(three, "f3")
    qtbot.waitUntil(lambda: verdict.text() == panel.ALIKE, timeout=5000)
    assert panel.COLOURS["none"] in verdict.styleSheet()
    state(first, TURNS[0].apply((0, 0, 1)))
    state(second, TURNS[1].apply((0, 0, 1)))
    qtbot.waitUntil(lambda: "min ΣD² = 0.040" in verdict.text(), timeout=5000)
    assert panel.COLOURS["poor"] in verdict.styleSheet()
    state(first, Rotation.from_euler("y", 60, degrees=True).apply((0, 0, 1)))
    state(second, Rotation.from_euler("y", 120, degrees=True).apply((0, 0, 1)))
    qtbot.waitUntil(lambda: "min ΣD² = 0.111" in verdict.text(), timeout=5000)
    assert panel.COLOURS["good"] in verdict.styleSheet()


def test_the_same_direction_in_all_is_an_error_in_words(three, qtbot):
    add_field(three, "f2")
    qtbot.waitUntil(lambda: not three.run.button.isEnabled(), timeout=5000)
    qtbot.waitUntil(lambda: "state the direction of each" in three.findings.text(), timeout=5000)


def test_a_poor_set_is_warned_of(three, qtbot):
    both(three)
    qtbot.waitUntil(lambda: "tilt the head further" in three.findings.text(), timeout=10_000)


def test_a_registration_fills_the_boxes(three, qtbot, tmp_path):
    np.savetxt(tmp_path / "r2.txt", TURNS[0].as_matrix())
    row = add_field(three, "f2")
    qtbot.waitUntil(lambda: three.inputs.orientations._grid is not None, timeout=5000)
    row.matrix_wanted.emit(tmp_path / "r2.txt")
    layer = three._viewer.layers["f1"]
    axes = grid_of(layer).affine[:3, :3] / grid_of(layer).voxel_size
    assert np.allclose(row.direction.value, axes.T @ TURNS[0].apply((0, 0, 1)), atol=1e-6)
    understood(three, qtbot, 1)
    notes = three.workbench.understanding.acquisition.notes
    assert any("by the rotation in r2.txt" in note for note in notes)
    state(row, (0, 0.6, 0.8))  # a correction is no longer what the file said
    qtbot.waitUntil(
        lambda: not any("r2.txt" in n for n in three.workbench.understanding.acquisition.notes)
    )


def test_a_removed_orientation_is_gone(three, qtbot):
    both(three)
    understood(three, qtbot, 2)
    three.inputs.orientations.rows[0].remove.click()
    understood(three, qtbot, 1)
    three.inputs.orientations.rows[0].remove.click()
    understood(three, qtbot, 0)
    assert three.inputs.orientations.verdict.isHidden()


def test_a_removed_layer_is_no_orientation(three, qtbot):
    both(three)
    understood(three, qtbot, 2)
    three._viewer.layers.remove("f3")
    understood(three, qtbot, 1)
    assert three.inputs.orientations.rows[1].choice.layer is None
