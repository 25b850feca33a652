"""PDI-VI: what the adaptation does to map and uncertainty, and what it says of them."""

import gc
import weakref

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished, relayed
from napari_qsm.methods.registry import find
from napari_qsm.networks import weights
from napari_qsm.networks.inverter import Design, Inverter
from napari_qsm.networks.unet import Architecture
from napari_qsm.networks.weights import Card
from napari_qsm.physics.dipole import DipoleConvolution

SHAPE = (26, 24, 22)
GRID = Grid(SHAPE, np.diag([1.0, 1.0, 1.2, 1.0]), b0_direction=(0.0, 0.2, 0.98))
NOISE = 0.004


def put(folder, key="pdi", *, uncertain=True, family="pdi", seed=0):
    """Write tiny weights that start from Tikhonov's map, and claim 10 ppb everywhere."""
    torch.manual_seed(seed)
    design = Design(("field", "tikhonov"), uncertain, Architecture(widths=(4, 8)))
    card = Card(key=key, title="tiny", design=design, family=family)
    weights.write(card, Inverter(design), folder)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(tmp_path))
    put(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def lesion():
    """A strong sphere in weak tissue: far from what any healthy head has."""
    axes = np.meshgrid(*[np.arange(n) - n / 2 for n in SHAPE], indexing="ij")
    radius = np.sqrt(sum(a**2 for a in axes))
    rng = np.random.default_rng(2)
    chi = np.where(radius < 3.5, 1.0, 0.03 * (axes[0] > 4)).astype(np.float32)
    mask = radius < 9.5
    chi[~mask] = 0
    field = DipoleConvolution(GRID, padding=1.5)(torch.from_numpy(chi)).numpy()
    field = (field + NOISE * rng.standard_normal(SHAPE)) * mask
    return Acquisition(GRID, {Quantity.LOCAL_FIELD: field, Quantity.MASK: mask}), chi


def run(measured, **settings):
    method = find("pdi_vi")
    running = method(measured, method.with_settings({"rate": 1e-2, "iterations": 20, **settings}))
    steps = []
    return finished(relayed(running, steps.append)), [s.values for s in steps if "elbo" in s.values]


def test_a_lesion_that_the_network_does_not_know_is_explained_by_adapting(lesion):
    measured, chi = lesion
    maps, values = run(measured, error=NOISE, **{"lambda": 2e-4})
    before, _ = run(measured, error=NOISE, iterations=1, rate=1e-5, **{"lambda": 2e-4})
    assert values[-1]["elbo"] > values[0]["elbo"] + 0.3
    assert values[-1]["residual"] < 0.9 * values[0]["residual"]  # of which 1 is noise
    mask = measured.mask

    def error(made):
        truth = chi - chi[mask].mean()
        return np.linalg.norm((made[Quantity.CHI] - truth)[mask])

    assert error(maps) < 0.99 * error(before)
    assert [v["iteration"] for v in values] == list(range(1, 21))


def test_maps_and_notes_say_what_they_are(lesion):
    maps, values = run(lesion[0], iterations=4)
    assert set(maps.volumes) == {Quantity.CHI, Quantity.SIGMA, Quantity.RESIDUAL}
    mask = lesion[0].mask
    assert (maps[Quantity.SIGMA][mask] >= 1e-3).all()
    assert not maps[Quantity.SIGMA][~mask].any()
    notes = " ".join(maps.provenance.notes)
    assert "weights are 'pdi'" in notes
    assert "times nothing" in notes
    assert "read off the field" in notes
    assert "no edges are spared" in notes
    assert f"to {values[-1]['elbo']:.3f}" in notes
    assert set(maps.provenance.chosen) == {"error", "regularization"}


def noisy(measured, part, factor):
    """Give a part of the volume so many times the noise of the rest."""
    noise = np.where(part, factor * NOISE, NOISE).astype(np.float32)
    extra = np.random.default_rng(5).standard_normal(SHAPE) * np.sqrt(noise**2 - NOISE**2)
    field = (measured[Quantity.LOCAL_FIELD] + extra) * measured.mask
    return measured.with_volumes({Quantity.LOCAL_FIELD: field, Quantity.FIELD_NOISE: noise})


def test_sigma_rises_where_noise_is_and_where_nothing_is_known(lesion):
    measured = lesion[0]
    half = np.zeros(SHAPE, bool)
    half[:, 12:] = True
    known, there = noisy(measured, half, 8.0), measured.mask
    settings = {"regularization": 1e-5, "rate": 1e-2, "iterations": 40}

    def ratio(acquisition, **more):
        sigma = run(acquisition, **settings, **more)[0][Quantity.SIGMA]
        return sigma[there & half].mean() / sigma[there & ~half].mean()

    assert ratio(known) > 2
    lost = np.where(half, 0, NOISE).astype(np.float32)  # 0: nothing is known of a voxel
    unknown = known.with_volumes({Quantity.FIELD_NOISE: lost})
    assert ratio(unknown, error=NOISE) > 4
    blind = measured.with_volumes({Quantity.LOCAL_FIELD: known[Quantity.LOCAL_FIELD]})
    assert ratio(blind, error=NOISE) < 1.3  # it is the weights that make the difference


def test_samples_lead_where_the_closed_form_does(lesion):
    _, closed = run(lesion[0], error=NOISE)
    _, sampled = run(lesion[0], error=NOISE, estimator="mc", samples=2)
    assert sampled[-1]["elbo"] == pytest.approx(closed[-1]["elbo"], rel=0.05)
    _, again = run(lesion[0], error=NOISE, estimator="mc", samples=2)
    assert again == sampled  # the seed decides


def test_a_random_start_arrives_as_well_and_says_so(lesion):
    maps, values = run(lesion[0], error=NOISE, start="random", seed=3)
    _, others = run(lesion[0], error=NOISE, iterations=1)
    assert values[0]["elbo"] != others[0]["elbo"]
    assert values[-1]["elbo"] > values[0]["elbo"] + 0.3
    assert any("begun at random" in note for note in maps.provenance.notes)


@pytest.mark.parametrize(("edit", "moves"), [("mean decoder", False), ("decoders", True)])
def test_only_the_chosen_part_changes(lesion, edit, moves):
    first, _ = run(lesion[0], error=NOISE, iterations=1, rate=1e-5, edit=edit)
    last, _ = run(lesion[0], error=NOISE, iterations=8, edit=edit)
    same = np.allclose(first[Quantity.SIGMA], last[Quantity.SIGMA], atol=1e-5)
    assert same is not moves
    assert np.abs(first[Quantity.CHI] - last[Quantity.CHI]).max() > 1e-3


def test_more_regularisation_makes_a_flatter_map(lesion):
    flat, rough = (run(lesion[0], error=NOISE, **{"lambda": v})[0] for v in (3e-3, 1e-5))
    variation = [
        sum(np.abs(np.diff(m[Quantity.CHI], axis=a)).sum() for a in range(3)) for m in (flat, rough)
    ]
    assert variation[0] < 0.95 * variation[1]
    floored, _ = run(lesion[0], error=NOISE, iterations=2, floor=0.02)
    assert floored[Quantity.SIGMA][lesion[0].mask].min() >= 0.02


def test_edges_of_the_magnitude_are_spared(lesion):
    measured, chi = lesion
    magnitude = np.where(chi > 0.5, 100.0, 300.0) * measured.mask
    maps, _ = run(measured.with_volumes({Quantity.MAGNITUDE: magnitude}), iterations=2)
    assert any("are edges of the magnitude" in note for note in maps.provenance.notes)


def test_weights_of_another_kind_are_refused(lesion, folder):
    put(folder, "plain", uncertain=False)
    put(folder, "other", family="qsmnet")
    for key, words in (("plain", "no standard deviation"), ("other", "family 'qsmnet'"),
                       ("nowhere", "no weights 'nowhere'")):  # fmt: skip
        with pytest.raises(InputError, match=words) as raised:
            run(lesion[0], weights=key)
        assert str(raised.value).count(". ") == 0


def test_closing_it_frees_the_network_and_leaves_the_weights(lesion, folder):
    method = find("pdi_vi")
    kept = (folder / "pdi.safetensors").read_bytes()
    running = method(lesion[0], method.with_settings({"iterations": 1000}))
    for step in running:
        if step.values.get("iteration") == 2:
            preview = step.preview()
            break
    assert preview.shape == SHAPE
    assert preview.any()
    networks = [weakref.ref(o) for o in gc.get_objects() if type(o) is Inverter]
    running.close()
    del running, step
    gc.collect()
    assert not any(network() is not None for network in networks)
    assert (folder / "pdi.safetensors").read_bytes() == kept
