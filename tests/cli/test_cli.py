"""The jobs without a window."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from napari_qsm import __version__
from napari_qsm.acquisition import Quantity
from napari_qsm.methods.registry import Parameters, Step, method, methods, unregister


def test_a_reconstruction_writes_maps_and_says_what_it_did(good, reconstruct):
    result = reconstruct("--set", "strength=0.25")
    assert (result.exit_code, result.stderr) == (0, "")
    field, chi = (nib.load(good / name) for name in ("field.nii.gz", "out/Chimap.nii.gz"))
    assert np.allclose(chi.get_fdata(), 0.25 * field.get_fdata())
    assert np.array_equal(chi.affine, field.affine)
    made = json.loads((good / "out" / "Chimap.json").read_text())["Provenance"]
    assert made["method"] == "toy"
    assert made["parameters"] == {"strength": 0.25, "rounds": 2}
    assert made["sources"]["local_field"] == str(good / "field.nii.gz")
    assert "Toy on cpu" in result.stdout
    assert result.stdout.count("note: It was a toy.\n") == 1
    assert str(good / "out" / "Chimap.nii.gz") in result.stdout


def test_units_and_b0_can_be_stated(good, reconstruct):
    (good / "field.json").unlink()
    result = reconstruct("--unit", "rad", "--b0", "7", "--te", "0.01", "--b0-dir", "0,0,-2")
    assert result.exit_code == 0
    assert "to come from rad to ppm" in result.stdout
    stated = json.loads((good / "out" / "Chimap.json").read_text())
    assert stated["B0_dir"] == [0, 0, -1]
    assert (stated["MagneticFieldStrength"], stated["EchoTime"]) == (7, 0.01)


def test_existing_maps_are_replaced_only_when_told(good, reconstruct, tree):
    assert reconstruct().exit_code == 0
    before = tree()
    result = reconstruct()
    assert result.exit_code == 2
    assert "exists already" in result.stderr
    assert tree() == before
    result = reconstruct("--overwrite", "--set", "strength=1")
    assert result.exit_code == 0
    assert "earlier run" not in result.stdout
    assert tree() != before


def test_a_map_that_another_method_left_there_stays_and_is_named(good, reconstruct):
    (good / "out").mkdir()
    left = good / "out" / f"{Quantity.SIGMA.suffix}.nii.gz"
    left.write_bytes(b"kept")
    result = reconstruct()
    assert result.exit_code == 0
    assert f"note: {left.name} is of an earlier run and was left as it was." in result.stdout
    assert left.read_bytes() == b"kept"


def test_stems_keep_subjects_apart(good, reconstruct):
    assert reconstruct("--stem", "sub-1").exit_code == 0
    assert reconstruct("--stem", "sub-2").exit_code == 0
    assert len(list((good / "out").glob("sub-*_Chimap.nii.gz"))) == 2


def breaking(error):
    """Register a method that closes properly and fails with ``error``."""
    closed = []

    @method(
        key="breaking", label="Breaking", summary="", parameters=Parameters, references=(),
        gives=(Quantity.CHI,),
    )  # fmt: skip
    def reconstruct(acquisition, parameters, device):
        try:
            yield Step(0.5, "half way")
            raise error
        finally:
            closed.append(True)

    return closed


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (KeyboardInterrupt(), 130, "Cancelled; nothing was written."),
        (RuntimeError("two\nlines"), 1, "napari-qsm failed (RuntimeError: two lines); --debug"),
        (MemoryError(), 1, "The memory did not suffice"),
        (StopIteration(), 1, "RuntimeError"),
    ],
)
def test_failures_are_one_sentence_and_leave_nothing(reconstruct, tree, error, status, words):
    before, closed = tree(), breaking(error)
    try:
        result = reconstruct("--method", "breaking")
    finally:
        unregister("breaking")
    assert result.exit_code == status
    assert result.stderr.startswith(words) or words in result.stderr
    assert result.stderr.count("\n") == 1
    assert closed == [True]
    assert tree() == before


def test_debugging_shows_the_exception(run, good, monkeypatch):
    breaking(ZeroDivisionError("why"))
    arguments = ("reconstruct", good / "field.nii.gz", "--method", "breaking", "-o", good / "out")
    try:
        assert isinstance(run("--debug", *arguments).exception, ZeroDivisionError)
        monkeypatch.setenv("NAPARI_QSM_DEBUG", "1")
        assert isinstance(run(*arguments).exception, ZeroDivisionError)
    finally:
        unregister("breaking")


def test_every_method_is_listed(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "240")
    table, markdown = run("methods"), run("methods", "--markdown")
    assert (table.exit_code, markdown.exit_code) == (0, 0)
    for key, one in methods().items():
        assert key in table.stdout
        assert f"| **{key}**<br>{one.label}<br>" in markdown.stdout
    assert "strength = 0.5 (0 to 1)" in table.stdout
    assert "[10.1/toy](https://doi.org/10.1/toy)" in markdown.stdout
    assert {line.count("|") for line in markdown.stdout.splitlines()} == {7}


def test_info_says_what_was_understood(run, good):
    result = run("info", good / "field.nii.gz")
    assert result.exit_code == 0
    for words in (
        "8 x 9 x 10, float32",
        "4 x 4 x 4 mm",
        "RAS, along B0",
        "3 T",
        "20 ms",
        "ppm (st",
    ):
        assert words in result.stdout
    (good / "field.json").unlink()
    assert "ppm will be assumed" in run("info", good / "field.nii.gz").stdout


def test_info_of_nothing_but_nan(run, good, tmp_path):
    nib.save(nib.Nifti1Image(np.full((3, 3, 3), np.nan, np.float32), np.eye(4)), tmp_path / "x.nii")
    assert "no numbers" in run("info", tmp_path / "x.nii").stdout


def test_view_opens_a_window_with_the_files(run, good, monkeypatch):
    opened = []
    stand_in = type(sys)("window")
    stand_in.open_window = opened.extend
    monkeypatch.setitem(sys.modules, "napari_qsm.widgets.window", stand_in)
    assert run("view", good / "field.nii.gz").exit_code == 0
    assert opened == [good / "field.nii.gz"]
    assert run("view", good / "absent.nii").stderr.startswith("There is no file")


def test_the_version_is_said(run):
    assert run("--version").stdout == f"napari-qsm {__version__}\n"


def test_the_noise_of_the_field_decides_the_weights(good, reconstruct):
    field = nib.load(good / "field.nii.gz")
    noise = np.random.default_rng(3).uniform(1e-3, 5e-3, field.shape).astype(np.float32)
    path = good / "noise.nii.gz"
    nib.save(nib.Nifti1Image(noise, field.affine), path)
    without = reconstruct("--method", "tv", output="without")
    weighted = reconstruct("--method", "tv", "--noise", path)
    assert (weighted.exit_code, weighted.stderr) == (0, "")
    assert "squared magnitude" in without.stdout
    assert "one over its noise variance" in weighted.stdout
    maps = [nib.load(good / folder / "Chimap.nii.gz").get_fdata() for folder in ("without", "out")]
    assert np.abs(maps[0] - maps[1]).max() > 1e-5


@pytest.mark.parametrize("spoil", [lambda n: -n, lambda n: n * np.nan, lambda n: n[1:]])
def test_what_is_no_noise_map_is_refused_in_a_sentence(good, reconstruct, tree, spoil):
    field = nib.load(good / "field.nii.gz")
    path = good / "noise.nii.gz"
    nib.save(nib.Nifti1Image(spoil(np.full(field.shape, 1e-3, np.float32)), field.affine), path)
    before = tree()
    result = reconstruct("--noise", path)
    assert result.exit_code == 2
    assert result.stderr.startswith("The noise map")
    assert result.stderr.count("\n") == 1
    assert tree() == before


@pytest.mark.parametrize("arguments", [(), ("methods", "--no"), ("nonsense",), ("info",)])
def test_wrong_usage_is_one_sentence(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith("see --help.\n")


def test_help_is_help(run):
    for command in ((), ("reconstruct",), ("methods",), ("info",), ("view",)):
        assert run(*command, "--help").exit_code == 0


def python(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)


def test_the_command_line_starts_without_torch_and_qt():
    heavy = "{'torch', 'qtpy', 'napari', 'nibabel', 'scipy'}"
    made = python(f"import sys, napari_qsm.cli; print({heavy} & set(sys.modules))")
    assert made.stdout.strip() == "set()"


def test_the_installed_command_ends_with_its_status(tmp_path):
    arguments = "import sys; sys.argv = ['napari-qsm', 'info', 'absent.nii']"
    made = python(f"{arguments}; from napari_qsm.cli import main; main()", cwd=tmp_path)
    assert made.returncode == 2
    assert made.stderr == "There is no file absent.nii; check its name.\n"


@pytest.mark.parametrize("key", [k for k in ("tkd", "tikhonov", "tv", "ndi") if k in methods()])
def test_the_shipped_methods_run_from_the_command_line(good, reconstruct, key):
    result = reconstruct("--method", key)
    assert (result.exit_code, result.stderr) == (0, "")
    assert (good / "out" / "Chimap.nii.gz").exists()
