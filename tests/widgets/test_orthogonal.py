"""Axial, coronal, sagittal and 3D: one crosshair, the right letters, and nothing left behind."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_qsm.acquisition import Grid, Maps, Quantity, Volume
from napari_qsm.widgets import texts
from napari_qsm.widgets.convention import set_convention
from napari_qsm.widgets.orthogonal import OrthogonalWindow
from napari_qsm.workbench.crosshair import voxel_position
from napari_qsm.workbench.layers import layer_data, map_layers

pytestmark = pytest.mark.window

SHAPE = (30, 36, 24)


def grid_of(codes):
    """A grid of 2 mm whose stored axes run along `codes`, centred on the scanner."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, code in enumerate(codes):
        row = next(n for n, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        affine[row, axis] = 2.0 if code in "RAS" else -2.0
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return Grid(SHAPE, affine)


def blob(grid):
    """A bright ball at the patient's right, anterior and superior."""
    voxels = np.moveaxis(np.indices(SHAPE), 0, -1)
    ras = voxels @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    reach = np.abs(grid.affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2))
    return (np.linalg.norm(ras - 0.5 * reach, axis=-1) < 6).astype(np.float32)


def wait(until, seconds=30):
    """Let the window work until something holds."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        QApplication.processEvents()


def open_views(viewer):
    """Open the views as the dock does, and wait for all four."""
    window, done = OrthogonalWindow(viewer), []
    window.resize(720, 420)  # small canvases: the tests' GL is software
    window.opened.connect(lambda: done.append(True))
    window.open()
    wait(lambda: done)
    return window


def close(window):
    window.close()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    QApplication.processEvents()
    gc.collect()


def test_in_a_real_window_views_lead_and_follow_and_closing_leaves_nothing(
    make_napari_viewer_proxy, qtbot
):
    viewer = make_napari_viewer_proxy()
    grid = grid_of("ILA")
    fill(viewer, grid, blob(grid))
    threads = threading.active_count()
    window = open_views(viewer)
    place = voxel_position((5, 9, 11), grid)
    viewer.dims.set_point(0, place[0])
    assert window.planes[0].model.dims.point[0] == pytest.approx(place[0])
    window.move_to(voxel_position((7, 9, 11), grid))
    assert viewer.dims.point[0] == pytest.approx(voxel_position((7, 9, 11), grid)[0])
    held = [weakref.ref(window), weakref.ref(window.source)]
    for plane in window.planes:
        parts = (plane, plane.model, plane.canvas, plane.layer, plane.marks)
        held += [weakref.ref(part) for part in parts]
    del plane, parts
    heard = len(viewer.mouse_move_callbacks)
    close(window)
    del window
    viewer.layers.clear()
    qtbot.wait(100)
    gc.collect()
    assert [ref() for ref in held if ref() is not None] == []
    assert len(viewer.mouse_move_callbacks) == heard - 1
    assert threading.active_count() <= threads


@pytest.fixture(scope="module")
def views(qapp):
    """One window for all tests below: opening four canvases takes its time."""
    window = open_views(ViewerModel())
    yield window
    close(window)


@pytest.fixture
def opened(views):
    """Show one map, stored along some axes, in the views."""
    viewer = views._viewer

    def show(codes="RAS", data=None):
        viewer.layers.clear()
        grid = grid_of(codes)
        fill(viewer, grid, blob(grid) if data is None else data)
        set_convention(viewer, texts.RADIOLOGICAL)
        views.show_map(viewer.layers[-1])
        views.fit()
        QApplication.processEvents()
        return viewer, views, grid

    yield show
    viewer.layers.clear()


def fill(viewer, grid, chi):
    maps = Maps(grid, {Quantity.CHI: chi, Quantity.SIGMA: np.full(SHAPE, 0.02, np.float32)})
    for made in map_layers(maps, "TV"):
        viewer.add_layer(Layer.create(*made))


def bright_side(plane):
    """Letters of the two borders that the bright pixels of a canvas lie nearest to."""
    pixels = plane.canvas.screenshot(flash=False)[..., :3].astype(float).sum(-1)
    rows, columns = np.nonzero(pixels > 0.95 * pixels.max())
    height, width = pixels.shape
    left, right, top, bottom = plane.letters
    across = right if columns.mean() > width / 2 else left
    along = bottom if rows.mean() > height / 2 else top
    return across, along


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR", "ILA", "SRP"])
def test_the_ball_lies_where_the_letters_say_in_every_plane(opened, codes):
    """It is at the patient's right, front and top, whatever order the voxels are stored in."""
    viewer, window, grid = opened(codes)
    window.move_to(voxel_position(np.argwhere(blob(grid)).mean(0).round().astype(int), grid))
    axial, coronal, sagittal, deep = window.planes
    for convention, left in ((texts.RADIOLOGICAL, "R"), (texts.NEUROLOGICAL, "L")):
        set_convention(viewer, convention)
        assert bright_side(axial) == ("R", "A")
        assert bright_side(coronal) == ("R", "S")
        assert bright_side(sagittal) == ("A", "S")
        assert axial.letters[0] == coronal.letters[0] == left
        assert deep.letters[0][0] == left
        assert deep.model.scene.camera.handedness == "left"


def test_the_switch_mirrors_the_picture(opened):
    viewer, window, _ = opened()
    axial = window.planes[0]
    window.move_to(voxel_position((22, 27, 17), grid_of("RAS")))
    before = axial.canvas.screenshot(flash=False)[..., :3].astype(int)
    window.panel.convention.setCurrentText(texts.NEUROLOGICAL)
    after = axial.canvas.screenshot(flash=False)[..., :3].astype(int)
    assert np.abs(before[:, ::-1] - after).mean() < 3
    assert np.abs(before - after).mean() > 3
    assert viewer.scene.camera.orientation[2] == "right"  # the main window went along


def mouse(widget, kind, at, *, held=Qt.KeyboardModifier.NoModifier, buttons=None):
    buttons = Qt.MouseButton.NoButton if buttons is None else buttons
    button = Qt.MouseButton.NoButton if kind is QEvent.Type.MouseMove else Qt.MouseButton.LeftButton
    point = QPointF(*at)
    event = QMouseEvent(kind, point, widget.mapToGlobal(point), button, buttons, held)
    QApplication.sendEvent(widget, event)


def click(plane, at):
    native = plane.canvas.canvas.native
    mouse(native, QEvent.Type.MouseMove, at)
    mouse(native, QEvent.Type.MouseButtonPress, at, buttons=Qt.MouseButton.LeftButton)
    mouse(native, QEvent.Type.MouseButtonRelease, at)


def test_a_click_in_one_view_moves_the_crosshair_in_all(opened, qtbot):
    viewer, window, grid = opened("LPS")
    axial, coronal, sagittal, deep = window.planes
    voxel = (7, 10, 15)
    place = voxel_position(voxel, grid)
    window.move_to(voxel_position((12, 12, 15), grid))
    click(axial, axial.on_canvas(place))
    assert np.allclose(window.crosshair.position, place)
    assert coronal.model.dims.point[1] == pytest.approx(place[1])
    assert sagittal.model.dims.point[2] == pytest.approx(place[2])
    assert viewer.dims.point[0] == pytest.approx(place[0])
    assert [box.value() for box in window.panel.voxel] == list(voxel)
    qtbot.waitUntil(lambda: deep.position == window.crosshair.position, timeout=2000)
    # The crosshair is painted where the click was.
    for plane in (axial, coronal, sagittal):
        middle = plane.on_canvas(place)
        assert all(
            any(np.isclose(point[axis], middle[axis], atol=1.0) for axis in (0, 1))
            for line in plane.lines()
            for point in line
        )


def test_moving_with_shift_leads_and_moving_without_does_not(opened, qtbot):
    _, window, grid = opened()
    coronal = window.planes[1]
    start, there = (voxel_position(v, grid) for v in ((15, 18, 12), (20, 18, 8)))
    window.move_to(start)
    native = coronal.canvas.canvas.native
    beside = (coronal.on_canvas(there)[0] + 9, coronal.on_canvas(there)[1])
    mouse(native, QEvent.Type.MouseMove, beside)
    qtbot.wait(30)  # napari looks at the mouse every 5 ms
    assert np.allclose(window.crosshair.position, start)
    shift = Qt.KeyboardModifier.ShiftModifier
    mouse(native, QEvent.Type.MouseMove, coronal.on_canvas(there), held=shift)
    wait(lambda: np.allclose(window.crosshair.position, there), 2)


def test_a_drag_pans_and_leaves_the_crosshair(opened, qtbot):
    _, window, _ = opened()
    before, axial = window.crosshair.position, window.planes[0]
    centre = axial.model.scene.camera.center
    native, left = axial.canvas.canvas.native, Qt.MouseButton.LeftButton
    mouse(native, QEvent.Type.MouseButtonPress, (100, 100), buttons=left)
    for step in range(1, 6):
        mouse(native, QEvent.Type.MouseMove, (100 + 10 * step, 100), buttons=left)
        qtbot.wait(10)
    mouse(native, QEvent.Type.MouseButtonRelease, (150, 100))
    assert window.crosshair.position == before
    assert axial.model.scene.camera.center != centre


def test_a_click_in_3d_finds_the_bright_ball(opened):
    _, window, grid = opened("PSR")
    deep, centre = window.planes[3], np.argwhere(blob(grid)).mean(0)
    window.move_to(voxel_position((3, 3, 3), grid))
    deep.move_to(window.crosshair.position)
    click(deep, deep.on_canvas(voxel_position(centre, grid)))
    found = [box.value() for box in window.panel.voxel]
    assert np.linalg.norm(np.array(found) - centre) < 4


def test_the_main_window_leads_too(opened):
    viewer, window, grid = opened("ILA")
    place = voxel_position((5, 9, 11), grid)
    viewer.dims.set_point(0, place[0])  # a turn of its slider
    assert window.crosshair.position[0] == pytest.approx(place[0])
    assert window.planes[0].model.dims.point[0] == pytest.approx(place[0])


def test_the_table_says_every_value_with_its_sigma_at_the_voxel(opened):
    data = np.random.default_rng(1).normal(0, 0.1, SHAPE).astype(np.float32)
    viewer, window, grid = opened("SRP", data)
    other = Volume(3 * data, grid, "ppm", source="file")
    viewer.add_layer(Layer.create(*layer_data(other, Quantity.CHI, "other")))
    for box, value in zip(window.panel.voxel, (4, 20, 9), strict=True):
        box.setValue(value)
    table = window.panel.table
    said = {table.item(r, 0).text(): table.item(r, 1).text() for r in range(table.rowCount())}
    value = data[4, 20, 9]
    assert said["χ  TV"] == f"{value:.4g} ± 0.02 ppm"
    assert said["other"] == f"{3 * value:.4g} ppm"
    window.panel.ppb.setChecked(True)
    row = next(r for r in range(table.rowCount()) if table.item(r, 0).text() == "χ  TV")
    assert table.item(row, 1).text() == f"{1000 * value:.4g} ± 20 ppb"
    ras = (grid.affine @ [4, 20, 9, 1])[:3]
    assert f"{abs(ras[0]):.1f}" in window.panel.place.text()


def test_views_share_the_array_and_follow_data_and_window(opened, qtbot):
    viewer, window, _ = opened()
    layer = window.source
    assert all(np.shares_memory(plane.layer.data, layer.data) for plane in window.planes)
    layer.contrast_limits = (-0.05, 0.07)
    assert all(tuple(p.layer.contrast_limits) == (-0.05, 0.07) for p in window.planes[:3])
    assert tuple(window.planes[3].layer.contrast_limits) == (0, 0.14)
    layer.data = np.ascontiguousarray(layer.data[::-1])
    assert all(plane.layer.data is layer.data for plane in window.planes)
    viewer.layers.remove(layer)
    assert window.source is not layer
    viewer.layers.clear()
    assert window.source is None
    assert all(plane.layer is None for plane in window.planes)


def test_fitting_shows_all_of_every_plane_however_often(opened):
    _, window, _ = opened("PSR")
    for _ in range(3):
        window.panel.fit.click()
        for plane in window.planes[:3]:
            corners = [plane.on_canvas(end) for end in plane.layer.extent.world]
            assert all(0 <= x <= plane.marks.width() for x, _ in corners)
            assert all(0 <= y <= plane.marks.height() for _, y in corners)


def test_planes_keep_one_scale(opened):
    _, window, _ = opened()
    window.planes[1].model.scene.camera.zoom = 3.5
    assert [plane.model.scene.camera.zoom for plane in window.planes[:3]] == [3.5] * 3
