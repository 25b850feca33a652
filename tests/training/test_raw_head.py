"""The raw digital head: fields that physics allows, signals that follow them, a hidden brain."""

from __future__ import annotations

from functools import cache
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_qsm.acquisition import InputError, Quantity, fingerprint
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.physics.units import radians_per_ppm
from napari_qsm.training.phantom import digital_head, simulate
from napari_qsm.training.raw_head import ECHO_TIMES, raw_head, sample_raw_head, scan
from napari_qsm.training.skull import SURROUNDING_LABEL, SURROUNDINGS, surrounded
from napari_qsm.training.tissues import ASSUMED, TISSUES

TILTS = [(0.0, 0.0), (15.0, -10.0)]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def once(make):
    """Make each thing once, whichever of its arguments are stated and how."""
    kept = cache(make)

    def made(*given, **named):
        bound = signature(make).bind(*given, **named)
        bound.apply_defaults()
        return kept(*bound.args, **bound.kwargs)

    return made


@once
def head(voxel_size=3.0, tilt=(0.0, 0.0)):
    return digital_head(voxel_size, seed=1, tilt=tilt, lesions=("haemorrhage",))


@once
def scene(voxel_size=3.0, tilt=(0.0, 0.0)):
    return surrounded(head(voxel_size, tilt))


@once
def phantom(voxel_size=3.0, tilt=(0.0, 0.0), snr=float("inf"), **options):
    return scan(head(voxel_size, tilt), snr=snr, **options)


def harmonics(grid):
    """The nine harmonic polynomials of second order, in voxel columns."""
    axes = [np.arange(n) - n / 2 for n in grid.shape]
    scaled = (a * s / 100 for a, s in zip(axes, grid.voxel_size, strict=True))
    x, y, z = np.meshgrid(*scaled, indexing="ij")
    terms = (1 + 0 * x, x, y, z, x * y, y * z, z * x, x * x - y * y, 2 * z * z - x * x - y * y)
    return np.stack(terms, axis=-1)


def laplacian(volume, sizes):
    second = [np.gradient(np.gradient(volume, s, axis=a), s, axis=a) for a, s in enumerate(sizes)]
    return sum(second)


class TestField:
    @pytest.mark.parametrize("tilt", TILTS)
    def test_local_field_is_that_of_the_head_alone(self, tilt):
        made, alone = phantom(tilt=tilt), simulate(head(tilt=tilt), snr=float("inf"))
        inside = made.truth[Quantity.MASK]
        there = alone.acquisition.mask
        assert inside.sum() == there.sum()
        assert made.truth[Quantity.LOCAL_FIELD][inside] == pytest.approx(
            alone.field[there], abs=2e-6
        )
        assert np.array_equal(made.truth[Quantity.CHI][inside], alone.truth[Quantity.CHI][there])

    @pytest.mark.parametrize("tilt", TILTS)
    def test_background_is_harmonic_inside(self, tilt):
        made = phantom(2.0, tilt=tilt)
        local, total = made.truth[Quantity.LOCAL_FIELD], made.truth[Quantity.TOTAL_FIELD]
        deep = ndimage.binary_erosion(made.truth[Quantity.MASK], iterations=4)
        curvature = [
            laplacian(f.astype(float), made.truth.grid.voxel_size)[deep]
            for f in (total - local, local)
        ]
        background, own = (np.sqrt(np.mean(c**2)) for c in curvature)
        assert np.std((total - local)[deep]) > 3 * np.std(local[deep])
        assert background < 0.15 * own
        typical = [np.median(np.abs(c)) for c in curvature]
        assert typical[0] < 0.03 * typical[1]

    @pytest.mark.parametrize("tilt", TILTS)
    def test_total_field_is_local_and_surroundings_and_shim(self, tilt):
        made, around = phantom(tilt=tilt), scene(tilt=tilt)
        outside = np.where(around.brain, 0, around.chi) - SURROUNDINGS[0].chi
        operator = DipoleConvolution(around.grid, kernel="cuboid", padding=2.0)
        background = operator(torch.from_numpy(outside.astype(np.float32))).numpy()
        brain = around.brain
        expected = (background + made.truth[Quantity.LOCAL_FIELD])[brain]
        shim = expected - made.truth[Quantity.TOTAL_FIELD][brain]
        terms = harmonics(around.grid)[brain]
        fit = np.linalg.lstsq(terms, shim, rcond=None)[0]
        assert np.abs(terms @ fit - shim).max() < 1e-4
        # Nothing of these terms is left.
        left = np.linalg.lstsq(terms, made.truth[Quantity.TOTAL_FIELD][brain], rcond=None)[0]
        assert np.std(terms @ left) < 0.02 * np.std(expected)

    def test_background_is_as_strong_as_in_heads(self):
        made = phantom(2.0)
        inside = made.truth[Quantity.MASK]
        total = made.truth[Quantity.TOTAL_FIELD][inside]
        assert 0.1 < total.std() < 0.3
        assert np.abs(total).max() > 1.0
        assert made.truth[Quantity.LOCAL_FIELD][inside].std() < 0.2 * total.std()

    def test_air_lifts_the_field_above_the_sphenoid_sinus(self):
        made = phantom(2.0)
        grid, field = made.truth.grid, made.truth[Quantity.TOTAL_FIELD]
        x, y = (round((p - grid.affine[a, 3]) / 2.0) for a, p in enumerate((0.0, 12.0)))
        column = np.flatnonzero(made.truth[Quantity.MASK][x, y])
        assert field[x, y, column[0]] > field[x, y, column[10]] + 0.3


class TestSignal:
    @pytest.mark.parametrize("receiver", [True, False])
    def test_phase_is_what_field_and_receiver_make_it(self, receiver):
        made = phantom(receiver=receiver)
        acquisition = made.acquisition
        lit = acquisition[Quantity.MAGNITUDE] > 1e-4
        assert lit[..., 0].sum() > 1.5 * made.truth[Quantity.MASK].sum()
        for index, time in enumerate(acquisition.echo_times):
            phase = acquisition[Quantity.PHASE][..., index]
            assert np.abs(phase).max() <= np.float32(np.pi)
            turned = radians_per_ppm(3.0, time) * made.field + made.truth[Quantity.OFFSET]
            error = np.exp(1j * phase) - np.exp(1j * turned)
            assert np.abs(error[lit[..., index]]).max() < 1e-3

    def test_without_a_receiver_there_is_no_offset(self):
        assert not phantom(receiver=False).truth[Quantity.OFFSET].any()

    def test_receiver_turns_the_phase_by_several_radians(self):
        made = phantom()
        inside = made.truth[Quantity.OFFSET][made.truth[Quantity.MASK]]
        assert inside.std() == pytest.approx(2.0, rel=1e-3)
        assert np.ptp(inside) > 2 * np.pi
        steps = [np.abs(np.diff(made.truth[Quantity.OFFSET], axis=a)).max() for a in range(3)]
        assert max(steps) < 1.0  # smooth

    def test_magnitude_decays_with_r2star(self):
        made = phantom(2.0)
        magnitude, times = made.acquisition[Quantity.MAGNITUDE], made.acquisition.echo_times
        first, last = magnitude[..., 0], magnitude[..., -1]
        calm = made.regions["white matter"]
        for axis in range(3):
            calm = calm & (np.abs(np.gradient(made.field, axis=axis)) < 0.005)
        rate = np.log(first[calm] / last[calm]) / (times[-1] - times[0])
        assert calm.sum() > 5000
        assert np.median(rate / made.truth[Quantity.R2STAR][calm]) == pytest.approx(1, abs=0.02)

    def test_gradients_darken_beside_the_sinuses(self):
        made = phantom(2.0, receiver=False)
        times = made.acquisition.echo_times
        slope = sum(np.abs(np.gradient(made.field, axis=a)) for a in range(3))
        steep = (slope > 0.3) & ndimage.binary_erosion(made.truth[Quantity.MASK])
        decay = np.exp(-(times[-1] - times[0]) * made.truth[Quantity.R2STAR])
        magnitude = made.acquisition[Quantity.MAGNITUDE]
        kept = magnitude[..., -1][steep] / (magnitude[..., 0] * decay)[steep]
        assert steep.sum() > 100
        assert np.median(kept) < 0.7

    @pytest.mark.parametrize("snr", [40.0, 120.0])
    def test_noise_is_as_strong_as_stated(self, snr):
        clean, noisy = phantom(), phantom(snr=snr)
        white = clean.regions["white matter"]
        level = np.median(clean.acquisition[Quantity.MAGNITUDE][white, 0]) / snr
        assert noisy.noise == pytest.approx(level, rel=1e-5)
        signals = [
            p.acquisition[Quantity.MAGNITUDE] * np.exp(1j * p.acquisition[Quantity.PHASE])
            for p in (clean, noisy)
        ]
        noise = signals[1] - signals[0]
        for echo in range(len(ECHO_TIMES)):
            assert noise[..., echo].real.std() == pytest.approx(level, rel=0.02)
            assert noise[..., echo].imag.std() == pytest.approx(level, rel=0.02)
        assert abs(np.corrcoef(noise[..., 0].real.ravel(), noise[..., 1].real.ravel())[0, 1]) < 0.01


class TestHead:
    def test_sends_what_a_scanner_sends(self):
        acquisition = phantom().acquisition
        assert set(acquisition.volumes) == {Quantity.PHASE, Quantity.MAGNITUDE}
        assert acquisition[Quantity.PHASE].shape == (*acquisition.grid.shape, len(ECHO_TIMES))
        assert acquisition.echo_times == ECHO_TIMES
        assert acquisition.field_strength == 3.0

    def test_brain_is_not_the_only_bright_thing(self):
        made = phantom(2.0)
        first = made.acquisition[Quantity.MAGNITUDE][..., 0]
        brain = np.median(first[made.truth[Quantity.MASK]])
        shades = {name: np.median(first[made.regions[name]]) / brain for name in SURROUNDING_LABEL}
        assert min(shades["muscle"], shades["fat"], shades["eye and spinal canal"]) > 0.4
        assert max(shades["air"], shades["bone"]) < 0.1

    def test_bone_parts_brain_from_air(self):
        made = scene(1.5)
        touching = ndimage.binary_dilation(made.brain) & ~made.brain
        found = made.labels[touching]
        assert not (found == SURROUNDING_LABEL["air"]).any()
        assert (found == SURROUNDING_LABEL["bone"]).mean() > 0.9

    def test_air_lies_under_the_brain(self):
        made = scene(2.0)
        hidden = (made.labels == SURROUNDING_LABEL["air"]) & (
            ndimage.binary_fill_holes(made.labels != SURROUNDING_LABEL["air"])
        )
        litres = hidden.sum() * 8e-6
        assert 0.02 < litres < 0.15  # sinuses, cells and pharynx

    @pytest.mark.parametrize("tilt", TILTS)
    def test_tilt_moves_b0_and_not_the_head(self, tilt):
        straight, tilted = scene(), scene(tilt=tilt)
        assert fingerprint(straight.chi) == fingerprint(tilted.chi)
        assert tilted.grid.b0_direction == pytest.approx(head(tilt=tilt).grid.b0_direction)
        # The brain lies where the head without surroundings has it.
        alone = head(tilt=tilt)
        middles = [
            grid.affine @ [*np.argwhere(mask).mean(axis=0), 1]
            for grid, mask in ((tilted.grid, tilted.brain), (alone.grid, alone.mask))
        ]
        assert middles[0] == pytest.approx(middles[1], abs=1e-3)

    def test_anisotropic_voxels_show_the_same_head(self):
        volumes = []
        for made in (scene((2.0, 2.0, 4.0)), scene(2.0)):
            voxel = np.prod(made.grid.voxel_size)
            volumes.append([(made.labels == n).sum() * voxel for n in SURROUNDING_LABEL.values()])
        names = list(SURROUNDING_LABEL)
        for name in ("bone", "muscle", "fat"):
            coarse, fine = (v[names.index(name)] for v in volumes)
            assert coarse == pytest.approx(fine, rel=0.15), name

    def test_same_seed_same_bytes(self):
        a, b, c = (raw_head(6.0, seed=seed) for seed in (3, 3, 4))
        for quantity in (Quantity.PHASE, Quantity.MAGNITUDE):
            assert fingerprint(a.acquisition[quantity]) == fingerprint(b.acquisition[quantity])
            assert fingerprint(a.acquisition[quantity]) != fingerprint(c.acquisition[quantity])

    def test_regions_name_what_is_there(self):
        made = sample_raw_head("healthy", 6.0)
        assert {"white matter", "csf", *SURROUNDING_LABEL} <= set(made.regions)
        assert "haemorrhage" not in made.regions

    def test_unknown_case_is_refused(self):
        with pytest.raises(InputError, match="There is no sample head 'stroke'; there are healthy"):
            sample_raw_head("stroke", 6.0)


class TestTable:
    def test_labels_follow_those_of_the_brain(self):
        assert list(SURROUNDING_LABEL.values()) == list(
            range(len(TISSUES) + 1, len(TISSUES) + len(SURROUNDINGS) + 1)
        )

    @pytest.mark.parametrize("tissue", SURROUNDINGS, ids=lambda t: t.name)
    def test_every_row_has_a_source(self, tissue):
        assert all(s == ASSUMED or s.startswith("10.") for s in tissue.sources)

    def test_is_in_the_documentation(self):
        page = Path(__file__).parents[2] / "docs" / "phantom.md"
        if not page.exists():
            pytest.skip("docs/ is not part of this copy")
        text = page.read_text(encoding="utf-8")
        for tissue in SURROUNDINGS:
            assert f"| {tissue.name} | {tissue.chi:+.2f} |" in text, tissue.name
