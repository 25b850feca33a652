"""MEDI: its limits in closed form, its edges, and each of its additions."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.generators import finished, relayed
from napari_qsm.methods.edges import smooth_neighbours
from napari_qsm.methods.registry import find
from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.physics.gradient import Gradient
from napari_qsm.training.phantom import sample_head

SIZES = (1.0, 1.2, 1.5)
SHAPE = (28, 24, 20)


def grid(shape=SHAPE):
    return Grid(shape, np.diag([*SIZES, 1.0]), b0_direction=(0.0, 0.6, 0.8))


def run(key, measured, **settings):
    method = find(key)
    steps = []
    maps = finished(relayed(method(measured, method.with_settings(settings)), steps.append))
    return maps, max(int(step.values.get("iteration", 0)) for step in steps)


def field_of(chi, mask=True):
    values = DipoleConvolution(grid(chi.shape), kernel="cuboid", padding=2.0)(
        torch.from_numpy(chi.astype(np.float32))
    )
    return values.numpy() * mask


def ball(radius):
    axes = [(np.arange(n) - (n - 1) / 2) * v for n, v in zip(SHAPE, SIZES, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return x**2 + y**2 + z**2 < radius**2


@pytest.fixture
def scene():
    """A ball with boxes in it, seen in field and magnitude, and 0.002 ppm of noise."""
    rng = np.random.default_rng(0)
    mask, chi = ball(13.0), np.zeros(SHAPE)
    for corner in rng.integers(5, 14, (8, 3)):
        chi[tuple(slice(c, c + 5) for c in corner)] = 0.1 * rng.standard_normal()
    chi *= mask
    volumes = {
        Quantity.LOCAL_FIELD: field_of(chi, mask) + 0.002 * rng.standard_normal(SHAPE) * mask,
        Quantity.MAGNITUDE: (1 + chi) * mask,
        Quantity.MASK: mask,
    }
    return Acquisition(grid(), volumes), chi


def without(measured, quantity):
    volumes = {q: v for q, v in measured.volumes.items() if q is not quantity}
    return Acquisition(measured.grid, volumes)


def error(maps, chi, measured):
    return nrmse(maps[Quantity.CHI], chi, measured.mask)


def test_with_all_differences_small_it_is_tikhonov_in_closed_form(monkeypatch):
    """``lambda sum sqrt(g^2 + eps^2)`` is ``lambda/(2 eps) g^2`` for eps far above g."""
    monkeypatch.setattr(Workspace.__init__, "__kwdefaults__", {"padding": 1.0})
    shape = (15, 9, 21)
    measured = Acquisition(
        grid(shape), {Quantity.LOCAL_FIELD: np.random.default_rng(0).standard_normal(shape) * 1e-2}
    )
    expected, _ = run("tikhonov", measured, regularization=1e-3, regularizer="gradient")
    maps, _ = run(
        "medi", measured, regularization=1e-2, smoothing=10.0, data="linear", weights="none",
        edges=0.0, tolerance=1e-4, max_iterations=200,
    )  # fmt: skip
    difference = maps[Quantity.CHI] - expected[Quantity.CHI]
    assert np.linalg.norm(difference) < 1e-3 * np.linalg.norm(expected[Quantity.CHI])


def test_at_small_phase_both_data_terms_agree(scene):
    measured, _ = scene
    linear, _ = run("medi", measured, data="linear", max_iterations=10)
    nonlinear, _ = run("medi", measured, phase_scale=0.1, max_iterations=10)
    size = np.linalg.norm(linear[Quantity.CHI])
    assert np.linalg.norm(nonlinear[Quantity.CHI] - linear[Quantity.CHI]) < 1e-4 * size


def test_whole_turns_change_nothing(scene):
    measured, _ = scene
    turns = np.random.default_rng(1).integers(-2, 3, SHAPE) * measured.mask
    turned = measured.with_volumes(
        {Quantity.LOCAL_FIELD: measured[Quantity.LOCAL_FIELD] + turns * (2 * np.pi / 16.0)}
    )
    settings = {"phase_scale": 16.0, "regularization": 1e-4, "weights": "none"}
    maps, _ = run("medi", measured, **settings)
    same, _ = run("medi", turned, **settings)
    np.testing.assert_allclose(same[Quantity.CHI], maps[Quantity.CHI], atol=2e-5)


def select(magnitude, mask, share):
    pieces = smooth_neighbours(
        torch.from_numpy(magnitude.astype(np.float32)), torch.from_numpy(mask), Gradient(SIZES),
        share,
    )  # fmt: skip
    return finished(pieces)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.6])
def test_as_many_edges_as_asked_for(share):
    mask = ball(11.0)
    selection, found = select(np.random.default_rng(0).standard_normal(SHAPE), mask, share)
    edges = int((selection == 0).sum())
    assert set(np.unique(selection)) <= {0.0, 1.0}
    assert edges == pytest.approx(3 * share * mask.sum(), abs=1)
    assert found == pytest.approx(share, abs=1e-3)


def test_the_largest_differences_are_the_edges_and_those_of_the_mask_are_none():
    mask = ball(11.0)
    magnitude = np.random.default_rng(0).uniform(100, 101, SHAPE) * mask
    selection, _ = select(magnitude, mask, 0.2)
    slopes = Gradient(SIZES)(torch.from_numpy(magnitude)).abs().numpy()
    inside = np.stack([mask & np.roll(mask, -1, axis) for axis in range(3)])
    edges = selection.numpy() == 0
    assert not edges[~inside].any()
    assert slopes[edges].min() >= slopes[inside & ~edges].max() * (1 - 1e-5)


def test_a_magnitude_of_a_few_values_has_only_its_borders_as_edges():
    """The usual rule goes on for ever here: there are not that many differences."""
    mask, levels = ball(11.0), np.full(SHAPE, 100.0)
    levels[:14], levels[:, :9] = 250.0, 400.0
    selection, found = select(levels, mask, 0.3)
    expected = sum(
        int(((levels != np.roll(levels, -1, a)) & mask & np.roll(mask, -1, a)).sum())
        for a in range(3)
    )
    assert int((selection == 0).sum()) == expected
    assert found < 0.1
    for flat in (np.ones(SHAPE), np.zeros(SHAPE)):
        selection, found = select(flat, mask, 0.3)
        assert found == 0
        assert selection.all()


def test_it_says_what_became_of_the_edges(scene):
    measured, _ = scene
    flat = measured.with_volumes({Quantity.MAGNITUDE: measured.mask.astype(float)})
    told = {
        "edges of the magnitude": measured,
        "There is no magnitude": without(measured, Quantity.MAGNITUDE),
        "The magnitude has no edges": flat,
    }
    for words, acquisition in told.items():
        maps, _ = run("medi", acquisition, max_iterations=2)
        assert any(words in note for note in maps.provenance.notes)
    maps, _ = run("medi", measured, edges=0.0, max_iterations=2)
    assert not any("edges" in note for note in maps.provenance.notes)


def test_edges_of_the_magnitude_help_where_they_are_those_of_the_susceptibility(scene):
    measured, chi = scene
    spared, _ = run("medi", measured, regularization=1e-4)
    blind, _ = run("medi", measured, regularization=1e-4, edges=0.0)
    assert error(spared, chi, measured) < 0.9 * error(blind, chi, measured)


def test_merit_finds_outliers_and_the_map_is_better_for_it(scene):
    measured, chi = scene
    rng = np.random.default_rng(2)
    field = measured[Quantity.LOCAL_FIELD].copy()
    wrong = (rng.uniform(size=SHAPE) < 0.005) & measured.mask
    field[wrong] += rng.choice([-0.5, 0.5], int(wrong.sum()))
    spoilt = measured.with_volumes({Quantity.LOCAL_FIELD: field})
    settings = {"data": "linear", "regularization": 1e-4, "weights": "mask", "tolerance": 2e-3}
    plain, _ = run("medi", spoilt, **settings)
    robust, _ = run("medi", spoilt, merit=True, **settings)
    assert error(robust, chi, measured) < 0.5 * error(plain, chi, measured)
    assert any(note.startswith("MERIT lowered") for note in robust.provenance.notes)


def test_fluid_of_one_value_is_the_zero(scene):
    measured, _ = scene
    fluid = np.zeros(SHAPE, dtype=bool)
    fluid[11:16, 10:15, 8:12] = True
    rate = np.where(fluid, 1.0, 20.0)
    with_rate = measured.with_volumes({Quantity.R2STAR: rate})
    free, _ = run("medi", with_rate, edges=0.0)
    zeroed, _ = run("medi", with_rate, edges=0.0, csf=10.0, tolerance=2e-3)
    values = zeroed[Quantity.CHI][fluid]
    assert values.std() < 0.2 * free[Quantity.CHI][fluid].std()
    assert abs(values.mean()) < 1e-6
    assert not zeroed[Quantity.CHI][~measured.mask].any()
    assert "relative to its mean in the ventricles" in zeroed.provenance.notes[-1]
    with pytest.raises(InputError, match="found by R2"):
        run("medi", measured, csf=0.1)


def test_spherical_means_take_out_what_is_left_of_a_background(scene):
    measured, chi = scene
    outside = np.zeros(SHAPE)
    outside[13, 11, -1] = 200.0
    spoilt = measured.with_volumes(
        {Quantity.LOCAL_FIELD: measured[Quantity.LOCAL_FIELD] + field_of(outside, measured.mask)}
    )
    core = ball(8.0)
    errors = [
        nrmse(run("medi", spoilt, smv_radius=radius)[0][Quantity.CHI], chi, core)
        for radius in (0.0, 3.0)
    ]
    assert errors[1] < 0.7 * errors[0]
    for radius, words in ((1.2, "longest side of a voxel"), (14.0, "fits nowhere")):
        with pytest.raises(InputError, match=words):
            run("medi", measured, smv_radius=radius)


@pytest.fixture(scope="module", params=["healthy", "haemorrhage"])
def head(request):
    measured = sample_head(request.param, 3.0)
    return measured.acquisition, measured.truth[Quantity.CHI], request.param


def test_on_the_digital_head_far_less_error_than_tkd_leaves(head):
    measured, truth, _ = head
    maps, _ = run("medi", measured)
    tkd, _ = run("tkd", measured)
    assert error(maps, truth, measured) < 0.6 * error(tkd, truth, measured)


def test_another_lambda_takes_a_fraction_of_the_way(head):
    """What a map lost outside the mask has to be found again, which is most for few voxels."""
    measured, truth, case = head
    maps, cold = run("medi", measured, regularization=4e-5)
    started = measured.with_volumes({Quantity.CHI: maps[Quantity.CHI]})
    warm_maps, warm = run("medi", started, regularization=5e-5)
    assert warm <= (cold / 2 if case == "haemorrhage" else 0.8 * cold)
    assert error(warm_maps, truth, measured) < 1.02 * error(maps, truth, measured)
    assert "Started from the given susceptibility." in warm_maps.provenance.notes
