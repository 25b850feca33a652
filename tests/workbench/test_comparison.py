"""Blends, differences, residuals and scores of maps, in any storage order."""

import csv
import io
from itertools import permutations, product

import numpy as np
import pytest
import torch
from napari.layers import Layer
from nibabel.affines import apply_affine

from napari_qsm.acquisition import Grid, InputError, Quantity, Volume
from napari_qsm.evaluation import metrics, similarity
from napari_qsm.generators import finished, relayed
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.workbench.comparison import (
    Blend,
    difference,
    is_compared,
    residual,
    shown_volume,
)
from napari_qsm.workbench.layers import layer_data
from napari_qsm.workbench.placement import to_display
from napari_qsm.workbench.scores import METRICS, as_table, score

SHAPE = (9, 12, 7)
CODES = ["".join(sign) for order in permutations(("LR", "PA", "IS")) for sign in product(*order)][
    ::5
]


def grid_of(codes, shape=SHAPE):
    """A grid whose stored axes run along `codes`, such as ``LIA``."""
    affine = np.eye(4)
    affine[:3, 3] = (-20, -30, 5)
    affine[:3, :3] = 0
    for axis, code in enumerate(codes):
        row = next(n for n, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        affine[row, axis] = (1.0, 1.5, 2.0)[row] * (1 if code in "RAS" else -1)
    return Grid(shape, affine)


def volume(values, grid=None, name="map"):
    return Volume(
        np.asarray(values, np.float32), grid or Grid(SHAPE, np.eye(4)), "ppm", source=name
    )


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_difference_is_a_minus_b_and_refuses_another_grid(rng):
    a, b = rng.normal(size=(2, *SHAPE)).astype(np.float32)
    assert np.array_equal(difference(volume(a), volume(b)), a - b)
    moved = Grid(SHAPE, np.eye(4) + np.eye(4, k=3) * 5)
    with pytest.raises(InputError, match=r"'b' lies up to 5\.00 mm away"):
        difference(volume(a), volume(b, moved, "b"))


def test_the_residual_of_the_true_map_vanishes_and_of_another_is_its_dipole_field(rng):
    grid = Grid((16, 18, 14), np.diag([1.0, 1.0, 1.5, 1]))
    mask = np.zeros(grid.shape, bool)
    mask[3:-3, 3:-3, 3:-3] = True
    chi = np.where(mask, rng.normal(0, 0.1, grid.shape), 0).astype(np.float32)
    dipole = DipoleConvolution(grid, padding=1.25)
    measured = dipole(torch.from_numpy(chi)).numpy() + 0.3  # a constant is no matter
    field = volume(np.where(mask, measured, 0), grid)
    assert np.abs(residual(volume(chi, grid), field)).max() < 1e-6
    extra = np.zeros_like(chi)
    extra[8, 9, 7] = 1
    left = residual(volume(chi + extra, grid), field)
    expected = dipole(torch.from_numpy(extra)).numpy()
    assert np.allclose(left[mask], expected[mask] - expected[mask].mean(), atol=1e-6)
    assert not left[~mask].any()


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize(("axis", "code"), [(0, "S"), (1, "A"), (2, "R")])
def test_a_curtain_hangs_across_the_patient_in_any_storage_order(codes, axis, code):
    """A's part is counted in scanner millimetres, whatever order the voxels are stored in."""
    grid = grid_of(codes)
    a, b = volume(np.ones(SHAPE), grid), volume(np.zeros(SHAPE), grid)
    voxels = np.indices(SHAPE).reshape(3, -1).T
    along = apply_affine(grid.affine, voxels)[:, "RAS".index(code)].reshape(SHAPE)
    for from_top in (True, False):
        shown = Blend("swipe", axis, 1 / 3, from_top)(a, b)
        planes = np.unique(along)
        kept = round(len(planes) / 3)
        expected = np.isin(along, planes[-kept:] if from_top else planes[:kept])
        assert np.array_equal(shown.astype(bool), expected)


@pytest.mark.parametrize("codes", ["RAS", "PLI", "SAR"])
@pytest.mark.parametrize("from_top", [True, False])
def test_a_drawn_curtain_is_the_one_that_is_hung_anew(rng, codes, from_top):
    grid = grid_of(codes)
    a, b = (volume(x, grid) for x in rng.normal(size=(2, *SHAPE)))
    drawn = [to_display(v.data, grid) for v in (a, b)]
    for axis in range(3):
        was = Blend("swipe", axis, 0.5, from_top)
        picture = to_display(was(a, b), grid)
        for share in (0.8, 0.1, 1.0, 0.0):
            now = Blend("swipe", axis, share, from_top)
            assert now.slide(picture, was, *drawn) is not None
            assert np.array_equal(picture, to_display(now(a, b), grid))
            was = now
        other = Blend("swipe", (axis + 1) % 3, 0.2, from_top)
        assert other.slide(picture, was, *drawn) is None  # more than a move of one curtain


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_curtain_drawn_to_the_end_shows_one_map_whole(rng, share):
    a, b = (volume(x) for x in rng.normal(size=(2, *SHAPE)))
    assert np.array_equal(Blend(share=share)(a, b), (a if share else b).data)


def test_a_checkerboard_has_cubes_of_the_size_that_was_asked_for():
    grid = Grid((24, 24, 12), np.diag([1.0, 1.0, 2.0, 1]))
    ones, zeros = volume(np.ones(grid.shape), grid), volume(np.zeros(grid.shape), grid)
    board = Blend("checkerboard", side=6)(ones, zeros)
    assert board.mean() == pytest.approx(0.5)
    i, j, k = np.indices(grid.shape)
    shown = to_display(board, grid)
    expected = to_display(k, grid) * 2 // 6 + to_display(j, grid) // 6 + to_display(i, grid) // 6
    assert np.array_equal(shown, expected % 2 == 0)
    assert np.array_equal(1 - board, Blend("checkerboard", side=6)(zeros, ones))


def test_cubes_thinner_than_a_voxel_are_a_voxel():
    grid = Grid((8, 8, 8), np.diag([2.0, 2.0, 2.0, 1]))
    board = Blend("checkerboard", side=0.1)(
        volume(np.ones((8,) * 3), grid), volume(np.zeros((8,) * 3), grid)
    )
    assert np.array_equal(board, np.indices((8,) * 3).sum(0) % 2 == 0)


def scored(maps, reference, mask):
    steps, generator = [], score(maps, reference, mask)
    return steps, finished(relayed(generator, steps.append))


@pytest.fixture
def head(rng):
    shape = (40, 42, 38)
    grid = Grid(shape, np.eye(4))
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    mask = sum(a**2 for a in axes) < 0.2
    truth = rng.normal(0, 0.1, shape)
    noisy = truth + rng.normal(0, 0.03, shape)
    return grid, mask, volume(truth, grid, "truth"), volume(noisy, grid, "noisy")


def test_scores_are_those_of_the_whole_volume(head):
    """They are computed in a box about the mask, which must change nothing."""
    _, mask, truth, noisy = head
    steps, (one, same) = scored({"noisy": noisy, "same": truth}, truth, mask)
    x, r = noisy.data.astype(float), truth.data.astype(float)
    assert one.values["nrmse"] == pytest.approx(metrics.nrmse(x, r, mask), rel=1e-9)
    assert one.values["hfen"] == pytest.approx(similarity.hfen(x, r, mask), rel=1e-9)
    assert one.values["xsim"] == pytest.approx(similarity.xsim(x, r, mask), rel=1e-9)
    assert one.values["ssim"] == pytest.approx(similarity.ssim(x, r, mask), rel=1e-9)
    assert one.values["rmse"] == pytest.approx(1000 * metrics.rmse(x, r, mask), rel=1e-9)
    assert same.values["nrmse_raw"] == 0
    assert same.values["correlation"] == pytest.approx(1)
    fractions = [step.fraction for step in steps]
    assert len(steps) == 2 * len(METRICS)
    assert fractions == sorted(fractions)


def test_a_figure_that_cannot_be_had_is_no_number_with_a_reason(head):
    _, mask, truth, _ = head
    flat = volume(np.zeros(mask.shape), truth.grid, "flat")
    _, (one,) = scored({"flat": flat}, truth, mask)
    assert np.isnan(one.values["nrmse_detrended"])
    assert "no line fits" in one.notes[0]
    assert one.values["nrmse"] == pytest.approx(100)


def test_scoring_refuses_what_does_not_lie_together(head):
    _, mask, truth, noisy = head
    with pytest.raises(InputError, match="mask is empty"):
        next(score({"noisy": noisy}, truth, np.zeros_like(mask)))
    with pytest.raises(InputError, match="mask on the grid"):
        next(score({"noisy": noisy}, truth, mask[1:]))
    with pytest.raises(InputError, match="'other' has shape"):
        next(score({"other": volume(np.zeros(SHAPE))}, truth, mask))


def test_the_table_reads_back_as_csv(head):
    _, mask, truth, noisy = head
    _, scores = scored({'noisy, "1"': noisy}, truth, mask)
    (row,) = csv.DictReader(io.StringIO(as_table(scores, "truth", "brain")))
    assert row["map"] == 'noisy, "1"'
    assert row["reference"] == "truth"
    assert float(row["nrmse [%]"]) == pytest.approx(scores[0].values["nrmse"], rel=1e-5)
    pasted = as_table(scores, "truth", "brain", separator="\t").splitlines()
    assert pasted[0].count("\t") == pasted[1].count("\t") == len(METRICS) + 2


def test_a_layer_with_a_slider_is_read_where_the_slider_stands(rng):
    grid = grid_of("LIA")
    data = rng.normal(size=(*SHAPE, 4)).astype(np.float32)
    layer = Layer.create(*layer_data(volume(data, grid), Quantity.CHI, "sweep"))
    assert is_compared(layer)
    shown = shown_volume(layer, (2, 0, 0, 0))
    assert np.array_equal(shown.data, data[..., 2])
    assert np.shares_memory(shown.data, layer.data)
