"""A dock's column is never narrower than what it holds."""

from qtpy.QtWidgets import QPushButton, QScrollArea, QWidget

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
