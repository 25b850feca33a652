"""Stored cases and blocks: what is kept, what is cut, and that mirror images stay physics."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Grid, Quantity
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.training import cases
from napari_qsm.training.cases import MASK, TRUTH, Pool, block, stacked
from napari_qsm.training.population import Population, draw

COARSE = Population(voxel_size=(5.0, 5.0), geometry=0.0)


@pytest.fixture(scope="module")
def case():
    return draw(COARSE, 3)


def test_a_stacked_case_holds_channels_then_truth_then_mask(case):
    made = stacked(case, ("field", "tkd"))
    mask = case.acquisition.mask
    assert made.dtype == np.float16
    assert made.shape == (4, *mask.shape)
    assert np.array_equal(made[MASK] > 0, mask)
    assert np.allclose(made[TRUTH], case.chi, rtol=1e-3, atol=1e-6)
    assert np.allclose(made[0], case.acquisition[Quantity.LOCAL_FIELD], rtol=1e-3, atol=1e-6)
    assert np.corrcoef(made[1][mask], case.chi[mask])[0, 1] > 0.5
    assert (made[:, ~mask] == 0).all()


def test_what_methods_know_of_a_case_changes_by_turns(monkeypatch, case):
    seen = []

    def channels(acquisition, names):
        seen.append(set(acquisition.volumes))
        return np.zeros((1, *acquisition.grid.shape), np.float32)
        yield

    monkeypatch.setattr(cases, "channels", channels)
    for seed in range(4):
        stacked(cases.Case(case.acquisition, case.chi, case.lesions, seed), ("field",))
    known = {Quantity.LOCAL_FIELD, Quantity.MASK}
    assert seen[0] == seen[3] == known
    assert seen[1] == known | {Quantity.MAGNITUDE}
    assert seen[2] == known | {Quantity.MAGNITUDE, Quantity.FIELD_NOISE}


@pytest.fixture
def counted(monkeypatch, case):
    """Seeds that were drawn."""
    drawn = []

    def draw(population, seed):
        drawn.append(seed)
        return cases.Case(case.acquisition, case.chi, case.lesions, 0)

    monkeypatch.setattr(cases, "draw", draw)
    return drawn


def test_methods_can_know_all_of_every_case(tmp_path):
    names = ("field", "noise", "contrast")
    for seed in (3, 4, 5):
        turns, all_known = (
            Pool(COARSE, names, tmp_path, known)[seed] for known in ("turns", "all")
        )
        assert all_known[1].any()
        assert all_known[2].any()
        assert turns[1].any() == (seed == 5)
        assert turns[2].any() == (seed != 3)
        assert np.array_equal(turns[[0, TRUTH, MASK]], all_known[[0, TRUTH, MASK]])


def test_a_pool_draws_a_case_once_whoever_asks(tmp_path, counted):
    first = Pool(COARSE, ("field",), tmp_path)[4]
    second = Pool(COARSE, ("field",), tmp_path)[4]
    assert counted == [4]
    assert np.array_equal(first, second)
    assert sorted(p.suffix for p in first_folder(tmp_path).iterdir()) == [".json", ".npy"]


def first_folder(path):
    return next(iter(path.iterdir()))


def test_a_drawing_that_was_interrupted_is_not_taken_for_a_case(tmp_path, counted, monkeypatch):
    pool = Pool(COARSE, ("field",), tmp_path)

    def interrupted(path, values):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool[4]
    assert not pool.path(4).exists()
    assert pool[4].shape[0] == 3


def test_other_people_and_other_channels_have_other_folders(tmp_path):
    folders = {
        Pool(COARSE, ("field",), tmp_path).folder,
        Pool(COARSE, ("field", "tkd"), tmp_path).folder,
        Pool(Population(), ("field",), tmp_path).folder,
        Pool(COARSE, ("field",), tmp_path, "all").folder,
    }
    assert len(folders) == 4
    assert Pool(Population(), ("field",), tmp_path).folder in folders


def small(shape=(12, 10, 8), seed=0):
    """Field, truth and mask of sources in a box with B0 along the third axis."""
    rng = np.random.default_rng(seed)
    chi = (0.1 * rng.standard_normal(shape)).astype(np.float32)
    mask = np.ones(shape, np.float32)
    return np.stack([field(chi), chi, mask]).astype(np.float16)


def field(chi):
    operator = DipoleConvolution(Grid(chi.shape, np.eye(4)), kernel="cuboid", padding=2.0)
    return operator(torch.from_numpy(np.ascontiguousarray(chi, np.float32))).numpy()


@pytest.mark.parametrize("seed", range(12))
def test_flips_and_turns_keep_the_physics(seed):
    """The block holds the whole case: its field must be the field of its truth."""
    cut = block(small(), 28, np.random.default_rng(seed)).numpy()
    mask = cut[MASK] > 0
    assert mask.sum() == 12 * 10 * 8
    assert np.allclose(field(cut[TRUTH])[mask], cut[0][mask], atol=3e-4)


def test_all_mirror_images_and_both_turns_appear():
    original = small()
    seen = {block(original, 28, np.random.default_rng(seed)).numpy().tobytes() for seed in range(9)}
    assert len(seen) == 9
    marks = np.zeros((3, 9, 9, 9), np.float16)
    marks[MASK, 4, 4, 4] = 1
    marks[0, 6, 5, 7] = 1  # off the middle by 2, 1, 3
    found = set()
    for seed in range(120):
        cut = block(marks, 9, np.random.default_rng(seed)).numpy()
        (place,) = np.argwhere(cut[0])
        found.add(tuple(int(p) - 4 for p in place))
    assert len(found) == 16
    assert {tuple(map(abs, f)) for f in found} == {(2, 1, 3), (1, 2, 3)}


def test_the_middle_of_a_block_lies_in_the_mask():
    sparse = np.zeros((3, 30, 30, 30), np.float16)
    sparse[MASK, :10] = 1
    for seed in range(20):
        cut = block(sparse, 8, np.random.default_rng(seed))
        assert cut[MASK].sum() > 0
        assert cut.shape == (3, 8, 8, 8)
        assert cut.dtype == torch.float32
        assert cut.is_contiguous()


def test_beyond_the_volume_there_are_zeros():
    ones = np.ones((3, 6, 6, 6), np.float16)
    cut = block(ones, 20, np.random.default_rng(0))
    assert cut.sum() == 3 * 6**3
    assert set(cut.unique().tolist()) == {0.0, 1.0}


def test_an_empty_mask_is_no_endless_loop():
    assert block(np.zeros((3, 6, 6, 6), np.float16), 4, np.random.default_rng(0)).sum() == 0
