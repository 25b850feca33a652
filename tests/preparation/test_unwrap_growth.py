"""Region growing of one volume: exact where a path of small steps leads everywhere."""

import numpy as np
import pytest

from napari_qsm.generators import finished, relayed
from napari_qsm.preparation.mask_parts import MaskParts
from napari_qsm.preparation.region_growing import growing, unwrap_volume
from napari_qsm.preparation.regions import Regions

SHAPE = (36, 40, 33)
x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
BALL = x**2 + y**2 + z**2 < 0.9


def wrap(phase):
    return np.angle(np.exp(1j * phase)).astype(np.float32)


def dipole(count, radius, strength):
    """Phase around a sphere in a field along an oblique axis; zero inside; and the distance."""
    along = np.linspace(-(count - 1) / 2, (count - 1) / 2, count) / radius
    u, v, w = np.meshgrid(along, along, along, indexing="ij")
    distance = np.sqrt(u**2 + v**2 + w**2)
    cosine = (0.6 * v + 0.8 * w) / distance
    field = strength / 2 * (3 * cosine**2 - 1) / np.maximum(distance, 1) ** 3
    return np.where(distance > 1, field, 0), distance


FIELDS = {
    "ramp along x": 3.0 * np.arange(SHAPE[0])[:, None, None] + 0 * y,
    "ramp along y": -3.1 * np.arange(SHAPE[1])[None, :, None] + 0 * x,
    "oblique ramp": 1.5
    * np.add.outer(np.add.outer(*map(np.arange, SHAPE[:2])), np.arange(SHAPE[2])),
    "parabola": 25 * x**2 - 18 * y**2 + 30 * y * z + 12 * z,
    "anisotropic": 20 * z**2 + 3 * x,
}


def assert_whole_turns_off(unwrapped, truth, mask):
    """Both agree in the mask but for one whole number of turns."""
    turns = (unwrapped - truth)[mask] / (2 * np.pi)
    assert np.abs(turns - np.rint(turns[0])).max() < 1e-4
    assert not unwrapped[~mask].any()


@pytest.mark.parametrize("mask", [np.ones(SHAPE, bool), BALL], ids=["box", "ball"])
@pytest.mark.parametrize("name", FIELDS)
def test_fields_with_steps_below_half_a_turn_are_exact(name, mask):
    unwrapped = unwrap_volume(wrap(FIELDS[name]), mask)
    assert_whole_turns_off(unwrapped, FIELDS[name], mask)
    assert abs(np.median(unwrapped[mask])) <= np.pi + 1e-3


def test_the_dipole_of_a_sphere_is_exact_outside_it():
    field, distance = dipole(64, radius=22, strength=20.0)
    mask = distance > 1
    assert field.max() > 19
    assert_whole_turns_off(unwrap_volume(wrap(field), mask), field * mask, mask)


def test_a_sphere_is_joined_over_its_equator():
    """Steps of more than half a turn at its poles are gone around."""
    field, _ = dipole(40, radius=10, strength=4.0)
    assert np.abs(np.diff(field, axis=2)).max() > np.pi
    mask = np.ones(field.shape, bool)
    assert_whole_turns_off(unwrap_volume(wrap(field), mask), field, mask)


@pytest.mark.parametrize("seed", range(3))
def test_noise_at_an_snr_of_five_wraps_nothing(seed):
    rng = np.random.default_rng(seed)
    field = FIELDS["parabola"] * 0.7
    signal = np.exp(1j * field) + (rng.standard_normal((*SHAPE, 2)) @ [1, 1j]) / 5
    phase, magnitude = np.angle(signal).astype(np.float32), np.abs(signal).astype(np.float32)
    for unwrapped in (
        unwrap_volume(phase, BALL),
        unwrap_volume(phase, BALL, magnitude=magnitude),
    ):
        off = (unwrapped - field)[BALL]
        off -= 2 * np.pi * np.rint(np.median(off) / (2 * np.pi))
        assert np.count_nonzero(np.abs(off) > np.pi) == 0


def test_the_result_differs_from_the_phase_by_whole_turns_whatever_it_is():
    phase = np.random.default_rng(0).uniform(-np.pi, np.pi, SHAPE).astype(np.float32)
    turns = (unwrap_volume(phase, BALL) - phase)[BALL] / (2 * np.pi)
    assert np.abs(turns - np.rint(turns)).max() < 1e-6
    assert len(np.unique(np.rint(turns))) > 2


def test_what_is_unwrapped_stays_as_it_is():
    once = unwrap_volume(wrap(FIELDS["parabola"]), BALL)
    np.testing.assert_allclose(unwrap_volume(once, BALL), once, atol=1e-5)


def test_a_better_path_is_preferred_to_a_shorter_one():
    """A wall of noise with one gap: what is behind it is reached through the gap."""
    rng = np.random.default_rng(1)
    phase = np.broadcast_to(0.4 * np.arange(24.0)[:, None, None], (24, 20, 20)).copy()
    phase[11:13, 2:] = rng.uniform(-np.pi, np.pi, (2, 18, 20))
    unwrapped = unwrap_volume(wrap(phase), np.ones(phase.shape, bool))
    truth = np.broadcast_to(0.4 * np.arange(24.0)[:, None, None], phase.shape)
    off = unwrapped - truth
    for side in (slice(None, 11), slice(13, None)):
        np.testing.assert_allclose(off[side], off[0, 0, 0], atol=1e-4)


def test_islands_come_within_half_a_turn_of_the_largest():
    mask = np.zeros(SHAPE, bool)
    mask[2:20, 4:30, 4:30] = True
    mask[24:34, 4:20, 4:20] = True
    mask[24:30, 30:36, 20:30] = True
    field = np.where(x < 0.25, 4 * y, 31 + 5 * z)
    unwrapped = unwrap_volume(wrap(field), mask)
    parts = [mask & (x < 0.25), mask & (x > 0.25) & (y < 0.2), mask & (x > 0.25) & (y > 0.2)]
    means = [unwrapped[part].mean() for part in parts]
    assert abs(np.median(unwrapped[parts[0]])) <= np.pi
    for part, mean in zip(parts, means, strict=True):
        assert abs(mean - means[0]) <= np.pi + 1e-3
        turns = (unwrapped - field)[part] / (2 * np.pi)
        assert np.abs(turns - np.rint(turns[0])).max() < 1e-4


def test_settled_voxels_stay_and_draw_the_others_to_them():
    field = FIELDS["parabola"]
    lifted = wrap(field)
    settled = BALL & (x > 0)
    lifted[settled] = (field + 6 * np.pi)[settled]
    unwrapped = unwrap_with(lifted, BALL, settled=settled)
    np.testing.assert_allclose(unwrapped[BALL], (field + 6 * np.pi)[BALL], atol=1e-4)


def unwrap_with(phase, mask, **options):
    work = growing(phase, mask, **options)
    fractions = []
    unwrapped = finished(relayed(work, fractions.append))
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1
    return unwrapped


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 1), (1, 7, 8), (9, 8, 1)])
def test_thin_volumes_and_single_slices(shape):
    field = 1.1 * np.indices(shape).sum(0) + 0.1
    mask = np.ones(shape, bool)
    assert_whole_turns_off(unwrap_volume(wrap(field), mask), field, mask)


def test_one_slice_of_a_volume_and_an_empty_mask():
    mask = np.zeros(SHAPE, bool)
    assert not unwrap_volume(wrap(FIELDS["parabola"]), mask).any()
    mask[:, :, 7] = True
    unwrapped = unwrap_volume(wrap(FIELDS["parabola"]), mask)
    assert_whole_turns_off(unwrapped, FIELDS["parabola"], mask)


def test_the_input_is_left_alone():
    phase = wrap(FIELDS["parabola"])
    before = phase.copy()
    unwrap_volume(phase, BALL, magnitude=np.abs(phase))
    np.testing.assert_array_equal(phase, before)


@pytest.mark.parametrize("seed", range(4))
def test_regions_agree_with_walking_the_same_edges_one_by_one(seed):
    """On a random tree the turns are those of the only path there is."""
    rng = np.random.default_rng(seed)
    count = 300
    phase = rng.uniform(-np.pi, np.pi, count).astype(np.float32)
    parent = np.array([rng.integers(0, max(1, i)) for i in range(count)], dtype=np.int32)
    expected = np.zeros(count, int)
    for i in range(1, count):
        jump = np.rint((phase[parent[i]] - phase[i]) / (2 * np.pi))
        expected[i] = expected[parent[i]] + jump
    label = rng.permutation(count).astype(np.int32)  # so that roots lie anywhere
    shuffled = np.empty_like(phase)
    shuffled[label] = phase
    regions = Regions(shuffled)
    for some in np.array_split(rng.permutation(np.arange(1, count)), 3):
        regions.unite(label[parent[some]], label[some])
    regions.find(label)
    turns = regions.turns(label).astype(int)
    np.testing.assert_array_equal(turns - turns[0], expected)
    assert regions.parts(label).count == 1


def test_parts_are_found_and_their_means_told():
    mask = np.zeros((6, 5, 5), bool)
    mask[:2], mask[4:] = True, True
    mask[5, 0, 0] = False
    values = np.where(np.arange(6)[:, None, None] < 3, 1.0, 9.0) * np.ones(mask.shape)
    parts = MaskParts.of(mask)
    assert parts.count == 2
    np.testing.assert_allclose(parts.means(values[mask].astype(np.float32)), [1, 9])
    assert parts.note()[0].startswith("The mask has 2 parts")
    assert MaskParts.of(mask[:2]).note() == ()
