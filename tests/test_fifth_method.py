"""A method added in one place appears in the window, on the command line and in the docs."""

import numpy as np
import pytest
from napari.components import ViewerModel
from typer.testing import CliRunner

from napari_qsm import listing
from napari_qsm.acquisition import Grid, Maps, Quantity
from napari_qsm.cli import app
from napari_qsm.io.nifti import read_volume, write_volume
from napari_qsm.methods.registry import Parameters, Step, method, parameter, unregister
from napari_qsm.widgets.reconstruct import ReconstructWidget


@pytest.fixture
def fifth():
    class Scaled(Parameters):
        factor: float = parameter(3.0, "What the field is multiplied by.", low=0.1, high=10.0)

    @method(key="fifth", label="Fifth", summary="A toy.", parameters=Scaled, references=("10/x",))
    def scaled(acquisition, parameters, device):
        yield Step(0.0, "multiplying")
        chi = parameters.factor * acquisition[Quantity.LOCAL_FIELD] * acquisition.mask
        return Maps(acquisition.grid, {Quantity.CHI: chi})

    yield
    unregister("fifth")


def test_it_has_a_form_in_the_window(fifth, qtbot):
    dock = ReconstructWidget(ViewerModel())
    qtbot.addWidget(dock, before_close_func=lambda w: w.shut_down())
    dock.method.combo.setCurrentIndex(dock.method.combo.findData("fifth"))
    assert dock.method.form.controls["factor"].value == 3.0
    assert "A toy." in dock.method.summary.text()


def test_it_runs_from_the_command_line(fifth, tmp_path):
    field = np.random.default_rng(0).normal(0, 0.01, (8, 9, 10)).astype(np.float32)
    path = write_volume(
        tmp_path / "f.nii.gz", field, Grid(field.shape, np.eye(4)), {"Units": "ppm"}
    )
    wanted = ["reconstruct", str(path), "--method", "fifth", "--set", "factor=2"]
    done = CliRunner().invoke(app, [*wanted, "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert np.allclose(read_volume(tmp_path / "out/Chimap.nii.gz").data, 2 * field)


def test_it_is_in_the_table_of_the_docs(fifth):
    assert "**fifth**" in listing.markdown()
    assert "factor" in listing.markdown()
