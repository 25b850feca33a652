"""BIDS by names and JSON: entities, inheritance, field maps."""

import json

import numpy as np
import pytest

from napari_qsm.acquisition import InputError, Quantity
from napari_qsm.io import bids
from napari_qsm.io.importer import Corrections
from napari_qsm.physics.units import GAMMA_BAR_MHZ_PER_T


def put(path, **stated):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stated))


def told(made, words):
    return any(words in note for note in made.notes)


@pytest.mark.parametrize(
    ("name", "tags", "suffix"),
    [
        ("sub-1_MEGRE", {"sub": "1"}, "MEGRE"),
        (
            "sub-01_ses-a_acq-GRE_run-2_echo-3_part-phase_MEGRE",
            {"sub": "01", "ses": "a", "acq": "GRE", "run": "2", "echo": "3", "part": "phase"},
            "MEGRE",
        ),
        ("sub-1_acq-a-b_bold", {"sub": "1", "acq": "a-b"}, "bold"),
        ("sub-1_echo-1", {"sub": "1", "echo": "1"}, ""),
        ("MEGRE", {}, "MEGRE"),
    ],
)
def test_names_are_split_into_entities(name, tags, suffix):
    assert bids.entities(name) == (tags, suffix)


def test_what_lies_closer_goes_first(tmp_path):
    anat = tmp_path / "sub-1" / "ses-1" / "anat"
    put(tmp_path / "dataset_description.json", Name="x")
    put(tmp_path / "MEGRE.json", EchoTime=0.1, MagneticFieldStrength=3, Manufacturer="GE")
    put(tmp_path / "sub-1" / "sub-1_MEGRE.json", EchoTime=0.2)
    put(anat / "sub-1_ses-1_echo-1_MEGRE.json", EchoTime=0.004)
    put(anat / "sub-1_ses-1_echo-1_part-phase_MEGRE.json", Units="rad")
    stated = bids.sidecar(anat / "sub-1_ses-1_echo-1_part-phase_MEGRE.nii.gz")
    assert stated.echo_times == (0.004,)
    assert (stated.field_strength, stated.unit) == (3, "rad")
    assert stated.stated["Manufacturer"] == "GE"


@pytest.mark.parametrize(
    "name", ["sub-2_MEGRE", "sub-1_echo-2_MEGRE", "sub-1_part-mag_MEGRE", "sub-1_T1w"]
)
def test_what_names_another_image_is_not_inherited(tmp_path, name):
    put(tmp_path / "sub-1" / "anat" / f"{name}.json", EchoTime=0.004)
    image = tmp_path / "sub-1" / "anat" / "sub-1_echo-1_part-phase_MEGRE.nii"
    assert bids.sidecar(image).echo_times == ()


def test_nothing_is_inherited_from_above_the_data_set(tmp_path):
    put(tmp_path / "MEGRE.json", EchoTime=0.1)
    put(tmp_path / "data" / "dataset_description.json", Name="x")
    image = tmp_path / "data" / "sub-1" / "anat" / "sub-1_MEGRE.nii"
    image.parent.mkdir(parents=True)
    assert bids.sidecar(image).echo_times == ()


def test_derivatives_and_other_images_stay_aside(tmp_path, head, tools):
    head.bids(tmp_path)
    other = tmp_path / "derivatives" / "x" / "sub-1" / "anat"
    other.mkdir(parents=True)
    tools.image(other / "sub-1_part-phase_MEGRE.nii", head.steps[..., 0], head.affine)
    tools.image(tmp_path / "sub-1" / "anat" / "sub-1_T1w.nii", head.steps[..., 0], head.affine)
    with tools.opened(tmp_path) as source:
        assert [found.name for found in source.measurements] == ["sub-1_acq-GRE"]
    assert tools.opened(tmp_path / "derivatives" / "x").measurements[0].name == "sub-1"


def test_images_without_part_are_the_magnitude(tmp_path, head, tools):
    head.bids(tmp_path)
    for path in sorted((tmp_path / "sub-1" / "anat").glob("*part-mag*")):
        path.rename(path.with_name(path.name.replace("part-mag_", "")))
    made = tools.loaded(tmp_path)
    assert made[Quantity.MAGNITUDE] == pytest.approx(head.magnitude, abs=1.01)


def test_real_and_imaginary_parts(tmp_path, head, tools):
    head.bids(tmp_path)
    anat = tmp_path / "sub-1" / "anat"
    signal = head.magnitude * np.exp(1j * head.phase)
    for path in sorted(anat.glob("*part-*.nii.gz")):
        echo = int(path.name.split("echo-")[1][0]) - 1
        part, values = ("real", signal.real) if "part-mag" in path.name else ("imag", signal.imag)
        name = path.name.replace("part-mag", "part-real").replace("part-phase", "part-imag")
        path.unlink()
        assert part in name
        tools.image(anat / name, values[..., echo].astype(np.float32), head.affine)
    made = tools.loaded(tmp_path)
    assert tools.turn(made[Quantity.PHASE] - head.phase) < 1e-5
    assert made.echo_times == pytest.approx(head.times)


@pytest.fixture
def fmap(tmp_path, head, tools):
    """Write images of a fmap folder by suffix."""
    folder = tmp_path / "sub-1" / "fmap"
    folder.mkdir(parents=True)

    def write(suffix, values, **stated):
        path = folder / f"sub-1_{suffix}.nii.gz"
        tools.image(path, values, head.affine)
        put(folder / f"sub-1_{suffix}.json", MagneticFieldStrength=3, **stated)

    return write


def difference_of(head):
    return np.angle(np.exp(1j * (head.phase[..., 1] - head.phase[..., 0])))


def test_a_phase_difference_with_two_magnitudes(tmp_path, head, tools, fmap):
    steps = np.rint(difference_of(head) / np.pi * 4096).clip(-4096, 4095).astype(np.int16)
    fmap("phasediff", steps, EchoTime1=0.004, EchoTime2=0.009)
    m1, m2 = (head.magnitude[..., i].astype(np.float32) for i in (0, 1))
    fmap("magnitude1", m1, EchoTime=0.004)
    fmap("magnitude2", m2, EchoTime=0.009)
    made = tools.loaded(tmp_path)
    assert made.echo_times == (0.005,)
    assert tools.turn(made[Quantity.PHASE] - difference_of(head)) < np.pi / 4096
    expected = 1 / np.sqrt(1 / m1**2 + 1 / m2**2)
    assert made[Quantity.MAGNITUDE] == pytest.approx(expected, rel=1e-5)
    assert told(made, "1 / sqrt(1 / m1^2 + 1 / m2^2)")


def test_the_times_of_a_difference_can_be_stated(tmp_path, head, tools, fmap):
    fmap("phasediff", difference_of(head).astype(np.float32))
    with pytest.raises(InputError, match="two echo times"):
        tools.loaded(tmp_path)
    assert tools.loaded(tmp_path, Corrections(echo_times=(0.009, 0.004))).echo_times == (0.005,)
    assert tools.loaded(tmp_path, Corrections(echo_times=(0.005,))).echo_times == (0.005,)


def test_the_times_of_a_difference_are_those_of_its_magnitudes(tmp_path, head, tools, fmap):
    fmap("phasediff", difference_of(head).astype(np.float32))
    for index in (0, 1):
        values = head.magnitude[..., index].astype(np.float32)
        fmap(f"magnitude{index + 1}", values, EchoTime=head.times[index])
    assert tools.loaded(tmp_path).echo_times == (0.005,)


def test_two_phases_are_two_echoes(tmp_path, head, tools, fmap):
    for index in (0, 1):
        for name, values in (("phase", head.steps), ("magnitude", head.magnitude)):
            values = values[..., index].astype(np.int16)
            fmap(f"{name}{index + 1}", values, EchoTime=head.times[index])
    made = tools.loaded(tmp_path)
    assert made.echo_times == (0.004, 0.009)
    assert made[Quantity.MAGNITUDE].shape == (*head.shape, 2)
    assert tools.turn(made[Quantity.PHASE] - head.phase[..., :2]) < np.pi / 4000


@pytest.mark.parametrize(("unit", "factor"), [("Hz", 1.0), ("rad/s", 2 * np.pi)])
def test_a_field_map_becomes_ppm(tmp_path, head, tools, fmap, unit, factor):
    hertz = np.random.default_rng(0).normal(0, 50, head.shape).astype(np.float32)
    fmap("fieldmap", hertz * np.float32(factor), Units=unit)
    fmap("magnitude", head.magnitude[..., 0].astype(np.float32))
    made = tools.loaded(tmp_path)
    expected = hertz / (3 * GAMMA_BAR_MHZ_PER_T)
    assert made[Quantity.TOTAL_FIELD] == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert Quantity.PHASE not in made
    assert made.echo_times == ()
    flipped = tools.loaded(tmp_path, Corrections(flip_phase=True))
    assert flipped[Quantity.TOTAL_FIELD] == pytest.approx(-expected, rel=1e-5, abs=1e-7)


def test_a_field_map_is_summarised_as_one(tmp_path, head, tools, fmap):
    fmap("fieldmap", head.magnitude[..., 0].astype(np.float32), Units="Hz")
    with tools.opened(tmp_path) as source:
        assert source.measurements[0].summary == "field map, no magnitude, 14x12x16, 3 T"
