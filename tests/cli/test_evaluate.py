"""Maps in files against a reference: the table, its file, and sentences for bad input."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.evaluation.structures import FIGURES, SCHEMES, structure_figures
from napari_qsm.workbench.scores import METRICS

SHAPE = (16, 15, 14)


@pytest.fixture
def head(tmp_path):
    """Function that writes two maps, reference, mask and labels; returns folder and arrays."""
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(1, 12, (8, 8, 7)), np.ones((2, 2, 2), int))[:16, :15, :14]
    labels[7:9, 7:9, 6:8] = 16
    reference = rng.normal(0, 0.1, 17)[labels] + 0.01 * rng.standard_normal(SHAPE)
    reference[labels == 16] = -1.0
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:-2, 2:-2, 2:-2] = 1
    made = {
        "chi-a": 0.9 * reference + 0.01 * rng.standard_normal(SHAPE),
        "chi-b": 0.5 * reference,
        "truth": reference,
        "mask": mask,
        "labels": labels.astype(np.uint8),
    }
    for name, data in made.items():
        data = data.astype(np.float32) if data.dtype == float else data
        made[name] = data
        save(tmp_path / f"{name}.nii.gz", data)
    return tmp_path, made


def save(path, data, size=1.0):
    image = nib.Nifti1Image(data, np.diag([size, size, size, 1.0]))
    image.header.set_sform(image.affine, 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


@pytest.fixture
def evaluate(run, head):
    """Run ``evaluate`` on the two maps with further arguments behind the usual ones."""
    folder, _ = head

    def invoke(*more, maps=("chi-a", "chi-b"), mask="mask", reference="truth"):
        files = [folder / f"{name}.nii.gz" for name in maps]
        usual = ("--reference", folder / f"{reference}.nii.gz", "--mask", folder / f"{mask}.nii.gz")
        return run("evaluate", *files, *usual, *more)

    return invoke


def rows_of(path):
    with path.open(newline="") as text:
        return list(csv.DictReader(text))


def test_one_table_holds_every_metric_of_every_map(evaluate, head):
    folder, made = head
    result = evaluate("--csv", folder / "out.csv")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = rows_of(folder / "out.csv")
    assert [row["map"] for row in rows] == ["chi-a", "chi-b"]
    assert len(rows[0]) == 1 + len(METRICS)
    for row in rows:
        expected = nrmse(made[row["map"]], made["truth"], made["mask"] > 0)
        assert float(row["nrmse [%]"]) == pytest.approx(expected, rel=1e-4)
    assert f"{nrmse(made['chi-b'], made['truth'], made['mask'] > 0):.6g}" in result.stdout
    assert not (folder / "out_regions.csv").exists()


def test_labels_bring_regions_and_a_scheme_brings_tissues(evaluate, head):
    folder, made = head
    given = ("--labels", folder / "labels.nii.gz", "--csv", folder / "out.csv")
    result = evaluate(*given, "--scheme", "qsm-ci")
    assert (result.exit_code, result.stderr) == (0, "")
    inside = made["mask"] > 0
    scheme = SCHEMES["qsm-ci"]
    for row in rows_of(folder / "out.csv"):
        values, _ = structure_figures(
            made[row["map"]], made["truth"], inside, made["labels"], scheme
        )
        for figure in FIGURES:
            key = f"{figure.key} [{figure.unit}]" if figure.unit else figure.key
            assert float(row[key]) == pytest.approx(values[figure.key], rel=1e-4, nan_ok=True)
    regions = rows_of(folder / "out_regions.csv")
    caudate = [row for row in regions if row["label"] == "1"]
    assert [row["map"] for row in caudate] == ["chi-a", "chi-b", "reference"]
    assert {row["name"] for row in caudate} == {"caudate"}
    expected = made["chi-b"][inside & (made["labels"] == 1)].mean()
    assert float(caudate[1]["mean [ppm]"]) == pytest.approx(expected, rel=1e-4)
    assert "caudate" in result.stdout


def test_a_map_of_sigma_beside_a_map_gives_standard_errors(run, head):
    folder, made = head
    save(folder / "Chimap.nii.gz", made["chi-a"])
    save(folder / "desc-sigma_Chimap.nii.gz", np.full(SHAPE, 0.02, np.float32))
    files = ("--reference", folder / "truth.nii.gz", "--mask", folder / "mask.nii.gz")
    more = ("--labels", folder / "labels.nii.gz", "--csv", folder / "o.csv")
    result = run("evaluate", folder / "Chimap.nii.gz", *files, *more)
    assert result.exit_code == 0, result.output
    assert "desc-sigma_Chimap.nii.gz" in result.stdout
    first, truth = rows_of(folder / "o_regions.csv")[:2]
    expected = 0.02 / float(first["voxels"]) ** 0.5
    assert float(first["standard error [ppm]"]) == pytest.approx(expected, rel=1e-4)
    assert truth["standard error [ppm]"] == ""


def test_without_a_scheme_labels_mean_nothing_but_regions(evaluate, head):
    folder, _ = head
    (folder / "labels.tsv").write_text("index\tname\n1\tmy region\n2\tother\n")
    result = evaluate("--labels", folder / "labels.nii.gz")
    assert result.exit_code == 0
    assert "my region" in result.stdout
    assert "nrmse_dgm" not in result.stdout
    assert "--scheme" in result.stdout


def test_maps_of_the_same_name_are_told_apart_and_ppb_is_converted(run, head):
    folder, made = head
    (folder / "sub").mkdir()
    save(folder / "sub" / "chi-a.nii.gz", 1000 * made["chi-a"])
    (folder / "sub" / "chi-a.json").write_text(json.dumps({"Units": "ppb"}))
    files = (folder / "chi-a.nii.gz", folder / "sub" / "chi-a.nii.gz")
    usual = ("--reference", folder / "truth.nii.gz", "--mask", folder / "mask.nii.gz")
    result = run("evaluate", *files, *usual, "--csv", folder / "o.csv")
    assert result.exit_code == 0, result.output
    assert "from ppb to ppm" in result.stdout
    first, second = rows_of(folder / "o.csv")
    assert first["map"] == str(files[0])
    assert float(first["nrmse [%]"]) == pytest.approx(float(second["nrmse [%]"]), rel=1e-4)


def test_bad_input_is_refused_in_a_sentence_and_nothing_is_written(evaluate, head, below, refused):
    folder, made = head
    save(folder / "small.nii.gz", made["truth"][1:])
    save(folder / "wide.nii.gz", made["truth"], 2.0)
    save(folder / "labels-wide.nii.gz", made["labels"], 2.0)
    save(folder / "four.nii.gz", np.stack([made["truth"]] * 2, axis=-1))
    hole = made["truth"].copy()
    hole[0, 0, 0] = np.nan
    save(folder / "hole.nii.gz", hole)
    save(folder / "empty.nii.gz", 0 * made["mask"])
    save(folder / "half.nii.gz", made["labels"] + np.float32(0.5))
    (folder / "hz.json").write_text(json.dumps({"Units": "Hz"}))
    save(folder / "hz.nii.gz", made["truth"])
    (folder / "here.csv").write_text("mine")
    (folder / "odd.tsv").write_text("a\tb\n1\t2\n")
    save(folder / "odd.nii.gz", made["labels"])
    before = below()
    labels = ("--labels", folder / "labels.nii.gz")
    refused(evaluate(maps=("nothing",)), "nothing.nii.gz")
    refused(evaluate(maps=("chi-a", "chi-a")), "twice")
    refused(evaluate(maps=("small",)), "shape")
    refused(evaluate(maps=("wide",)), "away")
    refused(evaluate(maps=("four",)), "3D volume")
    refused(evaluate(maps=("hole",)), "not numbers")
    refused(evaluate(maps=("hz",)), "in Hz where ppm")
    refused(evaluate(mask="empty"), "mask is empty")
    refused(evaluate(mask="truth"), "mask holds values")
    refused(evaluate(mask="labels-wide"), "The mask lies")
    refused(evaluate("--scheme", "qsm-ci"), "add --labels")
    refused(evaluate(*labels, "--scheme", "mine"), "digital-head")
    refused(evaluate("--labels", folder / "half.nii.gz"), "no whole numbers")
    refused(evaluate("--labels", folder / "small.nii.gz"), "label map")
    refused(evaluate("--labels", folder / "odd.nii.gz"), "index and name")
    refused(evaluate("--csv", folder / "here.csv"), "exists already")
    refused(evaluate("--csv", folder / "here.txt"), ".csv")
    assert below() == before
    assert evaluate("--csv", folder / "here.csv", "--overwrite").exit_code == 0
