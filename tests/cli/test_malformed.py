"""Whatever is wrong with the input: status 2, one sentence on stderr, nothing on disk changed."""

import gzip
import json
import shutil
import struct

import nibabel as nib
import numpy as np
import pytest

FILES = ("field", "mask", "magnitude")
FLIPS = 64
CASES = {}
"""Name -> function of the data's folder that spoils it and returns further arguments."""


def case(name):
    def add(spoil):
        assert name not in CASES
        CASES[name] = spoil
        return spoil

    return add


def unpacked(path):
    return bytearray(gzip.decompress(path.read_bytes()))


def header(name, offset, form, *values):
    """Case that overwrites header fields of an otherwise good file."""

    def spoil(folder):
        path = folder / f"{name}.nii.gz"
        raw = unpacked(path)
        struct.pack_into(form, raw, offset, *values)
        path.write_bytes(gzip.compress(bytes(raw)))
        return ()

    return spoil


def content(name, make):
    """Case that replaces the numbers of a file by ``make(numbers)``, and keeps its grid."""

    def spoil(folder):
        path = folder / f"{name}.nii.gz"
        image = nib.load(path)
        data = make(np.asanyarray(image.dataobj).copy())
        nib.save(nib.Nifti1Image(data, image.affine), path)
        return ()

    return spoil


def bytes_of(name, make):
    """Case that replaces the bytes of a file by ``make(bytes)``."""

    def spoil(folder):
        path = folder / f"{name}.nii.gz"
        path.write_bytes(make(path.read_bytes()))
        return ()

    return spoil


def arguments(*given):
    return lambda folder: tuple(str(a).replace("DATA", str(folder)) for a in given)


def sidecar(text, name="field"):
    def spoil(folder):
        (folder / f"{name}.json").write_bytes(text.encode("latin-1"))
        return ()

    return spoil


def stating(name="field", **stated):
    return sidecar(json.dumps(stated), name)


def become_folder(name):
    def spoil(folder):
        (folder / f"{name}.nii.gz").unlink()
        (folder / f"{name}.nii.gz").mkdir()
        return ()

    return spoil


def vanish(name):
    def spoil(folder):
        (folder / f"{name}.nii.gz").unlink()
        return ()

    return spoil


def some_nan(data):
    data[4, 4, 4] = np.nan
    return data


NAN, INF = float("nan"), float("inf")
rng = np.random.default_rng(7)

for name in FILES:
    for part in rng.uniform(0.02, 0.98, 8):
        CASES[f"{name}: cut at {part:.4f}"] = bytes_of(name, lambda b, p=part: b[: int(p * len(b))])
    for place in rng.uniform(0.3, 0.95, 4):
        CASES[f"{name}: a byte of the packed data is wrong at {place:.4f}"] = bytes_of(
            name,
            lambda b, p=place: (
                b[: int(p * len(b))] + bytes([b[int(p * len(b))] ^ 0xFF]) + b[int(p * len(b)) + 1 :]
            ),
        )
    for left in (10, 347, 351, 400):
        CASES[f"{name}: unpacked data end at {left}"] = bytes_of(
            name, lambda b, n=left: gzip.compress(gzip.decompress(b)[:n])
        )
    CASES |= {
        f"{name}: empty": bytes_of(name, lambda _: b""),
        f"{name}: text": bytes_of(name, lambda _: b"patient,field\n1,2\n" * 50),
        f"{name}: packed text": bytes_of(name, lambda _: gzip.compress(b"hello" * 200)),
        f"{name}: zeros": bytes_of(name, lambda b: bytes(len(b))),
        f"{name}: noise": bytes_of(name, lambda b: rng.bytes(len(b))),
        f"{name}: a PNG": bytes_of(name, lambda b: b"\x89PNG\r\n\x1a\n" + b),
        f"{name}: a folder": become_folder(name),
        f"{name}: missing": vanish(name),
        f"{name}: magic": header(name, 344, "4s", b"abc\0"),
        f"{name}: magic of a pair": header(name, 344, "4s", b"ni1\0"),
        f"{name}: magic absent": header(name, 344, "4s", b""),
        f"{name}: header length": header(name, 0, "<i", 1234),
        f"{name}: no dimensions": header(name, 40, "<h", 0),
        f"{name}: too many dimensions": header(name, 40, "<h", 8),
        f"{name}: 2 dimensions": header(name, 40, "<h", 2),
        f"{name}: negative dimension": header(name, 42, "<h", -8),
        f"{name}: zero dimension": header(name, 44, "<h", 0),
        f"{name}: huge dimension": header(name, 46, "<h", 32767),
        f"{name}: all dimensions huge": header(name, 42, "<hhh", 32767, 32767, 32767),
        f"{name}: five dimensions": header(name, 40, "<hhhhhh", 5, 8, 9, 5, 1, 2),
        f"{name}: another shape": header(name, 42, "<hhh", 9, 8, 10),
        f"{name}: fewer slices": header(name, 46, "<h", 9),
        f"{name}: unknown type": header(name, 70, "<h", 77),
        f"{name}: type 0": header(name, 70, "<h", 0),
        f"{name}: complex type": header(name, 70, "<h", 32),
        f"{name}: colour type": header(name, 70, "<h", 128),
        f"{name}: wider type": header(name, 70, "<h", 64),
        f"{name}: offset NaN": header(name, 108, "<f", NAN),
        f"{name}: offset in the header": header(name, 108, "<f", 10.0),
        f"{name}: offset behind the end": header(name, 108, "<f", 1e9),
        f"{name}: offset shifted": header(name, 108, "<f", 356.0),
        f"{name}: slope Inf": header(name, 112, "<ff", INF, 0),
        f"{name}: intercept NaN": header(name, 112, "<ff", 2.0, NAN),
        f"{name}: intercept Inf": header(name, 112, "<ff", 2.0, INF),
        f"{name}: affine NaN": header(name, 280, "<f", NAN),
        f"{name}: affine Inf": header(name, 292, "<f", INF),
        f"{name}: affine zero": header(name, 280, "<12f", *[0.0] * 12),
        f"{name}: affine flat": header(name, 280, "<12f", *[1.0, 1, 0, 0] * 3),
        f"{name}: affine shifted": header(name, 292, "<f", 17.0),
        f"{name}: affine of another size": header(name, 280, "<f", 3.0),
        f"{name}: quaternion is no rotation": header(name, 252, "<hh3f", 1, 0, 9.0, 9.0, 9.0),
        f"{name}: quaternion NaN": header(name, 252, "<hh3f", 1, 0, NAN, 0, 0),
        f"{name}: complex numbers": content(name, lambda d: d.astype(np.complex64)),
        f"{name}: one slice": content(name, lambda d: d[:, :, 5]),
        f"{name}: five axes": content(name, lambda d: np.stack([np.stack([d] * 2, -1)] * 2, -1)),
    }
    for key, value in {
        "EchoTime": "abc",
        "EchoTimes": ["a", "b"],
        "MagneticFieldStrength": 3000,
        "Units": 17,
        "B0_dir": "z",
    }.items():
        CASES[f"{name}: sidecar {key} {value}"] = stating(name, **{key: value})
    CASES[f"{name}: sidecar broken"] = sidecar('{"EchoTime": 0.0', name)

CASES |= {
    "field: NaN everywhere": content("field", lambda d: d * np.float32(NAN)),
    "field: Inf everywhere": content("field", lambda d: np.full_like(d, INF)),
    "field: one NaN inside": content("field", some_nan),
    "field: zero": content("field", np.zeros_like),
    "field: in Hz, said to be ppm": content("field", lambda d: d * 200),
    "field: too large": content("field", lambda d: d * np.float32(1e30)),
    "field: echoes": content("field", lambda d: np.stack([d] * 3, -1)),
    "field: 4D of one echo too many": content("field", lambda d: np.stack([d] * 2, -1)),
    "mask: zero": content("mask", np.zeros_like),
    "mask: negative": content("mask", lambda d: d.astype(np.float32) - 1),
    "mask: no mask": content("mask", lambda d: d * np.float32(17.3)),
    "mask: faint": content("mask", lambda d: d * np.float32(0.3)),
    "mask: NaN": content("mask", lambda d: np.full(d.shape, NAN, np.float32)),
    "mask: 4D": content("mask", lambda d: np.stack([d] * 2, -1)),
    "mask: where the field is zero": content("mask", lambda d: 1 - d),
    "mask: cropped": content("mask", lambda d: d[1:]),
    "magnitude: zero": content("magnitude", np.zeros_like),
    "magnitude: negative": content("magnitude", np.negative),
    "magnitude: cropped": content("magnitude", lambda d: d[:, 1:]),
    "magnitude: too large": content("magnitude", lambda d: d * np.float32(1e30)),
    "sidecar: empty": sidecar(""),
    "sidecar: text": sidecar("EchoTime = 0.02"),
    "sidecar: list": sidecar("[0.02]"),
    "sidecar: number": sidecar("3"),
    "sidecar: null": sidecar("null"),
    "sidecar: binary": sidecar("\x00\xff\xfe"),
    "sidecar: comma": sidecar('{"Units": "ppm",}'),
    "sidecar: deep": sidecar("[" * 50_000),
    "sidecar: not UTF-8": sidecar('{"Units": "\xb5T"}'),
}
for value in (-0.02, 0, 20, True, [], [0.02, -1], [0.02, None], {}, "0.02", 1e400, NAN, 10**400):
    CASES[f"sidecar: EchoTime {str(value)[:12]}"] = stating(EchoTime=value)
for value in (-3, 0, 30, "3T", [3], {}, False, NAN, 123.2e6):
    CASES[f"sidecar: MagneticFieldStrength {value}"] = stating(MagneticFieldStrength=value)
for value in (1, ["ppm"], {}, True, "arbitrary", "mT/m", "degrees"):
    CASES[f"sidecar: Units {value}"] = stating(Units=value)
for value in ([0, 0], [0, 0, 0], [0, 0, "1"], [0, 0, NAN], [1, 2, 3, 4], 1, [[0, 0, 1]]):
    CASES[f"sidecar: B0_dir {value}"] = stating(B0_dir=value)
for value in ("Hz", "rad", "rad/s"):
    CASES[f"sidecar: {value} without B0"] = stating(Units=value)
CASES["sidecar: rad without echo time"] = stating(Units="rad", MagneticFieldStrength=3)
CASES["sidecar: rad with two echo times"] = stating(
    Units="rad", MagneticFieldStrength=3, EchoTime=[0.01, 0.02]
)
CASES["sidecar: Hz, numbers in ppm"] = stating(Units="Hz", MagneticFieldStrength=3)
CASES["sidecar: ppb, numbers in ppm"] = stating(Units="ppb")

for given in (
    *[("--method", key) for key in ("nothing", "", "TOY", "toy2", "../toy")],
    *[("--device", name) for name in ("cuda:99", "tpu", "gpu", "", "cpu:7", "cuda:x")],
    *[("--unit", unit) for unit in ("furlong", "", "Hz/ppm", "T", "mrad")],
    *[("--b0", value) for value in ("0", "-3", "3000", "three", "nan", "inf", "")],
    *[("--te", value) for value in ("0", "-0.02", "20", "soon", "nan", "inf")],
    *[("--b0-dir", value) for value in ("z", "0,0", "0,0,0", "1,2,3,4", "0,0,nan", "", "0;0;1")],
    *[("--set", pair) for pair in ("strength", "=1", "", "strngth=1", "strength=2", "strength=-1")],
    *[("--set", f"strength={value}") for value in ("abc", "", "nan", "1,0", "[1]", "inf")],
    *[("--set", f"rounds={value}") for value in ("0", "10", "1.5", "many", "None")],
    ("--set", "strength=1", "--set", "strength=0"),
    *[("--mask", path) for path in ("DATA", "DATA/absent.nii", "DATA/field.json", "")],
    *[("--magnitude", path) for path in ("DATA", "DATA/absent.nii", "DATA/field.json")],
    ("-o", "DATA/field.nii.gz"),
    ("-o", "DATA/field.nii.gz/deeper"),
    *[("--stem", stem) for stem in ("not/there/x", "../x", "a\\b")],
    ("--nonsense",),
    ("surplus.nii",),
    ("--mask",),
):
    CASES[" ".join(("arguments:", *given))] = arguments(*given)


@case("output: a map exists")
def _(folder):
    (folder / "out").mkdir()
    (folder / "out" / "Chimap.nii.gz").write_text("mine")
    return ()


@case("output: a sidecar exists")
def _(folder):
    (folder / "out").mkdir()
    (folder / "out" / "Chimap.json").write_text("mine")
    return ()


@case("output: a map with this stem exists")
def _(folder):
    (folder / "out").mkdir()
    (folder / "out" / "a_Chimap.nii.gz").write_text("mine")
    return ("--stem", "a")


@case("field and mask: swapped")
def _(folder):
    shutil.move(folder / "field.nii.gz", folder / "other.nii.gz")
    shutil.move(folder / "mask.nii.gz", folder / "field.nii.gz")
    shutil.move(folder / "other.nii.gz", folder / "mask.nii.gz")
    return ()


def assert_refused(result):
    assert result.exit_code == 2, result.output
    line = result.stderr
    assert line.endswith(".\n"), line
    assert line.count("\n") == 1, line
    assert len(line) > 20
    assert "Traceback" not in line


def test_at_least_200_distinct_inputs_are_spoilt():
    assert len(CASES) >= 200


@pytest.mark.parametrize("name", CASES)
def test_malformed_input_is_refused_in_one_sentence(name, good, reconstruct, tree):
    more = CASES[name](good)
    before = tree()
    assert_refused(reconstruct(*more))
    assert tree() == before


@pytest.mark.parametrize("seed", range(FLIPS))
def test_random_bits_in_a_header_are_refused_or_harmless(seed, good, reconstruct, tree):
    chance = np.random.default_rng(seed)
    path = good / f"{FILES[seed % 3]}.nii.gz"
    raw = unpacked(path)
    for place in chance.integers(0, 348, 4):
        raw[place] ^= 1 << int(chance.integers(8))
    path.write_bytes(gzip.compress(bytes(raw)))
    before = tree()
    result = reconstruct()
    if result.exit_code == 0:
        assert result.stderr == ""
        assert np.isfinite(nib.load(good / "out" / "Chimap.nii.gz").get_fdata()).all()
    else:
        assert_refused(result)
        assert tree() == before
