"""A head of which chi+ and chi- are known, measured with noise or without."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.generators import finished
from napari_qsm.methods.registry import find
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.physics.relaxation import Relaxivity
from napari_qsm.training.phantom import sample_head

Q = Quantity


@dataclass(frozen=True)
class Known:
    """A measurement, and the sources it is of."""

    acquisition: Acquisition
    positive: np.ndarray
    negative: np.ndarray

    @property
    def mask(self):
        return self.acquisition.mask

    @property
    def chi(self):
        return self.positive - self.negative

    def errors(self, maps):
        """NRMSE of chi+ and chi- in the mask."""
        pairs = ((maps[Q.CHI_POS], self.positive), (maps[Q.CHI_NEG], self.negative))
        return np.array(
            [np.linalg.norm((m - t)[self.mask]) / np.linalg.norm(t[self.mask]) for m, t in pairs]
        )

    def given(self, **volumes):
        """The same with other volumes, by the keys of their quantities; None for without."""
        kept = dict(self.acquisition.volumes)
        for key, values in volumes.items():
            kept.pop(Q.named(key), None)
            if values is not None:
                kept[Q.named(key)] = values
        known = self.acquisition
        return Acquisition(known.grid, kept, known.field_strength, known.echo_times)


@pytest.fixture(scope="session")
def head():
    return sample_head("healthy", 5.0)


@pytest.fixture(scope="session")
def known(head):
    """Function that measures the head with noise of the field (ppm) and of R2' (1/s)."""

    def measure(field_noise=0.0, rate_noise=0.0, relaxivity=(114.0, 114.0), strength=3.0):
        mask, chi = head.acquisition.mask, head.truth[Q.CHI]
        rng = np.random.default_rng(5)
        blocks = rng.uniform(0, 0.04, (8, 8, 8)).repeat(8, 0).repeat(8, 1).repeat(8, 2)
        both = blocks[: chi.shape[0], : chi.shape[1], : chi.shape[2]] * (chi != 0)
        positive = ((np.maximum(chi, 0) + both) * mask).astype(np.float32)
        negative = ((np.maximum(-chi, 0) + both) * mask).astype(np.float32)
        dipole = DipoleConvolution(head.acquisition.grid, padding=2.0)
        field = dipole(torch.from_numpy(positive - negative)).numpy()
        dr = Relaxivity(*relaxivity).at(strength)
        rate = np.float32(dr.positive) * positive + np.float32(dr.negative) * negative
        field = field + field_noise * rng.standard_normal(chi.shape, dtype=np.float32)
        rate = rate + rate_noise * rng.standard_normal(chi.shape, dtype=np.float32)
        volumes = {
            Q.MASK: mask,
            Q.LOCAL_FIELD: field * mask,
            Q.R2PRIME: np.maximum(rate, 0) * mask,
            Q.MAGNITUDE: head.acquisition[Q.MAGNITUDE],
        }
        made = Acquisition(head.acquisition.grid, volumes, strength, (0.02,))
        return Known(made, positive, negative)

    return measure


@pytest.fixture(scope="session")
def separate():
    """Function that runs a method and returns its maps."""

    def run(key, acquisition, **settings):
        method = find(key)
        return finished(method(acquisition, method.with_settings(settings)))

    return run
