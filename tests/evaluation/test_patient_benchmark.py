"""What the table of the haemorrhage patient counts, on a ball with a lesion that is known."""

import json
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import patient as bench

from napari_qsm.acquisition import Grid, Maps, Quantity
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.process import Step

SIDE, SIZE = 32, 3.0
GRID = Grid((SIDE,) * 3, np.diag([SIZE, SIZE, SIZE, 1.0]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ball with a lesion of 1.2 ppm in 27 voxels, and its field, as files."""
    at = np.indices((SIDE,) * 3) - SIDE / 2
    mask = (at**2).sum(0) < 14**2
    chi = np.zeros(mask.shape, np.float32)
    chi[10:13, 14:17, 14:17] = 1.2
    noise = 0.002 * np.random.default_rng(3).standard_normal(mask.shape).astype(np.float32)
    field = (DipoleConvolution(GRID, padding=1.5)(torch.from_numpy(chi)).numpy() + noise) * mask
    for name, volume in (("localfield", field), ("mask", mask.astype(np.uint8))):
        nibabel.save(nibabel.Nifti1Image(volume, GRID.affine), tmp_path / f"{name}.nii.gz")
    told = {"Units": "ppm", "MagneticFieldStrength": 3.0, "B0_dir": [0, 0, 1]}
    (tmp_path / "localfield.json").write_text(json.dumps(told))
    return tmp_path


def cells(table: str) -> list[list[str]]:
    """Return the rows of a markdown table below its head."""
    lines = table.splitlines()[4:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_lesion_is_found_with_its_border(folder: Path) -> None:
    case = bench.patient(folder)
    assert case.core[11, 15, 15]
    assert case.lesion[10:13, 14:17, 14:17].all()
    assert (case.core <= case.lesion).all()
    assert case.core.sum() < 60 < case.lesion.sum() < 600


def test_figures_are_those_of_the_map(folder: Path) -> None:
    """A map that explains nothing has a residual of 100 %, and its lesion is what was put there."""
    case = bench.patient(folder)
    chi = 0.01 * np.random.default_rng(4).standard_normal(GRID.shape).astype(np.float32)
    chi[case.core] = 0.7
    volumes = {
        Quantity.CHI: chi,
        Quantity.RESIDUAL: case.measured[Quantity.LOCAL_FIELD],
        Quantity.SIGMA: np.where(case.core, np.float32(0.05), np.float32(0.01)),
    }
    row = dict(zip(bench.HEAD, case.row("A", Maps(GRID, volumes), 3.2, 0.25), strict=True))
    assert row["method"] == "A"
    assert (row["seconds"], row["longest pause, s"]) == ("3", "0.25")
    assert (row["residual, % of the field"], row["lesion, ppm"]) == ("100.0", "0.700")
    assert row["in the lesion"] == "50.0"
    assert 10 < float(row["sigma, ppb"]) < 11
    assert 1 < float(row["shell, ppb"]) < 10


def test_pauses_are_found_wherever_they_are() -> None:
    """The time after the last step is one as well."""

    def steps():
        yield Step(0.1, "one")
        yield Step(0.2, "two")
        time.sleep(0.1)
        return "maps"

    maps, seconds, pause = bench.timed(steps())
    assert maps == "maps"
    assert 0.09 < pause <= seconds


def test_a_network_is_shown_without_the_correction_as_well(folder: Path) -> None:
    """TKD has no network, and no sigma."""
    (table,) = bench.patient_table(folder, ("tkd", "pdi"))
    rows = cells(table)
    assert [row[0] for row in rows] == ["TKD", "PDI", "PDI, not corrected"]
    assert rows[0][-2:] == ["-", "-"]
    assert all(float(row[-2]) > 0 for row in rows[1:])
    assert float(rows[1][3]) <= float(
        rows[2][3]
    )  # by itself it corrects down to the error, if at all
