"""A raw head reconstructed in the window gives the map that ``napari-qsm run`` does."""

import shlex

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from superqt.utils import WorkerBase
from typer.testing import CliRunner

from napari_qsm.acquisition import Quantity
from napari_qsm.cli import app
from napari_qsm.io.nifti import read_volume, write_volume
from napari_qsm.pipeline import Recipe
from napari_qsm.training.raw_head import sample_raw_head
from napari_qsm.widgets.prepare import PrepareWidget
from napari_qsm.widgets.reconstruct import ReconstructWidget
from napari_qsm.workbench.layers import quantity_of
from napari_qsm.workbench.preparation import Preparation
from napari_qsm.workbench.report import as_command, as_python

STAGES = {"mask": "threshold", "unwrap": "laplacian", "relaxation": "none", "background": "vsharp"}
SETTINGS = {"max_iterations": 25}


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """Words that name the raw files of a small head and state its constants."""
    monkeypatch.chdir(tmp_path)
    head = sample_raw_head("healthy", 5.0).acquisition
    for quantity in (Quantity.PHASE, Quantity.MAGNITUDE):
        stated = {"EchoTime": list(head.echo_times), "MagneticFieldStrength": 3.0}
        path = tmp_path / f"{quantity.key}.nii.gz"
        write_volume(path, head[quantity], head.grid, stated)
    return tmp_path / "phase.nii.gz", tmp_path / "magnitude.nii.gz"


@pytest.fixture
def window(raw, qtbot, monkeypatch):
    """Both docks on one viewer, the head prepared in the one and handed over to the other."""
    recipe = Recipe()
    for place, key in STAGES.items():
        recipe = recipe.stating(place, key)
    monkeypatch.setattr("napari_qsm.widgets.prepare.Preparation", lambda: Preparation(recipe))
    viewer = ViewerModel()
    prepare, reconstruct = PrepareWidget(viewer), ReconstructWidget(viewer)
    for dock in (prepare, reconstruct):
        qtbot.addWidget(dock, before_close_func=lambda w: w.shut_down())
    prepare.open(list(raw))
    qtbot.waitUntil(lambda: prepare.preparation.measured is not None, timeout=30_000)
    qtbot.waitUntil(lambda: prepare.layers.settled, timeout=30_000)
    qtbot.mouseClick(prepare.run.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: prepare.preparation.complete, timeout=60_000)
    qtbot.waitUntil(lambda: reconstruct.inputs.roles["noise"].layer is not None, timeout=30_000)
    yield viewer, reconstruct
    for dock in (prepare, reconstruct):
        dock.shut_down()
    WorkerBase.await_workers(10_000)


def typed(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, (words, result.stderr)


def reconstructed(dock, qtbot):
    """Press *Reconstruct* and return the maps."""
    bench, made = dock.workbench, []
    bench.result_added.connect(made.append)
    bench.choose_method("tv")
    for name, value in SETTINGS.items():
        bench.set_parameter(name, value)
    qtbot.waitUntil(dock.run.button.isEnabled, timeout=30_000)
    qtbot.mouseClick(dock.run.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: bool(made), timeout=60_000)
    return made[-1].maps


def test_window_and_command_line_give_the_same_map_of_a_raw_head(raw, window, qtbot, capsys):
    _, dock = window
    maps = reconstructed(dock, qtbot)
    chi = maps[Quantity.CHI]
    assert any("one over its noise variance" in note for note in maps.provenance.notes)

    phase, magnitude = raw
    stages = [word for pair in STAGES.items() for word in ("--stage", "=".join(pair))]
    settings = [w for name, value in SETTINGS.items() for w in ("--set", f"method.{name}={value}")]
    where = ("--method", "tv", "--device", "cpu", "-o", "run", "--stem", "x")
    typed("run", phase, "--magnitude", magnitude, *stages, *settings, *where)
    assert np.abs(chi).max() > 0.05
    assert np.abs(read_volume("run/x_Chimap.nii.gz").data - chi).max() < 1e-6

    lines = [line for line in as_command(maps, "again").splitlines() if line[:1] != "#"]
    assert [line.split()[1] for line in lines] == ["prepare", "reconstruct"]
    assert "--noise again/again_desc-noise_fieldmap.nii.gz" in lines[1]
    for line in lines:
        typed(*shlex.split(line)[1:])
    assert np.array_equal(read_volume("again/again_Chimap.nii.gz").data, chi)
    exec(compile(as_python(maps), "again.py", "exec"), {"__name__": "again"})
    assert np.array_equal(read_volume("results/again_Chimap.nii.gz").data, chi)
    assert "will differ" not in capsys.readouterr().out


def test_without_the_noise_the_map_is_another_one(window, qtbot):
    viewer, dock = window
    weighted = reconstructed(dock, qtbot)
    noise = next(layer for layer in viewer.layers if quantity_of(layer) is Quantity.FIELD_NOISE)
    viewer.layers.remove(noise)
    qtbot.waitUntil(lambda: dock.workbench.inputs.noise is None, timeout=10_000)
    plain = reconstructed(dock, qtbot)
    assert any("the squared magnitude" in note for note in plain.provenance.notes)
    assert np.abs(plain[Quantity.CHI] - weighted[Quantity.CHI]).max() > 1e-4


def test_a_noise_map_that_cannot_be_one_is_refused_in_words(window, qtbot):
    _, dock = window
    noise = dock.inputs.roles["noise"].layer
    noise.data = -noise.data
    qtbot.waitUntil(lambda: "never negative" in dock.findings.text(), timeout=10_000)
    assert not dock.run.button.isEnabled()
