"""The Export button, clicked."""

import csv

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication
from superqt.utils import WorkerBase

from napari_qsm.acquisition import Quantity
from napari_qsm.widgets import export_texts as texts
from napari_qsm.workbench.layers import quantity_of
from napari_qsm.workbench.placement import to_display
from napari_qsm.workbench.report import as_command, as_python, methods_paragraph


@pytest.fixture
def told(monkeypatch):
    """What the window says: messages, then errors."""
    said = {"info": [], "error": []}
    for module in ("export_menu", "picture"):
        for kind, words in said.items():
            monkeypatch.setattr(f"napari_qsm.widgets.{module}.show_{kind}", words.append)
    return said


@pytest.fixture
def export(dock, qtbot, told):
    """The button of a dock with two results, TKD below and Tikhonov above."""
    for key, count in (("tkd", 1), ("tikhonov", 2)):
        dock.method.combo.setCurrentIndex(dock.method.combo.findData(key))
        qtbot.mouseClick(dock.run.button, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda count=count: len(dock.results) == count, timeout=60_000)
        qtbot.waitUntil(lambda: dock.layers.settled, timeout=10_000)
    dock.show()
    QApplication.clipboard().clear()
    yield dock.view.export
    WorkerBase.await_workers(10_000)


def click(export, qtbot, action):
    """Open the menu, as the button does, and click an entry."""
    menu = export.menu()
    menu.popup(QPoint(10, 10))
    qtbot.waitUntil(menu.isVisible, timeout=5000)
    qtbot.mouseClick(menu, Qt.MouseButton.LeftButton, pos=menu.actionGeometry(action).center())
    menu.hide()


@pytest.mark.parametrize(
    ("text", "made", "done"),
    [
        (texts.PYTHON, as_python, texts.PYTHON_DONE),
        (texts.COMMAND, as_command, texts.COMMAND_DONE),
        (texts.METHODS, methods_paragraph, texts.METHODS_DONE),
    ],
)
def test_clicking_copies_what_makes_the_selected_result(
    export, qtbot, viewer, told, text, made, done
):
    chi = [layer for layer in viewer.layers if quantity_of(layer) is Quantity.CHI]
    for layer, key in zip(chi, ("tkd", "tikhonov"), strict=True):
        viewer.layers.selection.active = layer
        click(export, qtbot, export.copies[text])
        qtbot.waitUntil(lambda key=key: told["info"][-1:] == [done.format(key)], timeout=10_000)
        maps = layer.metadata["qsm"]["maps"]
        assert maps.provenance.method == key
        assert QApplication.clipboard().text() == made(maps)
    assert not told["error"]


def test_without_a_selected_result_the_topmost_one_counts(export, qtbot, viewer, told):
    viewer.layers.selection.active = viewer.layers[0]  # the field
    click(export, qtbot, export.copies[texts.COMMAND])
    qtbot.waitUntil(lambda: bool(told["info"]), timeout=10_000)
    assert "--method tikhonov" in QApplication.clipboard().text()


def test_nothing_can_be_copied_before_there_is_a_result(dock, qtbot, told):
    export = dock.view.export
    export.refresh()
    actions = (*export.copies.values(), export.table)
    assert not any(action.isEnabled() for action in actions)
    export.copy(as_python, texts.PYTHON_DONE)
    assert told["error"] == [texts.NO_RESULT]


def test_regions_of_a_painted_layer_are_saved(
    export, qtbot, viewer, told, tmp_path, grid, monkeypatch
):
    export.refresh()
    assert not export.table.isEnabled()  # a mask is no layer of regions
    chi = viewer.layers[-1]
    maps = chi.metadata["qsm"]["maps"]
    regions = np.zeros(grid.shape, np.uint8)
    regions[8:12, 10:14, 8:12] = 1
    regions[12:16, 10:14, 8:12] = 4
    painted = Labels(
        to_display(regions, grid),
        name="nuclei",
        **{name: getattr(chi, name) for name in ("scale", "translate", "affine")},
    )
    viewer.add_layer(painted)
    viewer.layers.selection.active = chi
    where = "napari_qsm.widgets.export_menu.QFileDialog.getSaveFileName"
    monkeypatch.setattr(where, lambda *_: (str(tmp_path / "mine"), "CSV"))
    click(export, qtbot, export.table)
    qtbot.waitUntil(lambda: bool(told["info"] or told["error"]), timeout=10_000)
    assert not told["error"]
    with (tmp_path / "mine.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["label"] for row in rows] == ["1", "4"]
    for row, label in zip(rows, (1, 4), strict=True):
        expected = maps[Quantity.CHI][regions == label].mean(dtype=float)
        assert float(row["mean [ppm]"]) == pytest.approx(expected, rel=1e-5, abs=1e-8)
        assert float(row["volume [ml]"]) == pytest.approx(64 * 1.5 / 1000)


def test_labels_of_another_grid_are_refused_in_words(export, qtbot, viewer, told, tmp_path):
    viewer.add_layer(Labels(np.ones((5, 6, 7), np.uint8), name="elsewhere"))
    export.save_table(tmp_path / "x.csv")
    qtbot.waitUntil(lambda: bool(told["error"]), timeout=10_000)
    assert "'elsewhere'" in told["error"][0]
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.window
def test_the_canvas_is_saved_as_a_picture(make_napari_viewer, qtbot, told, tmp_path):
    from napari_qsm.widgets.reconstruct import ReconstructWidget

    viewer = make_napari_viewer()
    viewer.add_image(np.eye(16))
    dock = ReconstructWidget(viewer)
    qtbot.addWidget(dock, before_close_func=lambda w: w.shut_down())
    dock.view.export.save_screenshot(tmp_path / "canvas")
    qtbot.waitUntil(lambda: bool(told["info"] or told["error"]), timeout=10_000)
    assert (tmp_path / "canvas.png").read_bytes().startswith(b"\x89PNG")
    WorkerBase.await_workers(10_000)
