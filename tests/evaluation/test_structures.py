"""Tissue, blood, deep grey and a calcification: exact cases, and agreement with qsm-ci."""

import numpy as np
import pytest

from napari_qsm.acquisition import InputError, Quantity
from napari_qsm.evaluation.structures import (
    FIGURES,
    SCHEMES,
    calcification,
    linearity,
    structure_figures,
    tissue_error,
)
from napari_qsm.training.phantom import sample_head

SHAPE = (30, 28, 26)
CI = SCHEMES["qsm-ci"]


@pytest.fixture
def drawn():
    """Function that draws a random head of blocks: reference, estimate, labels, mask."""

    def draw(seed):
        rng = np.random.default_rng(seed)
        blocks = rng.integers(0, 12, (10, 10, 9))
        labels = np.kron(blocks, np.ones((3, 3, 3), int))[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
        labels[14:17, 12:15, 11:15] = 16
        means = rng.normal(0, 0.1, 17)
        means[16] = -1.5
        mask = np.linalg.norm(np.indices(SHAPE) - np.reshape(SHAPE, (3, 1, 1, 1)) / 2, axis=0) < 12
        reference = means[labels] + 0.01 * rng.standard_normal(SHAPE)
        estimate = 0.85 * reference + 0.02 * rng.standard_normal(SHAPE) + 0.01
        return estimate, reference, mask, labels

    return draw


def agree(estimate, reference, mask, labels):
    scorer = pytest.importorskip("qsm_ci.qsm_eval", reason="qsm-ci is not installed")
    theirs, _ = scorer.score_arrays(
        estimate.astype(np.float64), reference.astype(np.float64), mask, seg=labels
    )
    ours, _ = structure_figures(estimate, reference, mask, labels, CI)
    common = {figure.key for figure in FIGURES} & set(theirs)
    assert len(common) == 6
    for key in common:
        assert ours[key] == pytest.approx(theirs[key], rel=1e-6, abs=1e-9, nan_ok=True), key
    return ours


@pytest.mark.parametrize("seed", range(4))
def test_agreement_with_the_public_scorer_on_random_data(drawn, seed):
    figures = agree(*drawn(seed))
    assert all(np.isfinite(value) for value in figures.values())


def test_agreement_where_voxels_are_missing(drawn):
    estimate, reference, mask, labels = drawn(7)
    estimate[:, :9] = np.nan  # what is not a number counts as zero, there and here
    agree(estimate, reference, mask, labels)


def test_agreement_on_the_digital_head_with_its_labels_translated():
    head = sample_head("calcification", 3.0)
    chi, own = head.truth[Quantity.CHI], head.truth[Quantity.LABELS].astype(int)
    ours = SCHEMES["digital-head"]
    theirs = np.zeros_like(own)
    for members, numbers in (
        (ours.tissue, CI.tissue),
        (ours.deep_grey, CI.deep_grey),
        (ours.blood, CI.blood),
        (ours.calcification, CI.calcification),
    ):
        for k, member in enumerate(members):
            theirs[own == member] = numbers[k % len(numbers)]
    rng = np.random.default_rng(3)
    estimate = 0.9 * chi + 0.01 * rng.standard_normal(chi.shape)
    figures = agree(estimate, chi, head.acquisition.mask, theirs)
    assert figures["nrmse_blood"] > 0
    assert figures["calc_moment_dev"] > 0


def test_a_scaled_map_has_its_scale_as_slope(drawn):
    _, reference, mask, labels = drawn(1)
    line = linearity(0.7 * reference + 0.02, reference, mask, labels, CI.deep_grey)
    # Labels reach beyond the mask, where both maps count as zero: a shift counts in part there.
    inside = np.where(mask, labels, 0)
    exact = linearity(0.7 * reference + 0.02, reference, mask, inside, CI.deep_grey)
    assert (exact.slope, exact.offset) == pytest.approx((0.7, 0.02))
    assert exact.deviation == pytest.approx(0.3)
    assert exact.regions == 6
    assert line.slope == pytest.approx(0.7, abs=0.2)
    assert tissue_error(0.7 * reference + 0.02, reference, mask, labels, CI.tissue) < 1e-6


def test_blood_counts_its_surroundings(drawn):
    _, reference, mask, labels = drawn(2)
    inside = np.where(mask, labels, 0)
    estimate = np.where(inside == 11, reference, reference + 0.1 * (np.indices(SHAPE)[0] % 2))
    assert tissue_error(estimate, reference, mask, inside, CI.blood) < 1e-6
    assert tissue_error(estimate, reference, mask, inside, CI.blood, grown=True) > 1


def test_a_lost_calcification_costs_all_of_its_moment(drawn):
    _, reference, mask, labels = drawn(3)
    stone = labels == 16
    lost = calcification(np.zeros(SHAPE), reference, mask, labels, CI.calcification)
    assert lost.moment_error == pytest.approx(abs(reference[stone & mask].sum()))
    assert lost.streak is None
    clean = np.where(stone, reference, 0.0)
    kept = calcification(clean, clean, mask, labels, CI.calcification)
    assert kept.moment_error == pytest.approx(0, abs=1e-9)
    assert kept.streak == pytest.approx(0, abs=1e-9)


def test_streaks_are_counted_in_units_of_the_calcification():
    reference, labels = np.zeros(SHAPE), np.zeros(SHAPE, int)
    labels[14:17, 12:15, 11:14] = 16
    reference[labels == 16] = -2.0
    ripple = 0.1 * (-1.0) ** np.indices(SHAPE).sum(axis=0)
    estimate = np.where(labels == 16, reference, ripple)
    mask = np.ones(SHAPE, bool)
    made = calcification(estimate, reference, mask, labels, CI.calcification)
    assert made.streak == pytest.approx(0.1 / 2, rel=1e-3)


def test_what_is_missing_is_said_and_the_rest_computed(drawn):
    estimate, reference, mask, labels = drawn(5)
    labels[labels == 16] = 8
    values, notes = structure_figures(estimate, reference, mask, labels, CI)
    assert np.isnan(values["calc_streak"])
    assert values["nrmse_dgm"] > 0
    assert any("calcification" in note for note in notes)
    with pytest.raises(InputError, match="no whole numbers"):
        structure_figures(estimate, reference, mask, labels + 0.4, CI)
    with pytest.raises(InputError, match="one grid"):
        structure_figures(estimate, reference, mask, labels[1:], CI)
    with pytest.raises(InputError, match="two regions"):
        linearity(estimate, reference, mask, labels, (1,))
