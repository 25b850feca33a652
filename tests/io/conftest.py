import json
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_qsm.generators import finished, relayed
from napari_qsm.io.importer import Corrections, open_source


@pytest.fixture
def shared_data():
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the development data are not at {folder}")
    return folder


class Head:
    """A ball with a smooth field, in air that is noise: small, but all a scanner's phase has."""

    shape = (14, 12, 16)
    times = (0.004, 0.009, 0.014)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])

    def __init__(self):
        draw = np.random.default_rng(7)
        x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in self.shape], indexing="ij")
        ball = x**2 + y**2 + z**2 < 0.7
        hertz = 90 * z + 40 * x * y + 25
        shape = (*self.shape, len(self.times))
        phase = 2 * np.pi * hertz[..., None] * np.array(self.times) + 0.02 * draw.normal(size=shape)
        air = draw.uniform(-np.pi, np.pi, shape)
        self.phase = np.angle(np.exp(1j * np.where(ball[..., None], phase, air)))
        fading = np.exp(-30 * np.array(self.times))
        self.magnitude = 800 * ball[..., None] * fading + 20 * draw.random(shape)
        self.mask = ball

    @property
    def steps(self):
        """The phase as Siemens stores it, 0 to 4095."""
        return (np.floor((self.phase + np.pi) / (2 * np.pi) * 4096 + 0.5) % 4096).astype(np.int16)

    def nifti(self, folder):
        """Write what dcm2niix writes: 5_gre_e1.nii, 6_gre_e1_ph.nii ... with sidecars."""
        folder.mkdir(parents=True, exist_ok=True)
        for index, time in enumerate(self.times, start=1):
            for series, end, values in ((5, "", self.magnitude), (6, "_ph", self.steps)):
                path = folder / f"{series}_gre_e{index}{end}.nii"
                image(path, values[..., index - 1].astype(np.int16), self.affine)
                write_json(
                    path,
                    EchoTime=time,
                    EchoNumber=index,
                    MagneticFieldStrength=3,
                    Manufacturer="Siemens",
                    SeriesNumber=series,
                    ProtocolName="gre",
                    SeriesDescription="gre",
                    ScanningSequence="GR",
                    AcquisitionTime="10:00:00.0",
                    ImageType=["ORIGINAL", "PRIMARY", "P" if end else "M", "ND"],
                )
        return folder

    def bids(self, root, subject="sub-1"):
        """Write a BIDS data set whose sidecars are inherited from the root and the echoes."""
        anat = root / subject / "anat"
        anat.mkdir(parents=True)
        (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
        stated = {"MagneticFieldStrength": 3, "Manufacturer": "Siemens"}
        (root / "MEGRE.json").write_text(json.dumps(stated))
        for index, time in enumerate(self.times, start=1):
            for part, values in (("mag", self.magnitude), ("phase", self.steps)):
                name = f"{subject}_acq-GRE_echo-{index}_part-{part}_MEGRE.nii.gz"
                image(anat / name, values[..., index - 1].astype(np.int16), self.affine)
            shared = anat / f"{subject}_acq-GRE_echo-{index}_MEGRE.json"
            shared.write_text(json.dumps({"EchoTime": time}))
        return root

    def plain(self, folder, phase=None, magnitude=None, affine=None, **stated):
        """Write 4D phase in rad and magnitude; without anything stated, without a sidecar."""
        folder.mkdir(parents=True, exist_ok=True)
        given = {"phase": self.phase if phase is None else phase}
        given["mag"] = self.magnitude if magnitude is None else magnitude
        for name, values in given.items():
            path = folder / f"{name}.nii"
            values = values.astype(np.float32) if values.dtype == float else values
            image(path, values, self.affine if affine is None else affine)
            if stated:
                write_json(path, **stated)
        return folder

    def dicom(self, folder, maker="SIEMENS", skip=()):
        """Write classic DICOM files of all echoes; `skip` names files to leave out."""
        folder.mkdir(parents=True, exist_ok=True)
        number = 0
        for index, time in enumerate(self.times):
            for kind, values in dicom_kinds(self, maker, index):
                for z in range(self.shape[2]):
                    number += 1
                    # Columns run to the left and rows to the back; the converter turns both.
                    pixels = np.ascontiguousarray(values[::-1, ::-1, z].T)
                    if number not in skip:
                        stated = {**kind, "te": 1000 * time, "echo": index + 1, "slice": z}
                        write_dicom(folder / f"{number:04d}.dcm", pixels, number, maker, **stated)
        return folder


@pytest.fixture
def head():
    return Head()


def image(path, values, affine, code=1):
    made = nib.Nifti1Image(values, affine)
    made.header.set_sform(affine, code)
    made.header.set_qform(affine, code)
    made.header.set_xyzt_units("mm")
    nib.save(made, path)


def write_json(path, **stated):
    """Write or change a sidecar; None removes a key."""
    beside = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    known = json.loads(beside.read_text()) if beside.exists() else {}
    beside.write_text(json.dumps({k: v for k, v in {**known, **stated}.items() if v is not None}))


def exhausted(steps):
    """Run a generator to its end and return its value, watching the fractions."""
    fractions = [0.0]
    value = finished(relayed(steps, lambda step: fractions.append(step.fraction)))
    assert fractions == sorted(fractions)
    return value


def opened(paths, **more):
    return exhausted(open_source(paths, **more))


def loaded(paths, corrections=None, **more):
    """Open and load the only measurement."""
    with opened(paths, **more) as source:
        (measurement,) = source.measurements
        return source.load(measurement, corrections or Corrections())


def turn(difference):
    """Largest distance on the circle."""
    return float(np.abs(np.angle(np.exp(1j * np.asarray(difference, float)))).max())


class Tools:
    image = staticmethod(image)
    write_json = staticmethod(write_json)
    opened = staticmethod(opened)
    loaded = staticmethod(loaded)
    turn = staticmethod(turn)


@pytest.fixture
def tools():
    return Tools


def dicom_kinds(head, maker, index):
    """Return what a manufacturer stores of one echo, and how it calls it."""
    signal = head.magnitude[..., index]
    steps = head.steps[..., index]
    if maker.startswith("GE"):
        whole = signal * np.exp(1j * head.phase[..., index])
        kind = {"kind": "ORIGINAL\\PRIMARY\\OTHER", "series": 5}
        return [
            ({**kind, "ge": 2}, np.rint(whole.real).astype(np.int16)),
            ({**kind, "ge": 3}, np.rint(whole.imag).astype(np.int16)),
        ]
    if maker.startswith("Philips"):
        scaled = {"series": 5, "slope": 2 * 3141.6 / 4096, "intercept": -3141.6}
        return [
            ({"kind": "ORIGINAL\\PRIMARY\\M_FFE\\M\\FFE", "series": 5}, signal.astype(np.int16)),
            ({"kind": "ORIGINAL\\PRIMARY\\PHASE MAP\\P\\FFE", **scaled}, steps),
        ]
    return [
        ({"kind": "ORIGINAL\\PRIMARY\\M\\ND", "series": 5}, signal.astype(np.int16)),
        ({"kind": "ORIGINAL\\PRIMARY\\P\\ND", "series": 6}, steps),
    ]


def element(group, number, kind, value):
    """Encode one DICOM element, explicit VR, little endian."""
    numbers = {"US": "<H", "SS": "<h", "UL": "<I"}
    if kind in numbers:
        data = struct.pack(numbers[kind], value)
    else:
        data = value if kind == "OW" else str(value).encode()
    data += (b"\0" if kind in ("UI", "OW") else b" ") * (len(data) % 2)
    tag = struct.pack("<HH2s", group, number, kind.encode())
    return (
        tag
        + struct.pack("<HI" if kind == "OW" else "<H", *([0] * (kind == "OW")), len(data))
        + data
    )


def write_dicom(path, pixels, number, maker, *, kind, series, te, echo, slice, **more):
    """Write one classic image of 2 mm voxels, axial, with what a converter looks at."""
    uid = f"1.2.3.{series}.{number}"
    image_class = "1.2.840.10008.5.1.4.1.1.4"
    meta = element(2, 2, "UI", image_class) + element(2, 3, "UI", uid)
    meta += element(2, 0x10, "UI", "1.2.840.10008.1.2.1")
    title = more.get("title", "gre")
    elements = [
        (8, 0x08, "CS", kind), (8, 0x16, "UI", image_class), (8, 0x18, "UI", uid),
        (8, 0x20, "DA", "20260101"), (8, 0x21, "DA", "20260101"), (8, 0x30, "TM", "100000"),
        (8, 0x31, "TM", "100000"), (8, 0x32, "TM", "100000"), (8, 0x60, "CS", "MR"),
        (8, 0x70, "LO", maker), (8, 0x103E, "LO", title),
        (0x18, 0x20, "CS", "GR"), (0x18, 0x23, "CS", "3D"), (0x18, 0x50, "DS", 2),
        (0x18, 0x80, "DS", 30), (0x18, 0x81, "DS", te), (0x18, 0x84, "DS", "127.74"),
        (0x18, 0x86, "IS", echo), (0x18, 0x87, "DS", 3), (0x18, 0x88, "DS", 2),
        (0x18, 0x1030, "LO", title), (0x18, 0x5100, "CS", "HFS"),
        (0x20, 0x0D, "UI", "1.2.3"), (0x20, 0x0E, "UI", f"1.2.3.{series}"),
        (0x20, 0x11, "IS", series), (0x20, 0x12, "IS", 1), (0x20, 0x13, "IS", number),
        (0x20, 0x32, "DS", f"0\\0\\{2 * slice}"), (0x20, 0x37, "DS", "1\\0\\0\\0\\1\\0"),
        (0x28, 2, "US", 1), (0x28, 4, "CS", "MONOCHROME2"), (0x28, 0x10, "US", pixels.shape[0]),
        (0x28, 0x11, "US", pixels.shape[1]), (0x28, 0x30, "DS", "2\\2"), (0x28, 0x100, "US", 16),
        (0x28, 0x101, "US", 16), (0x28, 0x102, "US", 15), (0x28, 0x103, "US", 1),
        (0x28, 0x1052, "DS", more.get("intercept", 0)), (0x28, 0x1053, "DS", more.get("slope", 1)),
        (0x7FE0, 0x10, "OW", pixels.tobytes()),
    ]  # fmt: skip
    if "ge" in more:
        elements += [(0x43, 0x10, "LO", "GEMS_PARM_01"), (0x43, 0x102F, "SS", more["ge"])]
    body = b"".join(element(*each) for each in sorted(elements, key=lambda each: each[:2]))
    path.write_bytes(bytes(128) + b"DICM" + element(2, 0, "UL", len(meta)) + meta + body)
