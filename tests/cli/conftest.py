"""A tiny good data set, a toy method, and the command line run in this process."""

import hashlib
import json
from collections.abc import Iterator

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
