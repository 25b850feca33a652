"""The trainer: it learns, goes on bit by bit where it stopped, averages, logs and refuses."""

import csv
import itertools

import pytest
import torch

from napari_qsm.acquisition import InputError
from napari_qsm.training import blocks, trainer
from napari_qsm.training.trainer import CHECKPOINT, LOG, Trainer

CPU = torch.device("cpu")


@pytest.fixture
def often(monkeypatch):
    """Validate every third step."""
    monkeypatch.setattr(trainer, "EVERY", 3)


def made(tiny, folder="out", **more):
    return Trainer(tiny.recipe, tiny.path.parent / folder, tiny.pool, CPU, **more)


def run(one, steps=None, **more):
    return list(one.run(steps, beside=False, **more))


def same(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(value, second[name]) for name, value in first.items())


def logged(one):
    return list(csv.DictReader((one.folder / LOG).read_text().splitlines()))


def error(one, batch):
    inputs, truth, weight = one._split(batch)
    with torch.no_grad():
        estimate = one.network.eval()(inputs)
    return float(((estimate.mean - truth) * weight).norm() / (truth * weight).norm())


def test_it_learns_one_block_by_heart(tiny, monkeypatch):
    small = tiny(steps=120, loss="squared = 1.0")
    text = small.path.read_text().replace("[4, 8]", "[8, 16, 32]")
    small.path.write_text(text.replace("convolutions = 1", "convolutions = 2"))
    one = made(small)
    batch = blocks.Blocks(one.recipe, one.pools).batch(0)[:1]
    before = error(one, batch)
    monkeypatch.setattr(blocks.Blocks, "batches", lambda *a, **k: itertools.repeat(batch))
    run(one)
    assert before > 0.3
    assert error(one, batch) < 0.05


@pytest.mark.parametrize("norm", ["none", "scale"])
def test_a_resumed_training_is_bit_by_bit_the_uninterrupted_one(tiny, often, norm):
    small = tiny(network=f"norm = '{norm}'\nuncertain = true", loss="likelihood = 1.0")
    whole = made(small, "whole")
    run(whole, 7)
    run(made(small, "parts"), 4)
    resumed = made(small, "parts", resume=True)
    assert resumed.step == 4
    run(resumed, 3)
    assert same(whole.network.state_dict(), resumed.network.state_dict())
    assert same(whole.average.state_dict(), resumed.average.state_dict())
    moments = whole.optimiser.state_dict()["state"], resumed.optimiser.state_dict()["state"]
    assert all(same(moments[0][n], moments[1][n]) for n in moments[0])
    assert logged(whole)[-1]["loss"] == logged(resumed)[-1]["loss"]


def test_another_seed_learns_otherwise(tiny):
    small = tiny()
    first = made(small, "a")
    small.path.write_text(small.path.read_text().replace("seed = 3", "seed = 4"))
    second = made(small, "b")
    assert not same(first.network.state_dict(), second.network.state_dict())


def test_the_average_is_the_exponential_one(tiny):
    one = made(tiny())
    name = "unet.encoder.0.0.weight"
    expected = None
    for _ in one.run(5, beside=False):
        now = one.network.state_dict()[name].clone()
        expected = now if expected is None else 0.9 * expected + 0.1 * now
    assert torch.allclose(one.average.module.state_dict()[name], expected, atol=1e-7)


def test_the_rate_rises_and_falls_as_a_cosine(tiny):
    one = made(tiny(steps=1000))
    rates = []
    for step in range(1001):
        one.step = step
        rates.append(one._rate())
    assert rates[0] == pytest.approx(5e-5)
    assert max(rates) == pytest.approx(5e-3, rel=0.03)
    assert rates[500] == pytest.approx(2.5e-3)
    assert rates[1000] == pytest.approx(5e-5)


def test_steps_are_logged_where_they_were_validated(tiny, often):
    one = made(tiny())
    seen = run(one, 7)
    assert [p.step for p in seen] == list(range(1, 8))
    assert [p.step for p in seen if "nrmse" in p.figures] == [3, 6, 7]
    rows = logged(one)
    assert [int(row["step"]) for row in rows] == [3, 6, 7]
    assert float(rows[0]["nrmse"]) == pytest.approx(seen[2].figures["nrmse"], rel=1e-4)
    assert float(rows[1]["loss"]) == pytest.approx(seen[5].loss, rel=1e-4)


def test_a_log_that_ran_ahead_of_its_checkpoint_is_cut(tiny, often):
    small = tiny()
    one = made(small)
    run(one, 3)
    with (one.folder / LOG).open("a") as file:
        file.write("6,9.9,0.1,0.1,50\n")
    run(made(small, resume=True), 3)
    rows = logged(one)
    assert [int(row["step"]) for row in rows] == [3, 6]
    assert rows[1]["seconds"] != "9.9"


def test_validation_scores_the_average_on_held_out_blocks(tiny):
    one = made(tiny(network="uncertain = true", loss="likelihood = 1.0"))
    held = blocks.held_out(one.recipe, one.pools)
    inputs, truth, weight = one._split(held)
    with torch.no_grad():
        estimate = one.average.module.eval()(inputs)
    wrong = (estimate.mean - truth) * weight
    figures = one.validate()
    sizes = (truth * weight).flatten(1).norm(dim=1)
    of_blocks = wrong.flatten(1).norm(dim=1) / sizes
    assert sizes.min() > 1e-3
    assert figures["nrmse"] == pytest.approx(100 * float(of_blocks.mean()), rel=1e-4)
    within = ((wrong / estimate.sigma).abs() < 1)[weight > 0].float().mean()
    assert figures["within_1_sigma"] == pytest.approx(100 * float(within), abs=0.01)
    assert figures["within_2_sigma"] >= figures["within_1_sigma"]


def test_losses_leave_out_the_border_of_a_block_and_what_is_outside_the_mask(tiny):
    one = made(tiny())
    batch = blocks.Blocks(one.recipe, one.pools).batch(0)
    _, _, weight = one._split(batch)
    assert torch.equal(weight[..., 2:-2, 2:-2, 2:-2], batch[:, -1:][..., 2:-2, 2:-2, 2:-2])
    border = torch.ones(16, 16, 16, dtype=torch.bool)
    border[2:-2, 2:-2, 2:-2] = False
    assert weight[..., border].sum() == 0


def test_it_stops_when_told_and_saves(tiny):
    small = tiny()
    one = made(small)
    seen = run(one, stop=lambda: one.step == 2)
    assert len(seen) == 2
    assert made(small, resume=True).step == 2


def test_it_starts_from_weights_of_another_network_as_far_as_they_fit(tiny):
    small = tiny()
    first = made(small, "a")
    known = {k: v + 1 for k, v in first.network.state_dict().items()}
    known["unet.decoders.0.head.weight"] = torch.zeros(3, 3)
    second = made(small, "b", start=known | {"unknown": torch.zeros(1)})
    now = second.network.state_dict()
    name = "unet.encoder.0.0.weight"
    assert torch.equal(now[name], known[name])
    assert now["unet.decoders.0.head.weight"].shape == (1, 4, 1, 1, 1)


def test_a_folder_with_a_training_is_not_begun_anew(tiny):
    small = tiny()
    run(made(small), 1)
    with pytest.raises(InputError, match="holds a training already; resume it"):
        made(small)


def test_the_checkpoint_of_another_recipe_is_refused(tiny):
    small = tiny()
    run(made(small), 1)
    small.path.write_text(small.path.read_text().replace("rate = 5e-3", "rate = 4e-3"))
    with pytest.raises(InputError, match="belongs to another recipe than 'tiny'"):
        made(small, resume=True)


def test_a_damaged_checkpoint_is_refused(tiny):
    small = tiny()
    one = made(small)
    run(one, 1)
    path = one.folder / CHECKPOINT
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="is damaged"):
        made(small, resume=True)


def test_a_loss_that_is_not_finite_ends_it_and_spares_the_checkpoint(tiny):
    small = tiny()
    one = made(small)
    run(one, 2)
    with torch.no_grad():
        one.network.unet.decoders[0].head.weight.fill_(float("nan"))
    with pytest.raises(ArithmeticError, match="no longer finite"):
        run(one, 1)
    assert made(small, resume=True).step == 2
