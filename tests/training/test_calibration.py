"""Calibration: the factor that makes sigma cover, measured on cases that did not choose it."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from napari_qsm.networks.inverter import Design, Estimate
from napari_qsm.networks.weights import Card, load_network
from napari_qsm.training.calibration import calibrate, finish

NAMES = ("field", "tikhonov", "tv")


class Known(nn.Module):
    """Returns what it starts from, and a sigma that is too small by a factor."""

    design = Design(("field", "tv"), True)

    def __init__(self, sigma):
        super().__init__()
        self.sigma = sigma

    def forward(self, inputs):
        mean = inputs[:, 1:]
        sigma = None if self.sigma is None else torch.full_like(mean, self.sigma)
        return Estimate(mean, sigma)


def cases(count=6, error=0.02):
    for seed in range(count):
        rng = np.random.default_rng(seed)
        shape = (20, 22, 18 + seed)
        mask = rng.random(shape) < 0.8
        chi = 0.05 * rng.standard_normal(shape)
        chi = (chi - chi[mask].mean()) * mask
        tv = (chi + error * rng.standard_normal(shape) + 0.3) * mask
        poor = (chi + 3 * error * rng.standard_normal(shape)) * mask
        field = 0.3 * chi
        yield np.stack([field, poor, tv, chi, mask]).astype(np.float16)


def test_the_factor_makes_one_sigma_hold_what_it_should():
    found = calibrate(Known(0.01), cases(), NAMES)
    assert found.factor == pytest.approx(2, rel=0.03)
    assert found.before == pytest.approx((38.3, 68.3), abs=1.5)
    assert found.after == pytest.approx((68.3, 95.4), abs=1)
    assert found.cases == 6


def test_errors_are_those_of_the_network_and_of_what_it_starts_from():
    found = calibrate(Known(None), cases(), NAMES)
    assert set(found.nrmse) == {"network", "tv"}
    assert found.nrmse["network"] == found.nrmse["tv"] == pytest.approx(40, rel=0.03)
    assert found.factor == 1
    assert "held_out_within_1_sigma_after" not in found.metrics


def test_no_cases_are_refused():
    with pytest.raises(ValueError, match="no cases"):
        calibrate(Known(0.1), [], NAMES)


def test_a_card_is_finished_and_its_weights_stay(networks):
    path = networks / "pdi.json"
    before = path.read_text()
    network, card = load_network("pdi")
    try:
        finished = finish(path, network, cases(), cases(3), NAMES)
        again, stored = load_network("pdi")
    finally:
        path.write_text(before)
    assert stored == finished == Card.read(path).__class__(**vars(finished))
    assert stored.sha256 == card.sha256
    assert stored.calibration > 0
    assert stored.metrics["held_out_cases"] == 3
    assert set(stored.statistics) >= {"spread", "kurtosis", "contrast"}
    assert json.loads(before)["calibration"] == 1.5
    assert again.design == network.design
