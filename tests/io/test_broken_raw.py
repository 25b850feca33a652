"""Broken raw input, each kind with one sentence that says what was found and what to do."""

import gzip
from typing import NamedTuple

import numpy as np
import pytest

from napari_qsm.acquisition import InputError
from napari_qsm.io.importer import Corrections
from napari_qsm.preparation.checks import inspect

STATED = {"EchoTime": [0.004, 0.009, 0.014], "MagneticFieldStrength": 3}
PHASE_1, PHASE_2, PHASE_3 = (f"6_gre_e{echo}_ph.nii" for echo in (1, 2, 3))
MAGNITUDE_2 = "5_gre_e2.nii"


class Fault(NamedTuple):
    """What must be said, how the files are made, and how much it matters.

    The files are made by a function of the head, a folder and the tools; it returns the paths, or
    all arguments with which they are opened.
    """

    words: str
    make: object
    severity: str = "refused"


def plain(values=lambda head: {}, **stated):
    """4D files with sidecars, in which numbers are replaced."""
    return lambda head, folder, tools: head.plain(folder, **values(head), **{**STATED, **stated})


def changed(change, kind="nifti"):
    """A healthy folder to which something is done."""

    def make(head, folder, tools):
        change(getattr(head, kind)(folder))
        return folder

    return make


def rewritten(name, values):
    """A healthy folder in which one image holds other numbers."""

    def make(head, folder, tools):
        tools.image(head.nifti(folder) / name, values(head), head.affine)
        return folder

    return make


def said(pattern="*.nii", **stated):
    """A healthy folder in which sidecars say something else."""

    def make(head, folder, tools):
        for path in head.nifti(folder).glob(pattern):
            tools.write_json(path, **stated)
        return folder

    return make


def corrected(**stated):
    """A healthy folder and an unhealthy user."""
    return lambda head, folder, tools: {
        "paths": head.nifti(folder),
        "corrections": Corrections(**stated),
    }


def masked(values):
    """A healthy folder and a mask."""

    def make(head, folder, tools):
        tools.image(folder / "mask.nii", values(head.mask.astype(np.int16)), head.affine)
        return {"paths": head.nifti(folder / "in"), "mask": folder / "mask.nii"}

    return make


def alone(name, values, **stated):
    """A folder with one image."""

    def make(head, folder, tools):
        tools.image(folder / name, values(head), head.affine)
        if stated:
            tools.write_json(folder / name, **stated)
        return folder

    return make


def parts(values, missing=()):
    """One file for the real part, one for the imaginary part of each echo."""

    def make(head, folder, tools):
        for name, each in zip(("real", "imag"), values(head), strict=True):
            for echo in range(3):
                path = folder / f"{name}_e{echo + 1}.nii"
                if path.name not in missing:
                    tools.image(path, each[..., echo].astype(np.float32), head.affine)
        return folder

    return make


def cut(path, count=300):
    path.write_bytes(path.read_bytes()[:-count])


def poked(path, offset, values):
    raw = bytearray(path.read_bytes())
    raw[offset : offset + values.nbytes] = values.tobytes()
    path.write_bytes(raw)


def without(pattern):
    return changed(lambda folder: [path.unlink() for path in folder.glob(pattern)])


def sliced(values, *slices):
    """Return the values with each given slice like the one before it."""
    values = values.copy()
    for z in slices:
        values[:, :, z] = values[:, :, z - 1]
    return values


def emptied(values, start, stop):
    values = values.copy()
    values[:, :, start:stop] = 0
    return values


def signal(head):
    return head.magnitude * np.exp(1j * head.phase)


def dicom(skip):
    return lambda head, folder, tools: head.dicom(folder, skip=set(skip))


def twice(head, folder, tools):
    for end in (".nii", ".json"):
        path = (head.nifti(folder) / MAGNITUDE_2).with_suffix(end)
        (folder / f"5_gre_e2_Eq_1{end}").write_bytes(path.read_bytes())
    return folder


def moved(head, folder, tools):
    affine = np.array(head.affine)
    affine[0, 3] = 30
    head.nifti(folder)
    for path in folder.glob("5_*.nii"):
        tools.image(path, head.magnitude[..., int(path.stem[-1]) - 1].astype("i2"), affine)
    return sorted(folder.glob("*.nii"))


def exchanged(head, folder, tools):
    head.plain(folder)
    return {"paths": [folder / "mag.nii"], "magnitude": [folder / "phase.nii"]}


BIDS_PHASE_1 = "sub-1/anat/sub-1_acq-GRE_echo-1_part-phase_MEGRE.nii.gz"
SLICES = 16  # of one echo of one kind in the DICOM folder
NOISE = np.random.default_rng(0).uniform(-np.pi, np.pi, (14, 12, 16, 3))
BAND = [("R", "u1"), ("G", "u1"), ("B", "u1")]

# fmt: off
FILES = {
    "nothing there": Fault("There is no file", lambda h, f, t: f / "absent"),
    "nothing chosen": Fault("No file was chosen", lambda h, f, t: []),
    "an empty folder": Fault("holds 0 files, none of them", lambda h, f, t: f),
    "a folder of texts": Fault("holds 1 file, none of them a complete DICOM",
        lambda h, f, t: (f / "a.dcm").write_text("hello" * 99) and f),
    "an archive": Fault("is an archive; unpack it",
        lambda h, f, t: (f / "a.zip").write_bytes(b"PK") and f / "a.zip"),
    "two folders": Fault("choose one folder", lambda h, f, t: [h.nifti(f / "a"), h.nifti(f / "b")]),
    "NIfTI and DICOM": Fault("is no NIfTI file, but others are",
        lambda h, f, t: [h.plain(f) / "mag.nii", h.dicom(f / "d") / "0001.dcm"]),
    "a folder and a magnitude": Fault("its magnitude is found by itself",
        lambda h, f, t: {"paths": h.plain(f), "magnitude": [f / "mag.nii"]}),
    "an absent magnitude": Fault("There is no file",
        lambda h, f, t: {"paths": [h.plain(f) / "phase.nii"], "magnitude": [f / "absent.nii"]}),
    "an empty image": Fault("0 bytes", changed(lambda f: (f / PHASE_2).write_bytes(b""))),
    "a truncated image": Fault("header promises", changed(lambda f: cut(f / PHASE_2))),
    "a truncated packed image": Fault(
        "do not unpack", changed(lambda f: cut(f / BIDS_PHASE_1), "bids")),
    "a text": Fault("is not a NIfTI file",
        changed(lambda f: (f / PHASE_1).write_bytes(gzip.compress(b"text" * 200)))),
    "a damaged header": Fault(
        "states 9 dimensions", changed(lambda f: poked(f / PHASE_1, 40, np.array([9], "<i2")))),
    "voxels without size": Fault(
        "voxel size reads", changed(lambda f: poked(f / PHASE_1, 280, np.zeros(12, "<f4")))),
    "a T1 without phase": Fault(
        "holds no phase image (found: 2_t1)", alone("2_t1.nii", lambda h: h.magnitude[..., 0])),
    "BIDS without phase": Fault("holds no phase image (found: sub-1_T1w)",
        alone("sub-1_T1w.nii", lambda h: h.magnitude[..., 0])),
    "magnitudes only": Fault("holds no phase image", without("*_ph.*")),
    "colours": Fault("colours or bits", rewritten(PHASE_1, lambda h: np.zeros(h.shape, BAND))),
}

ECHOES = {
    "a missing magnitude": Fault("magnitude of the echo at 9 ms is missing", without("5_*e2.*")),
    "a missing phase": Fault("phase of the echo at 14 ms is missing", without("6_*e3_ph.*")),
    "an echo missing in both": Fault(
        "Of the echoes up to number 3, 2 is missing", without("*_e2*"), "note"),
    "fewer volumes than times": Fault(
        "2 volumes, the echo times number 3", plain(lambda h: {"phase": h.phase[..., :2]})),
    "no sidecars": Fault("no echo time; state one for each of the 3", without("*.json")),
    "a sidecar missing": Fault("only 2 of 3 echo times",
        changed(lambda f: [p.unlink() for p in [f / "6_gre_e1_ph.json", *f.glob("5_*")]])),
    "times in ms": Fault("EchoTime 4 where a positive number of seconds", said(EchoTime=4)),
    "stated in ms": Fault("write 0.004 if milliseconds", corrected(echo_times=(4, 9, 14))),
    "converted twice": Fault(
        "converted from milliseconds twice", corrected(echo_times=(4e-6, 9e-6, 14e-6)), "warning"),
    "very long times": Fault(
        "check whether milliseconds were meant", corrected(echo_times=(0.2, 0.45, 0.7)), "warning"),
    "too few stated": Fault("2 echo times were stated", corrected(echo_times=(0.004, 0.009))),
    "a negative time": Fault("must be positive", corrected(echo_times=(-0.004, 0.009, 0.014))),
    "equal times": Fault("have the same echo time of 4 ms", said(EchoTime=0.004)),
    "a gap": Fault("one is missing", corrected(echo_times=(0.004, 0.006, 0.020)), "warning"),
    "a phase twice": Fault("hold the same phase", rewritten(PHASE_2, lambda h: h.steps[..., 0])),
    "magnitudes in another order": Fault(
        "grows from echo 1 to", plain(lambda h: {"magnitude": h.magnitude[..., ::-1]}), "warning"),
    "a series over time": Fault("choose a multi-echo", plain(EchoTime=0.03)),
    "a missing imaginary part": Fault("3 real and 2 imaginary parts",
        parts(lambda h: (signal(h).real, signal(h).imag), {"imag_e3.nii"})),
    "one part for both": Fault(
        "Real and imaginary part are the same", parts(lambda h: (h.magnitude, h.magnitude))),
    "a complex image without phase": Fault(
        "The imaginary part is 0", alone("x.nii", lambda h: h.magnitude.astype(np.complex64))),
    "a difference without times": Fault("two echo times of the phase difference",
        alone("sub-1_phasediff.nii", lambda h: h.steps[..., 0])),
}

SPACE = {
    "one slice": Fault("holds a 2D image", plain(lambda h: {"phase": h.phase[:, :, 5, 0]})),
    "five dimensions": Fault(
        "5 dimensions", plain(lambda h: {"phase": np.stack([h.phase, h.phase], -1)})),
    "a slice less": Fault("magnitude of echo 2 has shape (14, 12, 15)",
        rewritten(MAGNITUDE_2, lambda h: h.magnitude[:, :, :15, 1])),
    "a transposed echo": Fault("phase of echo 3 has shape (12, 14, 16)",
        rewritten(PHASE_3, lambda h: h.steps[..., 2].transpose(1, 0, 2))),
    "another position": Fault("lies up to 30.00 mm away", moved),
    "repeated slices": Fault("2 slices are the same as the one before along the third axis",
        plain(lambda h: {"phase": sliced(h.phase, 6, 9), "magnitude": sliced(h.magnitude, 6, 9)}),
        "warning"),
    "empty slices": Fault("2 slices are empty in the middle of the third axis",
        plain(lambda h: {"phase": emptied(h.phase, 7, 9), "magnitude": emptied(h.magnitude, 7, 9)}),
        "warning"),
    "thick slices": Fault(
        "more than 4 times another", plain(lambda h: {"affine": np.diag([1, 1, 8, 1])}), "warning"),
    "interpolated slices": Fault("slices of 5_gre_e2 do not lie at equal", twice),
    "a missing DICOM slice": Fault("some are missing; export all slices", dicom({7})),
    "a missing DICOM echo": Fault(
        "phase of the echo at 9 ms is missing", dicom(range(3 * SLICES + 1, 4 * SLICES + 1))),
    "DICOM without phase": Fault(
        "holds no phase image (found: gre)", dicom(n + 1 for n in range(96) if n // SLICES % 2)),
    "one DICOM slice": Fault("holds a 2D image", dicom({*range(1, 97)} - {SLICES + 3})),
}

NUMBERS = {
    "zeros": Fault("phase of echo 1 is 0 in every", plain(lambda h: {"phase": 0 * h.phase})),
    "a constant echo": Fault(
        "phase of echo 2 is 7 in every", rewritten(PHASE_2, lambda h: np.full(h.shape, 7, "i2"))),
    "NaN": Fault("echo 1 holds no numbers", plain(lambda h: {"phase": np.nan * h.phase})),
    "rounded": Fault(
        "rounded when it was saved", plain(lambda h: {"phase": np.rint(h.phase).astype("i2")})),
    "squeezed": Fault("wrong slope", plain(lambda h: {"phase": 0.001 * h.phase})),
    "half turns": Fault("fractions of a turn", plain(lambda h: {"phase": h.phase / np.pi})),
    "a field map": Fault("fills no range", plain(lambda h: {"phase": 37 * h.phase})),
    "in Hz": Fault("said to be in Hz, the unit of a field map", plain(Units="Hz")),
    "not in rad": Fault("state rad, which the numbers contradict", said(Units="rad"), "note"),
    "two scales": Fault("different scales", rewritten(PHASE_2, lambda h: h.phase[..., 1])),
    "exchanged integers": Fault("exchange the two",
        plain(lambda h: {"phase": h.magnitude.astype("i2"), "magnitude": h.steps})),
    "exchanged files": Fault("exchange the two", exchanged),
    "one file for both": Fault("the same numbers", plain(lambda h: {"magnitude": h.phase})),
    "a magnitude as phase": Fault("as a magnitude is",
        alone("phase.nii", lambda h: (4 * h.magnitude).astype("i2"), **STATED)),
    "no signal": Fault(
        "magnitude of echo 1 reaches 0", plain(lambda h: {"magnitude": 0 * h.magnitude})),
    "noise": Fault("as noise does", plain(lambda h: {"phase": NOISE}), "warning"),
    "some NaN": Fault("125 voxels of the phase were no numbers",
        plain(lambda h: {"phase": np.where(NOISE > 3.05, np.nan, h.phase)}), "note"),
    "no magnitude": Fault("no magnitude, so nothing tells", without("5_*"), "warning"),
}

STATEMENTS = {
    "damaged JSON": Fault(
        "is not valid JSON", changed(lambda f: (f / "6_gre_e1_ph.json").write_text("{"))),
    "damaged inherited JSON": Fault(
        "is not valid JSON", changed(lambda f: (f / "MEGRE.json").write_text("{"), "bids")),
    "two strengths": Fault("3 T and as 7 T", said(PHASE_1, MagneticFieldStrength=7)),
    "another frequency": Fault("298 MHz, which is 7 T", said(ImagingFrequency=298)),
    "no strength": Fault("B0 is not known", said(MagneticFieldStrength=None), "error"),
    "an echo planar image": Fault("its distortions", said(ScanningSequence="EP GR"), "note"),
    "a spin echo": Fault("refocuses the phase", said(ScanningSequence="SE")),
    "a field map without unit": Fault(
        "states no unit; state Hz", alone("sub-1_fieldmap.nii", lambda h: h.phase[..., 0])),
    "an empty mask": Fault("The mask is empty", masked(lambda mask: 0 * mask)),
    "a mask of another shape": Fault("mask has shape", masked(lambda mask: mask[:, :, 1:])),
    "a negative mask": Fault("values from -1 to 0", masked(lambda mask: -mask)),
}
# fmt: on

FAULTS = {**FILES, **ECHOES, **SPACE, **NUMBERS, **STATEMENTS}


def outcome(fault, head, folder, tools):
    """Return what is said: the refusal, else the findings by severity."""
    asked = fault.make(head, folder, tools)
    asked = asked if isinstance(asked, dict) else {"paths": asked}
    try:
        found = inspect(tools.loaded(**asked))
    except InputError as error:
        return [("refused", str(error))]
    return [(finding.severity, finding.text) for finding in found]


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_gets_a_sentence(name, tmp_path, head, tools):
    fault, folder = FAULTS[name], tmp_path / "data"
    folder.mkdir()
    everything = outcome(fault, head, folder, tools)
    texts = [text for severity, text in everything if severity == fault.severity]
    assert [text for text in texts if fault.words in text], everything
    for text in texts:
        assert text.endswith(".")
        assert "\n" not in text
        assert fault.severity == "note" or ". " not in text


def test_sixty_faults_and_more_are_told_apart():
    assert len(FAULTS) >= 60
    assert len(FAULTS) == sum(map(len, (FILES, ECHOES, SPACE, NUMBERS, STATEMENTS)))


def test_the_same_head_unbroken_is_accepted(tmp_path, head, tools):
    made = [make(tmp_path / make.__name__) for make in (head.nifti, head.bids, head.dicom)]
    made.append(head.plain(tmp_path / "plain", **STATED))
    for folder in made:
        serious = [f.text for f in inspect(tools.loaded(folder)) if f.severity != "note"]
        assert all("voxels or 24 mm thick" in text for text in serious)
