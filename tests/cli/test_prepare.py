"""From files to a local field and on to susceptibility, typed as a user types it."""

import json
import shlex
import tomllib

import nibabel as nib
import numpy as np

from napari_qsm.preparation.registry import Place, stages

STEM = "sub-1_acq-toy"
STAGES = {"toy_mask", "toy_offset", "toy_unwrap", "toy_field", "toy_rate", "toy_background"}


def images(folder):
    return {p.name: np.asanyarray(nib.load(p).dataobj) for p in folder.rglob("*.nii.gz")}


def test_a_bids_subject_is_prepared_into_derivatives(typed, tmp_path):
    result = typed("prepare")
    assert (result.exit_code, result.stderr) == (0, "")
    made = tmp_path / "out" / "sub-1" / "anat"
    assert set(images(made)) == {
        f"{STEM}_{name}.nii.gz"
        for name in (
            *("desc-brain_mask", "desc-total_fieldmap", "R2starmap"),
            *("desc-local_fieldmap", "desc-reliable_mask"),
        )
    }
    assert (tmp_path / "out" / "dataset_description.json").exists()
    for words in (
        "sub-1_acq-toy: ",
        "Unwrapping:         Toy unwrap (toy_unwrap): scale = 1, pause = 0, fails = False",
        "note: toy_field did it.",
        str(made / f"{STEM}_desc-local_fieldmap.nii.gz"),
        str(made / f"{STEM}_pipeline.toml"),
    ):
        assert words in result.stdout
    assert "Method" not in result.stdout


def test_one_command_goes_from_files_to_susceptibility(typed, tmp_path):
    result = typed("run", "--set", "method.strength=0.25", "--set", "field.scale=2")
    assert (result.exit_code, result.stderr) == (0, "")
    made = images(tmp_path / "out")
    chi = made[f"{STEM}_Chimap.nii.gz"]
    local = made[f"{STEM}_desc-local_fieldmap.nii.gz"]
    assert local.any()
    assert np.allclose(chi, 0.25 * local)
    path = tmp_path / "out" / "sub-1" / "anat" / f"{STEM}_Chimap.json"
    provenance = json.loads(path.read_text())["Provenance"]
    assert provenance["parameters"]["strength"] == 0.25
    assert {one["method"] for one in provenance["history"]} == STAGES
    assert "Method:             Toy (toy): strength = 0.25, rounds = 2" in result.stdout
    assert "Reference:          left out" in result.stdout
    assert "note: It was a toy." in result.stdout


def test_the_written_recipe_makes_the_same_again(typed, tmp_path):
    changed = ("--set", "unwrap.scale=1.5", "--set", "background.scale=0.7")
    assert typed("run", *changed, "--set", "method.strength=0.9").exit_code == 0
    preset = tmp_path / "out" / "sub-1" / "anat" / f"{STEM}_pipeline.toml"
    stated = tomllib.loads(preset.read_text())
    assert stated["unwrap"]["scale"] == 1.5
    assert shlex.split(stated["napari-qsm"]["command"])[:2] == ["napari-qsm", "run"]
    again = typed("run", "--preset", preset, output="again")
    assert (again.exit_code, again.stderr) == (0, "")
    first, second = images(tmp_path / "out"), images(tmp_path / "again")
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert np.array_equal(values, second[name]), name


def test_files_that_are_no_bids_go_into_one_folder(typed, echoes, save_raw, tmp_path):
    phase, magnitude = echoes
    save_raw(tmp_path / "in" / "my phase.nii.gz", phase)
    save_raw(tmp_path / "in" / "mag.nii.gz", magnitude)
    result = typed(
        "prepare",
        *("--magnitude", tmp_path / "in" / "mag.nii.gz"),
        *("--te", "0.004,0.008,0.012", "--b0", "3", "--stem", "mine", "--keep-intermediate"),
        inputs=[tmp_path / "in" / "my phase.nii.gz"],
    )
    assert (result.exit_code, result.stderr) == (0, "")
    unwrapped = images(tmp_path / "out")["mine_desc-unwrapped_phase.nii.gz"]
    assert unwrapped.shape == phase.shape
    assert (tmp_path / "out" / "mine_desc-offset_phase.nii.gz").exists()
    stated = json.loads((tmp_path / "out" / "mine_desc-total_fieldmap.json").read_text())
    assert stated["EchoTime"] == [0.004, 0.008, 0.012]


def test_your_own_mask_goes_first(typed, echoes, save_raw, tmp_path):
    mask = np.zeros(echoes[0].shape[:3], np.uint8)
    mask[2:-2, 3:-3, 4:-4] = 1
    save_raw(tmp_path / "mask.nii.gz", mask)
    assert "given" in stages(Place.MASK)
    result = typed("prepare", "--mask", tmp_path / "mask.nii.gz")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "your own mask goes first" in result.stdout
    made = images(tmp_path / "out")
    assert np.array_equal(made[f"{STEM}_desc-brain_mask.nii.gz"], mask)


def test_a_dry_run_says_all_of_it_and_writes_nothing(typed, below, toys):
    before = below()
    result = typed("run", "--dry-run", "--set", "unwrap.scale=3", relaxation="none")
    assert (result.exit_code, result.stderr) == (0, "")
    assert below() == before
    assert toys.LOG == []
    for words in (
        "(toy_unwrap): scale = 3",
        "(toy): strength = 0.5",
        "would be written",
        "left out on request",
    ):
        assert words in result.stdout
    told = {line for line in result.stdout.splitlines() if line.endswith((".nii.gz", ".toml"))}
    assert typed("run", "--set", "unwrap.scale=3", relaxation="none").exit_code == 0
    written = {str(p) for p in below() if "out" in p.parts and p.suffix in (".gz", ".toml")}
    assert told == written


def test_what_an_optional_stage_refuses_is_left_out_and_said(typed, tmp_path):
    result = typed("prepare", "--set", "relaxation.fails=true")
    assert result.exit_code == 0
    assert "warning: R2* is left out: toy_rate was told to fail." in result.stdout
    assert f"{STEM}_R2starmap.nii.gz" not in images(tmp_path / "out")


def test_a_region_of_labels_becomes_zero(typed, tmp_path, save_raw, echoes):
    shape = echoes[0].shape[:3]
    labels = np.zeros(shape, np.uint8)
    labels[: shape[0] // 2] = 7
    path = save_raw(tmp_path / "labels.nii.gz", labels)
    wanted = ("--labels", path, "--set", "reference.to=roi", "--set", "reference.label=7")
    result = typed("run", *wanted, reference="reference")
    assert (result.exit_code, result.stderr) == (0, "")
    made = images(tmp_path / "out")
    region = (labels == 7) & (made[f"{STEM}_desc-reliable_mask.nii.gz"] > 0)
    assert abs(made[f"{STEM}_Chimap.nii.gz"][region].mean()) < 1e-5
    assert "label 7" in result.stdout
