"""The guard says in words what lies outside, and marks where the map cannot be right."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.generators import finished
from napari_qsm.methods import guard
from napari_qsm.methods.guard import FEATURES, features, statistics_of, strange
from napari_qsm.methods.learned import seen
from napari_qsm.methods.workspace import Workspace
from napari_qsm.networks.inverter import Design, Inverter
from napari_qsm.networks.unet import Architecture
from napari_qsm.networks.weights import Card
from napari_qsm.physics.dipole import DipoleConvolution

CPU = torch.device("cpu")
SHAPE = (30, 32, 28)
GRID = Grid(SHAPE, np.eye(4))
DESIGN = Design(("field", "tikhonov"), True, Architecture(widths=(4, 8)))


def ball(radius=0.95):
    axes = np.meshgrid(*[np.linspace(-1.1, 1.1, n) for n in SHAPE], indexing="ij")
    return sum(a**2 for a in axes) < radius


def case(seed, *, lesion=0.0, noise=2e-3, scale=1.0):
    """A smooth susceptibility, its field with noise, and the mask."""
    rng = np.random.default_rng(seed)
    mask = ball()
    chi = np.zeros(SHAPE, np.float32)
    for _ in range(12):
        a, b, c = rng.uniform(-0.6, 0.6, 3)
        axes = np.meshgrid(*[np.linspace(-1.1, 1.1, n) for n in SHAPE], indexing="ij")
        distance = (axes[0] - a) ** 2 + (axes[1] - b) ** 2 + (axes[2] - c) ** 2
        chi += rng.uniform(-0.1, 0.1) * np.exp(-distance / 0.05)
    chi[14:17, 15:18, 13:16] += lesion
    chi = scale * (chi - chi[mask].mean()) * mask
    field = DipoleConvolution(GRID, padding=2.0)(torch.from_numpy(chi.astype(np.float32))).numpy()
    field += noise * rng.standard_normal(SHAPE)
    return (field * mask).astype(np.float32), chi.astype(np.float32), mask


def stacked(seed, **more):
    field, chi, mask = case(seed, **more)
    return np.stack([field, chi, chi, mask]).astype(np.float16)


@pytest.fixture(scope="module")
def statistics():
    return statistics_of((stacked(seed) for seed in range(30)), 1)


def test_features_are_what_they_say():
    mask = ball()
    field = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32) * mask
    found = features(0.02 * field, mask, 0.05 * field)
    assert set(found) == set(FEATURES)
    assert found["spread"] == pytest.approx(0.02, rel=0.02)
    assert found["kurtosis"] == pytest.approx(3, rel=0.05)
    assert found["peak"] == pytest.approx(3.29, rel=0.1)
    assert found["roughness"] == pytest.approx(np.sqrt(2), rel=0.02)
    assert found["noise"] == pytest.approx(1, rel=0.05)
    assert found["contrast"] == pytest.approx(2.5, rel=0.01)
    assert found["voxels"] == mask.sum()


def test_all_but_spread_and_size_do_not_know_the_unit():
    field, chi, mask = case(0)
    one, other = features(field, mask, chi), features(100 * field, mask, 100 * chi)
    for name in set(FEATURES) - {"spread"}:
        assert other[name] == pytest.approx(one[name], rel=1e-4)


def test_a_field_of_zeros_has_features():
    mask = ball()
    assert features(np.zeros(SHAPE), mask) == {"spread": 0.0, "voxels": mask.sum()}


def test_what_is_like_training_is_not_strange(statistics):
    said = [strange(features(*order(case(seed))), statistics) for seed in range(100, 130)]
    assert sum(map(bool, said)) <= 2


def order(made):
    field, chi, mask = made
    return field, mask, chi


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"lesion": 3.0}, "concentrated in few places"),
        ({"noise": 5e-2}, "noisier"),
        ({"scale": 50.0, "noise": 0.1}, "check the field's unit"),
    ],
)
def test_what_is_not_like_training_is_said(statistics, changed, words):
    told = strange(features(*order(case(200, **changed))), statistics)
    assert any(words in one for one in told)
    assert all("in training" in one for one in told)


def watched(field, mask, chi, sigma, statistics):
    """Return the notes and extras of the guard for a map."""
    measured = Acquisition(GRID, {Quantity.LOCAL_FIELD: field, Quantity.MASK: mask})
    card = Card("card", "A card", DESIGN, "pdi", statistics=statistics)
    torch.manual_seed(0)
    with Workspace(measured, CPU, "Test") as space:
        view = finished(seen(measured, Inverter(DESIGN), space))
        space.notes.clear()
        wide = None if sigma is None else space.place(sigma)
        guard.watch(space, view, space.place(chi), wide, card)
        return " ".join(space.notes), space.extras


def ranges(field, mask):
    """Ranges in which this one field lies, whatever the network starts from."""
    found = features(field, mask)
    return {name: [0.9 * value, 1.1 * value] for name, value in found.items()}


def test_a_good_map_of_a_known_field_is_told_so_and_nothing_is_marked():
    field, chi, mask = case(1)
    notes, extras = watched(field, mask, chi, np.full(SHAPE, 0.02) * mask, ranges(field, mask))
    assert "lies inside what the network learned from" in notes
    assert "misses something" not in notes
    assert "Sigma is too small" not in notes
    assert not extras


def test_a_map_without_the_lesion_is_marked_around_it():
    field, _, mask = case(1, lesion=2.0)
    _, missed, _ = case(1)
    notes, extras = watched(field, mask, missed, None, ranges(field, mask))
    assert "misses something" in notes
    marked = extras[Quantity.UNRELIABLE] > 0
    assert marked[15, 16, 14]
    assert marked.mean() < 0.3
    assert not marked[~mask].any()
    assert f"{marked.sum()} voxels" in notes


def test_a_sigma_that_cannot_be_is_told():
    field, chi, mask = case(1)
    small, large = (np.full(SHAPE, s, np.float32) * mask for s in (1e-4, 0.2))
    wrong = (0.3 * chi).astype(np.float32)
    assert "Sigma is too small" in watched(field, mask, wrong, small, ranges(field, mask))[0]
    assert "Sigma is too small" not in watched(field, mask, wrong, large, ranges(field, mask))[0]


def test_a_card_without_statistics_is_said():
    field, chi, mask = case(1)
    notes, _ = watched(field, mask, chi, None, {})
    assert "was not checked" in notes
