"""What a user ticks below the method: forms grow, settings stay, results carry the name."""

import pytest
from qtpy.QtCore import Qt

from napari_qsm.acquisition import Quantity
from napari_qsm.pipeline import Choice, Recipe
from napari_qsm.workbench.layers import quantity_of


def tick(dock, key, on=True):
    dock.method.wrappers.boxes[key].setChecked(on)


def choose(dock, key):
    dock.method.combo.setCurrentIndex(dock.method.combo.findData(key))


def test_there_is_a_box_for_every_wrapper(dock):
    boxes = dock.method.wrappers.boxes
    assert [box.text() for box in boxes.values()] == ["Corrected", "Two passes", "Uncertainty"]
    assert all(box.toolTip() for box in boxes.values())
    assert not any(box.isChecked() for box in boxes.values())


def test_ticking_grows_the_form_and_keeps_what_is_set(dock):
    choose(dock, "tv")
    dock.workbench.set_parameter("regularization", 3e-4)
    tick(dock, "sigma")
    assert dock.workbench.method == "tv+sigma"
    assert "draws" in dock.method.form.controls
    assert dock.workbench.parameters.regularization == 3e-4
    dock.workbench.set_parameter("draws", 3)
    tick(dock, "two_pass")  # goes inside, whatever was ticked first
    assert dock.workbench.method == "tv+two_pass+sigma"
    assert {"strong", "draws", "regularization"} <= set(dock.method.form.controls)
    assert dock.workbench.parameters.draws == 3
    tick(dock, "sigma", on=False)
    tick(dock, "two_pass", on=False)
    assert dock.workbench.method == "tv"
    assert dock.workbench.parameters.regularization == 3e-4
    assert "draws" not in dock.method.form.controls
    tick(dock, "sigma")
    assert dock.workbench.parameters.draws == 3  # remembered


def test_what_was_reset_stays_reset(dock):
    choose(dock, "tv")
    dock.workbench.set_parameter("regularization", 3e-4)
    tick(dock, "sigma")
    tick(dock, "sigma", on=False)
    dock.workbench.reset_parameters()
    tick(dock, "sigma")
    assert dock.workbench.parameters.regularization is None


def test_another_method_keeps_the_wrappers(dock):
    choose(dock, "tv")
    tick(dock, "two_pass")
    choose(dock, "tkd")
    assert dock.workbench.method == "tkd+two_pass"
    assert dock.method.wrappers.boxes["two_pass"].isChecked()
    assert dock.method.combo.currentData() == "tkd"
    assert "Thresholded" in dock.method.summary.text()


def test_a_method_of_several_orientations_takes_none(dock):
    choose(dock, "tkd")
    tick(dock, "sigma")
    choose(dock, "cosmos")
    assert dock.workbench.method == "cosmos"
    boxes = dock.method.wrappers.boxes.values()
    assert not any(box.isEnabled() for box in boxes)
    choose(dock, "tkd")
    assert all(box.isEnabled() for box in boxes)


def test_a_recipe_shows_its_wrappers_and_comes_back(dock):
    dock.use(Recipe(method=Choice("tkd+two_pass", {"strong": 0.2})))
    assert dock.method.wrappers.keys == ("two_pass",)
    assert dock.method.form.controls["strong"].value == pytest.approx(0.2)
    completed = dock.completed(Recipe())
    assert completed.method == Choice("tkd+two_pass", {"strong": 0.2})
    dock.use(Recipe(method=Choice("tkd", {"threshold": 0.2})))
    assert dock.method.wrappers.keys == ()
    assert dock.workbench.parameters.threshold == 0.2


def test_the_uncertainty_becomes_a_layer(dock, qtbot, viewer):
    choose(dock, "tkd")
    tick(dock, "two_pass")
    tick(dock, "sigma")
    dock.workbench.set_parameter("draws", 2)
    qtbot.waitUntil(lambda: dock.run.button.isEnabled(), timeout=10_000)
    qtbot.mouseClick(dock.run.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(
        lambda: any(quantity_of(layer) is Quantity.SIGMA for layer in viewer.layers), timeout=20_000
    )
    (layer,) = [layer for layer in viewer.layers if quantity_of(layer) is Quantity.SIGMA]
    assert layer.name.startswith("σ  TKD, two passes, uncertainty draws=2")
    assert layer.data.max() > 0
