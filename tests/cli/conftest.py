"""A tiny good data set, a toy method, and the command line run in this process."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from napari_qsm.acquisition import Maps, Provenance, Quantity
from napari_qsm.cli import app
from napari_qsm.methods.registry import Parameters, Step, method, parameter, unregister

SHAPE = (8, 9, 10)


class ToyParameters(Parameters):
    strength: float = parameter(0.5, "How strongly.", low=0.0, high=1.0)
    rounds: int = parameter(2, "How often.", low=1, high=9)


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    @method(
        key="toy",
        label="Toy",
        summary="Multiplies the field.",
        parameters=ToyParameters,
        references=("10.1/toy",),
        uses=(Quantity.MASK, Quantity.MAGNITUDE),
        gives=(Quantity.CHI,),
    )
    def reconstruct(acquisition, parameters, device):
        for index in range(parameters.rounds):
            yield Step(index / parameters.rounds, f"round {index}")
        chi = parameters.strength * acquisition[Quantity.LOCAL_FIELD] * acquisition.mask
        return Maps(acquisition.grid, {Quantity.CHI: chi}, Provenance(notes=("It was a toy.",)))

    yield
    unregister("toy")


def save(path, data, affine=None):
    image = nib.Nifti1Image(data, np.diag([4.0, 4.0, 4.0, 1.0]) if affine is None else affine)
    image.header.set_sform(image.affine, 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


@pytest.fixture
def good(tmp_path):
    """Folder with field.nii.gz, field.json, mask.nii.gz and magnitude.nii.gz."""
    rng = np.random.default_rng(0)
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:-1, 1:-1, 1:-1] = 1
    folder = tmp_path / "data"
    folder.mkdir()
    save(folder / "field.nii.gz", (rng.normal(0, 0.015, SHAPE) * mask).astype(np.float32))
    save(folder / "mask.nii.gz", mask)
    save(folder / "magnitude.nii.gz", rng.uniform(1, 2, SHAPE).astype(np.float32))
    stated = {"Units": "ppm", "MagneticFieldStrength": 3.0, "EchoTime": 0.02}
    (folder / "field.json").write_text(json.dumps(stated))
    return folder


@pytest.fixture
def run():
    def invoke(*arguments):
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return invoke


@pytest.fixture
def reconstruct(run, good):
    """Run ``reconstruct`` on the good data, with further arguments behind the usual ones."""

    def invoke(*more, field="field.nii.gz", output="out"):
        files = ("--mask", good / "mask.nii.gz", "--magnitude", good / "magnitude.nii.gz")
        where = ("-o", good / output, "--device", "cpu")
        key = () if "--method" in more else ("--method", "toy")
        return run("reconstruct", good / field, *files, *where, *key, *more)

    return invoke


@pytest.fixture
def tree(good):
    """Function that digests every path and every byte below the data's folder."""

    def digest():
        found = hashlib.sha256()
        for path in sorted(good.parent.rglob("*")):
            found.update(f"{path.relative_to(good.parent)}{path.is_dir()}".encode())
            found.update(b"" if path.is_dir() else path.read_bytes())
        return found.hexdigest()

    return digest


@pytest.fixture(scope="session")
def shared_data():
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the development data are not at {folder}")
    return folder


# -- raw data: three echoes of a subject as BIDS has them, and toys at every place -------------

RAW_SHAPE = (12, 13, 14)
TIMES = (0.004, 0.008, 0.012)
PLACES = {
    "mask": "toy_mask",
    "offset": "toy_offset",
    "unwrap": "toy_unwrap",
    "field": "toy_field",
    "relaxation": "toy_rate",
    "background": "toy_background",
    "reference": "none",
}


@pytest.fixture
def echoes():
    """Phase and magnitude of a smooth field in a smooth head, echoes last."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in RAW_SHAPE], indexing="ij")
    signal = 300 * np.exp(-(x**2 + y**2 + z**2)) + 20
    field = 0.4 * z + 0.3 * x * y
    times = np.array(TIMES)
    phase = 2 * np.pi * 127.7 * field[..., None] * times + 0.3
    noise = np.random.default_rng(4).normal(0, 1, (2, *RAW_SHAPE, len(TIMES)))
    measured = signal[..., None] * np.exp(1j * phase - 30 * times) + noise[0] + 1j * noise[1]
    return np.angle(measured).astype(np.float32), np.abs(measured).astype(np.float32)


@pytest.fixture
def save_raw():
    """Function that writes an image with voxels of 3 mm."""

    def write(path, data):
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, data, np.diag([3.0, 3.0, 3.0, 1.0]))
        return path

    return write


@pytest.fixture
def bids(tmp_path, echoes, save_raw):
    """Function that adds a measurement of one subject to a BIDS folder."""

    def write(acquisition="toy"):
        folder = tmp_path / "bids"
        for index, time in enumerate(TIMES):
            stem = f"sub-1_acq-{acquisition}_echo-{index + 1}"
            for part, data in zip(("phase", "mag"), echoes, strict=True):
                name = f"{stem}_part-{part}_MEGRE"
                path = save_raw(folder / "sub-1" / "anat" / f"{name}.nii.gz", data[..., index])
                stated = {"EchoTime": time, "MagneticFieldStrength": 3.0}
                stated |= {"Units": "rad"} if part == "phase" else {}
                path.with_name(f"{name}.json").write_text(json.dumps(stated))
        (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
        return folder

    return write


@pytest.fixture
def source(bids):
    return bids()


@pytest.fixture
def typed(run, source, tmp_path, toys):
    """Run a command on the subject with toys at every place; further arguments come last."""

    def invoke(command, *more, output="out", inputs=None, **places):
        chosen = [w for pair in (PLACES | places).items() for w in ("--stage", "=".join(pair))]
        if "--preset" in more:
            chosen = []
        if command == "run" and not {"--preset", "--method"} & set(more):
            chosen += ["--method", "toy"]
        where = ("-o", tmp_path / output, "--device", "cpu")
        return run(command, *(inputs or [source]), *where, *chosen, *more)

    return invoke


@pytest.fixture
def below(tmp_path):
    """Function that reads every file below the test's folder."""

    def read():
        return {p: p.is_file() and p.read_bytes() for p in tmp_path.rglob("*")}

    return read


@pytest.fixture
def refused():
    """Function that asserts status 2 and one sentence with these words."""

    def check(result, words=""):
        assert result.exit_code == 2, result.output
        assert result.stderr.count("\n") == 1, result.stderr
        assert result.stderr.endswith(".\n")
        assert words in result.stderr

    return check
