"""Networks that separate: maps, both residuals, what is said of them, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import InputError, Quantity
from napari_qsm.generators import finished
from napari_qsm.methods.registry import find
from napari_qsm.methods.separation.shared import GIVES
from napari_qsm.networks import weights
from napari_qsm.networks.weights import FOLDER_VARIABLE
from napari_qsm.training.separation import RELAXIVITY

POS, NEG, CHI = Quantity.CHI_POS, Quantity.CHI_NEG, Quantity.CHI
FAMILIES = ("sepnet", "sepnet_r2star", "unrolled_sepnet")
every_family = pytest.mark.parametrize("family", FAMILIES)


def run(family, measured, **settings):
    method = find(family)
    settings = {"precision": "float32", **settings}
    return finished(method(measured, method.with_settings(settings)))


def without(measured, *quantities):
    kept = {q: v for q, v in measured.volumes.items() if q not in quantities}
    return replace(measured, volumes=kept)


def told(maps, text):
    return any(text in note for note in maps.provenance.notes)


@every_family
def test_maps_obey_the_contract(separated, family):
    measured, _, _ = separated.phantom()
    maps = run(family, measured)
    assert set(maps.volumes) == set(GIVES) == set(find(family).gives)
    assert (maps[POS] >= 0).all()
    assert (maps[NEG] >= 0).all()
    np.testing.assert_allclose(maps[CHI], maps[POS] - maps[NEG], atol=1e-6)
    for values in maps.volumes.values():
        assert not values[~measured.mask].any()
        assert values[measured.mask].any()
    rate = RELAXIVITY * 3 * (maps[POS] + maps[NEG])
    given = measured[Quantity.R2PRIME]
    np.testing.assert_allclose(maps[Quantity.RESIDUAL_R2PRIME], rate - given, atol=1e-3)
    assert told(maps, "weights are")
    assert told(maps, "begins with the susceptibility of Tikhonov")
    assert told(maps, "Dr = 114 Hz/ppm")


@every_family
def test_messages_carry_the_label_and_fractions_rise(separated, family):
    measured, _, _ = separated.phantom()
    method = find(family)
    steps = list(method(measured, method.with_settings({"precision": "float32"})))
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert all(step.message.startswith(method.label + ":") for step in steps)


@every_family
def test_twice_the_sources_give_twice_the_maps(separated, family):
    """What a network that is homogeneous promises, through everything around it."""
    measured, _, _ = separated.phantom()
    settings = {"inversion": "tkd"}
    first = run(family, measured, **settings)
    second = run(family, separated.scaled(measured, 20), **settings)
    for quantity in (POS, NEG):
        size = np.abs(first[quantity]).max()
        np.testing.assert_allclose(second[quantity] / 20, first[quantity], atol=2e-3 * size)


def test_a_network_that_adds_nothing_leaves_the_closed_form(separated, tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    one = separated.network("sepnet")
    for values in one.parameters():
        torch.nn.init.zeros_(values)
    card = weights.Card("sepnet", "Nothing", one.design, "sepnet")
    weights.write(card, one, tmp_path)
    measured, positive, negative = separated.phantom()
    chi = measured.with_volumes({CHI: positive - negative})
    maps = run("sepnet", chi, inversion="given")
    np.testing.assert_allclose(maps[POS], positive, atol=1e-4)
    np.testing.assert_allclose(maps[NEG], negative, atol=1e-4)
    assert told(maps, "given susceptibility")


def test_iterates_are_kept_on_demand_and_the_last_is_the_map(separated):
    measured, _, _ = separated.phantom()
    maps = run("unrolled_sepnet", measured, keep=True)
    for kept, last in ((Quantity.CHI_POS_ITERATES, POS), (Quantity.CHI_NEG_ITERATES, NEG)):
        assert maps[kept].shape == (*measured.grid.shape, 10)
        np.testing.assert_array_equal(maps[kept][..., -1], maps[last])
        assert not np.array_equal(maps[kept][..., 0], maps[last])
    assert told(maps, "The learned step is 0.500")


def test_every_iteration_tells_how_much_it_changed(separated):
    measured, _, _ = separated.phantom()
    steps = [s for s in find("unrolled_sepnet")(measured) if "change" in s.values]
    assert [s.values["iteration"] for s in steps] == list(range(1, 11))
    assert steps[0].values["change"] == pytest.approx(1)
    assert 0 < steps[-1].values["change"] < 0.5
    assert all(step.preview is not None for step in steps)


def test_r2star_alone_ignores_what_else_is_known(separated):
    measured, _, _ = separated.phantom()
    both = run("sepnet_r2star", measured)
    alone = run("sepnet_r2star", without(measured, Quantity.R2PRIME))
    np.testing.assert_array_equal(both[POS], alone[POS])
    assert told(both, "was not used")
    assert not told(alone, "was not used")


def test_relaxation_below_zero_reaches_the_network_and_is_told(separated):
    measured, _, _ = separated.phantom()
    high, low = (np.maximum(measured[Quantity.R2STAR], 20) * measured.mask for _ in range(2))
    low.flat[np.flatnonzero(measured.mask)[::50]] = 5
    for rate, expected in ((high, False), (low, True)):
        maps = run("sepnet_r2star", measured.with_volumes({Quantity.R2STAR: rate}))
        assert told(maps, "below 0 as it is") == expected


def test_without_relaxation_there_is_one_clear_sentence(separated):
    measured, _, _ = separated.phantom()
    bare = without(measured, Quantity.R2PRIME, Quantity.R2STAR)
    for family in ("sepnet", "unrolled_sepnet"):
        with pytest.raises(InputError, match=r"R2' or R2\*"):
            run(family, bare)
    with pytest.raises(InputError, match=r"needs .*R2\*"):
        run("sepnet_r2star", bare)


@every_family
def test_without_weights_there_is_one_clear_sentence(separated, family, tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(weights, "shipped_folder", lambda: None)
    measured, _, _ = separated.phantom()
    with pytest.raises(InputError, match=f"no weights '{family}'"):
        run(family, measured)


def test_weights_of_another_task_are_refused(separated):
    measured, _, _ = separated.phantom()
    with pytest.raises(InputError, match="inverts a field"):
        run("sepnet", measured, weights="qsmnet")
    with pytest.raises(InputError, match="of the family 'unrolled_sepnet'"):
        run("sepnet", measured, weights="unrolled_sepnet")
    with pytest.raises(InputError, match="separates sources"):
        finished(find("qsmnet")(measured, find("qsmnet").with_settings({"weights": "sepnet"})))


def test_a_susceptibility_that_is_not_there_is_refused(separated):
    measured, _, _ = separated.phantom()
    with pytest.raises(InputError, match="there is none"):
        run("sepnet", measured, inversion="given")


def test_noise_drawn_anew_says_how_sure_a_network_is(separated):
    measured, _, _ = separated.phantom()
    rng = np.random.default_rng(0)
    noisy = {
        quantity: (measured[quantity] + size * rng.standard_normal(measured.grid.shape))
        * measured.mask
        for quantity, size in ((Quantity.LOCAL_FIELD, 0.002), (Quantity.R2PRIME, 1.0))
    }
    maps = run("sepnet+sigma", measured.with_volumes(noisy), draws=2)
    for quantity in (Quantity.SIGMA_POS, Quantity.SIGMA_NEG):
        assert maps[quantity][measured.mask].max() > 0
        assert not maps[quantity][~measured.mask].any()


def test_unequal_relaxivities_reach_the_unrolled_physics(separated):
    measured, _, _ = separated.phantom()
    equal = run("unrolled_sepnet", measured)
    other = run("unrolled_sepnet", measured, dr_positive=114.0, dr_negative=60.0)
    assert not np.allclose(equal[NEG], other[NEG], atol=1e-3)
    assert told(other, "differ little")


@pytest.mark.parametrize("tilted", [False, True])
def test_voxels_beyond_those_it_learned_from_are_told(separated, tilted, tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    one = separated.network("sepnet")
    ranges = {"voxel_size": (0.9, 1.3), "anisotropy": 1.3, "tilt": 15.0}
    weights.write(weights.Card("sepnet", "Tiny", one.design, "sepnet", **ranges), one, tmp_path)
    measured, _, _ = separated.phantom()
    if tilted:
        measured = replace(measured, grid=measured.grid.with_b0((0.0, 0.6, 0.8)))
    assert told(run("sepnet", measured), "this lies outside") == tilted
