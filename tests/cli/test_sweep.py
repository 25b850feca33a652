"""Sweeps without a window."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture
def sweep(run, good):
    def invoke(*more, method="tikhonov"):
        files = ("--mask", good / "mask.nii.gz", "--magnitude", good / "magnitude.nii.gz")
        where = ("-o", good / "out", "--device", "cpu", "--method", method)
        return run("sweep", good / "field.nii.gz", *files, *where, *more)

    return invoke


def test_a_sweep_writes_one_4d_map_its_making_and_a_table(sweep, good):
    result = sweep("--from", "1e-3", "--to", "1e-1", "--points", "3")
    assert (result.exit_code, result.stderr) == (0, "")
    chi = nib.load(good / "out" / "sweep_Chimap.nii.gz")
    assert chi.shape == (8, 9, 10, 3)
    assert np.array_equal(chi.affine, nib.load(good / "field.nii.gz").affine)
    strength = np.abs(chi.get_fdata()).sum((0, 1, 2))
    assert (np.diff(strength) < 0).all()  # ascending regularisation
    made = json.loads((good / "out" / "sweep_Chimap.json").read_text())
    assert made["Sweep"]["values"] == [1e-3, 1e-2, 1e-1]
    assert [one["parameters"]["regularization"] for one in made["Provenance"]] == [1e-3, 1e-2, 0.1]
    rows = table(good / "out" / "sweep.csv")
    assert [float(row["regularization"]) for row in rows] == [1e-3, 1e-2, 1e-1]
    assert float(rows[0]["residual_ppm"]) < float(rows[2]["residual_ppm"])
    assert str(good / "out" / "sweep.csv") in result.stdout


def test_a_point_is_what_reconstruct_would_have_made(sweep, run, good):
    assert sweep("--from", "0.1", "--to", "0.2", "--points", "2", method="tkd").exit_code == 0
    files = ("--mask", good / "mask.nii.gz", "-o", good / "alone", "--device", "cpu")
    key = ("--method", "tkd", "--set", "threshold=0.2")
    assert run("reconstruct", good / "field.nii.gz", *files, *key).exit_code == 0
    swept = nib.load(good / "out" / "sweep_Chimap.nii.gz").get_fdata()[..., 1]
    assert np.array_equal(swept, nib.load(good / "alone" / "Chimap.nii.gz").get_fdata())


def test_separate_files_are_named_by_value(sweep, good):
    options = ("--from", "0.1", "--to", "0.2", "--points", "2", "--separate", "--stem", "s1")
    assert sweep(*options, method="tkd").exit_code == 0
    names = {path.name for path in (good / "out").iterdir()}
    expected = {f"s1_sweep-{v}_Chimap.{e}" for v in ("0.1", "0.2") for e in ("nii.gz", "json")}
    assert names == {*expected, "s1_sweep.csv"}
    again = sweep(*options, method="tkd")
    assert again.exit_code == 2 and "exists already" in again.stderr


def test_a_reference_fills_the_columns_of_the_error(sweep, good):
    options = (
        "--reference",
        good / "field.nii.gz",
        "--from",
        "0.1",
        "--to",
        "0.2",
        "--points",
        "2",
    )
    assert sweep(*options, method="tkd").exit_code == 0
    rows = table(good / "out" / "sweep.csv")
    assert all(float(row["nrmse_percent"]) > 0 for row in rows)
    assert [float(row["threshold"]) for row in rows] == [0.1, 0.2]


def test_iterative_methods_are_swept_about_what_they_choose(sweep, good):
    result = sweep("--points", "3", "--set", "max_iterations=3", "--thorough", method="tv")
    assert result.exit_code == 0
    rows = table(good / "out" / "sweep.csv")
    values = [float(row["regularization"]) for row in rows]
    assert values[2] / values[1] == pytest.approx(values[1] / values[0], rel=0.02)
    assert all(int(row["iterations"]) == 3 for row in rows)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--method", "toy"), "no parameter to sweep"),
        (("--from", "1", "--to", "0.1"), "must rise"),
        (("--points", "1"), "2 or more"),
    ],
)
def test_senseless_sweeps_end_in_one_sentence(sweep, good, tree, more, said):
    before = tree()
    result = sweep(*more)
    assert result.exit_code == 2
    assert said in result.stderr and result.stderr.count("\n") == 1
    assert tree() == before
