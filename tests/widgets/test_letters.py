"""Letters at the borders, the convention, and the notice, whatever comes and goes."""

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_qsm.acquisition import Quantity
from napari_qsm.widgets import texts
from napari_qsm.widgets.compare import CompareWidget
from napari_qsm.widgets.convention import convention_of, set_convention
from napari_qsm.widgets.view_panel import ViewPanel, show_grid


@pytest.fixture
def dock(viewer, qtbot):
    made = CompareWidget(viewer)
    qtbot.addWidget(made, before_close_func=lambda w: w.shut_down())
    return made


def said(viewer):
    """Left, right, top and bottom, once everything has come to rest."""
    QApplication.processEvents()
    overlays = viewer.canvas.overlays
    names = ("middle_left", "middle_right", "top_center", "bottom_center")
    return [overlays[f"border_{name}"].text.strip() for name in names]


def test_letters_of_the_main_canvas_follow_plane_convention_and_3d(dock, viewer):
    set_convention(viewer, texts.RADIOLOGICAL)
    assert said(viewer) == ["R", "L", "A", ""]
    dock.convention.setCurrentText(texts.NEUROLOGICAL)
    assert said(viewer) == ["L", "R", "A", ""]
    viewer.dims.order = (1, 0, 2)
    assert said(viewer)[:3] == ["L", "R", "S"]
    viewer.dims.order = (0, 1, 2)
    viewer.dims.ndisplay = 3
    viewer.scene.camera.set_view_direction((0, -1, 0), (1, 0, 0))  # from the front
    assert said(viewer)[:3] == ["R", "L", "S"]
    set_convention(viewer, texts.RADIOLOGICAL)
    assert dock.convention.currentText() == texts.RADIOLOGICAL


def test_a_camera_that_looks_neither_way_becomes_radiological_and_a_choice_stays(viewer, qtbot):
    assert viewer.scene.camera.orientation[1] != "up"  # as napari has it
    first, second = ViewPanel(viewer), ViewPanel(viewer)
    for panel in (first, second):
        qtbot.addWidget(panel)
        assert panel.convention.currentText() == convention_of(viewer) == texts.RADIOLOGICAL
    first.convention.setCurrentText(texts.NEUROLOGICAL)
    assert second.convention.currentText() == texts.NEUROLOGICAL
    third = ViewPanel(viewer)
    qtbot.addWidget(third)
    assert convention_of(viewer) == texts.NEUROLOGICAL
    for panel in (first, second, third):
        panel.disconnect_viewer()


def test_the_notice_names_the_side_only_where_no_letters_do(viewer, qtbot):
    notice = viewer.canvas.overlays.text
    set_convention(viewer, texts.NEUROLOGICAL)
    assert notice.text == f"L on the left · {texts.RESEARCH_ONLY}"
    dock = CompareWidget(viewer)
    assert notice.text == texts.RESEARCH_ONLY
    dock.shut_down()
    assert notice.text == f"L on the left · {texts.RESEARCH_ONLY}"
    dock.deleteLater()


@pytest.mark.window
def test_boxes_come_and_go_while_long_names_move_the_letters(make_napari_viewer, add, brain, qtbot):
    """Names that crowd the upper border move a letter down, in every box there is then."""
    viewer = make_napari_viewer(show=True)
    dock = CompareWidget(viewer)
    qtbot.addWidget(dock, before_close_func=lambda w: w.shut_down())
    viewer.window.resize(900, 600)
    add(viewer, brain * 0.1, Quantity.CHI, name="short")
    show_grid(viewer, True)
    qtbot.wait(50)
    assert said(viewer) == ["R", "L", "A", ""]
    long = 2 * "a name that takes the whole of a box and more "
    for number in range(2):
        add(viewer, np.full(brain.shape, 0.1), Quantity.CHI, name=f"{long}{number}")
        qtbot.wait(50)  # napari draws, and says so if it cannot
    assert said(viewer) == ["R", "L", "", "P"]
    for layer in list(viewer.layers)[1:]:
        viewer.layers.remove(layer)
        qtbot.wait(50)
    assert said(viewer) == ["R", "L", "A", ""]
    show_grid(viewer, False)
    qtbot.wait(50)
