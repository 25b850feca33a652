"""Several orientations of a head on the command line."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from napari_qsm.acquisition import Grid, InputError, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.io.nifti import write_volume
from napari_qsm.io.rotation import read_rotation
from napari_qsm.preparation.orientations import turned_direction
from napari_qsm.training.phantom import orientations, sample_head

TURNS = [Rotation.from_euler(axis, 25, degrees=True) for axis in "xy"]


@pytest.fixture(scope="module")
def head():
    directions = [turn.apply((0, 0, 1)) for turn in TURNS]
    return orientations(sample_head("healthy", 4.0), directions)


@pytest.fixture
def files(tmp_path, head):
    """Fields of three orientations on one grid, and how the second and third were registered."""
    first = head.acquisition
    grid = Grid(first.grid.shape, first.grid.affine)
    for number, one in enumerate((first, *first.others), start=1):
        write_volume(tmp_path / f"f{number}.nii.gz", one[Quantity.LOCAL_FIELD], grid)
    write_volume(tmp_path / "mask.nii.gz", first.mask, grid)
    for number, turn in enumerate(TURNS, start=2):
        np.savetxt(tmp_path / f"r{number}.txt", turn.as_matrix())
        backwards = np.diag([-1.0, 1, 1, 1])  # the affine does not mirror, so FLIRT's x does
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = turn.as_matrix(), (3, 4, 5)
        np.savetxt(tmp_path / f"r{number}.mat", backwards @ matrix @ backwards)
    return tmp_path


@pytest.fixture
def combine(run, files):
    def invoke(*others, method="cosmos", output="out"):
        also = [word for other in others for word in ("--also", f"{files}/{other}")]
        return run("reconstruct", files / "f1.nii.gz", "--mask", files / "mask.nii.gz", "--unit",
                   "ppm", "--method", method, "-o", files / output, *also)  # fmt: skip

    return invoke


def chimap(files, output="out"):
    return nib.load(files / output / "Chimap.nii.gz").get_fdata()


def test_directions_rotations_and_flirt_give_the_same_map(combine, files, head):
    stated = [",".join(f"{part:.9f}" for part in turn.apply((0, 0, 1))) for turn in TURNS]
    ways = {
        "stated": [f"f{n}.nii.gz={b}" for n, b in enumerate(stated, start=2)],
        "plain": [f"f{n}.nii.gz={files}/r{n}.txt" for n in (2, 3)],
        "flirt": [f"f{n}.nii.gz={files}/r{n}.mat" for n in (2, 3)],
    }
    for output, others in ways.items():
        result = combine(*others, output=output)
        assert result.exit_code == 0, result.stderr
        assert "warning: 3 orientations, up to 35 degrees apart: min ΣD² = 0.040" in result.stdout
    assert np.allclose(chimap(files, "plain"), chimap(files, "stated"), atol=1e-6)
    assert np.allclose(chimap(files, "flirt"), chimap(files, "stated"), atol=1e-6)
    truth = head.truth[Quantity.CHI]
    assert nrmse(chimap(files, "stated").astype(np.float32), truth, head.acquisition.mask) < 30


def test_what_is_stored_names_every_file(combine, files):
    result = combine(f"f2.nii.gz={files}/r2.mat", "f3.nii.gz=0.4,0,0.9")
    assert result.exit_code == 0, result.stderr
    made = json.loads((files / "out" / "Chimap.json").read_text())["Provenance"]
    assert made["sources"]["local_field@3"] == str(files / "f3.nii.gz")
    assert np.allclose(made["grid"]["other_b0_directions"][0], TURNS[0].apply((0, 0, 1)))
    assert any("by the rotation in r2.mat, read as FLIRT's" in note for note in made["notes"])
    assert any(note.startswith("Orientation 3: B0 was set to (0.406") for note in made["notes"])


def test_a_sidecar_says_where_b0_is(combine, files):
    for number, turn in enumerate(TURNS, start=2):
        stated = {"Units": "ppm", "B0_dir": list(turn.apply((0, 0, 1)))}
        (files / f"f{number}.json").write_text(json.dumps(stated))
    assert combine("f2.nii.gz", "f3.nii.gz").exit_code == 0
    made = json.loads((files / "out" / "Chimap.json").read_text())["Provenance"]
    assert np.allclose(made["grid"]["other_b0_directions"], [t.apply((0, 0, 1)) for t in TURNS])


def test_one_orientation_methods_say_that_they_take_the_first(combine, files):
    result = combine("f2.nii.gz=0,0.4,0.9", method="tkd")
    assert result.exit_code == 0
    assert "note: TKD inverts one orientation of a head: the first of the 2" in result.stdout


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ((), "COSMOS needs a head in 2 orientations at least and there is 1"),
        (("f2.nii.gz",), "differ by 0.0 degrees at most; state the direction of each"),
        (("f2.nii.gz=1,2",), "three numbers X,Y,Z were expected"),
        (("f2.nii.gz=0,0,0",), "Orientation 2: The B0 direction"),
        (("f2.nii.gz=",), "FILE, FILE=X,Y,Z or FILE=MATRIX was expected"),
        (("f2.nii.gz=absent.mat",), "There is no file absent.mat"),
        (("absent.nii.gz=0,1,1",), "absent.nii.gz"),
        (("small.nii.gz=0,1,1",), "Orientation 2 has 4 x 5 x 6 voxels"),
    ],
)
def test_refusals_are_one_sentence(combine, files, refused, others, words):
    small = np.random.default_rng(0).normal(0, 0.01, (4, 5, 6)).astype(np.float32)
    write_volume(files / "small.nii.gz", small, Grid((4, 5, 6), np.diag([4.0, 4, 4, 1])))
    refused(combine(*others), words)
    assert not (files / "out").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no 3x3"), ("1 2 3", "no 3x3"), ("1 0 0\n0 1 0\n0 0", "no 3x3"), ("a b c", "no 3x3")],
)
def test_files_that_hold_no_matrix(tmp_path, text, words):
    (tmp_path / "m.txt").write_text(text)
    with pytest.raises(InputError, match=words):
        read_rotation(tmp_path / "m.txt")
    (tmp_path / "binary.mat").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="as text"):
        read_rotation(tmp_path / "binary.mat")


def test_a_matrix_that_scales_is_refused_by_name(combine, files, refused):
    np.savetxt(files / "twice.txt", 2 * np.eye(4))
    refused(combine(f"f2.nii.gz={files}/twice.txt"), "twice.txt: The matrix scales by")


def test_the_rotation_is_that_of_the_head_in_an_oblique_grid():
    """A head turned by Q is registered back by its inverse, and B0 turns along with it."""
    oblique = Rotation.from_euler("xyz", (10, -7, 30), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = oblique * (1.0, 1.2, 2.0)
    grid = Grid((6, 7, 8), affine)
    turn = Rotation.from_euler("xy", (20, 8), degrees=True).as_matrix()
    found = turned_direction(turn.T, grid, "scanner")
    assert np.allclose(found, oblique.T @ (turn.T @ (0, 0, 1)))
    assert np.allclose(turned_direction(np.eye(4), grid, "flirt"), grid.b0_direction)
