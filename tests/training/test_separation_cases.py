"""Learning to separate: blocks that carry their own physics, and a training that learns."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import InputError, Quantity
from napari_qsm.networks import weights
from napari_qsm.networks.weights import FOLDER_VARIABLE
from napari_qsm.training import physical_blocks, separation_cases, session
from napari_qsm.training.recipe import load_recipe
from napari_qsm.training.separation import RELAXIVITY, draw_separated
from napari_qsm.training.separation_cases import Separating, SourcePool, stacked_sources
from napari_qsm.training.trainer import Trainer

CPU = torch.device("cpu")
RECIPE = """
title = "Tiny"
seed = 2
learning = "separation"
margin = 2
family = "{family}"

[loss]
squared = 1.0

[network]
channels = ["tikhonov", "{rate}", "field"]
widths = [4, 8]
convolutions = 1
iterations = {iterations}

[data]
channels = ["tikhonov", "r2prime", "r2star", "field"]
side = 16
batch = 2
cases = 1

[data.separation.population]
voxel_size = [5.0, 6.0]
slabs = 0.0

[optimisation]
steps = 60
rate = 5e-3
average = 0.9
precision = "float32"
"""


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(separation_cases, "VALIDATED", 1)
    monkeypatch.setattr(session, "QUIET", 0.0)


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    return tmp_path_factory.mktemp("pools")


@pytest.fixture
def recipe(tmp_path):
    def write(family="sepnet", rate="r2prime", iterations=0):
        path = tmp_path / f"{family}.toml"
        path.write_text(RECIPE.format(family=family, rate=rate, iterations=iterations))
        return path

    return write


@pytest.mark.parametrize(("family", "iterations"), [("sepnet", 0), ("unrolled_sepnet", 5)])
def test_fifty_steps_lower_the_loss(recipe, pools, tmp_path, family, iterations):
    made = load_recipe(recipe(family, iterations=iterations))
    one = Trainer(made, tmp_path / "out", pools, CPU)
    batch = one._task.batch(0)
    one._task.batches = lambda *a, **k: iter(lambda: batch, None)
    before = float(one._loss(batch)[0].detach())
    list(one.run(50, beside=False))
    assert float(one._loss(batch)[0].detach()) < 0.8 * before


def test_training_writes_weights_that_a_method_can_use(
    recipe, pools, tmp_path, separated, monkeypatch
):
    from napari_qsm.generators import finished
    from napari_qsm.methods.registry import find

    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    path = recipe("unrolled_sepnet", iterations=4)
    card = finished(
        session.train(str(path), tmp_path, pool=pools, steps=2, beside=False, device="cpu", say=str)
    )
    network, known = weights.load_separator("unrolled_sepnet")
    assert card == tmp_path / "unrolled_sepnet.json"
    assert known.voxel_size == (5.0, 6.0 * known.anisotropy)
    assert set(known.metrics) == {"nrmse", "nrmse_pos", "nrmse_neg"}
    assert network.design.iterations == 4
    measured, _, _ = separated.phantom()
    maps = finished(find("unrolled_sepnet")(measured))
    assert maps[Quantity.CHI_POS].any()


def test_a_resumed_training_is_bit_by_bit_the_uninterrupted_one(recipe, pools, tmp_path):
    made = load_recipe(recipe("unrolled_sepnet", iterations=4))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    first = Trainer(made, whole, pools, CPU)
    list(first.run(3, beside=False))
    list(Trainer(made, parts, pools, CPU).run(2, beside=False))
    second = Trainer(made, parts, pools, CPU, resume=True)
    list(second.run(1, beside=False))
    for name, values in first.network.state_dict().items():
        assert torch.equal(values, second.network.state_dict()[name]), name


def test_the_field_of_a_block_is_that_of_its_own_sources(recipe, pools):
    task = Separating(load_recipe(recipe()), pools)
    blocks, _ = task.batch(4)
    measured, truth, weight, operators = task._parts(blocks, CPU)
    for phi, y, x, block in zip(operators, measured, truth, blocks, strict=True):
        mask = block.volumes[separation_cases.MASK]
        error = block.volumes[separation_cases.ERROR]
        torch.testing.assert_close(y[2], (phi(x)[2] + error) * mask)
        assert phi.dipole.shape == (16, 16, 16)
    assert weight[..., :2, :, :].sum() == 0


def test_a_turned_block_keeps_its_physics(recipe, pools, monkeypatch):
    """B0 and voxel sizes turn with the volumes: the same sources, the same field."""
    task = Separating(load_recipe(recipe()), pools)
    fields = []
    for way in (((False, False, False), False), ((True, False, True), True)):
        monkeypatch.setattr(physical_blocks, "turn", lambda rng, way=way: way)
        block = task.block(0, np.random.default_rng(1))
        chi = block.volumes[separation_cases.POSITIVE] - block.volumes[separation_cases.NEGATIVE]
        field = block.dipole(CPU)(chi)
        if way[1]:
            field = field.swapaxes(0, 1)
            field = field.flip([axis for axis, flip in enumerate(way[0]) if flip])
        fields.append(field)
    torch.testing.assert_close(fields[1], fields[0], rtol=1e-3, atol=1e-6)


def test_relaxation_is_stored_as_susceptibility(separated):
    case = draw_separated(separated.COARSE, 5)
    names = ("r2prime", "r2star", "field")
    stored = stacked_sources(case, names)
    measured = case.acquisition
    scale = RELAXIVITY * measured.field_strength
    mask = measured.mask
    np.testing.assert_allclose(stored[0], measured[Quantity.R2PRIME] / scale, atol=2e-3, rtol=2e-3)
    surrogate = (measured[Quantity.R2STAR] - 13) / scale * mask
    np.testing.assert_allclose(stored[1], surrogate, atol=2e-3, rtol=2e-3)
    np.testing.assert_allclose(stored[-3], case.chi_pos, atol=1e-3, rtol=2e-3)
    assert (stored[-1] == mask).all()


def test_what_cannot_be_learned_is_refused(recipe):
    path = recipe()
    good = path.read_text()
    for wrong, told in (
        ('learning = "supervised"', "separation"),
        ('learning = "self"', "separation|no loss"),
        ("margin = 8", "margin"),
    ):
        key = wrong.split(" = ")[0]
        lines = [wrong if line.startswith(key) else line for line in good.splitlines()]
        path.write_text("\n".join(lines))
        with pytest.raises(InputError, match=told):
            load_recipe(path)
    path.write_text(good.replace('"field"]\nwidths', '"r2star"]\nwidths'))
    with pytest.raises(InputError, match="relaxation and 'field'"):
        load_recipe(path)


def test_pools_of_other_ranges_lie_apart(separated, tmp_path):
    other = separated.COARSE.model_copy(update={"strength": 0.5})
    first = SourcePool(separated.COARSE, ("field",), tmp_path)
    second = SourcePool(other, ("field",), tmp_path)
    assert first.folder != second.folder


def test_shipped_recipes_fit_each_other():
    made = [load_recipe(name) for name in ("sepnet", "sepnet_r2star", "unrolled_sepnet")]
    assert all(one.data.separation == made[0].data.separation for one in made)
    assert all(one.data.channels == made[0].data.channels for one in made)
    assert [one.network.iterations for one in made] == [0, 0, 10]
