"""Iron and myelin apart in the window: inputs in words, two layers of light, one composite."""

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from superqt.utils import WorkerBase

from napari_qsm.acquisition import Maps, Provenance, Quantity
from napari_qsm.methods.registry import Parameters, Step, method, parameter, unregister
from napari_qsm.widgets import separation_texts as texts
from napari_qsm.widgets.composite import IRON, MYELIN, pair_of
from napari_qsm.widgets.explore import ExploreWidget
from napari_qsm.widgets.reconstruct import ReconstructWidget
from napari_qsm.workbench.layers import map_layers, quantity_of
from napari_qsm.workbench.report import as_command, as_python

POS, NEG, CHI = Quantity.CHI_POS, Quantity.CHI_NEG, Quantity.CHI
RATES = (Quantity.R2PRIME, Quantity.R2STAR)


class Splitting(Parameters):
    dr: float = parameter(100.0, "Relaxivity.", low=1.0, high=1000.0, unit="Hz/ppm")


@pytest.fixture
def splitter():
    """A registered method that takes the field for susceptibility and splits it by R2'."""

    @method(
        key="splitter",
        label="Splitter",
        summary="Splits.",
        parameters=Splitting,
        references=("10.0/x",),
        uses=(Quantity.MASK, *RATES, Quantity.R2),
        one_of=RATES,
        gives=(POS, NEG, CHI, Quantity.RESIDUAL, Quantity.RESIDUAL_R2PRIME),
    )
    def run(acquisition, parameters, device):
        yield Step(0.5, "Splitter: splitting")
        chi = acquisition[Quantity.LOCAL_FIELD] * acquisition.mask
        given = next(q for q in RATES if q in acquisition)
        total = acquisition[given] * acquisition.mask / parameters.dr
        pos = np.maximum(total + chi, 0) / 2
        neg = np.maximum(total - chi, 0) / 2
        nothing = np.zeros_like(chi)
        volumes = {POS: pos, NEG: neg, CHI: pos - neg, Quantity.RESIDUAL: nothing}
        volumes[Quantity.RESIDUAL_R2PRIME] = nothing
        return Maps(acquisition.grid, volumes, Provenance(notes=(f"By {given.label}.",)))

    yield
    WorkerBase.await_workers(10_000)
    unregister("splitter")


@pytest.fixture
def split_dock(splitter, viewer, qtbot):
    """The Reconstruct dock with that method chosen and nothing but a field and a mask."""
    made = ReconstructWidget(viewer)
    qtbot.addWidget(made, before_close_func=lambda w: w.shut_down())
    qtbot.waitUntil(lambda: not made.workbench.reason_not_to_run(), timeout=10_000)
    made.method.combo.setCurrentIndex(made.method.combo.findData("splitter"))
    qtbot.waitUntil(lambda: "R2" in made.workbench.reason_not_to_run(), timeout=10_000)
    return made


def rate(brain, scale=10.0):
    return (brain * np.random.default_rng(1).uniform(0.5, 1.5, brain.shape) * scale).astype("f4")


@pytest.fixture
def separated(split_dock, viewer, add, brain, qtbot):
    """The dock after one run."""
    add(viewer, rate(brain), Quantity.R2PRIME)
    qtbot.waitUntil(split_dock.run.button.isEnabled, timeout=10_000)
    qtbot.mouseClick(split_dock.run.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: len(split_dock.results) == 1, timeout=20_000)
    qtbot.waitUntil(lambda: split_dock.layers.settled, timeout=10_000)
    return split_dock


def of(viewer, quantity):
    return next(layer for layer in viewer.layers if quantity_of(layer) is quantity)


def shown(viewer):
    return {quantity_of(layer) for layer in viewer.layers if layer.visible}


def test_without_r2prime_the_dock_says_so_and_run_waits(split_dock, viewer, add, brain, qtbot):
    assert not split_dock.run.button.isEnabled()
    told = split_dock.run.status.text().replace("&#x27;", "'")
    assert told == "Splitter needs a map of R2' or R2* beside the field; choose one."
    add(viewer, rate(brain, 20), Quantity.R2STAR)
    qtbot.waitUntil(split_dock.run.button.isEnabled, timeout=10_000)


def test_only_methods_that_use_rates_show_their_rows(split_dock, qtbot):
    roles, zero = split_dock.inputs.roles, split_dock.inputs.zero
    rates = [roles[key] for key in ("r2prime", "r2star", "r2")]
    assert all(row.isVisibleTo(split_dock) for row in rates)
    assert not zero.isVisibleTo(split_dock)  # chi is chi+ less chi-
    split_dock.workbench.choose_method("tv")
    assert not any(row.isVisibleTo(split_dock) for row in rates)
    assert zero.isVisibleTo(split_dock)


def test_a_rate_that_cannot_be_used_holds_nobody_up_who_does_not_use_it(
    split_dock, viewer, add, brain, qtbot
):
    add(viewer, 0 * rate(brain), Quantity.R2PRIME)
    qtbot.waitUntil(lambda: "not positive" in split_dock.findings.text(), timeout=10_000)
    assert not split_dock.run.button.isEnabled()
    split_dock.workbench.choose_method("tkd")
    qtbot.waitUntil(split_dock.run.button.isEnabled, timeout=10_000)


def test_a_rate_in_another_unit_is_converted_and_that_is_said(
    split_dock, viewer, add, brain, qtbot
):
    add(viewer, rate(brain) / 1000, Quantity.R2PRIME)  # its layer says 1/s
    qtbot.waitUntil(lambda: "multiplied by 1000" in split_dock.findings.text(), timeout=10_000)
    found = split_dock.workbench.understanding.acquisition[Quantity.R2PRIME]
    assert np.allclose(found, rate(brain), rtol=1e-5)


def test_two_layers_of_light_and_both_residuals_appear(separated, viewer):
    for quantity in (POS, NEG):
        layer = of(viewer, quantity)
        assert layer.blending == "additive"
        assert layer.colormap.name == quantity.colormap
        assert tuple(layer.contrast_limits) == quantity.window
        assert layer.data.min() >= 0
    assert np.allclose(of(viewer, POS).data - of(viewer, NEG).data, of(viewer, CHI).data)
    assert {Quantity.RESIDUAL, Quantity.RESIDUAL_R2PRIME} <= shown(viewer)
    assert viewer.canvas.grid.enabled  # one box each, with one camera
    of(viewer, POS).contrast_limits = (0.0, 0.05)
    assert tuple(of(viewer, NEG).contrast_limits) == (0.0, 0.05)


def test_the_composite_is_one_click_and_one_click_back(separated, viewer, qtbot):
    button = separated.view.composite
    assert button.isVisibleTo(separated)
    before = {layer.name: layer.visible for layer in viewer.layers}
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert shown(viewer) == {POS, NEG}
    assert not viewer.canvas.grid.enabled
    assert of(viewer, POS).colormap == IRON
    assert of(viewer, NEG).colormap == MYELIN
    assert np.allclose(viewer.canvas.background_color[:3], 0)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert {layer.name: layer.visible for layer in viewer.layers} == before
    assert viewer.canvas.grid.enabled
    assert of(viewer, POS).colormap.name == POS.colormap
    assert viewer.canvas.background_color_override is None


def test_in_3d_the_pair_comes_by_itself_unless_maps_are_side_by_side(separated, viewer):
    viewer.dims.ndisplay = 3
    assert viewer.canvas.grid.enabled
    assert len(shown(viewer)) > 2
    viewer.dims.ndisplay = 2
    separated.view.grid.setChecked(False)
    before = shown(viewer)
    viewer.dims.ndisplay = 3
    assert shown(viewer) == {POS, NEG}
    assert separated.view.composite.isChecked()
    viewer.dims.ndisplay = 2
    assert shown(viewer) == before


def test_whatever_comes_or_goes_ends_the_composite(separated, viewer):
    button = separated.view.composite
    button.setChecked(True)
    viewer.add_image(np.zeros((4, 4, 4)), name="new")
    assert not button.isChecked()
    assert viewer.layers["new"].visible
    button.setChecked(True)
    viewer.layers.remove(of(viewer, NEG))
    assert not button.isChecked()
    assert not button.isVisibleTo(separated)


def test_side_by_side_ends_the_composite(separated, viewer):
    separated.view.composite.setChecked(True)
    separated.view.grid.setChecked(True)
    assert not separated.view.composite.isChecked()
    assert viewer.canvas.grid.enabled


def test_pairs_are_those_of_one_result_or_of_one_grid(add, brain):
    viewer = ViewerModel()
    assert pair_of(viewer.layers) is None
    first = add(viewer, rate(brain, 0.01), POS)
    assert pair_of(viewer.layers) is None
    second = add(viewer, rate(brain, 0.01), NEG)
    assert pair_of(viewer.layers) == (first, second)
    maps = object()
    first.metadata = {"qsm": {**first.metadata["qsm"], "maps": maps}}
    assert pair_of(viewer.layers) is None
    second.metadata = {"qsm": {**second.metadata["qsm"], "maps": maps}}
    assert pair_of(viewer.layers) == (first, second)


def test_methods_are_listed_under_their_groups(split_dock):
    combo = split_dock.method.combo
    model = combo.model()
    headings = [row for row in range(combo.count()) if combo.itemData(row) is None]
    assert [combo.itemText(row) for row in headings] == ["Inversion", "Separation"]
    assert not any(model.item(row).isEnabled() for row in headings)
    assert combo.findData("splitter") > headings[1] > combo.findData("tv") > headings[0]
    boxes = split_dock.method.wrappers.boxes
    assert boxes["sigma"].isEnabled()
    assert not boxes["two_pass"].isEnabled()  # it makes one map


def test_the_composite_has_a_wider_window_in_3d_and_gives_it_back(separated, viewer):
    separated.view.composite.setChecked(True)
    viewer.dims.ndisplay = 3
    assert of(viewer, POS).contrast_limits[1] > 2 * POS.window[1]
    viewer.dims.ndisplay = 2
    assert tuple(of(viewer, POS).contrast_limits) == POS.window
    separated.view.composite.setChecked(False)
    assert tuple(of(viewer, NEG).contrast_limits) == NEG.window
    assert of(viewer, NEG).gamma == 1


def test_a_separation_exports_a_command_with_its_rates(separated, viewer):
    maps = of(viewer, CHI).metadata["qsm"]["maps"]
    told = as_command(maps)
    assert "--r2prime r2prime.nii.gz" in told
    assert "--method splitter" in told
    assert "r2prime=read_volume('r2prime.nii.gz')" in as_python(maps)


@pytest.fixture
def explored(split_dock, viewer, add, brain, qtbot, monkeypatch):
    """The panel of lesions in an Explore dock beside the Reconstruct dock."""
    add(viewer, rate(brain), Quantity.R2PRIME)
    monkeypatch.setattr("napari_qsm.widgets.explore.dock_of", lambda _: split_dock)
    made = ExploreWidget(viewer)
    qtbot.addWidget(made, before_close_func=lambda w: w.shut_down())
    yield made.linearity
    made.shut_down()
    WorkerBase.await_workers(10_000)


def test_a_drawn_lesion_is_tried_and_its_slopes_are_told(explored, viewer, qtbot):
    panel = explored
    qtbot.waitUntil(lambda: panel.reason_not_to_run() == texts.NO_REGION, timeout=10_000)
    qtbot.mouseClick(panel.draw_button, Qt.MouseButton.LeftButton)
    drawn = viewer.layers[texts.DRAWN]
    assert drawn.mode == "paint"
    assert panel.region.layer is drawn
    assert drawn.data.shape == of(viewer, Quantity.LOCAL_FIELD).data.shape
    drawn.paint((10, 14, 12), 1)
    panel.strengths.setText("1, 2, 4")
    qtbot.waitUntil(panel.run.button.isEnabled, timeout=10_000)
    qtbot.mouseClick(panel.run.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: panel.made is not None, timeout=20_000)
    assert panel.made.strengths == (1.0, 2.0, 4.0)
    assert panel.made.voxels == np.count_nonzero(drawn.data)
    slopes = [one.slope for one in panel.made.responses]
    assert sum(slope for slope in slopes if np.isfinite(slope)) > 0
    assert "slope" in panel.slopes.text()
    curves = [item for item in panel.plot.getPlotItem().listDataItems() if item.name()]
    assert [curve.name() for curve in curves] == ["χ+", "χ-"]
    for curve, one in zip(curves, panel.made.responses, strict=True):
        assert np.allclose(curve.getData()[1], 1000 * np.array(one.values))


def test_a_lesion_that_is_not_there_is_told_in_a_sentence(explored, viewer, qtbot):
    panel = explored
    qtbot.mouseClick(panel.draw_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(panel.run.button.isEnabled, timeout=10_000)
    panel.start()
    qtbot.waitUntil(lambda: "label 1" in panel.run.status.text(), timeout=10_000)
    assert panel.made is None
    assert panel.run.button.text() == texts.TRY


def test_iterates_come_hidden_and_with_a_slider(grid, brain):
    iterates = np.stack([rate(brain, 0.01 * k) for k in range(3)], axis=3)
    maps = Maps(grid, {CHI: rate(brain), Quantity.CHI_POS_ITERATES: iterates})
    layers = {keywords["name"]: (data, keywords) for data, keywords, _ in map_layers(maps, "#1")}
    data, keywords = layers["χ+ by iteration  #1"]
    assert data.shape[0] == 3
    assert keywords["axis_labels"][0] == "iteration"
    assert not keywords["visible"]


def test_a_map_to_start_from_is_offered_where_something_is_separated(
    split_dock, viewer, add, brain, qtbot
):
    start = split_dock.inputs.roles["start"]
    assert not start.isVisibleTo(split_dock)  # this toy has no use for one
    split_dock.workbench.choose_method("closed_form")
    assert start.isVisibleTo(split_dock)
    add(viewer, rate(brain), Quantity.R2PRIME)
    chi = add(viewer, 1000 * rate(brain, 0.01), CHI)
    chi.metadata = {"qsm": {**chi.metadata["qsm"], "unit": "ppb"}}
    start.choose(chi)

    def taken():
        acquisition = split_dock.workbench.understanding.acquisition
        return acquisition is not None and CHI in acquisition

    qtbot.waitUntil(taken, timeout=10_000)
    found = split_dock.workbench.understanding.acquisition[CHI]
    assert np.allclose(found, rate(brain, 0.01), atol=1e-6)
    assert "divided by 1000" in split_dock.findings.text()


@pytest.mark.parametrize("key", ["sepnet", "unrolled_sepnet"])
def test_a_network_that_separates_is_not_offered_for_adapting(split_dock, key):
    split_dock.workbench.choose_method("qsmnet")
    assert split_dock.adapt.button.isVisibleTo(split_dock)
    split_dock.workbench.choose_method(key)
    assert not split_dock.adapt.button.isVisibleTo(split_dock)
    assert not split_dock.adapt.what.isVisibleTo(split_dock)
