"""A map lies bit-exactly where the input lay, however the scanner stored it."""

import itertools
import json
import math

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_qsm.acquisition import Grid, InputError, Maps, Provenance, Quantity
from napari_qsm.io.nifti import orientation, read_volume, targets_of, write_maps, write_volume

SHAPE = (4, 5, 6)
SIZES = np.array([0.7, 0.9, 2.1])


def turned(*degrees):
    """Rotation about x, then y, then z."""
    result = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        i, j = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        result = turn @ result
    return result


def affine_of(axes):
    affine = np.eye(4)
    affine[:3, :3] = axes * SIZES
    affine[:3, 3] = (-71.3, 12.9, -33.7)
    return affine


SIGNED_PERMUTATIONS = [
    np.eye(3)[:, list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
SHEAR = np.array([[1, 0.08, 0], [0, 1, 0.05], [0, 0, 1]])


def save(path, affine, *, sform, qform, version=1, seed=0):
    """Write random numbers with the given form codes; a code of 0 leaves that form out."""
    data = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)
    image = (nib.Nifti1Image if version == 1 else nib.Nifti2Image)(data, None)
    image.header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    if sform:
        image.header.set_sform(affine, sform)
    if qform:
        image.header.set_qform(affine, qform)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return data


def assert_same_place(before, after):
    """The files' geometry is the same in every bit, read by us and read by nibabel."""
    ours, theirs = read_volume(before).grid, read_volume(after).grid
    assert np.array_equal(ours.affine, theirs.affine)
    assert ours.voxel_size == theirs.voxel_size
    assert ours.b0_direction == theirs.b0_direction
    one, two = nib.load(before), nib.load(after)
    assert np.array_equal(one.affine, two.affine)
    assert one.header.get_zooms()[:3] == two.header.get_zooms()[:3]
    for key in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "pixdim"):
        assert np.array_equal(one.header[key], two.header[key])


def round_trip(folder, affine, **codes):
    data = save(folder / "field.nii.gz", affine, **codes)
    volume = read_volume(folder / "field.nii.gz")
    assert np.array_equal(volume.data, data)
    (written,) = write_maps(Maps(volume.grid, {Quantity.CHI: data}), folder / "out")
    assert written.name == "Chimap.nii.gz"
    assert_same_place(folder / "field.nii.gz", written)
    assert np.array_equal(nib.load(written).get_fdata(dtype=np.float32), data)
    return volume


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (1, 1)], ids=["sform", "qform", "both"])
@pytest.mark.parametrize("axes", SIGNED_PERMUTATIONS, ids=lambda a: orientation_id(a))
def test_all_48_stored_orientations_come_back_bit_exactly(tmp_path, axes, codes):
    volume = round_trip(tmp_path, affine_of(axes), sform=codes[0], qform=codes[1])
    assert np.abs(volume.grid.b0_direction) == pytest.approx(np.abs(axes[2]), abs=1e-6)


def orientation_id(axes):
    return "".join(nib.aff2axcodes(affine_of(axes)))


def test_the_48_orientations_differ():
    assert len({orientation_id(a) for a in SIGNED_PERMUTATIONS}) == 48


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (1, 1), (2, 1), (2, 0)])
@pytest.mark.parametrize("degrees", [(0.05, 0, 0), (12, 0, 0), (17, -31, 64)])
def test_oblique_grids_come_back_bit_exactly(tmp_path, degrees, codes, version):
    affine = affine_of(turned(*degrees) @ SIGNED_PERMUTATIONS[11])
    round_trip(tmp_path, affine, sform=codes[0], qform=codes[1], version=version)


@pytest.mark.parametrize("qform", [0, 1])
@pytest.mark.parametrize("axes", SIGNED_PERMUTATIONS[::7], ids=orientation_id)
def test_sheared_grids_come_back_bit_exactly(tmp_path, axes, qform):
    volume = round_trip(tmp_path, affine_of(turned(5, 9, 2) @ axes @ SHEAR), sform=1, qform=qform)
    assert volume.grid.shear > 1


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    degrees=st.tuples(*[st.floats(-180, 180)] * 3),
    order=st.integers(0, 47),
    codes=st.sampled_from([(1, 0), (0, 1), (1, 1), (4, 1), (3, 0)]),
)
def test_any_rotation_comes_back_bit_exactly(tmp_path_factory, degrees, order, codes):
    affine = affine_of(turned(*degrees) @ SIGNED_PERMUTATIONS[order])
    round_trip(tmp_path_factory.mktemp("any"), affine, sform=codes[0], qform=codes[1])


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        (np.eye(3), (0, 0, 1)),
        (np.eye(3)[:, [1, 2, 0]], (0, 1, 0)),  # sagittal: stored A, S, R
        (np.eye(3)[:, [0, 2, 1]], (0, 1, 0)),  # coronal: stored R, S, A
        (np.diag([-1, 1, -1]), (0, 0, -1)),
        (turned(30, 0, 0), (0, 0.5, math.sqrt(0.75))),
        (turned(0, 20, 0), (math.sin(math.radians(20)), 0, math.cos(math.radians(20)))),
    ],
    ids=["axial", "sagittal", "coronal", "flipped", "oblique x", "oblique y"],
)
def test_b0_lies_along_the_scanner_axis(tmp_path, axes, expected):
    for codes in ({"sform": 1, "qform": 0}, {"sform": 0, "qform": 1}):
        save(tmp_path / "x.nii", affine_of(axes), **codes)
        direction = np.array(read_volume(tmp_path / "x.nii").grid.b0_direction)
        assert abs(direction @ expected) == pytest.approx(1, abs=1e-6)


def test_b0_of_a_double_oblique_grid_is_the_third_row_of_its_rotation(tmp_path):
    rotation = turned(17, -31, 64)
    save(tmp_path / "x.nii", affine_of(rotation), sform=1, qform=0)
    volume = read_volume(tmp_path / "x.nii")
    assert volume.grid.b0_direction == pytest.approx(rotation[2], abs=1e-6)
    assert not volume.notes


def test_orientation_names_the_stored_axes():
    assert orientation(Grid(SHAPE, affine_of(np.eye(3)[:, [2, 0, 1]] * (1, -1, -1)))) == "SLP"


def maps_of(grid):
    data = np.ones(grid.shape, np.float32)
    provenance = Provenance(
        method="toy", parameters={"strength": 0.5}, field_strength=3.0, echo_times=(0.02,)
    )
    return Maps(grid, {Quantity.CHI: data, Quantity.MASK: data > 0}, provenance)


def test_sidecars_carry_unit_and_provenance_and_can_be_read_again(tmp_path):
    grid = Grid(SHAPE, affine_of(np.eye(3))).with_b0((1, 0, 1))
    chi, mask = write_maps(maps_of(grid), tmp_path, stem="sub-1")
    assert (chi.name, mask.name) == ("sub-1_Chimap.nii.gz", "sub-1_mask.nii.gz")
    stated = json.loads((tmp_path / "sub-1_Chimap.json").read_text())
    assert (stated["Units"], stated["Quantity"]) == ("ppm", "chi")
    assert stated["Provenance"]["parameters"] == {"strength": 0.5}
    volume = read_volume(chi)
    assert (volume.unit, volume.field_strength, volume.echo_times) == ("ppm", 3.0, (0.02,))
    assert volume.grid.b0_direction == pytest.approx(grid.b0_direction)
    assert nib.load(mask).get_data_dtype() == np.uint8
    assert nib.load(chi).get_data_dtype() == np.float32


def test_a_grid_without_a_file_is_written_with_both_forms(tmp_path):
    grid = Grid(SHAPE, affine_of(turned(3, 4, 5)))
    path = write_volume(tmp_path / "x.nii", np.zeros(SHAPE), grid)
    assert nib.load(path).affine == pytest.approx(grid.affine, abs=1e-5)
    assert not read_volume(path).notes


def test_four_components_are_written_as_a_fourth_axis(tmp_path):
    save(tmp_path / "f.nii", affine_of(np.eye(3)), sform=1, qform=1)
    grid = read_volume(tmp_path / "f.nii").grid
    path = write_volume(tmp_path / "t.nii.gz", np.zeros((*SHAPE, 6)), grid)
    assert read_volume(path).data.shape == (*SHAPE, 6)


def test_the_same_map_gives_the_same_file(tmp_path):
    grid = Grid(SHAPE, affine_of(np.eye(3)))
    one = write_volume(tmp_path / "1.nii.gz", np.ones(SHAPE), grid)
    assert (
        one.read_bytes() == write_volume(tmp_path / "2.nii.gz", np.ones(SHAPE), grid).read_bytes()
    )


@pytest.mark.parametrize("existing", ["Chimap.nii.gz", "mask.json"])
def test_nothing_is_written_if_anything_exists(tmp_path, existing):
    (tmp_path / existing).write_text("mine")
    maps = maps_of(Grid(SHAPE, affine_of(np.eye(3))))
    with pytest.raises(InputError, match=existing):
        write_maps(maps, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [existing]
    write_maps(maps, tmp_path, overwrite=True)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_failure_half_way_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_qsm.io.nifti.write_sidecar", fail)
    with pytest.raises(InputError, match="No space left"):
        write_maps(maps_of(Grid(SHAPE, affine_of(np.eye(3)))), tmp_path / "new" / "deep")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["file", "file/deeper"])
def test_a_folder_that_is_a_file_is_refused_before_any_work(tmp_path, folder):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="no folder that can be written to"):
        targets_of([Quantity.CHI], tmp_path / folder)


def test_a_map_of_another_shape_is_not_written(tmp_path):
    with pytest.raises(InputError, match="shape"):
        write_volume(tmp_path / "x.nii", np.zeros((1, 2, 3)), Grid(SHAPE, np.eye(4)))
    with pytest.raises(InputError, match=r"\.nii"):
        write_volume(tmp_path / "x.png", np.zeros(SHAPE), Grid(SHAPE, np.eye(4)))
    assert not list(tmp_path.iterdir())


@pytest.mark.shared
def test_the_patients_grid_comes_back_bit_exactly(tmp_path, shared_data):
    source = shared_data / "haemorrhage-patient" / "localfield.nii.gz"
    volume = read_volume(source)
    written = write_volume(tmp_path / "chi.nii", volume.data, volume.grid)
    assert_same_place(source, written)
    assert np.array_equal(read_volume(written).data, volume.data)
