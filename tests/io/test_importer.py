"""Every way in which scanners and people store raw phase leads to the same acquisition."""

import json
import math
import shutil

import numpy as np
import pytest

from napari_qsm.acquisition import Grid, InputError, Maps, Provenance, Quantity
from napari_qsm.io.importer import Corrections, open_source
from napari_qsm.io.nifti import write_maps

STEP = 2 * math.pi / 4096


def is_the_head(made, head, tolerance=STEP / 2 + 1e-5):
    assert made[Quantity.PHASE].shape == head.phase.shape
    assert made[Quantity.PHASE].dtype == np.float32
    assert -math.pi - 1e-6 <= made[Quantity.PHASE].min()
    assert made[Quantity.PHASE].max() < math.pi + 1e-6
    inside = head.mask
    difference = (made[Quantity.PHASE] - head.phase)[inside]
    assert np.abs(np.angle(np.exp(1j * difference))).max() <= tolerance
    assert made[Quantity.MAGNITUDE] == pytest.approx(head.magnitude, abs=1.01)
    assert made.echo_times == pytest.approx(head.times)
    assert made.field_strength == pytest.approx(3.0)
    return True


def told(made, words):
    return any(words in note for note in made.notes)


def test_a_dcm2niix_folder(tmp_path, head, tools):
    made = tools.loaded(head.nifti(tmp_path))
    assert is_the_head(made, head)
    assert told(made, "0 to 4095 are one turn")
    assert "6_gre_e3_ph.nii" in made.sources[Quantity.PHASE]


def test_the_summary_says_what_was_found(tmp_path, head, tools):
    with tools.opened(head.nifti(tmp_path)) as source:
        (found,) = source.measurements
    assert found.name == "5_gre"
    assert found.summary == "3 echoes 4 .. 14 ms, magnitude and phase, 14x12x16, Siemens 3 T"
    assert source.notes == ()


@pytest.mark.parametrize("level", ["", "sub-1", "sub-1/anat"])
def test_bids_from_any_level(tmp_path, head, tools, level):
    made = tools.loaded(head.bids(tmp_path / "data") / level)
    assert is_the_head(made, head)


def test_bids_names_its_measurements(tmp_path, head, tools):
    head.bids(tmp_path, "sub-1")
    head.bids(tmp_path, "sub-2")
    with tools.opened(tmp_path) as source:
        names = [found.name for found in source.measurements]
        assert names == ["sub-1_acq-GRE", "sub-2_acq-GRE"]
        assert is_the_head(source.load(source.measurements[1]), head)


@pytest.mark.parametrize("maker", ["SIEMENS", "Philips", "GE MEDICAL SYSTEMS"])
def test_classic_dicom_of_every_vendor(tmp_path, head, tools, maker):
    made = tools.loaded(head.dicom(tmp_path / "in", maker))
    tolerance = 2e-3 if maker.startswith("GE") else STEP / 2 + 1e-3
    assert is_the_head(made, head, tolerance)
    assert made.sources[Quantity.PHASE].startswith(str(tmp_path / "in"))


def test_ge_is_said_to_have_another_sign(tmp_path, head, tools):
    made = tools.loaded(head.dicom(tmp_path / "in", "GE MEDICAL SYSTEMS"))
    assert told(made, "other sign")
    assert told(made, "computed from real and imaginary part")


def test_a_4d_phase_with_a_magnitude(tmp_path, head, tools):
    folder = head.plain(tmp_path)
    stated = Corrections(echo_times=head.times, field_strength=3.0)
    files = [folder / "phase.nii"]
    made = tools.loaded(files, stated, magnitude=[folder / "mag.nii"])
    assert is_the_head(made, head, 1e-5)
    assert is_the_head(tools.loaded(folder, stated), head, 1e-5)
    assert is_the_head(tools.loaded([*files, folder / "mag.nii"], stated), head, 1e-5)


def test_one_file_for_each_echo_is_counted_as_people_count(tmp_path, head, tools):
    files = []
    for index, echo in enumerate((2, 10, 11)):
        files.append(tmp_path / f"img_phase_e{echo}.nii")
        tools.image(files[-1], head.phase[..., index].astype(np.float32), head.affine)
    stated = Corrections(echo_times=head.times, field_strength=3.0)
    made = tools.loaded(files[::-1], stated)
    assert tools.turn((made[Quantity.PHASE] - head.phase)[head.mask]) < 1e-5
    assert Quantity.MAGNITUDE not in made


@pytest.mark.parametrize("kind", [np.complex64, np.complex128])
def test_complex_numbers(tmp_path, head, tools, kind):
    signal = (head.magnitude * np.exp(1j * head.phase)).astype(kind)
    tools.image(tmp_path / "x.nii.gz", signal, head.affine)
    tools.write_json(tmp_path / "x.nii.gz", EchoTime=list(head.times), MagneticFieldStrength=3)
    made = tools.loaded([tmp_path / "x.nii.gz"])
    assert is_the_head(made, head, 1e-5)
    assert is_the_head(tools.loaded(tmp_path), head, 1e-5)


def test_real_and_imaginary_parts(tmp_path, head, tools):
    signal = head.magnitude * np.exp(1j * head.phase)
    for name, values in (("x_real.nii", signal.real), ("x_imag.nii", signal.imag)):
        tools.image(tmp_path / name, values.astype(np.float32), head.affine)
        tools.write_json(tmp_path / name, EchoTime=list(head.times), MagneticFieldStrength=3)
    made = tools.loaded([tmp_path / "x_real.nii", tmp_path / "x_imag.nii"])
    assert is_the_head(made, head, 1e-5)
    assert is_the_head(tools.loaded(tmp_path), head, 1e-5)


def test_a_single_echo_is_3d(tmp_path, head, tools):
    folder = head.nifti(tmp_path)
    for path in folder.glob("*_e[23]*"):
        path.unlink()
    made = tools.loaded(folder)
    assert made[Quantity.PHASE].shape == head.shape
    assert made[Quantity.MAGNITUDE].shape == head.shape
    assert made.echo_times == (0.004,)


def test_the_mask_is_taken_as_it_is(tmp_path, head, tools):
    tools.image(tmp_path / "mask.nii", head.mask.astype(np.uint8), head.affine)
    made = tools.loaded(head.nifti(tmp_path / "in"), mask=tmp_path / "mask.nii")
    assert np.array_equal(made.mask, head.mask)
    assert made.sources[Quantity.MASK].endswith("mask.nii")


def test_a_mask_in_the_same_folder_is_not_an_image(tmp_path, head, tools):
    folder = head.plain(tmp_path)
    tools.image(folder / "phase_mask.nii", head.mask.astype(np.uint8), head.affine)
    stated = Corrections(echo_times=head.times, field_strength=3.0)
    made = tools.loaded(folder, stated, mask=folder / "phase_mask.nii")
    assert np.array_equal(made.mask, head.mask)


def test_what_the_user_states_goes_first(tmp_path, head, tools):
    stated = Corrections((0.005, 0.01, 0.015), 7.0, (0, 1, 1), flip_phase=True)
    made = tools.loaded(head.nifti(tmp_path), stated)
    assert (made.echo_times, made.field_strength) == ((0.005, 0.01, 0.015), 7.0)
    assert made.grid.b0_direction == pytest.approx((0, math.sqrt(0.5), math.sqrt(0.5)))
    assert tools.turn((made[Quantity.PHASE] + head.phase)[head.mask]) <= STEP / 2 + 1e-5
    assert told(made, "turned round")
    assert made[Quantity.PHASE].max() < np.float32(math.pi)


def test_b0_is_that_of_the_imaging_frequency(tmp_path, head, tools):
    folder = head.nifti(tmp_path)
    for path in folder.glob("*.nii"):
        tools.write_json(path, ImagingFrequency=123.25)
    made = tools.loaded(folder)
    assert made.field_strength == pytest.approx(2.8947, abs=1e-4)
    assert told(made, "instead of the nominal 3 T")
    assert tools.loaded(folder, Corrections(field_strength=3.0)).field_strength == 3.0


def test_two_runs_are_two_measurements(tmp_path, head, tools):
    folder = head.nifti(tmp_path)
    for path in list(folder.iterdir()):
        series = int(path.name[0]) + 2
        copy = folder / f"{series}{path.name[1:]}"
        shutil.copy(path, copy)
        if path.suffix == ".json":
            stated = json.loads(copy.read_text())
            later = {"SeriesNumber": series, "AcquisitionTime": "10:09:00.0"}
            copy.write_text(json.dumps(stated | later))
    with tools.opened(folder) as source:
        assert [m.name for m in source.measurements] == ["5_gre", "7_gre"]
        numbers = [{p.path.name[0] for p in m.parts} for m in source.measurements]
        assert numbers == [{"5", "6"}, {"7", "8"}]


def test_what_belongs_to_no_phase_is_named(tmp_path, head, tools):
    folder = head.nifti(tmp_path)
    path = folder / "2_t1_mprage.nii"
    tools.image(path, head.magnitude[..., 0].astype(np.int16), head.affine)
    stated = {"EchoTime": 0.002, "ProtocolName": "t1", "SeriesDescription": "t1 mprage"}
    tools.write_json(path, SeriesNumber=2, **stated)
    with tools.opened(folder) as source:
        assert source.notes == ("Series 2 (t1 mprage) belongs to no phase; left out.",)
        assert is_the_head(source.load(source.measurements[0]), head)


def test_a_source_is_closed_once_and_for_all(tmp_path, head, tools):
    with tools.opened(head.nifti(tmp_path)) as source:
        (found,) = source.measurements
    source.close()
    with pytest.raises(InputError, match="open them again"):
        source.load(found)


def test_nothing_is_read_before_it_is_asked_for(tmp_path, head):
    steps = open_source(head.nifti(tmp_path))
    assert next(steps).fraction == 0
    steps.close()


@pytest.mark.shared
def test_the_slope_that_squeezes_is_left_out(shared_data, tools):
    folder = shared_data / "romeo-3echo"
    with tools.opened(folder) as source:
        whole, _ = source.measurements
        assert (whole.name, "echo times not stated" in whole.summary) == ("Phase", True)
        with pytest.raises(InputError, match="state one for each of the 3 echoes"):
            source.load(whole)
        made = source.load(whole, Corrections(echo_times=(0.004, 0.008, 0.012)))
    assert np.abs(made[Quantity.PHASE]).max() == pytest.approx(math.pi, rel=1e-6)
    assert made[Quantity.MAGNITUDE].shape == (51, 51, 41, 3)
    assert made.field_strength is None


@pytest.mark.shared
def test_phase_with_gaps_is_filled_with_a_note(shared_data, tools):
    file = shared_data / "romeo-3echo" / "phase_with_nan.nii.gz"
    made = tools.loaded([file], Corrections(echo_times=(0.004, 0.008), field_strength=3.0))
    assert told(made, "640 voxels of the phase were no numbers")
    assert np.isfinite(made[Quantity.PHASE]).all()


def test_nifti_files_go_before_dicom_in_one_folder(tmp_path, head, tools):
    head.dicom(tmp_path)
    (tmp_path / "._6_gre_e1_ph.nii").write_bytes(b"what some systems leave behind")
    tools.image(tmp_path / "mask.nii", head.mask.astype(np.uint8), head.affine)
    assert is_the_head(tools.loaded(tmp_path), head, STEP / 2 + 1e-3)
    with tools.opened(head.nifti(tmp_path)) as source:
        assert source.notes[0].startswith("The DICOM files in")
        assert {p.path.suffix for p in source.measurements[0].parts} == {".nii"}
        assert len(source.measurements[0].parts) == 6


def test_the_same_names_in_two_folders_are_two_measurements(tmp_path, head, tools):
    head.nifti(tmp_path / "a")
    head.nifti(tmp_path / "b")
    with tools.opened(tmp_path) as source:
        assert [found.name for found in source.measurements] == ["5_gre", "5_gre_2"]
        folders = [{p.path.parent.name for p in found.parts} for found in source.measurements]
        assert folders == [{"a"}, {"b"}]


# -- results of this program below what it was given -------------------------------------------


@pytest.fixture
def results():
    """Function that writes fields and a mask as a chain of this program does."""

    def write(folder, head, stem=""):
        grid = Grid(head.shape, head.affine)
        volumes = {
            Quantity.PHASE: head.phase.astype(np.float32),
            Quantity.TOTAL_FIELD: head.phase[..., 0].astype(np.float32),
            Quantity.MASK: head.mask,
        }
        made = Provenance(method="toy", software={"napari-qsm": "0"})
        return write_maps(Maps(grid, volumes, made), folder, stem=stem)

    return write


@pytest.mark.parametrize("kind", ["nifti", "bids", "dicom"])
@pytest.mark.parametrize("stem", ["", "sub-1_acq-GRE"])
def test_results_below_the_input_are_no_measurement(tmp_path, head, tools, results, kind, stem):
    folder = tmp_path / "data"
    getattr(head, kind)(folder)
    with tools.opened(folder) as source:
        before = [found.summary for found in source.measurements]
    written = results(folder / "out" / "qsm", head, stem)
    with tools.opened(folder) as source:
        assert [found.summary for found in source.measurements] == before
        assert any(
            note.startswith(f"{len(written)} images that napari-qsm has computed (in out/qsm)")
            for note in source.notes
        )
        assert is_the_head(source.load(source.measurements[0]), head, 0.01)


def test_a_folder_of_results_only_is_refused_in_words(tmp_path, head, tools, results):
    results(tmp_path / "out", head)
    with pytest.raises(InputError, match="holds results of napari-qsm only"):
        tools.opened(tmp_path)


def test_sidecars_of_others_make_no_result(tmp_path, head, tools):
    folder = head.nifti(tmp_path)
    for path in folder.glob("*.json"):
        stated = json.loads(path.read_text())
        path.write_text(json.dumps({**stated, "Provenance": {"software": {"another": "1"}}}))
    with tools.opened(folder) as source:
        assert source.notes == ()
        assert is_the_head(source.load(source.measurements[0]), head)
