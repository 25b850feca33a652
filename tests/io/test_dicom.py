"""DICOM is converted without a trace, can be stopped, and what it lacks is said."""

import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from napari_qsm.acquisition import InputError, Quantity
from napari_qsm.io import dicom
from napari_qsm.io.importer import open_source


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The folder for temporary files, which must be empty in the end."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def state(folder):
    """Everything about a folder that writing into it would change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        found[path] = (hashlib.sha256(content).hexdigest(), path.stat().st_mtime_ns)
    return found, folder.stat().st_mtime_ns


def refusal(paths):
    with pytest.raises(InputError) as caught:
        for _ in open_source(paths):
            pass
    return str(caught.value)


def test_nothing_is_left_behind_and_the_source_is_untouched(tmp_path, scratch, head, tools):
    folder = head.dicom(tmp_path / "in")
    before = state(folder)
    with tools.opened(folder) as source:
        assert any(scratch.iterdir())
        source.load(source.measurements[0])
    assert not any(scratch.iterdir())
    assert state(folder) == before


def test_a_forgotten_source_cleans_up_behind_itself(tmp_path, scratch, head, tools):
    source = tools.opened(head.dicom(tmp_path / "in"))
    assert any(scratch.iterdir())
    del source
    assert not any(scratch.iterdir())


def test_a_folder_that_cannot_be_written_to_is_read(tmp_path, scratch, head, tools):
    folder = head.dicom(tmp_path / "in")
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555)
    made = tools.loaded(folder)
    folder.chmod(0o755)
    assert made[Quantity.PHASE].shape == head.phase.shape


def test_chosen_files_and_nested_folders(tmp_path, scratch, head, tools):
    folder = head.dicom(tmp_path / "in" / "a" / "b")
    nested = tools.loaded(tmp_path / "in")
    chosen = tools.loaded(sorted(folder.iterdir()))
    assert np.array_equal(nested[Quantity.PHASE], chosen[Quantity.PHASE])
    assert not any(scratch.iterdir())


def sleeper(tmp_path, monkeypatch):
    """Put a converter in place that never ends and says where it is."""
    program = tmp_path / "slow"
    program.write_text(
        f"#!{sys.executable}\nimport os, pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "print('Progress: 0.25', flush=True)\ntime.sleep(60)\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(dicom, "converter", lambda: str(program))


def test_closing_stops_the_converter_and_removes_its_files(tmp_path, scratch, head, monkeypatch):
    sleeper(tmp_path, monkeypatch)
    steps = open_source(head.dicom(tmp_path / "in"))
    for step in steps:
        if step.fraction == 0.25:
            break
    process = int((tmp_path / "pid").read_text())
    began = time.perf_counter()
    steps.close()
    assert time.perf_counter() - began < 0.3
    assert not any(scratch.iterdir())
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_steps_come_often_while_the_converter_runs(tmp_path, scratch, head, monkeypatch):
    sleeper(tmp_path, monkeypatch)
    steps = open_source(head.dicom(tmp_path / "in"))
    next(steps)
    gaps = []
    for _ in range(5):
        began = time.perf_counter()
        next(steps)
        gaps.append(time.perf_counter() - began)
    steps.close()
    assert sorted(gaps)[2] < 0.2


def test_without_the_converter_the_extra_is_named(tmp_path, scratch, head, monkeypatch):
    monkeypatch.setattr(dicom.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(dicom.shutil, "which", lambda name: None)
    text = refusal(head.dicom(tmp_path / "in"))
    assert "pip install 'napari-qsm[dicom]'" in text
    assert not any(scratch.iterdir())


def test_a_converter_that_fails_is_said_to(tmp_path, scratch, head, monkeypatch):
    program = tmp_path / "broken"
    program.write_text("#!/bin/sh\necho 'Error: disk full'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(dicom, "converter", lambda: str(program))
    assert "(disk full)" in refusal(head.dicom(tmp_path / "in"))
    assert not any(scratch.iterdir())


def test_truncated_images_are_named(tmp_path, scratch, head, tools):
    folder = head.dicom(tmp_path / "in")
    cut = folder / "0005.dcm"
    cut.write_bytes(cut.read_bytes()[:-100])
    with tools.opened(folder) as source:
        assert "0005.dcm is truncated" in " ".join(source.notes)


def test_copies_are_left_out_and_counted(tmp_path, scratch, head, tools):
    folder = head.dicom(tmp_path / "in")
    (folder / "copy.dcm").write_bytes((folder / "0003.dcm").read_bytes())
    with tools.opened(folder) as source:
        assert source.notes == ("Of the DICOM files, 1 was there twice and left out.",)
        made = source.load(source.measurements[0])
    assert made[Quantity.PHASE].shape == head.phase.shape


@pytest.mark.parametrize("missing", [5, 20])
def test_missing_slices_are_refused(tmp_path, scratch, head, tools, missing):
    folder = head.dicom(tmp_path / "in", skip={missing})
    with tools.opened(folder) as source, pytest.raises(InputError, match="are missing"):
        source.load(source.measurements[0])


def test_is_dicom_reads_the_beginning(tmp_path, head):
    folder = head.dicom(tmp_path / "in", skip=set(range(2, 200)))
    assert dicom.is_dicom(folder / "0001.dcm")
    (tmp_path / "x.txt").write_text("hello")
    assert not dicom.is_dicom(tmp_path / "x.txt")
    assert not dicom.is_dicom(tmp_path)


def philips(shared_data, kind):
    return shared_data / "philips-2echo" / "In" / kind


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["cl", "enh"])
def test_philips_classic_and_enhanced_equal_the_reference(shared_data, scratch, tools, kind):
    before = state(philips(shared_data, kind))
    made = tools.loaded(philips(shared_data, kind))
    assert state(philips(shared_data, kind)) == before
    ref = shared_data / "philips-2echo" / "Ref"
    files = sorted(ref.glob(f"*_{kind}_e*.nii.gz"))
    expected = tools.loaded(files)
    for quantity in (Quantity.PHASE, Quantity.MAGNITUDE):
        assert np.array_equal(made[quantity], expected[quantity])
    assert made.echo_times == (0.0023, 0.0046)
    assert made.grid.b0_direction == pytest.approx((-0.0608, 0.0024, 0.9981), abs=1e-4)
    assert made.grid.mismatch(expected.grid) is None


@pytest.mark.shared
def test_philips_classic_and_enhanced_in_one_folder_are_two(shared_data, scratch, tools):
    with tools.opened(philips(shared_data, "cl").parent) as source:
        first, second = (source.load(found) for found in source.measurements)
    assert np.array_equal(first[Quantity.PHASE], second[Quantity.PHASE])
    assert np.array_equal(first[Quantity.MAGNITUDE], second[Quantity.MAGNITUDE])


@pytest.mark.shared
def test_siemens_series_in_one_folder_are_sorted_out(shared_data, scratch, tools):
    made = tools.loaded(shared_data / "siemens-6echo-dicom")
    assert made.echo_times == pytest.approx((0.0025, 0.0055, 0.0085, 0.0115, 0.0145, 0.0175))
    assert made[Quantity.PHASE].shape == made[Quantity.MAGNITUDE].shape == (128, 76, 10, 6)
    assert made[Quantity.PHASE].min() == np.float32(-np.pi)
    means = made[Quantity.MAGNITUDE].mean(axis=(0, 1, 2))
    assert (np.diff(means) < 0).all()
    assert made.grid.b0_direction == (0, 0, 1)


@pytest.mark.shared
def test_siemens_enhanced_phase_difference(shared_data, scratch, tools):
    made = tools.loaded(shared_data / "siemens-xa30-enhanced" / "In")
    assert made[Quantity.PHASE].shape == made[Quantity.MAGNITUDE].shape == (64, 64, 33)
    assert made.echo_times == (0.00246,)
    ref = shared_data / "siemens-xa30-enhanced" / "Ref"
    assert np.array_equal(tools.loaded(ref)[Quantity.PHASE], made[Quantity.PHASE])
    assert any("difference of the echoes at 10 and 12.46 ms" in note for note in made.notes)


@pytest.mark.shared
def test_magnitudes_alone_are_refused(shared_data, scratch):
    folder: Path = shared_data / "siemens-xa30-enhanced" / "In" / "8_gre_field_mapping"
    assert "holds no phase image (found: gre_field_mapping)" in refusal(folder)
