"""Similarity measures: fixed points, invariances, and agreement with the public scorers."""

import numpy as np
import pytest

from napari_qsm.acquisition import InputError
from napari_qsm.evaluation.metrics import correlation, nrmse, psnr, rmse
from napari_qsm.evaluation.similarity import hfen, ssim, xsim
from napari_qsm.training.phantom import sample_head

RNG = np.random.default_rng(1)
SHAPE = (20, 18, 16)
REFERENCE = 0.05 * RNG.standard_normal(SHAPE)
ESTIMATE = 0.8 * REFERENCE + 0.01 * RNG.standard_normal(SHAPE) + 0.02
MASK = np.linalg.norm(np.indices(SHAPE) - np.reshape(SHAPE, (3, 1, 1, 1)) / 2, axis=0) < 7


def test_equal_maps_are_alike():
    assert xsim(REFERENCE, REFERENCE, MASK) == pytest.approx(1)
    assert ssim(REFERENCE, REFERENCE, MASK) == pytest.approx(1)
    assert hfen(REFERENCE, REFERENCE, MASK) == pytest.approx(0, abs=1e-12)
    assert correlation(REFERENCE, REFERENCE, MASK) == pytest.approx(1)
    assert psnr(REFERENCE, REFERENCE, MASK) == np.inf


def test_what_each_forgives():
    shifted = REFERENCE + 0.1
    assert hfen(shifted, REFERENCE, MASK) < 0.01  # percent; fine detail has no mean
    assert correlation(0.1 * shifted, REFERENCE, MASK) == pytest.approx(1)
    assert xsim(shifted, REFERENCE, MASK) < 0.1
    assert hfen(0.7 * REFERENCE, REFERENCE, MASK) == pytest.approx(30)
    assert rmse(shifted, REFERENCE, MASK, detrend="none") == pytest.approx(0.1)
    assert rmse(shifted, REFERENCE, MASK) == pytest.approx(0, abs=1e-12)


def test_ten_times_the_error_costs_twenty_decibels():
    error = 0.001 * RNG.standard_normal(SHAPE)
    near, far = (psnr(REFERENCE + k * error, REFERENCE, MASK) for k in (1, 10))
    assert near - far == pytest.approx(20)


def test_xsim_sees_tissue_where_ssim_sees_nothing():
    """A flat map keeps SSIM's constants happy if the range holds a calcification."""
    reference = np.where(MASK, REFERENCE, 0)
    reference[10, 9, 8] = -3.0
    flat = np.where(reference < -1, reference, 0)
    assert ssim(flat, reference, MASK) > 0.5
    assert xsim(flat, reference, MASK) < 0.3


def test_refusals_are_sentences():
    with pytest.raises(InputError, match="one grid"):
        xsim(REFERENCE[:3], REFERENCE, MASK)
    with pytest.raises(InputError, match="no fine detail"):
        hfen(ESTIMATE, 0 * REFERENCE, MASK)
    with pytest.raises(InputError, match="7 voxels"):
        ssim(ESTIMATE[8:12], REFERENCE[8:12], MASK[8:12])
    with pytest.raises(InputError, match="the same everywhere"):
        psnr(ESTIMATE, 0 * REFERENCE, MASK)


def test_agreement_with_the_public_scorer_on_noise_and_on_the_head():
    scorer = pytest.importorskip("qsm_ci.qsm_eval", reason="qsm-ci is not installed")
    head = sample_head("haemorrhage", 3.0)
    truth, mask = head.truth.volumes, head.acquisition.mask
    chi = next(iter(truth.values()))
    noisy = chi + 0.01 * RNG.standard_normal(chi.shape)
    for estimate, reference, inside in ((ESTIMATE, REFERENCE, MASK), (noisy, chi, mask)):
        x, r = estimate.astype(np.float64), reference.astype(np.float64)
        demeaned, detrended = scorer.nrmse_challenge(x, r, inside)
        assert nrmse(x, r, inside) == pytest.approx(demeaned, rel=1e-6)
        assert nrmse(x, r, inside, detrend="line") == pytest.approx(detrended, rel=1e-6)
        assert xsim(x, r, inside) == pytest.approx(scorer.xsim(x, r, inside), rel=1e-6)
        assert hfen(x, r, inside) == pytest.approx(scorer.hfen(x, r, inside), rel=1e-6)
        assert correlation(x, r, inside) == pytest.approx(
            scorer.correlation(x, r, inside), rel=1e-6
        )
