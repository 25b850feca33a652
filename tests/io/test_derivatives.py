"""What a chain has made is written together, named as BIDS names it, and says how it was made."""

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest

from napari_qsm import __version__
from napari_qsm.acquisition import ExistsError, InputError, Quantity
from napari_qsm.generators import finished
from napari_qsm.io import derivatives, together
from napari_qsm.io.derivatives import place_of, stem_of, targets, write_derivatives
from napari_qsm.io.nifti import read_volume
from napari_qsm.pipeline import Choice, Recipe, plan, prepare, reconstruct
from napari_qsm.preparation.registry import Place

Q = Quantity
STEM = "sub-1_ses-2_acq-GRE_run-3"
MADE = {
    "desc-brain_mask",
    "desc-total_fieldmap",
    "R2starmap",
    "desc-local_fieldmap",
    "desc-reliable_mask",
    "Chimap",
    "desc-residual_fieldmap",
}
INTERMEDIATE = {"desc-offset_phase", "part-phase_desc-corrected_MEGRE", "desc-unwrapped_phase"}


@pytest.fixture
def recipe(toys):
    return replace(toys.recipe(), method=Choice("tkd"), reference=Choice("none"))


@pytest.fixture
def prepared(toys, recipe):
    measured = toys.measurement(notes=("It was measured.",))
    return finished(prepare(measured, recipe))


@pytest.fixture
def maps(prepared, recipe):
    return finished(reconstruct(prepared.acquisition, recipe))


@pytest.fixture
def write(prepared, maps, recipe, tmp_path):
    def invoke(**options):
        options = {"stem": STEM, **options}
        return write_derivatives(prepared, maps, recipe, tmp_path / "out", **options)

    return invoke


def names(written):
    assert all(path.exists() for path in written)
    return {path.name.removeprefix(f"{STEM}_").removesuffix(".nii.gz") for path in written[:-1]}


def everything_below(folder):
    return {p.relative_to(folder): p.is_file() and p.read_bytes() for p in folder.rglob("*")}


def test_every_map_and_every_mask_is_written_under_its_name(write, tmp_path):
    written = write()
    assert names(written) == MADE
    folder = tmp_path / "out" / "sub-1" / "ses-2" / "anat"
    assert {path.parent for path in written} == {folder}
    assert written[-1].name == f"{STEM}_pipeline.toml"
    beside = {path.with_name(path.name.replace(".nii.gz", ".json")) for path in written[:-1]}
    assert set(folder.iterdir()) == {*written, *beside}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"sub-1", "dataset_description.json"}


def test_intermediate_volumes_come_with_their_echoes_on_request(write, prepared):
    written = write(keep_intermediate=True)
    assert names(written) == MADE | INTERMEDIATE
    path = next(p for p in written if "unwrapped" in p.name)
    values = read_volume(path).data
    assert values.ndim == 4
    assert np.array_equal(values, prepared.acquisition[Q.UNWRAPPED])


def test_numbers_and_masks_come_back(write, prepared, maps):
    written = {path.name.removeprefix(f"{STEM}_"): path for path in write()}
    for name, values in {
        "desc-brain_mask.nii.gz": prepared.made[Place.MASK][Q.MASK],
        "desc-reliable_mask.nii.gz": prepared.made[Place.BACKGROUND][Q.MASK],
        "desc-local_fieldmap.nii.gz": prepared.acquisition[Q.LOCAL_FIELD],
        "Chimap.nii.gz": maps[Q.CHI],
    }.items():
        volume = read_volume(written[name])
        assert np.array_equal(volume.data, values), name
        assert volume.grid.mismatch(prepared.acquisition.grid) is None
    brain, reliable = (prepared.made[p][Q.MASK] for p in (Place.MASK, Place.BACKGROUND))
    assert brain.sum() > reliable.sum()


def test_each_sidecar_says_how_its_own_map_was_made(write):
    stated = {p.name: json.loads(p.with_suffix("").with_suffix(".json").read_text())
              for p in write()[:-1]}  # fmt: skip
    field = stated[f"{STEM}_desc-local_fieldmap.nii.gz"]
    assert (field["Quantity"], field["Units"]) == ("local_field", "ppm")
    assert field["MagneticFieldStrength"] == 3.0
    assert field["EchoTime"] == [0.004, 0.008, 0.012]
    assert field["Sources"] == ["phase.nii.gz"]
    made = field["Provenance"]
    assert made["method"] == "toy_background"
    assert made["parameters"]["scale"] == 1.0
    assert made["software"]["napari-qsm"] == __version__
    assert made["notes"] == ["It was measured.", "toy_background did it."]
    before = ["toy_mask", "toy_offset", "toy_unwrap", "toy_field", "toy_rate"]
    assert [one["method"] for one in made["history"]] == before
    assert made["history"][1]["notes"] == ["toy_offset did it."]

    mask = stated[f"{STEM}_desc-brain_mask.nii.gz"]
    assert (mask["Type"], mask["Provenance"]["method"]) == ("Brain", "toy_mask")
    assert mask["Provenance"]["history"] == []
    reliable = stated[f"{STEM}_desc-reliable_mask.nii.gz"]
    assert reliable["Provenance"]["method"] == "toy_background"
    chi = stated[f"{STEM}_Chimap.nii.gz"]["Provenance"]
    assert chi["method"] == "tkd"
    assert [one["method"] for one in chi["history"]] == [*before, "toy_background"]


def test_the_recipe_is_written_so_that_it_can_be_read(write, recipe):
    text = write(command="napari-qsm run x -o y")[-1].read_text()
    assert tomllib.loads(text)["napari-qsm"]["command"] == "napari-qsm run x -o y"
    assert Recipe.from_toml(text).to_toml() == recipe.to_toml()


def test_the_dataset_describes_itself_once(write, tmp_path):
    write()
    path = tmp_path / "out" / "dataset_description.json"
    stated = json.loads(path.read_text())
    assert stated["DatasetType"] == "derivative"
    assert stated["GeneratedBy"] == [{"Name": "napari-qsm", "Version": __version__}]
    path.write_text(json.dumps(stated | {"Name": "Mine"}))
    write(stem="sub-2")
    assert json.loads(path.read_text())["Name"] == "Mine"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"Name": "x", "DatasetType": "raw"}', "holds a raw BIDS dataset"),
        ('{"Name": "x"}', r"choose .*derivatives.*napari-qsm"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
    ],
)
def test_measured_data_are_not_added_to(write, tmp_path, text, words):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset_description.json").write_text(text)
    before = everything_below(tmp_path)
    with pytest.raises(InputError, match=words):
        write()
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("sub-1_ses-2_acq-GRE_run-3", "sub-1_ses-2_acq-GRE_run-3"),
        ("sub-01_echo-1_part-phase_MEGRE", "sub-01"),
        ("sub-x_desc-total_fieldmap", "sub-x"),
        ("7 QSM (3D) GRE/ph", "7-QSM-3D-GRE-ph"),
        ("  _.hidden", "hidden"),
        ("phase", "phase"),
        ("sub-", "sub"),
        ("../..", "measurement"),
        ("頭", "measurement"),
    ],
)
def test_a_name_becomes_the_begin_of_file_names(name, stem):
    assert stem_of(name) == stem
    assert not {"/", "\\"} & set(stem_of(name))


def test_only_subjects_get_folders(tmp_path):
    assert place_of(tmp_path, "phase") == tmp_path
    assert place_of(tmp_path, "sub-1_acq-x") == tmp_path / "sub-1" / "anat"


def test_targets_are_known_before_anything_runs(toys, recipe, write, tmp_path):
    planned = plan(toys.measurement(), recipe)
    told = targets(planned, (Q.CHI, Q.RESIDUAL), tmp_path / "out", stem=STEM)
    assert not (tmp_path / "out").exists()
    assert set(told) == set(write())


@pytest.mark.parametrize(
    "existing",
    ["Chimap.nii.gz", "desc-brain_mask.json", "pipeline.toml", "desc-total_fieldmap.json"],
)
def test_nothing_is_overwritten_unless_told(toys, recipe, write, tmp_path, existing):
    path = place_of(tmp_path / "out", STEM) / f"{STEM}_{existing}"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    before = everything_below(tmp_path)
    planned = plan(toys.measurement(), recipe)
    with pytest.raises(ExistsError, match=existing):
        targets(planned, (Q.CHI,), tmp_path / "out", stem=STEM)
    with pytest.raises(ExistsError, match=existing):
        write()
    assert everything_below(tmp_path) == before
    write(overwrite=True)
    assert path.read_bytes() != b"mine"


@pytest.mark.parametrize("stem", ["a/b", "..\\x", "a\0b"])
def test_a_stem_is_no_path(write, stem):
    with pytest.raises(InputError, match="no part of a file name"):
        write(stem=stem)


def failing_at(monkeypatch, count, error):
    """Make the writing of the recipe or the renaming of the n-th file fail."""
    left = [count]
    replace_ = together.Path.replace

    def fail(self, target):
        left[0] -= 1
        if left[0] == 0:
            raise error
        return replace_(self, target)

    monkeypatch.setattr(together.Path, "replace", fail)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_new_folders_away(write, tmp_path, monkeypatch, count, error):
    failing_at(monkeypatch, count, error)
    with pytest.raises((InputError, KeyboardInterrupt)):
        write()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [1, 2, 3, 8, 15])
def test_a_failure_gives_old_files_back(write, tmp_path, monkeypatch, count):
    for path in write():
        path.write_text(f"mine: {path.name}")
    before = everything_below(tmp_path)
    failing_at(monkeypatch, count, OSError(5, "Input/output error"))
    with pytest.raises(InputError, match="Input/output error"):
        write(overwrite=True)
    assert everything_below(tmp_path) == before


def test_a_failing_encoder_leaves_nothing(write, tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(derivatives, "_sidecar", fail)
    with pytest.raises(MemoryError):
        write()
    assert not list(tmp_path.iterdir())


def test_a_folder_where_a_file_should_go_is_a_sentence(write, tmp_path):
    path = place_of(tmp_path / "out", STEM) / f"{STEM}_Chimap.nii.gz"
    path.mkdir(parents=True)
    before = everything_below(tmp_path)
    with pytest.raises(InputError, match="is a folder"):
        write(overwrite=True)
    assert everything_below(tmp_path) == before
