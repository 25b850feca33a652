"""Streak energy: the cone's part around the lesion, and nothing else."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Grid, InputError
from napari_qsm.evaluation.streaks import CONE, streak_energy, streak_share
from napari_qsm.physics import fourier
from napari_qsm.physics.dipole import DipoleConvolution

SHAPE = (64, 60, 56)
GRID = Grid(SHAPE, np.diag([1.0, 1.1, 1.2, 1.0]))
LESION = np.zeros(SHAPE, bool)
LESION[30:34, 28:32, 26:30] = True
MASK = np.ones(SHAPE, bool)
MASK[:3] = MASK[-3:] = False


def tissue(seed=0):
    return 0.02 * np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)


def streaks_of(source):
    """What thresholded division makes of a source beyond the source itself."""
    dipole = DipoleConvolution(GRID, padding=1.25)
    symbol = dipole.spectrum.clone()
    seen = torch.where(symbol.abs() > CONE, 0.0, -1.0)
    transform = fourier.spectrum(torch.from_numpy(source), dipole.padded_shape).mul_(seen)
    return fourier.crop(fourier.volume(transform, dipole.padded_shape), SHAPE).numpy()


def test_it_is_one_without_streaks():
    energies = [streak_energy(tissue(seed), LESION, MASK, GRID).energy for seed in range(4)]
    assert np.mean(energies) == pytest.approx(1, abs=0.15)


def test_it_sees_streaks_in_the_shell_and_grows_with_their_square():
    source = LESION.astype(np.float32)
    clean, streaked, twice = (
        streak_energy(tissue() + part * streaks_of(source), LESION, MASK, GRID)
        for part in (0, 1, 2)
    )
    assert streaked.energy > 3 * clean.energy
    added = [s.shell**2 - clean.shell**2 for s in (streaked, twice)]
    assert added[1] / added[0] == pytest.approx(4, rel=0.3)


def test_the_lesion_itself_does_not_count():
    chi = tissue()
    bright = chi + 5 * LESION
    assert streak_energy(bright, LESION, MASK, GRID) == streak_energy(chi, LESION, MASK, GRID)


def test_it_does_not_depend_on_offset_and_scale():
    chi = tissue() + streaks_of(LESION.astype(np.float32))
    plain = streak_energy(chi, LESION, MASK, GRID)
    other = streak_energy(3 * chi + 0.5, LESION, MASK, GRID)
    assert other.energy == pytest.approx(plain.energy, rel=1e-3)
    assert other.shell == pytest.approx(3 * plain.shell, rel=1e-3)


def test_what_the_dipole_sees_is_no_streak():
    dipole = DipoleConvolution(GRID, padding=1.25)
    inside = dipole.spectrum.abs() >= CONE
    noise = tissue()
    transform = fourier.spectrum(torch.from_numpy(noise), dipole.padded_shape).mul_(inside)
    seen = fourier.crop(fourier.volume(transform, dipole.padded_shape), SHAPE).numpy()
    none, all_ = (streak_energy(c, LESION, MASK, GRID) for c in (seen, noise))
    assert none.reference < 0.5 * all_.reference


def test_mistakes_are_sentences():
    with pytest.raises(InputError, match="one grid"):
        streak_energy(tissue()[1:], LESION, MASK, GRID)
    with pytest.raises(InputError, match="lesion is empty"):
        streak_energy(tissue(), ~MASK & False, MASK, GRID)
    with pytest.raises(InputError, match="another reach"):
        streak_energy(tissue(), LESION, MASK, GRID, reach=100)


class TestShare:
    """The part of the cone that is the lesion's own streaks."""

    def test_it_is_the_part_of_the_lesion_that_the_cone_lacks(self):
        source = LESION.astype(np.float32)
        shares = [
            streak_share(tissue() + source + part * streaks_of(source), LESION, MASK, GRID)
            for part in (0.0, 0.5, 1.0)
        ]
        np.testing.assert_allclose(shares[:2], (0, 0.5), atol=0.1)
        assert 0.9 < shares[2] < 1.3  # an empty cone takes some of the lesion, too

    def test_noise_makes_the_shell_louder_and_leaves_the_share(self):
        source = LESION.astype(np.float32)
        chi = source + 0.3 * streaks_of(source)
        quiet, loud = (chi + size * tissue() for size in (0.2, 2))
        assert streak_energy(loud, LESION, MASK, GRID).shell > 2 * (
            streak_energy(quiet, LESION, MASK, GRID).shell
        )
        shares = [streak_share(c, LESION, MASK, GRID) for c in (quiet, loud)]
        assert shares[1] == pytest.approx(shares[0], abs=0.15)

    def test_it_does_not_depend_on_offset_and_scale(self):
        chi = tissue() + LESION + streaks_of(LESION.astype(np.float32))
        plain, other = (streak_share(c, LESION, MASK, GRID) for c in (chi, 0.5 - 3 * chi))
        assert other == pytest.approx(plain, rel=1e-3)

    def test_no_lesion_is_told(self):
        with pytest.raises(InputError, match="as its surroundings"):
            streak_share(np.full(SHAPE, 0.1, np.float32), LESION, MASK, GRID)
