"""A separation of raw data with rates that were measured beside it is exported with their files."""

import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_qsm import pipeline
from napari_qsm.acquisition import InputError, Quantity
from napari_qsm.cli import app
from napari_qsm.generators import finished
from napari_qsm.io.importer import Corrections, open_source
from napari_qsm.io.nifti import read_volume, write_volume
from napari_qsm.pipeline import Recipe
from napari_qsm.preparation.rates import with_rates
from napari_qsm.training.raw_head import sample_raw_head
from napari_qsm.workbench.report import as_command, as_python

MADE = (Quantity.CHI_POS, Quantity.CHI_NEG)

RECIPE = (
    Recipe()
    .stating("mask", "given")
    .stating("unwrap", "laplacian")
    .stating("background", "vsharp")
    .stating("method", "closed_form", {"inversion": "tkd"})
)


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A raw head from files in the folder one is in."""
    monkeypatch.chdir(tmp_path)
    head = sample_raw_head("healthy", 5.0)
    mask = head.truth[Quantity.MASK]
    volumes = {**head.acquisition.volumes, Quantity.MASK: mask}
    paths = {
        q: write_volume(tmp_path / f"{q.key}.nii.gz", volumes[q], head.acquisition.grid)
        for q in (Quantity.PHASE, Quantity.MAGNITUDE, Quantity.MASK)
    }
    phase, magnitude, mask = paths.values()
    opening = open_source([phase], magnitude=[magnitude], mask=mask)
    stated = Corrections(echo_times=head.acquisition.echo_times, field_strength=3.0)
    with finished(opening) as source:
        return source.load(source.measurements[0], stated)


@pytest.mark.parametrize(
    ("quantity", "level"), [(Quantity.R2, 11.0), (Quantity.R2PRIME, 6.0)], ids=["R2", "R2'"]
)
def test_the_file_of_a_rate_is_read_again_by_script_and_command(
    measured, tmp_path, capsys, quantity, level
):
    rng = np.random.default_rng(0)
    uneven = (level * rng.uniform(0.8, 1.2, measured.grid.shape)).astype(np.float32)
    path = write_volume(tmp_path / "rate of me.nii.gz", uneven, measured.grid, {"Units": "1/s"})
    acquisition = with_rates(measured, {quantity: read_volume(path)})
    prepared = finished(pipeline.prepare(acquisition, RECIPE)).acquisition
    maps = finished(pipeline.reconstruct(prepared, RECIPE))
    without = finished(pipeline.prepare(measured, RECIPE)).acquisition
    other = finished(pipeline.reconstruct(without, RECIPE))
    assert not np.array_equal(maps[MADE[0]], other[MADE[0]])

    Path("again.py").write_text(as_python(maps))
    runpy.run_path("again.py")
    assert "not those of the result" not in capsys.readouterr().out
    program, *words = shlex.split(as_command(maps, "typed"))
    assert program == "napari-qsm"
    assert words[words.index(f"--{quantity.key}") + 1] == str(path)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    for folder in ("results", "typed"):
        for kind, name in zip(MADE, ("paramagnetic", "diamagnetic"), strict=True):
            again = read_volume(f"{folder}/again_desc-{name}_Chimap.nii.gz").data
            assert np.array_equal(again, maps[kind]), (folder, name)


def test_a_rate_on_another_grid_is_refused_by_the_name_of_its_file(measured, tmp_path):
    grid = sample_raw_head("healthy", 6.0).acquisition.grid
    path = write_volume(tmp_path / "coarse.nii.gz", np.ones(grid.shape, np.float32), grid)
    with pytest.raises(InputError, match=r"R2 in coarse\.nii\.gz .*resample it"):
        with_rates(measured, {Quantity.R2: read_volume(path)})
