"""A dock's column: never narrower than what it holds, and its sections fold."""

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QPushButton, QScrollArea, QToolButton, QWidget

from napari_qsm.widgets.dock_layout import lay_out


def test_a_panel_that_grows_widens_the_dock(qtbot):
    dock, panel = QWidget(), QPushButton("x")
    qtbot.addWidget(dock)
    lay_out(dock, {"Heading": [panel]}, [])
    dock.show()
    scroll = dock.findChild(QScrollArea)
    bar = scroll.verticalScrollBar().sizeHint().width()
    assert dock.minimumSizeHint().width() >= scroll.widget().minimumSizeHint().width() + bar
    panel.setMinimumWidth(700)
    qtbot.waitUntil(lambda: dock.minimumSizeHint().width() >= 700 + bar)
    qtbot.waitUntil(lambda: scroll.viewport().width() >= scroll.widget().minimumSizeHint().width())


def test_a_click_on_a_heading_folds_what_is_under_it_and_another_brings_it_back(qtbot):
    dock, first, second = QWidget(), QPushButton("x"), QPushButton("y")
    qtbot.addWidget(dock)
    first.setMinimumHeight(300)
    lay_out(dock, {"Input": [first], "Method": [second]}, [])
    dock.resize(300, 400)
    dock.show()
    qtbot.waitExposed(dock)
    headings = {button.text(): button for button in dock.findChildren(QToolButton)}
    assert set(headings) == {"Input", "Method"}
    before = second.mapTo(dock, second.rect().topLeft()).y()
    qtbot.mouseClick(headings["Input"], Qt.MouseButton.LeftButton)
    assert not first.isVisible()
    assert second.isVisible()
    assert headings["Input"].isVisible()
    qtbot.waitUntil(lambda: second.mapTo(dock, second.rect().topLeft()).y() < before - 200)
    qtbot.mouseClick(headings["Input"], Qt.MouseButton.LeftButton)
    assert first.isVisible()
