"""What the comparison of networks with classical methods counts, on cases small enough to know."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import learned, linearity, store

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.methods.registry import find
from napari_qsm.physics.dipole import DipoleConvolution

SIDE = 28


@pytest.fixture
def trial() -> store.Trial:
    """A ball with two cubic lesions of 1 ppm on a tissue of 0.1 ppm, and a field of noise."""
    rng = np.random.default_rng(5)
    at = np.indices((SIDE,) * 3) - SIDE / 2 + 0.5
    mask = (at**2).sum(0) < 13**2
    lesions = np.zeros(mask.shape, dtype=bool)
    lesions[7:12, 12:17, 12:17] = lesions[18:22, 12:16, 12:16] = True
    chi = np.where(lesions, 1.0, 0.1).astype(np.float32) * mask
    field = (0.01 * rng.standard_normal(mask.shape)).astype(np.float32) * mask
    volumes = {Quantity.LOCAL_FIELD: field, Quantity.MASK: mask}
    measured = Acquisition(Grid(mask.shape, np.eye(4)), volumes)
    return store.Trial("toy 1", measured, chi, mask, lesions=lesions)


class TestStore:
    """What is kept, and what is found again."""

    def test_result_is_made_once(self, trial: store.Trial, tmp_path: Path) -> None:
        """Another setting and another field are other results."""
        kept = store.Store(tmp_path)
        first = kept.result(find("tkd"), trial)
        (path,) = tmp_path.glob("*.npz")
        written = path.stat().st_mtime_ns
        again = kept.result(find("tkd"), trial)
        np.testing.assert_array_equal(first.chi, again.chi)
        assert path.stat().st_mtime_ns == written
        kept.result(find("tkd"), trial, {"threshold": 0.3})
        assert len(list(tmp_path.glob("*.npz"))) == 2

    def test_tuned_finds_the_value_that_the_truth_was_made_with(
        self, trial: store.Trial, tmp_path: Path
    ) -> None:
        """Where the truth is the method's own map at half of the shipped value."""
        kept = store.Store(tmp_path)
        half = 0.5 * kept.result(find("tkd"), trial).value
        trial.reference = kept.result(find("tkd"), trial, {"threshold": half}).chi
        best = kept.tuned(find("tkd"), trial)
        assert best.value == pytest.approx(half)
        assert trial.error(best.chi) < 1e-4


class TestTables:
    """The rows of the comparison."""

    def test_a_constant_changes_no_figure(self, trial: store.Trial) -> None:
        """Dipole inversion cannot know it."""
        rng = np.random.default_rng(1)
        chi = trial.reference + 0.05 * rng.standard_normal(trial.reference.shape)
        figures = learned._figures(trial, store.Result(chi, None, 1.0))
        moved = learned._figures(trial, store.Result(chi + 3.0 * trial.scored, None, 1.0))
        np.testing.assert_allclose(moved, figures, rtol=1e-5)
        assert figures[1] == pytest.approx(50, rel=0.03)  # ppb

    def test_true_sigma_covers_what_it_should(self, trial: store.Trial) -> None:
        """68.3 and 95.4 percent, in lesions too; half of it covers 38.3 and 68.3."""
        rng = np.random.default_rng(2)
        sigma = rng.uniform(0.02, 0.2, trial.reference.shape)
        chi = trial.reference + sigma * rng.standard_normal(sigma.shape)
        told = [
            [float(cell) for cell in learned._covered([trial], [store.Result(chi, s, 1.0)])]
            for s in (sigma, sigma / 2)
        ]
        np.testing.assert_allclose(told[0][:2], (68.3, 95.4), atol=1.5)
        np.testing.assert_allclose(told[0][2:4], (68.3, 95.4), atol=8)
        np.testing.assert_allclose(told[1][:2], (38.3, 68.3), atol=1.5)
        assert told[0][4] == pytest.approx(110, rel=0.02)

    def test_networks_need_weights(self) -> None:
        """Without any, classical methods stand alone: as shipped, tuned, and some corrected."""
        labels = [rival.label for rival in learned.rivals(slow=False, only=("tkd", "tv"))]
        assert sorted(labels) == sorted(["TKD", "TKD, tuned", "TV", "TV, tuned", "TV, corrected"])

    def test_mean_is_that_of_the_maps(self, trial: store.Trial, tmp_path: Path) -> None:
        """Voxel by voxel, of two methods that are run by themselves."""
        kept = store.Store(tmp_path)
        parts = [learned.Contender(key, find(key), {}) for key in ("tkd", "tikhonov")]
        both = learned.Mean(tuple(parts)).run(kept, trial)
        one, other = (part.run(kept, trial) for part in parts)
        np.testing.assert_allclose(both.chi, (one.chi + other.chi) / 2, rtol=1e-6)
        assert both.seconds == one.seconds + other.seconds

    def test_no_linear_method_beats_the_yardstick(self, trial: store.Trial, tmp_path: Path) -> None:
        """TKD and Tikhonov filter the field, too, but do not know the spectra."""
        measured = trial.measured
        made = DipoleConvolution(measured.grid, padding=2)(torch.from_numpy(trial.reference))
        field = (made.numpy() + 10 * measured[Quantity.LOCAL_FIELD]) * measured.mask
        noisy = replace(measured, volumes={**measured.volumes, Quantity.LOCAL_FIELD: field})
        case = replace(trial, measured=noisy)
        best = learned._figures(case, learned.Yardstick().run(store.Store(tmp_path), case))[0]
        for key in ("tkd", "tikhonov"):
            kept = store.Store(tmp_path)
            contender = learned.Contender(key, find(key), {}, tuned=True)
            assert 20 < best < 0.95 * learned._figures(case, contender.run(kept, case))[0]


class TestLinearity:
    """Contrasts of lesions."""

    def test_contrast_is_lesion_less_surroundings(self, trial: store.Trial) -> None:
        """Whatever constant lies under the map."""
        found = linearity.contrasts(trial.reference + 2.0, trial)
        np.testing.assert_allclose(found, [0.9, 0.9], atol=1e-5)

    def test_slope_is_that_of_the_map(self, trial: store.Trial) -> None:
        """A map at 0.7 of the truth has a slope of 0.7."""
        strengths = np.array([0.2, 1.0, 3.0])[:, None]
        truth = strengths * linearity.contrasts(trial.reference, trial)
        found = strengths * linearity.contrasts(0.7 * trial.reference + 1.0, trial)
        assert linearity._slope(truth, found) == pytest.approx(0.7, abs=1e-5)
