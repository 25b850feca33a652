"""A network is adapted to the patient in the window: two maps, their curves, their figures."""

import re
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt
from superqt.utils import WorkerBase

from napari_qsm.acquisition import Quantity
from napari_qsm.methods import guard
from napari_qsm.networks.weights import FOLDER_VARIABLE, find, load_network, write
from napari_qsm.process import Step
from napari_qsm.widgets.run_curves import RunCurves
from napari_qsm.widgets.weights_choice import WeightsChoice
from napari_qsm.workbench.adapting import adaptation, chooses_network
from napari_qsm.workbench.job import Job
from napari_qsm.workbench.layers import quantity_of


def choose(dock, key, **settings):
    dock.workbench.settings[key] = settings
    dock.method.combo.setCurrentIndex(dock.method.combo.findData(key))


def click(button, qtbot):
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def adapt(dock, qtbot):
    click(dock.adapt.button, qtbot)
    qtbot.waitUntil(lambda: bool(dock.adapt.table.text()), timeout=60_000)


def of(maps):
    """Numbers of the second and third column of the table's rows, by name."""
    rows = re.findall(r"<tr><td>(.*?)</td>(.*?)</tr>", maps)
    return {name: re.findall(r"&nbsp; ([\d.–e+]+)<", cells) for name, cells in rows}


def test_adapt_brings_two_maps_with_their_curves_and_figures(dock, qtbot, viewer):
    dock.workbench.settings["pdi_vi"] = {"iterations": 25}
    choose(dock, "pdi")
    assert "'pdi'" in dock.adapt.button.toolTip()
    assert "PDI-VI" in dock.adapt.button.toolTip()
    adapt(dock, qtbot)
    assert [title.split()[0] for title in dock.results] == ["PDI", "PDI-VI"]

    assert set(dock.curves.series) == {"elbo", "residual", "sigma"}
    assert len(dock.curves.iterations) > 2
    assert dock.curves.iterations == sorted(set(dock.curves.iterations))
    assert dock.curves.curve("elbo")[-1] < dock.curves.curve("elbo")[0]  # it is -ELBO
    assert dock.curves.curve("residual")[0] == pytest.approx(100)
    assert "mean σ" in dock.curves.others.text()

    shown = [layer for layer in viewer.layers if layer.visible]
    assert sorted(quantity_of(layer).key for layer in shown) == ["chi", "chi", "sigma", "sigma"]
    assert viewer.canvas.grid.enabled
    told = of(dock.adapt.table.text())
    for column, method in enumerate(("pdi", "pdi_vi")):
        maps = next(
            layer.metadata["qsm"]["maps"]
            for layer in shown
            if layer.metadata["qsm"]["method"] == method
        )
        inside = maps[Quantity.SIGMA] > 0
        sigma = 1000 * maps[Quantity.SIGMA][inside].mean()
        residual = 1000 * np.sqrt(np.square(maps[Quantity.RESIDUAL][inside]).mean())
        assert float(told["mean σ [ppb]"][column]) == pytest.approx(sigma, rel=0.01)
        assert float(told["residual [ppb]"][column]) == pytest.approx(residual, rel=0.01)
    assert "do not belong" not in dock.adapt.table.text()
    assert dock.adapt.button.isEnabled()


def test_a_map_that_is_there_already_is_not_made_again(dock, qtbot):
    dock.workbench.settings["pdi_vi"] = {"iterations": 2}
    choose(dock, "pdi")
    click(dock.run.button, qtbot)
    qtbot.waitUntil(lambda: len(dock.results) == 1 and dock.layers.settled, timeout=30_000)
    choose(dock, "tv")  # the network's result is still in view
    assert dock.adapt.button.isVisibleTo(dock)
    adapt(dock, qtbot)
    assert len(dock.results) == 2
    dock.workbench.settings["pdi"] = {"consistency": 5.0}  # not the map that is there
    choose(dock, "pdi", consistency=5.0)
    dock.adapt.table.clear()
    adapt(dock, qtbot)
    assert len(dock.results) == 4


def test_a_network_without_sigma_is_edited_by_fine(dock, qtbot):
    dock.workbench.settings["fine"] = {"iterations": 3, "discrepancy": 0.0}
    choose(dock, "qsmnet")
    adapt(dock, qtbot)
    assert [title.split()[0] for title in dock.results] == ["QSMnet", "FINE"]
    assert "mean σ" not in dock.adapt.table.text()


def test_the_method_that_adapts_keeps_to_its_own_choice(dock):
    choose(dock, "fine", weights="pdi")
    plan = adaptation(dock.workbench)
    assert (plan.before.method.key, plan.after.method.key) == ("pdi", "fine")
    assert plan.after.parameters.weights == plan.before.parameters.weights == "pdi"


def test_cancel_ends_the_adaptation_and_leaves_no_thread(dock, qtbot):
    dock.workbench.settings["pdi_vi"] = {"iterations": 1000}
    choose(dock, "pdi")
    click(dock.adapt.button, qtbot)
    qtbot.waitUntil(lambda: len(dock.curves.iterations) > 1, timeout=60_000)
    assert not dock.adapt.button.isEnabled()
    click(dock.run.button, qtbot)
    qtbot.waitUntil(lambda: dock.workbench.job is None, timeout=10_000)
    assert not dock.adapt.running
    assert dock.adapt.button.isEnabled()
    assert len(dock.results) == 1
    assert not dock.adapt.table.text()
    qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=10_000)
    qtbot.waitUntil(
        lambda: all(t.name != "napari-qsm network" for t in threading.enumerate()), timeout=10_000
    )


def test_without_weights_one_sentence_says_so_and_all_else_goes_on(
    dock, qtbot, monkeypatch, tmp_path
):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "none"))
    monkeypatch.setattr("napari_qsm.networks.weights.shipped_folder", lambda: None)
    choose(dock, "pdi")
    assert not dock.adapt.button.isEnabled()
    assert "There are no weights 'pdi'" in dock.adapt.what.text()
    assert "not there" in dock.method.form.controls["weights"].combo.currentText()
    click(dock.run.button, qtbot)
    qtbot.waitUntil(lambda: "There are no weights" in dock.run.status.text(), timeout=10_000)
    choose(dock, "tkd")
    assert not dock.adapt.button.isVisibleTo(dock)
    assert not dock.adapt.what.isVisibleTo(dock)
    click(dock.run.button, qtbot)
    qtbot.waitUntil(lambda: len(dock.results) == 1, timeout=30_000)


def test_weights_are_offered_by_title_and_their_cards_are_told(qtbot, dock):
    made = WeightsChoice(["pdi", "qsmnet"], "qsmnet")
    qtbot.addWidget(made)
    assert made.value == "qsmnet"
    with qtbot.waitSignal(made.changed) as signal:
        made.combo.setCurrentIndex(0)
    assert signal.args == ["pdi"]
    assert find("pdi").title in made.combo.currentText()
    assert "1 to 1.8 mm" in made.combo.toolTip()
    assert "times 1.5" in made.combo.toolTip()
    networks = ("pdi", "pdi_vi", "qsmnet", "uqsm", "lpcnn", "fine")
    for key, method in dock.workbench.methods.items():
        for name, field in method.parameters.model_fields.items():
            if name == "weights":  # of voxels, or of a network
                assert chooses_network(name, field) is (key in networks or "sepnet" in key)


def test_methods_that_say_how_sure_they_are_say_what_that_leaves_out(dock):
    choose(dock, "pdi_vi")
    assert "cone" in dock.method.summary.toolTip()
    choose(dock, "tkd")
    assert "cone" not in dock.method.summary.toolTip()


def test_the_guards_own_sentences_are_known_and_its_map_becomes_a_layer(
    dock, qtbot, viewer, networks, monkeypatch, tmp_path
):
    network, card = load_network("pdi")
    network.requires_grad_(False)
    for weight in network.parameters():
        weight.mul_(0)  # it knows nothing and is sure of it
    write(replace(card, statistics={"noise": [10.0, 11.0]}), network, tmp_path)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    field = next(x for x in viewer.layers if quantity_of(x) is Quantity.LOCAL_FIELD)
    field.data[12:14, 12:16, 10:14] += 5.0
    choose(dock, "pdi")
    click(dock.run.button, qtbot)
    qtbot.waitUntil(lambda: len(dock.results) == 1 and dock.layers.settled, timeout=30_000)
    made = viewer.layers[-1].metadata["qsm"]["maps"]
    said = guard.said(made.provenance.notes)
    assert sum(said.values()) >= 2  # another kind of field, and it explains too little of it
    assert sum(not alarm for alarm in said.values()) == 1  # how much it leaves
    assert dock.run.status.text().count("▲") == sum(said.values())
    assert Quantity.UNRELIABLE in {quantity_of(layer) for layer in viewer.layers}


def test_what_the_guard_says_stands_out_and_long_notes_scroll(dock, qtbot):
    dock.resize(420, 900)
    dock.show()
    warning = "This field lies outside what the network learned from: it is noisier."
    dock.run.show_outcome("Done.", ["An assumption.", warning])
    large, small = dock.run.status.text().split("<small")
    assert "▲" in large
    assert warning in large
    assert "An assumption." in small
    qtbot.wait(50)
    low = dock.run.height()
    dock.run.show_outcome("Done.", ["An assumption that takes some words to say."] * 30)
    qtbot.waitUntil(lambda: dock.run.height() > low, timeout=5000)
    assert dock.run.height() < low + 120
    dock.run.show_outcome("Done.")
    qtbot.waitUntil(lambda: dock.run.height() <= low, timeout=5000)


def test_curves_draw_what_any_method_reports(qtbot):
    curves = RunCurves()
    qtbot.addWidget(curves)
    curves.add({"change": 0.5})  # no iteration, no point
    for iteration, change in ((0, 1.0), (1, 0.1), (1, 0.05), (2, 0.01), (0, 0.5), (1, 0.2)):
        curves.add({"change": change, "iteration": iteration})
    assert curves.iterations == [0, 1, 2, 3]  # a nested solver began anew after the second
    assert curves.series["change"] == [1.0, 0.05, 0.5, 0.2]
    assert not curves.isHidden()
    curves.begin()
    assert curves.isHidden()
    assert not curves.iterations


def test_a_figure_told_between_two_reports_is_not_lost():
    def work():
        yield Step(0.1, "begun", values={"iteration": 1.0})
        time.sleep(0.12)
        yield Step(0.2, "still at it")
        return 1

    job = Job(work, interval=0.1)
    assert [progress.values for progress in job.run()] == [{"iteration": 1.0}]
