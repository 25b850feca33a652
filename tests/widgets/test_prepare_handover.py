"""Masks of the user's own go in, and the field flows on to Reconstruct and to files."""

import numpy as np
import pytest
from napari.layers import Labels
from superqt.utils import WorkerBase

from napari_qsm.acquisition import Quantity
from napari_qsm.pipeline import presets, read_preset
from napari_qsm.preparation.registry import Place
from napari_qsm.widgets import texts
from napari_qsm.widgets.reconstruct import ReconstructWidget
from napari_qsm.workbench.layers import facts_of, quantity_of
from napari_qsm.workbench.stage_layers import is_prepared
from napari_qsm.workbench.standing import State


@pytest.fixture
def viewer(hands):
    return hands.viewer


@pytest.fixture
def loaded(hands):
    return hands.dock


def understood(reconstruct):
    return reconstruct.workbench.understanding.acquisition is not None


def test_a_painted_mask_goes_first_untouched_and_painting_on_makes_stale(hands, loaded, qtbot):
    mine = hands.painted()
    before = mine.data.copy()
    loaded.source.mask.choose(mine)
    qtbot.waitUntil(lambda: loaded.preparation.own_mask, timeout=5000)
    hands.prepare()
    assert np.array_equal(mine.data, before)
    assert not any(name.startswith("mask · Toy mask") for name in hands.names)
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


def test_editing_copies_the_brain_mask_and_leaves_that_of_the_stage_alone(
    hands, loaded, viewer, qtbot
):
    assert not loaded.source.edit.isEnabled()
    hands.prepare()
    made = viewer.layers["mask · Toy mask"]
    before = made.data.copy()
    loaded.source.edit.click()
    copy = viewer.layers[texts.EDITED_MASK]
    assert np.array_equal(copy.data, before)
    assert loaded.source.mask.layer is copy
    qtbot.waitUntil(lambda: loaded.preparation.own_mask, timeout=5000)
    copy.fill((0, 0, 0), 0)
    hands.prepare()
    assert loaded.preparation.made[Place.MASK].maps.provenance.method == "given"


@pytest.fixture
def reconstruct(viewer, qtbot):
    made = ReconstructWidget(viewer)
    qtbot.addWidget(made, before_close_func=lambda w: w.shut_down())
    yield made
    made.shut_down()
    WorkerBase.await_workers(10_000)


def test_the_field_flows_to_reconstruct_without_a_click(hands, loaded, reconstruct, qtbot):
    hands.prepare()
    roles = reconstruct.inputs.roles
    assert roles["field"].layer.name == "local field · Toy background"
    assert roles["mask"].layer.name == "mask · after Toy background"
    assert roles["magnitude"].layer.name == "magnitude"
    assert roles["noise"].layer is None  # the toys make none
    chain = [loaded.preparation.recipe.choice(place).use for place in Place]
    reliable = loaded.preparation.made[Place.BACKGROUND].maps[Quantity.MASK]

    def told():
        acquisition = reconstruct.workbench.understanding.acquisition
        return (
            acquisition is not None
            and [p.method for p in acquisition.history] == chain
            and np.array_equal(acquisition.mask, reliable)
        )

    qtbot.waitUntil(told, timeout=10_000)


def test_a_rerun_updates_what_reconstruct_holds(hands, loaded, reconstruct, qtbot):
    hands.prepare()
    qtbot.waitUntil(lambda: understood(reconstruct), timeout=10_000)
    loaded.preparation.set_parameter(Place.BACKGROUND, "scale", 3.0)
    hands.prepare()

    def told():
        acquisition = reconstruct.workbench.understanding.acquisition
        return bool(acquisition) and acquisition.history[-1].parameters["scale"] == 3.0

    qtbot.waitUntil(told, timeout=10_000)
    made = loaded.preparation.made[Place.BACKGROUND].maps[Quantity.LOCAL_FIELD]
    acquisition = reconstruct.workbench.understanding.acquisition
    assert np.allclose(acquisition[Quantity.LOCAL_FIELD], made)


def test_a_choice_of_the_users_is_left_alone(hands, reconstruct):
    mine = hands.painted()
    combo = reconstruct.inputs.roles["mask"].combo
    combo.setCurrentIndex(combo.findText("mine"))
    combo.activated.emit(combo.currentIndex())
    hands.prepare()
    assert reconstruct.inputs.roles["mask"].layer is mine
    assert reconstruct.inputs.roles["field"].layer is not None


def test_only_the_newest_masks_and_fields_are_marked(hands, viewer):
    hands.prepare()
    marked = {layer.name for layer in viewer.layers if is_prepared(layer)}
    expected = {"local field · Toy background", "mask · after Toy background", "magnitude", "R2*"}
    assert marked == expected
    field = viewer.layers["local field · Toy background"]
    assert quantity_of(field) is Quantity.LOCAL_FIELD
    assert facts_of(field)["history"][-1].method == "toy_background"


def test_a_preset_holds_both_docks(loaded, reconstruct, tmp_path):
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


def test_results_are_saved_with_their_recipe(hands, loaded, qtbot, tmp_path):
    hands.prepare()
    assert loaded.files.results_button.isEnabled()
    loaded.files.save(tmp_path)
    qtbot.waitUntil(lambda: "Saved" in loaded.run.status.text(), timeout=10_000)
    written = {path.name for path in tmp_path.iterdir()}
    assert "toy_desc-local_fieldmap.nii.gz" in written
    assert any(name.endswith(".toml") for name in written)


def test_every_shipped_preset_is_offered_and_taken(loaded):
    actions = [a for a in loaded.files.load_button.menu().actions() if not a.isSeparator()]
    assert len(actions) == len(presets()) + 1  # one opens a file
    for action in actions[:-1]:
        action.trigger()
        assert action.text() in loaded.run.status.text()
        assert loaded.preparation.recipe == read_preset(action.text())


def test_the_fitted_r2star_reaches_methods_that_use_it(hands, reconstruct, qtbot):
    hands.prepare()
    reconstruct.workbench.choose_method("medi")  # its CSF is found by R2*
    assert reconstruct.inputs.roles["r2star"].layer.name == "R2*"

    def told():
        acquisition = reconstruct.workbench.understanding.acquisition
        return acquisition is not None and Quantity.R2STAR in acquisition

    qtbot.waitUntil(told, timeout=10_000)
    made = hands.dock.preparation.made[Place.RELAXATION].maps[Quantity.R2STAR]
    acquisition = reconstruct.workbench.understanding.acquisition
    assert np.allclose(acquisition[Quantity.R2STAR], made)
    reconstruct.workbench.choose_method("tv")
    qtbot.waitUntil(
        lambda: (
            understood(reconstruct)
            and Quantity.R2STAR not in reconstruct.workbench.understanding.acquisition
        ),
        timeout=10_000,
    )
