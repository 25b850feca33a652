"""Opening, choosing and correcting a measurement in the Prepare dock."""

import time

import pytest
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent

from napari_qsm.acquisition import InputError
from napari_qsm.io.importer import Measurement
from napari_qsm.preparation.registry import Place
from napari_qsm.process import Step
from napari_qsm.widgets import texts
from napari_qsm.workbench.standing import State


@pytest.fixture
def viewer(bare):
    return bare.viewer


@pytest.fixture
def dock(bare):
    return bare.dock


SHAPE = (20, 22, 18)


class FakeSource:
    """A source of toys, with what the importer promises."""

    def __init__(self, toys, count=1, wrong=False):
        self.measurements = tuple(
            Measurement(f"run-{k + 1}", f"{k + 2} echoes, toy scanner") for k in range(count)
        )
        self.notes = ("A localizer was left aside.",)
        self.toys, self.wrong, self.closed, self.asked = toys, wrong, False, []

    def load(self, measurement, corrections):
        self.asked.append((measurement, corrections))
        if self.wrong and not corrections.echo_times:
            raise InputError("No echo times are stated; type them.")
        return self.toys.measurement(shape=SHAPE, echoes=self.measurements.index(measurement) + 2)

    def close(self):
        self.closed = True


def opening(monkeypatch, source, pause=0.0):
    def open_source(paths):
        for k in range(20):
            time.sleep(pause)
            yield Step(k / 20, "looking")
        return source

    monkeypatch.setattr("napari_qsm.widgets.source_reader.open_source", open_source)
    return source


def test_opening_a_folder_shows_echoes_on_a_slider_and_what_was_understood(
    bare, dock, toys, viewer, qtbot, monkeypatch, tmp_path
):
    opening(monkeypatch, FakeSource(toys))
    dock.open([tmp_path])
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=10_000)
    qtbot.waitUntil(lambda: dock.layers.settled, timeout=10_000)
    assert bare.names == ["magnitude", "phase"]
    assert viewer.dims.axis_labels == ("echo", "S", "A", "R")
    assert viewer.dims.point[0] == 0
    assert [layer.visible for layer in viewer.layers] == [True, False]
    assert dock.source.corrections.echo_times.placeholderText() == "4, 8"
    assert "toy scanner" in dock.source.summary.text()
    assert dock.run.button.isEnabled()
    dock.findings.linkActivated.emit("notes")
    assert "localizer" in dock.findings.text()


def test_of_several_measurements_the_user_chooses(dock, toys, qtbot, monkeypatch, tmp_path):
    source = opening(monkeypatch, FakeSource(toys, count=3))
    dock.open([tmp_path])
    qtbot.waitUntil(lambda: not dock.source.measurement.isHidden(), timeout=10_000)
    assert not source.asked
    assert "3 measurements" in dock.run.status.text()
    dock.source.measurement.setCurrentIndex(1)
    dock.source.measurement.activated.emit(1)
    qtbot.waitUntil(lambda: dock.preparation.measured is not None, timeout=10_000)
    assert source.asked[0][0].name == "run-2"
    assert len(dock.preparation.measured.echo_times) == 3


def test_a_correction_reads_the_same_measurement_again(
    bare, dock, toys, viewer, qtbot, monkeypatch, tmp_path
):
    source = opening(monkeypatch, FakeSource(toys, wrong=True))
    dock.open([tmp_path])
    qtbot.waitUntil(lambda: "No echo times" in dock.findings.text(), timeout=10_000)
    assert not dock.run.button.isEnabled()
    dock.source.corrections.echo_times.setText("5; 10")
    dock.source.corrections.echo_times.editingFinished.emit()
    qtbot.waitUntil(lambda: dock.preparation.measured is not None, timeout=10_000)
    assert source.asked[-1][1].echo_times == (0.005, 0.010)
    bare.prepare()
    assert bare.standing(State.DONE) == set(Place)
    before = list(viewer.layers)
    dock.source.corrections.flip.click()
    qtbot.waitUntil(lambda: bare.standing(State.STALE) == set(Place), timeout=10_000)
    qtbot.waitUntil(lambda: dock.layers.settled, timeout=10_000)
    assert list(viewer.layers) == before  # exchanged in place


def test_opening_can_be_cancelled_and_leaves_nothing(
    bare, dock, toys, qtbot, monkeypatch, tmp_path
):
    opening(monkeypatch, FakeSource(toys), pause=0.05)
    dock.open([tmp_path])
    qtbot.waitUntil(lambda: dock.run.bar.value() > 0, timeout=5000)
    assert dock.run.button.text() == texts.CANCEL
    bare.click()
    qtbot.waitUntil(lambda: dock.reader.job is None, timeout=5000)
    assert dock.run.button.text() == texts.PREPARE
    assert dock.reader.source is None


def test_a_source_is_closed_when_another_comes_and_when_the_dock_goes(
    dock, toys, qtbot, monkeypatch, tmp_path
):
    first = opening(monkeypatch, FakeSource(toys))
    dock.open([tmp_path])
    qtbot.waitUntil(lambda: dock.preparation.measured is not None, timeout=10_000)
    second = opening(monkeypatch, FakeSource(toys))
    dock.open([tmp_path])
    qtbot.waitUntil(lambda: dock.reader.source is second, timeout=10_000)
    assert first.closed
    dock.shut_down()
    assert second.closed


def test_what_cannot_be_opened_is_told(dock, qtbot, tmp_path):
    before = dock.run.status.text()
    dock.open([tmp_path / "missing"])
    qtbot.waitUntil(lambda: dock.reader.job is None, timeout=10_000)
    assert dock.run.status.text() != before
    assert not dock.run.button.isEnabled()


def test_a_dropped_folder_is_opened(dock, monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(dock, "open", opened.append)
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path))])
    event = QDropEvent(
        QPointF(5, 5),
        Qt.DropAction.CopyAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    dock.dropEvent(event)
    assert opened == [[tmp_path]]
