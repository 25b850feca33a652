"""The quality of edges and voxels: what each criterion sees, and that pauses change nothing."""

import numpy as np
import pytest

from napari_qsm.preparation.quality import FLOOR, edge_quality, ends, phase_quality, slabs

SHAPE = (11, 12, 13)
TIMES = (0.004, 0.009)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-np.pi, np.pi, shape).astype(np.float32)


def ramp(axis, slope):
    index = np.arange(SHAPE[axis], dtype=np.float32) * np.float32(slope)
    shape = [1, 1, 1]
    shape[axis] = -1
    return np.broadcast_to(index.reshape(shape), SHAPE).copy()


def wrap(phase):
    return np.angle(np.exp(1j * phase)).astype(np.float32)


def factor(criterion):
    return 0.1 + 0.9 * criterion


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("slope", [0.0, 0.7, -2.5])
def test_a_straight_phase_is_graded_by_its_steepness_alone(axis, slope):
    quality = edge_quality(axis, [wrap(ramp(axis, slope))], [1.0])
    assert quality.shape == tuple(n - (a == axis) for a, n in enumerate(SHAPE))
    np.testing.assert_allclose(quality, factor(1 - abs(slope) / np.pi), atol=2e-5)
    across = edge_quality((axis + 1) % 3, [wrap(ramp(axis, slope))], [1.0])
    np.testing.assert_allclose(across, 1, atol=1e-6)


def test_an_echo_in_proportion_costs_nothing_and_one_that_is_not_its_distance():
    first, ratio = ramp(0, 0.5), TIMES[1] / TIMES[0]
    alone = edge_quality(0, [first], TIMES[:1])
    agreeing = edge_quality(0, [first, wrap(ratio * first)], TIMES)
    np.testing.assert_allclose(agreeing, alone, atol=2e-5)
    astray = edge_quality(0, [first, wrap(ratio * first + ramp(0, 1.0))], TIMES)
    np.testing.assert_allclose(astray, alone * factor(1 - 1 / np.pi), atol=2e-5)


def test_a_constant_offset_between_echoes_costs_nothing():
    pair = [noise(*SHAPE), noise(*SHAPE, seed=1)]
    moved = [pair[0], wrap(pair[1] + 1.5)]
    before, after = (edge_quality(1, phases, TIMES) for phases in (pair, moved))
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_unlike_magnitudes_cost_the_square_of_their_ratio_and_zeros_stay_numbers():
    magnitude = np.ones(SHAPE, np.float32)
    magnitude[5] = 0.5
    magnitude[8:10] = 0
    quality = edge_quality(0, [np.zeros(SHAPE, np.float32)], [1.0], magnitude)[:, 0, 0]
    expected = np.ones(10)
    expected[[4, 5]] = factor(0.25)
    expected[[7, 8, 9]] = FLOOR
    np.testing.assert_allclose(quality, expected, atol=1e-6)


def test_a_bend_costs_the_edges_around_it():
    bent = ramp(0, 0.0)
    bent[6:] += 1.0  # one steep edge, two bends of 1 rad
    quality = edge_quality(0, [bent], [1.0])[:, 0, 0]
    line = 1 - 1 / np.pi
    assert quality[5] == pytest.approx(factor(line) * factor(line**2), abs=1e-5)
    assert quality[4] == quality[6] == pytest.approx(factor(line), abs=1e-5)
    assert quality[3] == quality[7] == pytest.approx(1)


def test_whole_turns_change_nothing():
    phase = noise(*SHAPE)
    turns = np.random.default_rng(2).integers(-3, 4, SHAPE)
    lifted = (phase + 2 * np.pi * turns).astype(np.float32)
    for axis in range(3):
        expected = edge_quality(axis, [phase], [1.0])
        np.testing.assert_allclose(edge_quality(axis, [lifted], [1.0]), expected, atol=1e-5)


def test_a_voxel_has_the_mean_of_its_edges():
    phase, magnitude = noise(*SHAPE, 2), np.abs(noise(*SHAPE, 2, seed=1))
    total, count = np.zeros(SHAPE), np.zeros(SHAPE)
    for axis in range(3):
        pair = [phase[..., 0].copy(), phase[..., 1].copy()]
        quality = edge_quality(axis, pair, TIMES, magnitude[..., 0].copy())
        for end in ends(axis):
            total[end] += quality
            count[end] += 1
    assert {3, 6} <= set(np.unique(count).astype(int))
    np.testing.assert_allclose(phase_quality(phase, magnitude, TIMES), total / count, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 1), (1, 9, 4), (5, 1, 1), (3, 4, 2)])
def test_thin_volumes_are_graded(shape):
    quality = phase_quality(np.zeros((*shape, 1), np.float32), None, (0.004,))
    assert quality.shape == shape
    assert quality.dtype == np.float32
    assert (quality == (1 if max(shape) > 1 else 0)).all()


def test_signal_stands_out_from_noise():
    rng = np.random.default_rng(0)
    signal = np.zeros((24, 24, 24, 2), complex)
    signal[6:18, 6:18, 6:18] = np.exp(1j * np.array([1.0, 2.0]))
    measured = signal + 0.05 * (rng.standard_normal((24, 24, 24, 2, 2)) @ [1, 1j])
    quality = phase_quality(
        np.angle(measured).astype(np.float32), np.abs(measured).astype(np.float32), (1, 2)
    )
    inside, outside = np.zeros((2, *quality.shape), bool)
    inside[7:17, 7:17, 7:17] = True
    outside[:] = True
    outside[5:19, 5:19, 5:19] = False
    assert quality[inside].mean() > 0.6
    assert quality[outside].mean() < 0.1
    assert quality[inside].min() > np.quantile(quality[outside], 0.999)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("shape", [(3, 2, 5), (90, 70, 60), (1, 700, 900)])
def test_slabs_cover_a_volume_once_and_keep_the_axis_whole(shape, axis):
    counted, fractions = np.zeros(shape, int), []
    for slab, fraction in slabs(shape, axis):
        assert counted[slab].shape[axis] == shape[axis]
        counted[slab] += 1
        fractions.append(fraction)
    assert (counted == 1).all()
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
