"""Recipes: the shipped ones load, and what cannot work is refused in one sentence when read."""

import pytest
import torch

from napari_qsm.acquisition import InputError
from napari_qsm.networks.inverter import Inverter
from napari_qsm.training.recipe import Recipe, load_recipe, shipped


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_load_and_make_a_network(name):
    recipe = load_recipe(name)
    assert recipe.key == name
    assert recipe.title
    with torch.device("meta"):
        network = Inverter(recipe.network.design())
    assert network.unet.architecture.inputs == len(recipe.network.channels)


def test_the_shipped_recipes_are_known():
    assert {"qsmnet", "deepqsm", "pdi", "qsmnet_full", "pdi_full"} <= set(shipped())


@pytest.mark.parametrize("name", ["qsmnet", "deepqsm", "pdi"])
def test_networks_for_everyday_are_homogeneous(name):
    assert load_recipe(name).network.design().architecture.homogeneous


def test_those_that_share_a_pool_draw_the_same_cases():
    first, second = load_recipe("qsmnet").data, load_recipe("pdi").data
    assert (first.population, first.channels) == (second.population, second.channels)


def test_deepqsm_differs_from_qsmnet_in_what_it_saw_alone():
    first, second = load_recipe("deepqsm"), load_recipe("qsmnet")
    assert first.network == second.network
    assert first.loss == second.loss
    assert first.data.population.geometry == 1
    assert first.data.population != second.data.population


@pytest.mark.parametrize(
    ("name", "million"), [("qsmnet_full", 22.6), ("pdi_full", 31.0)], ids=lambda v: str(v)
)
def test_full_recipes_have_the_published_size(name, million):
    with torch.device("meta"):
        network = Inverter(load_recipe(name).network.design())
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(1e6 * million, rel=0.02)


def test_a_fingerprint_is_of_what_is_stated():
    first = Recipe(key="a", title="A")
    assert first.fingerprint == Recipe(key="a", title="A", margin=4).fingerprint
    assert first.fingerprint != Recipe(key="a", title="A", margin=5).fingerprint


BROKEN = {
    'title = "A"\nstep = 3': "step: Extra inputs",
    "margin = 4": "title: Field required",
    "title = ": "not valid TOML",
    'title = "A"\n[loss]\nabsolut = 1.0': "there is no loss 'absolut'",
    'title = "A"\n[loss]\nlikelihood = 1.0': "need an uncertain network",
    'title = "A"\n[network]\nchannels = ["hd"]': "channel 'hd' is not in data.channels",
    'title = "A"\nmargin = 24': "leaves nothing of 48 voxels",
    'title = "A"\n[network]\nnorm = "group"': "network.norm",
    'title = "A"\n[network]\nwidths = []': "network.widths",
    'title = "A"\n[data]\nbatch = 0': "data.batch",
    'title = "A"\n[optimisation]\nrate = -1.0': "optimisation.rate",
    'title = "A"\n[optimisation]\nprecision = "float16"': "optimisation.precision",
    'title = "A"\n[data.population]\nlesion = {}': "data.population.lesion",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_recipe_that_cannot_work_is_refused_in_one_sentence(text, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_recipe(path)
    told = str(error.value)
    assert str(path) in told
    assert BROKEN[text] in told
    assert "\n" not in told
    assert told.endswith(".")


@pytest.mark.parametrize("name", ["nothing", "nothing.toml"])
def test_an_unknown_recipe_names_those_there_are(name):
    with pytest.raises(InputError, match=r"There is no recipe .*pdi, .*qsmnet"):
        load_recipe(name)


def test_a_recipe_is_called_like_its_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('title = "A"')
    assert load_recipe(path).key == load_recipe(str(path)).key == "mine"
