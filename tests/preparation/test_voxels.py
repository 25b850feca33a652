"""Voxels in pieces: all of the mask, each once, none too many at a time."""

import numpy as np
import pytest

from napari_qsm.acquisition import InputError
from napari_qsm.preparation.voxels import PIECE, at, by_time, phase_weights, pieces, sample, steps

SHAPE = (50, 60, 70)


@pytest.fixture(scope="module")
def mask():
    return np.random.default_rng(0).random(SHAPE) > 0.3


def test_pieces_cover_the_mask_once_and_are_small(mask):
    handed = list(pieces(mask))
    assert len(handed) > 3
    assert max(voxels.size for _, voxels in handed) <= PIECE
    np.testing.assert_array_equal(np.concatenate([v for _, v in handed]), np.flatnonzero(mask))
    parts = [part for part, _ in handed]
    assert parts == sorted(parts)
    assert parts[0] == 0
    assert parts[-1] < 1


def test_values_come_echoes_first_also_from_one_magnitude_for_all(mask):
    volume = np.random.default_rng(1).random((*SHAPE, 3), dtype=np.float32)
    voxels = sample(mask, 100)
    assert 100 <= voxels.size < 200
    np.testing.assert_array_equal(at(volume, voxels), volume.reshape(-1, 3)[voxels].T)
    shared = np.broadcast_to(volume[..., :1], volume.shape)
    np.testing.assert_array_equal(at(shared, voxels)[2], volume[..., 0].ravel()[voxels])
    everything = np.ones((3, 4, 5), bool)
    assert sample(everything).size == 60
    assert sample(~everything).size == 0


def test_echoes_are_put_in_order_and_never_twice():
    order, times = by_time((0.012, 0.004, 0.008))
    assert order.tolist() == [1, 2, 0]
    assert times.tolist() == [0.004, 0.008, 0.012]
    with pytest.raises(InputError, match="same echo time of 8 ms"):
        by_time((0.004, 0.008, 0.008))


def test_weights_are_squares_and_never_leave_a_line_undefined():
    weights, dark = phase_weights(np.array([[3.0, 0.0, 5.0], [4.0, 0.0, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(weights, [[9, 1, 25], [16, 1, 25e-6]])
    assert dark.tolist() == [False, True, False]


def test_a_part_becomes_steps_of_the_whole_and_is_closed_with_it():
    closed = []

    def part():
        try:
            yield 0.0
            yield 0.5
            yield 1.0
        finally:
            closed.append(True)
        return "done"

    def whole(results):
        results.append((yield from steps(part(), "working", 0.2, 0.6)))

    results = []
    assert [s.fraction for s in whole(results)] == pytest.approx([0.2, 0.4, 0.6])
    assert results == ["done"]
    running = whole([])
    next(running)
    closed.clear()
    running.close()
    assert closed
