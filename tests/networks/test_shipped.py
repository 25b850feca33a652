"""What ships as weights: whole, small, and with the recipe and the log that made it."""

import csv

import pytest
import torch

from napari_qsm.networks import weights
from napari_qsm.resources import asset
from napari_qsm.training.recipe import load_recipe

FOLDER = asset("networks")
SHIPPED = sorted(path.stem for path in FOLDER.glob("*.json"))


@pytest.fixture(autouse=True)
def no_others(monkeypatch, tmp_path):
    """Leave out the tiny networks of other tests, which have the same keys."""
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(tmp_path))


def test_there_are_some_and_they_are_small():
    assert {"qsmnet", "pdi"} <= set(SHIPPED)
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) < 25e6


@pytest.mark.parametrize("key", SHIPPED)
class TestShipped:
    def test_its_file_is_the_one_its_card_means(self, key):
        network, card = weights.load(key)
        assert card.key == key
        assert all(bool(torch.isfinite(p).all()) for p in network.parameters())

    def test_its_recipe_is_the_one_in_the_program(self, key):
        card = weights.find(key)
        assert card.training["fingerprint"] == load_recipe(key).fingerprint
        assert card.training["seed"] == load_recipe(key).seed

    def test_its_log_ends_where_its_training_did(self, key):
        with (FOLDER / "logs" / f"{key}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert int(rows[-1]["step"]) == weights.find(key).training["steps"]
        assert len(rows) > 2

    def test_it_says_where_it_is_from_and_what_it_cannot(self, key):
        card = weights.find(key)
        assert card.licence
        assert "not for diagnosis" in card.limits
        assert key in (FOLDER / "README.md").read_text()
