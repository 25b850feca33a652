"""One stage by itself, and what there is to choose from."""

import json

import nibabel as nib
import numpy as np
import pytest

from napari_qsm.pipeline import Recipe, presets, read_preset
from napari_qsm.preparation.registry import stages


@pytest.fixture
def field(save_raw, echoes, tmp_path):
    """Files with a total field in Hz at 3 T and a mask."""
    mask = np.zeros(echoes[0].shape[:3], np.uint8)
    mask[2:-2, 2:-2, 2:-2] = 1
    values = np.random.default_rng(1).normal(0, 20, mask.shape).astype(np.float32)
    save_raw(tmp_path / "field.nii.gz", values)
    (tmp_path / "field.json").write_text('{"Units": "Hz", "MagneticFieldStrength": 3}')
    save_raw(tmp_path / "mask.nii.gz", mask)
    return values, mask


@pytest.fixture
def alone(run, tmp_path, toys):
    """Run one stage on the field and the mask."""

    def invoke(key, *more, **files):
        files = {"total_field": "field.nii.gz", "mask": "mask.nii.gz"} | files
        given = [w for q, f in files.items() if f for w in ("--input", f"{q}={tmp_path / f}")]
        return run("stage", key, *given, "-o", tmp_path / "out", "--device", "cpu", *more)

    return invoke


def test_one_stage_runs_by_itself(alone, field, tmp_path):
    result = alone("toy_background", "--set", "scale=2", "--stem", "x")
    assert (result.exit_code, result.stderr) == (0, "")
    values, mask = field
    local = nib.load(tmp_path / "out" / "x_desc-local_fieldmap.nii.gz").get_fdata()
    inside = mask.astype(bool)
    inside[-1] = False
    assert np.allclose(local, 2 * values / 127.732 * inside, rtol=1e-4)
    assert "from Hz to ppm" in result.stdout
    assert "note: toy_background did it." in result.stdout
    made = json.loads((tmp_path / "out" / "x_mask.json").read_text())["Provenance"]
    assert made["method"] == "toy_background"
    assert made["parameters"]["scale"] == 2
    assert made["sources"]["total_field"] == str(tmp_path / "field.nii.gz")


def test_phases_come_in_their_own_scale(alone, save_raw, echoes, tmp_path):
    stored = np.round((echoes[0] + np.pi) / (2 * np.pi) * 4095).astype(np.int16)
    stored[0, 0, 0], stored[0, 0, 1] = 0, 4095
    save_raw(tmp_path / "phase.nii.gz", stored)
    given = {"phase": "phase.nii.gz", "total_field": "", "mask": ""}
    result = alone("toy_unwrap", "--te", "0.004,0.008,0.012", "--b0", "3", **given)
    assert (result.exit_code, result.stderr) == (0, "")
    made = nib.load(tmp_path / "out" / "desc-unwrapped_phase.nii.gz").get_fdata()
    apart = np.angle(np.exp(1j * (made - echoes[0])))
    assert np.abs(np.delete(apart.reshape(-1, 3), 0, axis=0)[2:]).max() < 4e-3


def test_rates_per_millisecond_become_rates_per_second(alone, save_raw, field, tmp_path):
    values = np.random.default_rng(1).uniform(0.02, 0.05, field[0].shape).astype(np.float32)
    for name, factor, unit in (("r2star", 1, "1/ms"), ("r2", 500, "1/s")):
        save_raw(tmp_path / f"{name}.nii.gz", factor * values)
        (tmp_path / f"{name}.json").write_text(json.dumps({"Units": unit}))
    given = {"r2star": "r2star.nii.gz", "r2": "r2.nii.gz", "total_field": ""}
    result = alone("r2prime", **given)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "from 1/ms to 1/s" in result.stdout
    made = nib.load(tmp_path / "out" / "R2primemap.nii.gz").get_fdata()
    assert np.allclose(made, 500 * values * field[1], rtol=1e-4)


@pytest.mark.parametrize(
    ("key", "more", "files", "words"),
    [
        ("nothing", (), {}, "There is no stage 'nothing'"),
        ("toy_background", (), {"mask": ""}, "needs a mask"),
        ("toy_background", (), {"skull": "mask.nii.gz"}, "'skull' names no quantity"),
        ("toy_background", (), {"r2": "field.nii.gz"}, "has no use for a R2"),
        ("toy_background", (), {"mask": "absent.nii"}, "absent.nii"),
        ("toy_background", (), {"mask": "field.nii.gz"}, "The mask holds values"),
        ("toy_background", ("--input", "mask"), {}, "QUANTITY=FILE"),
        ("toy_background", ("--input", "mask=x.nii"), {}, "twice"),
        ("toy_background", ("--set", "scale=99"), {}, "cannot use scale"),
        ("toy_background", ("--set", "fails=true"), {}, "was told to fail"),
        ("toy_background", ("--te", "4"), {}, "seconds"),
        ("toy_background", ("--b0-dir", "0,0,0"), {}, "no direction"),
    ],
)
def test_a_wrong_stage_is_one_sentence(alone, refused, field, below, key, more, files, words):
    before = below()
    refused(alone(key, *more, **files), words)
    assert below() == before


def test_what_one_stage_gives_is_not_overwritten(alone, refused, field, below, toys):
    assert alone("toy_background").exit_code == 0
    before = below()
    toys.LOG.clear()
    refused(alone("toy_background"), "exists already")
    assert (toys.LOG, below()) == ([], before)
    assert alone("toy_background", "--overwrite", "--set", "scale=3").exit_code == 0
    assert below() != before


def test_a_folder_is_looked_at(run, source, bids):
    bids("other")
    result = run("info", source)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    for name in ("sub-1_acq-other", "sub-1_acq-toy"):
        assert any(line.startswith(name) and "4" in line for line in lines)


def test_every_stage_is_listed_at_its_place(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    table, markdown = run("stages"), run("stages", "--markdown")
    assert (table.exit_code, markdown.exit_code) == (0, 0)
    for key, one in stages().items():
        place = one.place.label if one.place else "by itself"
        assert key in table.stdout
        row = next(r for r in markdown.stdout.splitlines() if f"**{key}**" in r)
        assert row.startswith(f"| {place}")
        assert f"**{key}**<br>{one.label}<br>{one.summary}" in row
    assert {line.count("|") for line in markdown.stdout.splitlines()} == {8}


def test_shipped_presets_can_be_read_and_say_all_that_they_mean(run):
    assert "papers" in presets()
    for name, path in presets().items():
        recipe = read_preset(name)
        assert isinstance(recipe, Recipe)
        assert path.name == f"{name}.toml"
        assert name in run("stages").stdout


def test_echoes_where_one_volume_belongs_and_a_phase_as_magnitude_are_refused(
    run, tmp_path, save_raw, echoes, refused
):
    phase = save_raw(tmp_path / "phase.nii.gz", echoes[0])
    mask = save_raw(tmp_path / "mask.nii.gz", np.ones(echoes[0].shape[:3], np.uint8))
    inputs = ("--input", f"total_field={phase}", "--input", f"mask={mask}")
    refused(run("stage", "vsharp", *inputs, "-o", tmp_path / "out"), "one 3D volume was expected")
    inputs = ("--input", f"magnitude={phase}", "--te", "0.004,0.008,0.012")
    refused(run("stage", "arlo", *inputs, "-o", tmp_path / "out"), "none is negative")
