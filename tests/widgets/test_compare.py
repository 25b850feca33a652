"""What a user does in the Compare dock, and what is on the screen then."""

import csv
import gc
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtGui import QGuiApplication, QImage
from qtpy.QtWidgets import QApplication
from skimage.io import imread
from superqt.utils import WorkerBase

from napari_qsm.acquisition import Maps, Quantity
from napari_qsm.widgets import compare_texts, texts
from napari_qsm.widgets.compare import CompareWidget
from napari_qsm.widgets.compare_table import Figure
from napari_qsm.widgets.convention import set_convention
from napari_qsm.widgets.picture import save_picture
from napari_qsm.workbench.comparison import Blend
from napari_qsm.workbench.layers import map_layers, quantity_of, volume_of
from napari_qsm.workbench.placement import to_display
from napari_qsm.workbench.scores import METRICS

CHECKED = Qt.CheckState.Checked


@pytest.fixture
def maps(viewer, add, brain, grid):
    """The truth, and two results with residuals: the first nearer to it than the second."""
    rng = np.random.default_rng(0)
    truth = (brain * rng.normal(0, 0.1, grid.shape)).astype(np.float32)
    add(viewer, truth, Quantity.CHI, name="truth")
    for title, noise in (("near", 0.01), ("far", 0.05)):
        chi = truth + (brain * rng.normal(0, noise, grid.shape)).astype(np.float32)
        made = Maps(grid, {Quantity.CHI: chi, Quantity.RESIDUAL: (0.1 * chi).astype(np.float32)})
        for data in map_layers(made, title):
            viewer.add_layer(Layer.create(*data))
    for layer in viewer.layers:
        layer.visible = quantity_of(layer) in (Quantity.LOCAL_FIELD, Quantity.MASK)
    return viewer.layers


@pytest.fixture
def dock(viewer, maps, qtbot):
    made = CompareWidget(viewer)
    qtbot.addWidget(made, before_close_func=lambda w: w.shut_down())
    made.resize(420, 900)
    made.show()
    yield made
    WorkerBase.await_workers(10_000)


def tick(dock, name, on=True):
    """Click the check box of a map."""
    row = next(n for n, layer in enumerate(dock.maps.layers) if layer.name == name)
    dock.maps.list.item(row).setCheckState(CHECKED if on else Qt.CheckState.Unchecked)


def visible(viewer):
    return {layer.name for layer in viewer.layers if layer.visible}


def choose(dock, kind, a="χ  near", b="truth"):
    layers = dock._viewer.layers
    dock.blend.a.choose(layers[a])
    dock.blend.b.choose(layers[b])
    dock.blend.kind.setCurrentIndex(dock.blend.kind.findData(kind))


def show(dock, kind, qtbot, **maps):
    choose(dock, kind, **maps)
    qtbot.mouseClick(dock.blend.show_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: dock.blend.overlay.layer is not None, timeout=10_000)
    qtbot.waitUntil(lambda: dock.blend.overlay.settled, timeout=10_000)
    return dock.blend.overlay.layer


# -- side by side -------------------------------------------------------------------------------


def test_two_ticked_maps_stand_side_by_side_and_nothing_else_with_them(dock, viewer):
    tick(dock, "χ  near")
    assert not viewer.canvas.grid.enabled
    tick(dock, "χ  far")
    assert viewer.canvas.grid.enabled
    assert visible(viewer) == {"χ  near", "χ  far"}
    assert viewer.canvas.grid.actual_shape(viewer.layers) == (1, 2)
    assert viewer.layers["χ  near"].name_overlay.visible
    dock.maps.side_by_side.click()
    assert not viewer.canvas.grid.enabled
    assert visible(viewer) == {"χ  near", "χ  far", "local_field", "mask"}


def test_ticks_and_the_eyes_of_the_layer_list_are_one(dock, viewer):
    viewer.layers["truth"].visible = True
    row = [layer.name for layer in dock.maps.layers].index("truth")
    assert dock.maps.list.item(row).checkState() == CHECKED
    dock.maps.all.click()
    assert len(dock.maps.ticked) == len(dock.maps.layers) == 5
    dock.maps.none.click()
    assert dock.maps.ticked == []
    viewer.layers["truth"].name = "COSMOS"
    assert dock.maps.list.item(row).text() == "COSMOS"
    viewer.layers.remove(viewer.layers["COSMOS"])
    assert dock.maps.list.count() == 4


def test_one_window_for_all_maps_of_a_kind(dock, viewer, qtbot):
    window = dock.window_of
    assert window.kind.currentData() == "chi"  # what matters most comes first
    window.high.setValue(0.08)
    chi = [viewer.layers[name] for name in ("truth", "χ  near", "χ  far")]
    assert {tuple(layer.contrast_limits) for layer in chi} == {(-0.15, 0.08)}
    assert tuple(viewer.layers["Dχ-f  near"].contrast_limits) == Quantity.RESIDUAL.window
    window.unit.setCurrentText("ppb")
    assert window.high.value() == pytest.approx(80)
    window.low.setValue(-50)
    assert {tuple(layer.contrast_limits) for layer in chi} == {(-0.05, 0.08)}
    chi[1].contrast_limits = (-0.3, 0.4)  # in napari's own controls
    qtbot.waitUntil(lambda: tuple(chi[2].contrast_limits) == (-0.3, 0.4), timeout=2000)
    assert window.high.value() == pytest.approx(400)
    window.reset.click()
    assert {tuple(layer.contrast_limits) for layer in chi} == {Quantity.CHI.window}


def test_the_common_window_survives_3d_and_newcomers_take_it(dock, viewer, qtbot, add, brain):
    dock.window_of.set_limits(-0.05, 0.1)
    viewer.dims.ndisplay = 3
    qtbot.wait(20)
    chi = [viewer.layers[name] for name in ("truth", "χ  near", "χ  far")]
    assert {tuple(layer.contrast_limits) for layer in chi} == {(0, 0.2)}
    viewer.dims.ndisplay = 2
    qtbot.wait(20)
    assert {tuple(layer.contrast_limits) for layer in chi} == {(-0.05, 0.1)}
    new = add(viewer, brain * 0.1, Quantity.CHI, name="new")
    qtbot.waitUntil(lambda: tuple(new.contrast_limits) == (-0.05, 0.1), timeout=2000)


# -- two maps in one ----------------------------------------------------------------------------


def test_the_difference_is_a_layer_that_follows_its_sources(dock, viewer, qtbot):
    layer = show(dock, "difference", qtbot)
    near, truth = viewer.layers["χ  near"], viewer.layers["truth"]
    assert np.allclose(layer.data, near.data - truth.data)
    assert quantity_of(layer) is Quantity.ERROR
    assert layer.colormap.name == Quantity.ERROR.colormap
    assert layer not in dock.blend.a._offered  # an overlay of itself would never end
    near.data = near.data + 1
    qtbot.waitUntil(lambda: np.allclose(layer.data, near.data - truth.data), timeout=10_000)
    qtbot.mouseClick(dock.blend.show_button, Qt.MouseButton.LeftButton)
    assert layer not in viewer.layers
    near.data = near.data + 1  # nobody listens any more
    assert dock.blend.overlay.settled


@pytest.mark.parametrize("convention", [texts.RADIOLOGICAL, texts.NEUROLOGICAL])
def test_the_curtain_moves_with_the_slider_and_a_is_on_the_left(dock, viewer, qtbot, convention):
    set_convention(viewer, convention)
    layer = show(dock, "swipe", qtbot)
    near, truth = viewer.layers["χ  near"].data, viewer.layers["truth"].data
    columns = layer.data.shape[2]
    for position in (500, 250, 800, 0, 1000):
        dock.blend.swipe.setValue(position)
        qtbot.waitUntil(lambda: dock.blend.overlay.settled, timeout=10_000)
        edge = round(position / 1000 * columns)
        a_side = np.zeros(columns, bool)
        # Radiological: R, where the index is high, is on the left of the screen.
        a_side[slice(columns - edge, None) if convention == texts.RADIOLOGICAL else slice(edge)] = 1
        assert np.array_equal(layer.data, np.where(a_side, near, truth))


def test_dragging_the_curtain_fast_ends_where_the_mouse_ends(dock, viewer, qtbot):
    layer = show(dock, "swipe", qtbot)
    viewer.layers["truth"].data = viewer.layers["truth"].data + 0  # a recomputation is under way
    for position in range(0, 1001, 25):
        dock.blend.swipe.setValue(position)
    qtbot.waitUntil(lambda: dock.blend.overlay.settled, timeout=10_000)
    assert np.array_equal(layer.data, viewer.layers["χ  near"].data)


def test_a_checkerboard_of_another_size_is_another_picture(dock, viewer, qtbot):
    layer = show(dock, "checkerboard", qtbot)
    for side in (20.0, 6.0):
        dock.blend.side.setValue(side)
        qtbot.waitUntil(lambda: dock.blend.overlay.settled, timeout=10_000)
        a, b = (volume_of(viewer.layers[name]) for name in ("χ  near", "truth"))
        expected = to_display(Blend("checkerboard", side=side)(a, b), a.grid)
        assert np.array_equal(layer.data, expected)


def test_the_residual_takes_the_field_by_itself(dock, viewer, qtbot):
    layer = show(dock, "residual", qtbot)
    assert dock.blend.field.layer is viewer.layers["local_field"]
    assert quantity_of(layer) is Quantity.RESIDUAL
    assert layer.data.any()


def test_changing_the_kind_changes_the_overlay_on_show(dock, viewer, qtbot):
    layer = show(dock, "difference", qtbot)
    dock.blend.kind.setCurrentIndex(dock.blend.kind.findData("checkerboard"))
    qtbot.waitUntil(lambda: quantity_of(layer) is Quantity.CHI, timeout=10_000)
    assert layer in viewer.layers  # a new one would stop the window for a moment
    assert layer.name == "checkerboard  near / truth"
    assert layer.colormap.name == Quantity.CHI.colormap
    assert tuple(layer.contrast_limits) == Quantity.CHI.window
    assert dock.window_of.kind.findData("error") == -1
    viewer.layers.remove(viewer.layers["truth"])  # without its source there is no overlay
    assert dock.blend.overlay.layer is None
    assert dock.blend.why_not.text() == compare_texts.NEEDS_TWO
    assert not any("checkerboard" in layer.name for layer in viewer.layers)


# -- figures ------------------------------------------------------------------------------------


@pytest.fixture
def scored(dock, viewer, qtbot):
    viewer.canvas.grid.enabled = True
    dock.maps.tick([viewer.layers["χ  near"], viewer.layers["χ  far"], viewer.layers["truth"]])
    dock.scores.reference.choose(viewer.layers["truth"])
    qtbot.waitUntil(dock.scores.compute.isEnabled, timeout=2000)
    qtbot.mouseClick(dock.scores.compute, Qt.MouseButton.LeftButton)
    assert dock.scores.compute.text() == compare_texts.CANCEL
    qtbot.waitUntil(lambda: len(dock.scores.scores) == 2, timeout=30_000)
    return dock.scores


def column(table, name):
    heads = [table.horizontalHeaderItem(n).text() for n in range(table.columnCount())]
    at = next(n for n, head in enumerate(heads) if head.startswith(name))
    return at, [table.item(row, at) for row in range(table.rowCount())]


def test_the_table_is_sorted_by_numbers_and_marks_the_best(scored):
    table = scored.table
    names = [table.item(row, 0).text() for row in range(2)]
    assert names == ["χ  near", "χ  far"]  # by error, the smallest first
    at, items = column(table, "XSIM")
    table.sortItems(at, Qt.SortOrder.AscendingOrder)
    assert [table.item(row, 0).text() for row in range(2)] == ["χ  far", "χ  near"]
    for metric in METRICS:
        _, items = column(table, metric.heading)
        assert [item.font().bold() for item in items] == [False, True]  # near is best at all


def test_numbers_sort_as_numbers_and_what_is_none_comes_last():
    nrmse = next(metric for metric in METRICS if not metric.rises)
    values = sorted(Figure(v, nrmse) for v in (100.0, 9.0, float("nan"), 20.0))
    assert [item.text() for item in values] == ["9", "20", "100", "–"]


def test_the_table_is_exported_and_copied_as_it_is_sorted(scored, qtbot, tmp_path):
    path = tmp_path / "figures.csv"
    scored.save(path)
    qtbot.waitUntil(path.exists, timeout=5000)
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [row["map"] for row in rows] == ["χ  near", "χ  far"]
    assert {row["reference"] for row in rows} == {"truth"}
    qtbot.mouseClick(scored.copy, Qt.MouseButton.LeftButton)
    pasted = QGuiApplication.clipboard().text().splitlines()
    assert pasted[1].split("\t")[0] == "χ  near"


def test_a_map_that_changed_is_named(scored, viewer):
    assert "changed" not in scored.status.text()
    viewer.layers["χ  far"].data = viewer.layers["χ  far"].data * 2
    assert "'χ  far' has changed" in scored.status.text()


def test_computing_can_be_cancelled_and_says_what_it_lacks(dock, viewer, qtbot):
    assert not dock.scores.compute.isEnabled()
    dock.scores.reference.choose(viewer.layers["truth"])
    assert dock.scores.status.text() == compare_texts.NOTHING_TICKED
    dock.maps.tick([viewer.layers["χ  near"]])
    dock.scores.start()
    dock.scores.cancel()
    assert dock.scores.status.text() == compare_texts.CANCELLING
    assert not dock.scores.compute.isEnabled()
    qtbot.waitUntil(lambda: dock.scores.status.text() == compare_texts.CANCELLED, timeout=10_000)
    assert dock.scores.scores == ()


# -- pictures and the end --------------------------------------------------------------


def test_a_picture_is_saved(dock, qtbot, tmp_path):
    save_picture(dock, dock.grab, tmp_path / "view")
    path = tmp_path / "view.png"
    qtbot.waitUntil(lambda: path.exists() and not QImage(str(path)).isNull(), timeout=5000)
    WorkerBase.await_workers(5000)


def test_a_dock_that_is_gone_holds_no_layer_and_leaves_no_letter(viewer, maps, qtbot):
    dock = CompareWidget(viewer)
    show(dock, "difference", qtbot)
    dock.maps.tick([viewer.layers["χ  near"], viewer.layers["χ  far"]])
    WorkerBase.await_workers(10_000)
    held = [weakref.ref(dock), weakref.ref(dock.blend.overlay)]
    held += [weakref.ref(layer) for layer in viewer.layers if quantity_of(layer) is Quantity.CHI]
    dock.shut_down()
    dock.deleteLater()
    del dock
    qtbot.wait(50)
    assert not any(name.startswith("border_") for name in viewer.canvas.overlays)
    viewer.layers.clear()
    qtbot.wait(50)
    gc.collect()
    assert [ref() for ref in held if ref() is not None] == []


@pytest.mark.window
def test_the_dock_in_a_real_window(make_napari_viewer_proxy, add, brain, qtbot, tmp_path):
    """Ticks change the canvas, the curtain changes pixels, the picture holds both maps."""
    viewer = make_napari_viewer_proxy(show=True)
    _, dock = viewer.window.add_plugin_dock_widget("napari-qsm", "Compare maps")
    bright = add(viewer, brain * 0.15, Quantity.CHI, name="bright")
    dark = add(viewer, brain * -0.15, Quantity.CHI, name="dark")
    dock.maps.tick([bright, dark])
    assert viewer.canvas.grid.enabled
    qtbot.wait(100)
    halves = np.array_split(pixels(dock.picture(), tmp_path / "canvas.png"), 2, axis=1)
    assert abs(halves[0].mean() - halves[1].mean()) > 10  # one map in each
    dock.maps.side_by_side.setChecked(False)
    dock.maps.tick([])
    layer = show(dock, "swipe", qtbot, a="bright", b="dark")
    shares = []
    for position in (1000, 500, 0):
        dock.blend.swipe.setValue(position)
        qtbot.waitUntil(lambda: dock.blend.overlay.settled, timeout=10_000)
        shares.append(pixels(dock.picture(), tmp_path / "canvas.png").mean())
    assert shares[0] > shares[1] > shares[2]
    assert layer.visible
    qtbot.mouseClick(dock.open_views, Qt.MouseButton.LeftButton)
    assert not dock.open_views.isEnabled()
    assert "view" in dock.views.busy.text() or not dock.views.planes
    qtbot.waitUntil(dock.open_views.isEnabled, timeout=60_000)
    views = weakref.ref(dock.views)
    dock.views.close()
    assert dock.views is None
    QApplication.processEvents()
    qtbot.wait(50)
    gc.collect()
    assert views() is None
    dock.shut_down()


def pixels(image, path):
    """Red, green and blue of a picture that was saved."""
    assert image.save(str(path))
    return imread(path)[..., :3].astype(float)


def test_without_maps_the_dock_says_so(qtbot):
    dock = CompareWidget(ViewerModel())
    qtbot.addWidget(dock, before_close_func=lambda w: w.shut_down())
    assert dock.maps.empty.text() == compare_texts.NO_MAPS
    assert not dock.window_of.isEnabled()
    assert not dock.blend.show_button.isEnabled()
