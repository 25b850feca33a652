"""The window the command line and the demo open: its docks in the order of work."""

import pytest
from qtpy.QtWidgets import QTabBar

from napari_qsm.widgets import window


@pytest.mark.window
def test_tabs_are_whole_and_in_the_order_of_work(make_napari_viewer, monkeypatch, qtbot):
    monkeypatch.setattr(window.napari, "Viewer", lambda **_: make_napari_viewer())
    monkeypatch.setattr(window.gc, "freeze", lambda: None)  # it would last beyond this test
    made = window.make_window()
    main = made.viewer.window._qt_window
    main.resize(1680, 1050)
    main.show()
    titles = list(window.TABS.values())

    def tabs():
        bars = main.findChildren(QTabBar)
        return next((b for b in bars if [b.tabText(i) for i in range(b.count())] == titles), None)

    qtbot.waitUntil(lambda: tabs() is not None and tabs().isVisible(), timeout=5000)
    bar = tabs()
    assert titles == ["Prepare", "Reconstruct", "Explore", "Compare"]
    assert bar.tabText(bar.currentIndex()) == "Prepare"
    for index, title in enumerate(titles):
        assert bar.tabRect(index).width() >= bar.fontMetrics().horizontalAdvance(title)
    assert bar.tabRect(len(titles) - 1).right() <= bar.width()
    for dock in (made.prepare, made.reconstruct, made.explore):
        dock.shut_down()
