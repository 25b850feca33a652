"""Whatever the method and the wrapper: the whole is a method, and what one owes, it owes."""

import gc
import weakref
from functools import cache

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished, relayed
from napari_qsm.methods import workspace
from napari_qsm.methods.registry import find, methods
from napari_qsm.methods.wrapping import wrap, wrappers
from napari_qsm.pipeline import Choice, Recipe

SINGLE = [key for key, method in methods().items() if method.wrappable]
WRAPPED = ["tkd+two_pass", "tv+two_pass", "ndi+two_pass", "tkd+sigma", "tv+sigma",
           "tv+two_pass+sigma", "tkd+correction", "tv+correction"]  # fmt: skip
every_whole = pytest.mark.parametrize("key", WRAPPED)


def acquisition(shape=(18, 20, 16)):
    """A head with a strong source, and noise."""
    from napari_qsm.physics.dipole import DipoleConvolution

    rng = np.random.default_rng(0)
    axes = np.meshgrid(*[np.linspace(-1.2, 1.2, n) for n in shape], indexing="ij")
    mask = sum(a**2 for a in axes) < 1
    chi = np.zeros(shape, np.float32)
    chi[7:10, 8:11, 7:9] = 1.0
    grid = Grid(shape, np.diag([1.0, 1.1, 1.5, 1.0]))
    field = DipoleConvolution(grid)(torch.from_numpy(chi)).numpy()
    field += 0.005 * rng.standard_normal(shape)
    volumes = {Quantity.LOCAL_FIELD: field * mask, Quantity.MASK: mask}
    return Acquisition(grid, volumes, 3.0, (0.02,))


def steps_and_maps(method, measured, **settings):
    settings = {"draws": 2, **settings} if "draws" in method.parameters.model_fields else settings
    steps, preview = [], None

    def look(step):
        nonlocal preview
        steps.append(step)
        if step.preview:
            preview = step.preview()

    maps = finished(relayed(method(measured, method.with_settings(settings)), look))
    return steps, preview, maps


@pytest.fixture(scope="module")
def standard():
    """Function that gives the one run of a method at its default settings, which many look at."""
    return cache(lambda key: steps_and_maps(find(key), acquisition()))


@pytest.mark.parametrize("around", list(wrappers()))
@pytest.mark.parametrize("key", SINGLE)
def test_every_wrapper_fits_around_every_method(key, around):
    whole, plain, wrapper = find(f"{key}+{around}"), find(key), wrappers()[around]
    assert whole.key == f"{key}+{around}"
    assert whole.label == f"{plain.label}, {wrapper.label}"
    assert whole.tuning == plain.tuning
    fields = [*plain.parameters.model_fields, *wrapper.parameters.model_fields]
    assert list(whole.parameters.model_fields) == fields
    assert set(whole.gives) == {*plain.gives, *wrapper.gives}
    assert whole.with_settings(whole.parameters().model_dump(mode="json")) == whole.parameters()


@every_whole
def test_the_whole_reports_like_a_method(key, standard):
    method, measured = find(key), acquisition()
    steps, preview, maps = standard(key)
    assert set(maps.volumes) - {Quantity.UNRELIABLE} == set(method.gives)
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1
    assert all(step.message.startswith(method.label + ": ") for step in steps)
    for values in maps.volumes.values():
        assert values.dtype == np.float32
        assert not values[~measured.mask].any()
    assert abs(maps[Quantity.CHI][measured.mask].mean()) < 1e-6
    np.testing.assert_allclose(preview, maps[Quantity.CHI], atol=1e-6)
    assert any("relative to its mean" in note for note in maps.provenance.notes)


@every_whole
def test_a_flipped_field_flips_the_map(key, standard):
    measured = acquisition()
    flipped = measured.with_volumes({Quantity.LOCAL_FIELD: -measured[Quantity.LOCAL_FIELD]})
    *_, maps = standard(key)
    *_, mirrored = steps_and_maps(find(key), flipped)
    np.testing.assert_allclose(mirrored[Quantity.CHI], -maps[Quantity.CHI], atol=1e-7)


@every_whole
def test_what_was_chosen_repeats_the_run(key, standard):
    method, measured = find(key), acquisition()
    *_, maps = standard(key)
    stated = {**maps.provenance.parameters, **maps.provenance.chosen}
    *_, again = steps_and_maps(method, measured, **stated)
    for quantity in (Quantity.CHI, Quantity.RESIDUAL):
        np.testing.assert_allclose(again[quantity], maps[quantity], atol=2e-6)


@every_whole
@pytest.mark.parametrize("after", [0.2, 0.55, 0.8])
def test_cancelling_frees_everything_whenever_it_comes(key, after, monkeypatch):
    made = []
    original = workspace.Workspace.field
    monkeypatch.setattr(
        workspace.Workspace, "field", lambda self: made.append(original(self)) or made[-1]
    )
    before = torch.get_num_threads()
    running = find(key)(acquisition())
    step = next(running)
    while step.fraction < after:
        step = next(running)
    gone = [weakref.ref(tensor) for tensor in made]
    made.clear()
    running.close()
    gc.collect()
    assert all(one() is None for one in gone)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("field", ["zero", "one voxel", "huge"])
@every_whole
def test_degenerate_input_gives_finite_maps(key, field):
    shape = (10, 9, 8)
    values = 0.02 * np.random.default_rng(0).standard_normal(shape)
    mask = np.ones(shape, bool)
    if field == "one voxel":
        mask[...] = False
        mask[3, 4, 5] = True
    values *= {"zero": 0, "huge": 1e6}.get(field, 1)
    volumes = {Quantity.LOCAL_FIELD: values * mask, Quantity.MASK: mask}
    *_, maps = steps_and_maps(find(key), Acquisition(Grid(shape, np.eye(4)), volumes))
    assert all(np.isfinite(v).all() for v in maps.volumes.values())


def test_mistakes_are_sentences():
    for key, words in {
        "tv+twopass": "there are correction, sigma, two_pass",
        "tv+sigma+sigma": "twice",
        "nothing+sigma": "no method 'nothing'",
        "cosmos+sigma": "one orientation",
    }.items():
        with pytest.raises(InputError, match=words.replace("+", r"\+")):
            find(key)
    with pytest.raises(InputError, match="strong"):
        find("tkd+two_pass").with_settings({"strong": 100})
    assert wrap(find("tkd"), ()) is find("tkd")


def test_recipes_know_wrapped_methods():
    recipe = Recipe(method=Choice("tv+two_pass+sigma", {"strong": 0.2, "draws": 4}))
    read = Recipe.from_toml(recipe.to_toml())
    assert read.method.use == "tv+two_pass+sigma"
    assert read.method.settings["strong"] == 0.2
    assert read.method.settings["draws"] == 4
    with pytest.raises(InputError, match="no parameter 'draws'"):
        Recipe.from_toml('[method]\nuse = "tv+two_pass"\ndraws = 4\n')
