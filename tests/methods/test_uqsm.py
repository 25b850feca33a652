"""uQSM: learning from fields alone, and the method that uses what came out."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished
from napari_qsm.methods.inversion.uqsm import uqsm
from napari_qsm.networks import weights
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.training import self_supervised, session
from napari_qsm.training.recipe import load_recipe
from napari_qsm.training.self_supervised import HELD_OUT, Batch, Heads, Unlabelled, random_sources
from napari_qsm.training.trainer import Trainer

RECIPE = """
title = "Tiny"
learning = "self"
family = "uqsm"

[loss]
ndi = 1.0
wldi = 0.1
variation = 0.01
superposition = 0.05

[network]
channels = ["field"]
widths = [6, 12]
convolutions = 1
upsampling = "nearest"

[data]
channels = ["field"]
batch = 1
cases = 2

[optimisation]
steps = 16
rate = 1e-1
average = 0.8
precision = "float32"
"""


def head(seed):
    """The field of a few sources in a ball; what made it is forgotten."""
    rng = np.random.default_rng(seed)
    shape = (20, 22, 18)
    grid = Grid(shape, np.diag([2.0, 2.0, 2.2, 1.0]))
    axes = np.meshgrid(*[np.arange(n) - n / 2 for n in shape], indexing="ij")
    mask = sum(a**2 for a in axes) < 8**2
    chi = np.zeros(shape, np.float32)
    for _ in range(4):
        centre = rng.uniform(-4, 4, 3)
        ball = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < 6
        chi[ball & mask] = rng.uniform(-0.1, 0.2)
    field = DipoleConvolution(grid, padding=1.5)(torch.from_numpy(chi)).numpy()
    field += 0.002 * rng.standard_normal(shape)
    noise = np.full(shape, 0.002, np.float32)
    volumes = {Quantity.LOCAL_FIELD: field * mask, Quantity.MASK: mask}
    return Acquisition(grid, volumes | {Quantity.FIELD_NOISE: noise * mask})


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)

    class Drawn:
        def __init__(self, acquisition):
            self.acquisition = acquisition

    monkeypatch.setattr(self_supervised, "draw", lambda _, seed: Drawn(head(seed)))
    return load_recipe(path)


def test_a_head_has_no_label(recipe, tmp_path):
    """There is nowhere to look for a susceptibility: not in memory, not on disk."""
    heads = Heads(recipe.data.population, tmp_path)
    kept = heads[3]
    assert {f.name for f in fields(kept)} == {f.name for f in fields(Acquisition)}
    assert Quantity.CHI not in kept
    with np.load(heads.path(3)) as stored:
        assert set(stored) == {"affine", "b0", "local_field", "mask", "field_noise"}
    original = head(3)
    field = kept[Quantity.LOCAL_FIELD]
    np.testing.assert_allclose(field, original[Quantity.LOCAL_FIELD], rtol=1e-3, atol=1e-6)
    assert kept.grid.voxel_size == pytest.approx(original.grid.voxel_size)
    assert Batch._fields == ("heads", "seed")


def test_training_explains_fields_never_seen(recipe, tmp_path):
    trainer = Trainer(recipe, tmp_path / "out", tmp_path / "pool", torch.device("cpu"))
    before = trainer.validate()["unexplained"]
    last = list(trainer.run(beside=False))[-1]
    assert last.figures["unexplained"] < 0.95 * before
    assert set(recipe.loss) <= set(last.figures)
    again = Trainer(recipe, tmp_path / "out", tmp_path / "pool", torch.device("cpu"), resume=True)
    assert again.step == 16
    assert again.validate()["unexplained"] == pytest.approx(last.figures["unexplained"], rel=1e-4)
    card = session.write(again, tmp_path / "weights")
    assert weights.Card.read(card).family == "uqsm"
    assert "unexplained" in weights.Card.read(card).metrics


def test_a_step_is_the_same_whenever_it_comes(recipe, tmp_path):
    lessons = Unlabelled(recipe, tmp_path)
    stream = lessons.batches(5, 0, beside=False)
    assert next(stream) == lessons.batch(5)
    assert next(stream) == lessons.batch(6)
    assert lessons.batch(5).seed != lessons.batch(6).seed
    assert all(seed < HELD_OUT for seed in lessons.batch(9).heads)


def test_added_sources_lie_in_the_head():
    region = torch.zeros(20, 20, 20)
    region[4:15, 4:15, 4:15] = 1
    made = random_sources(region, (2.0, 2.0, 2.0), np.random.default_rng(0))
    assert float(made.abs().max()) > 0.04
    assert not made[region == 0].any()


def test_superposition_is_no_loss_for_a_network_that_adds_up(recipe, tmp_path, monkeypatch):
    """A linear inverse has none if it is right; one that says nothing misses all that was added."""
    lessons = Unlabelled(recipe, tmp_path)
    trainer = Trainer(recipe, tmp_path / "out", tmp_path / "pool", torch.device("cpu"))
    nothing = torch.nn.Module()
    nothing.forward = lambda inputs: type("E", (), {"mean": inputs * 0})()
    given = (lessons.batch(0), torch.device("cpu"), torch.float32)
    _, silent = lessons.loss(nothing, *given)
    _, some = lessons.loss(trainer.network, *given)
    assert silent["ndi"] == pytest.approx(1, rel=0.05)
    assert silent["variation"] == 0
    assert silent["superposition"] > 0
    assert some["superposition"] != silent["superposition"]


def test_recipes_say_what_they_learn_from(tmp_path):
    shipped = load_recipe("uqsm")
    assert shipped.learning == "self"
    assert shipped.network.upsampling == "nearest"
    assert shipped.network.design().architecture.homogeneous
    for wrong, told in (
        (RECIPE.replace("ndi = 1.0", "absolute = 1.0"), "no loss 'absolute'"),
        (RECIPE.replace('["field"]', '["field", "tv"]'), "the field alone"),
    ):
        path = tmp_path / "wrong.toml"
        path.write_text(wrong)
        with pytest.raises(InputError, match=told):
            load_recipe(path)


def test_the_method_inverts_with_such_weights():
    measured = head(1)
    maps = finished(uqsm(measured, uqsm.with_settings({"frame": "never"})))
    assert set(maps.volumes) == {Quantity.CHI, Quantity.RESIDUAL}
    assert any("'uqsm'" in note for note in maps.provenance.notes)
