"""Learning to invert step by step: blocks whose physics is exact, and a training that learns."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import InputError, Quantity
from napari_qsm.generators import finished
from napari_qsm.methods.registry import find
from napari_qsm.networks import weights
from napari_qsm.networks.weights import FOLDER_VARIABLE
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.training import blocks, session, unrolled_cases
from napari_qsm.training.cases import MASK, TRUTH
from napari_qsm.training.population import Population, draw, lattice
from napari_qsm.training.recipe import load_recipe
from napari_qsm.training.trainer import Trainer
from napari_qsm.training.unrolled_cases import ERROR, MeasuredPool, Unrolling, whole

CPU = torch.device("cpu")
RECIPE = """
title = "Tiny"
family = "lpcnn"
seed = 2
margin = 2

[loss]
squared = 1.0

[network]
channels = ["field", "noise", "tikhonov"]
widths = [8, 16]
convolutions = 1
iterations = 2
residual = true

[data]
channels = ["field", "noise", "tikhonov"]
side = 16
batch = 2
cases = 3

[data.population]
voxel_size = [5.0, 6.0]
lesions = {}

[optimisation]
steps = 60
rate = 2e-2
average = 0.9
precision = "float32"
"""


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(unrolled_cases, "HELD_OUT_CASES", 1)
    monkeypatch.setattr(session, "HELD_OUT_CASES", 2)
    monkeypatch.setattr(blocks, "HELD_OUT_CASES", 1)


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    return tmp_path_factory.mktemp("pools")


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_voxels_and_b0_of_a_case_are_known_without_drawing_it(seed):
    population = Population(voxel_size=(5.0, 6.0), lesions={})
    grid, voxels = draw(population, seed).acquisition.grid, lattice(population, seed)
    np.testing.assert_allclose(voxels.voxel_size, grid.voxel_size, rtol=0.03)
    np.testing.assert_allclose(voxels.b0_direction, grid.b0_direction, atol=1e-9)


def test_the_error_of_a_field_is_what_its_susceptibility_does_not_make(recipe, pools):
    made = load_recipe(recipe)
    pool = MeasuredPool(made.data.population, made.data.channels, pools)
    case, error = pool[1], pool.error(1)
    assert pool.error(1).dtype == np.float16
    measured = draw(made.data.population, 1).acquisition
    chi = torch.from_numpy(case[TRUTH].astype(np.float32))
    grid = measured.grid
    field = DipoleConvolution(grid, padding=1.5)(chi).numpy()
    expected = (measured[Quantity.LOCAL_FIELD] - field) * measured.mask
    size = np.abs(measured[Quantity.LOCAL_FIELD]).max()
    np.testing.assert_allclose(error, expected, atol=0.03 * size)


def test_the_field_of_a_block_is_that_of_its_own_sources(recipe, pools):
    task = Unrolling(load_recipe(recipe), pools)
    drawn, _ = task.batch(4)
    inputs, truth, weight, operators = task._parts(drawn, CPU)
    for one, seen, chi, block in zip(operators, inputs, truth, drawn, strict=True):
        mask, error = block.volumes[MASK], block.volumes[ERROR]
        torch.testing.assert_close(seen[0], (one.dipole(chi * mask)[0] + error) * mask)
        torch.testing.assert_close(one.mask[0], mask)
        assert torch.equal(seen[1:], block.volumes[1:3])
    assert weight[..., :2, :, :].sum() == 0


def test_fifty_steps_lower_the_loss(recipe, pools, tmp_path):
    one = Trainer(load_recipe(recipe), tmp_path / "out", pools, CPU)
    batch = one._task.batch(0)
    one._task.batches = lambda *a, **k: iter(lambda: batch, None)
    before = float(one._loss(batch)[0].detach())
    figures = list(one.run(50, beside=False))[-1].figures
    assert float(one._loss(batch)[0].detach()) < 0.8 * before
    assert {"nrmse", "nrmse_first"} <= set(figures)


def test_a_whole_training_completes_its_card_for_the_method(
    recipe, pools, tmp_path, toys, monkeypatch
):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    text = recipe.read_text().replace("steps = 60", "steps = 2")
    recipe.write_text(text)
    card = finished(
        session.train(str(recipe), tmp_path, pool=pools, beside=False, device="cpu", say=str)
    )
    _, known = weights.load_unrolled("tiny")
    assert card == tmp_path / "tiny.json"
    assert known.calibration == 1.0
    assert known.statistics
    assert {"held_out_nrmse_network", "held_out_nrmse_tikhonov"} <= set(known.metrics)
    method = find("lpcnn")
    measured = draw(Population(voxel_size=(5.0, 6.0)), 1).acquisition
    maps = finished(method(measured, method.with_settings({"weights": "tiny"})))
    assert np.isfinite(maps[Quantity.CHI]).all()
    assert maps[Quantity.CHI].any()


def test_a_whole_case_is_what_the_method_makes_of_it(recipe, pools):
    """The card's figures are of the map that users get, but for the field's correction."""
    made = load_recipe(recipe)
    pool = MeasuredPool(made.data.population, made.data.channels, pools)
    network = Trainer(made, pools / "none", pools, CPU).network.eval()
    found = whole(network, pool[1], pool.names, lattice(pool.population, 1), CPU)
    start = np.asarray(pool[1][2], np.float32)
    assert found.shape == start.shape
    assert not found[np.asarray(pool[1][MASK]) == 0].any()
    assert np.abs(found - start).max() > 1e-4


def test_an_unrolled_network_gives_no_sigma(recipe):
    recipe.write_text(RECIPE.replace("residual = true", "uncertain = true"))
    with pytest.raises(InputError, match="unrolled network gives no uncertainty"):
        load_recipe(recipe)
