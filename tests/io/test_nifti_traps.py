"""What is strange about a file is said in one sentence: a note, or the reason for refusing it."""

import gzip
import json
import math

import nibabel as nib
import numpy as np
import pytest

from napari_qsm.acquisition import InputError
from napari_qsm.io.nifti import read_volume

SHAPE = (4, 5, 6)


def image(data=None, affine=None, code=1):
    data = np.zeros(SHAPE, np.float32) if data is None else data
    made = nib.Nifti1Image(data, np.diag([1, 1, 2, 1.0]) if affine is None else affine)
    made.header.set_sform(made.affine, code)
    made.header.set_qform(made.affine, 0)
    made.header.set_xyzt_units("mm")
    return made


def save_qform(affine, path, sform_code=0):
    header = image(code=sform_code).header
    header.set_qform(affine, 1)
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.float32), None, header), path)


def edit(path, offset, content):
    """Change bytes of an uncompressed file."""
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(content)] = content
    path.write_bytes(raw)


def refusal(path):
    with pytest.raises(InputError) as caught:
        read_volume(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_a_plain_file_gives_no_note(tmp_path):
    nib.save(image(), tmp_path / "x.nii.gz")
    volume = read_volume(tmp_path / "x.nii.gz")
    assert volume.notes == ()
    assert volume.data.shape == SHAPE
    assert volume.grid.voxel_size == (1, 1, 2)


def test_scaled_integers_are_scaled_with_a_note(tmp_path):
    made = image(np.arange(120, dtype=np.int16).reshape(SHAPE))
    made.header.set_slope_inter(0.5, -1)
    nib.save(made, tmp_path / "x.nii")
    edit(tmp_path / "x.nii", 112, np.array([0.5, -1], "<f4").tobytes())
    volume = read_volume(tmp_path / "x.nii")
    assert volume.data.ravel()[:3].tolist() == [-1, -0.5, 0]
    assert volume.data.dtype == np.float32
    assert "int16 numbers were scaled by 0.5 and -1 was added" in volume.notes[0]


def test_big_endian_files_are_read_the_same(tmp_path):
    data = np.arange(120, dtype=np.float32).reshape(SHAPE)
    made = image(data)
    nib.save(nib.Nifti1Image(data, None, made.header.as_byteswapped(">")), tmp_path / "x.nii")
    assert np.array_equal(read_volume(tmp_path / "x.nii").data, data)
    assert read_volume(tmp_path / "x.nii").data.dtype.isnative


def test_a_wrong_slope_on_a_phase_is_left_out_with_a_note(tmp_path):
    phase = np.random.default_rng(0).uniform(-math.pi, math.pi, (12, 12, 12)).astype(np.float32)
    nib.save(image(phase), tmp_path / "x.nii")
    edit(tmp_path / "x.nii", 112, np.array([0.00117, 0], "<f4").tobytes())
    volume = read_volume(tmp_path / "x.nii")
    assert np.array_equal(volume.data, phase)
    assert volume.unit == "rad"
    assert "span -pi to pi" in volume.notes[0]


@pytest.mark.shared
def test_the_shared_phase_is_read_in_rad(shared_data):
    volume = read_volume(shared_data / "romeo-3echo" / "Phase.nii.gz")
    assert volume.data.shape == (51, 51, 41, 3)
    assert np.abs(volume.data).max() == pytest.approx(math.pi, rel=0.02)
    assert "scaling by 0.00117" in volume.notes[0]


@pytest.mark.shared
def test_the_shared_nan_are_counted(shared_data):
    volume = read_volume(shared_data / "romeo-3echo" / "phase_with_nan.nii.gz")
    assert "1280 voxels are not numbers" in volume.notes[0]
    assert "no orientation" in volume.notes[1]


def test_a_single_fourth_volume_is_squeezed_with_a_note(tmp_path):
    nib.save(image(np.zeros((*SHAPE, 1), np.float32)), tmp_path / "x.nii")
    volume = read_volume(tmp_path / "x.nii")
    assert volume.data.shape == SHAPE
    assert "only volume" in volume.notes[0]


def test_echoes_stay_last(tmp_path):
    nib.save(image(np.zeros((*SHAPE, 3), np.float32)), tmp_path / "x.nii")
    assert read_volume(tmp_path / "x.nii").data.shape == (*SHAPE, 3)


def test_the_numbers_keep_the_stored_order(tmp_path):
    data = np.arange(120, dtype=np.uint8).reshape(SHAPE)
    nib.save(image(data, np.diag([-1, -1, 1, 1.0])), tmp_path / "x.nii")
    assert np.array_equal(read_volume(tmp_path / "x.nii").data, data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros(SHAPE, np.complex64), "export magnitude and phase"),
        (np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]), "colours"),
        (np.zeros((4, 5), np.float32), "2D image"),
        (np.zeros((4, 5, 1), np.float32), "2D image"),
        (np.zeros((4, 5, 6, 2, 3), np.float32), "5 dimensions"),
    ],
    ids=["complex", "colour", "2D", "one slice", "5D"],
)
def test_what_is_no_volume_of_numbers_is_refused(tmp_path, data, words):
    nib.save(image(data), tmp_path / "x.nii")
    assert words in refusal(tmp_path / "x.nii")


def test_files_that_are_no_nifti_are_refused(tmp_path):
    path = tmp_path / "x.nii.gz"
    assert "no file" in refusal(path)
    path.write_bytes(b"")
    assert "empty" in refusal(path)
    path.write_text("hello, I am a text file" * 40)
    assert "not a NIfTI" in refusal(path)
    path.write_bytes(gzip.compress(b"abc"))
    assert "not a NIfTI" in refusal(path)
    assert "folder" in refusal(tmp_path)


def test_truncated_files_are_refused(tmp_path):
    data = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    nib.save(image(data), tmp_path / "x.nii.gz")
    nib.save(image(data), tmp_path / "x.nii")
    for name, words in (("x.nii.gz", "do not unpack"), ("x.nii", "header promises 480")):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-20])
        assert words in refusal(path)


def test_surplus_bytes_are_noted(tmp_path):
    nib.save(image(), tmp_path / "x.nii")
    with (tmp_path / "x.nii").open("ab") as file:
        file.write(bytes(7))
    assert "7 bytes behind the last voxel" in read_volume(tmp_path / "x.nii").notes[0]


@pytest.mark.parametrize(
    ("offset", "content", "words"),
    [
        (344, b"XYZ\0", "signature"),
        (344, b"ni1\0", "half of a"),
        (40, np.int16(9).tobytes(), "9 dimensions"),
        (42, np.int16(-4).tobytes(), "positive ones"),
        (70, np.int16(999).tobytes(), "data type 999"),
        (108, np.float32(np.nan).tobytes(), "begin at byte nan"),
        (112, np.float32(np.inf).tobytes(), "by inf"),
        (280, np.float32(np.nan).tobytes(), "not a finite"),
        (280, bytes(4), "voxel size"),
    ],
)
def test_damaged_headers_are_refused(tmp_path, offset, content, words):
    nib.save(image(), tmp_path / "x.nii")
    edit(tmp_path / "x.nii", offset, content)
    assert words in refusal(tmp_path / "x.nii")


def test_zero_voxel_size_in_a_qform_is_refused(tmp_path):
    save_qform(np.eye(4), tmp_path / "x.nii")
    edit(tmp_path / "x.nii", 80, bytes(4))
    assert "voxel size reads 0 x 1 x 1" in refusal(tmp_path / "x.nii")


def test_an_absent_qfac_counts_as_one(tmp_path):
    save_qform(np.diag([2, 3, 4, 1]), tmp_path / "x.nii")
    edit(tmp_path / "x.nii", 76, bytes(4))
    assert read_volume(tmp_path / "x.nii").grid.voxel_size == (2, 3, 4)


def test_a_registered_sform_yields_to_the_qform(tmp_path):
    save_qform(np.diag([1, 1, 3, 1]), tmp_path / "x.nii", sform_code=4)
    volume = read_volume(tmp_path / "x.nii")
    assert volume.grid.voxel_size == (1, 1, 3)
    assert "the qform was used" in volume.notes[0]


@pytest.mark.parametrize("code", [2, 3, 4])
def test_b0_is_uncertain_in_a_registered_frame(tmp_path, code):
    nib.save(image(code=code), tmp_path / "x.nii")
    assert f"code {code}" in read_volume(tmp_path / "x.nii").notes[0]
    (tmp_path / "x.json").write_text('{"B0_dir": [0, 0, 1]}')
    assert read_volume(tmp_path / "x.nii").notes == ()


def test_metres_become_millimetres_with_a_note(tmp_path):
    made = image(affine=np.diag([0.001, 0.001, 0.002, 1]))
    made.header.set_xyzt_units("meter")
    nib.save(made, tmp_path / "x.nii")
    volume = read_volume(tmp_path / "x.nii")
    assert volume.grid.voxel_size == pytest.approx((1, 1, 2))
    assert "1000" in volume.notes[0]


def test_the_sidecar_states_unit_b0_and_echo_times(tmp_path):
    nib.save(image(), tmp_path / "x.nii.gz")
    stated = {"Units": "Hz", "MagneticFieldStrength": 7, "EchoTime": [0.004, 0.008]}
    (tmp_path / "x.json").write_text(json.dumps(stated))
    volume = read_volume(tmp_path / "x.nii.gz")
    assert (volume.unit, volume.field_strength) == ("Hz", 7.0)
    assert volume.echo_times == (0.004, 0.008)
    (tmp_path / "x.json").write_text('{"EchoTimes": [0.004]}')
    assert read_volume(tmp_path / "x.nii.gz").echo_times == (0.004,)


def test_the_sidecars_b0_direction_wins_with_a_note(tmp_path):
    nib.save(image(), tmp_path / "x.nii")
    (tmp_path / "x.json").write_text('{"B0_dir": [0, 2, 0]}')
    volume = read_volume(tmp_path / "x.nii")
    assert volume.grid.b0_direction == (0, 1, 0)
    assert "90 degrees" in volume.notes[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[1, 2]", "holds no keys"),
        ('{"EchoTime": "abc"}', 'EchoTime "abc"'),
        ('{"EchoTime": -0.02}', "seconds"),
        ('{"EchoTime": 20}', "at most 1"),
        ('{"EchoTime": []}', "seconds"),
        ('{"EchoTime": NaN}', "seconds"),
        ('{"EchoTimes": ["a", "b"]}', "seconds"),
        ('{"MagneticFieldStrength": 3000}', "tesla"),
        ('{"MagneticFieldStrength": true}', "tesla"),
        ('{"Units": 3}', "text"),
        ('{"B0_dir": [0, 0]}', "three numbers"),
        ('{"B0_dir": [0, 0, 0]}', "not zero"),
        ("\xff\xfe", "JSON"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_a_wrong_sidecar_is_refused(tmp_path, text, words):
    nib.save(image(), tmp_path / "x.nii")
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    assert words in refusal(tmp_path / "x.nii")
