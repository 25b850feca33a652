"""The input check says what it understood of raw data, and speaks up about what is odd."""

import math

import numpy as np
import pytest

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.preparation.checks import inspect
from napari_qsm.preparation.raw_checks import direction, wrap_shares

SHAPE = (20, 22, 24)
TIMES = (0.004, 0.008, 0.012)


def raw(times=TIMES, *, slope=1.0, affine=None, strength=3.0, edit=None, magnitude=True, **more):
    """A ramp along the third axis whose first echo rises by `slope` rad per voxel."""
    ramp = slope * np.arange(SHAPE[2]) * np.array(times)[:, None] / times[0]
    phase = np.broadcast_to(ramp.T, (*SHAPE, len(times)))
    phase = (phase + math.pi) % (2 * math.pi) - math.pi
    fading = np.exp(-30 * np.array(times))
    signal = np.broadcast_to(fading, phase.shape) * (1 + np.indices(SHAPE)[0][..., None] / 40)
    phase, signal = phase.astype(np.float32), signal.astype(np.float32)
    # No slice is exactly another one.
    phase += 1e-3 * np.random.default_rng(0).normal(size=phase.shape).astype(np.float32)
    if edit is not None:
        edit(phase, signal)
    volumes = {Quantity.PHASE: phase, Quantity.MAGNITUDE: signal}
    if not magnitude:
        del volumes[Quantity.MAGNITUDE]
    grid = Grid(SHAPE, np.diag([2, 2, 2, 1.0]) if affine is None else affine)
    return Acquisition(grid, {**volumes, **more}, strength, times)


def texts(severity, made):
    return [f.text for f in inspect(made) if f.severity == severity]


def only_warning(made):
    (text,) = texts("warning", made)
    assert text.endswith(".")
    return text


def test_a_healthy_measurement_gives_notes_that_say_what_was_understood():
    made = raw()
    assert texts("warning", made) == texts("error", made) == []
    understood, wraps = texts("note", made)
    assert understood == "Understood: 3 echoes at 4, 8, 12 ms, 3 T, B0 along the third voxel axis."
    assert wraps.startswith("The phase wraps between ")


def test_an_oblique_direction_is_spelled_out():
    turned = np.eye(4)
    turned[1:3, 1:3] = [[0.8, -0.6], [0.6, 0.8]]
    assert direction(Grid(SHAPE, turned)) == (
        "B0 along (0.000, 0.600, 0.800), 36.9 degrees from the third voxel axis"
    )
    assert "36.9 degrees" in texts("note", raw(affine=turned @ np.diag([2, 2, 2, 1])))[0]


def test_wraps_are_counted_where_they_are():
    made = raw(slope=1.0)
    shares = wrap_shares(made[Quantity.PHASE], np.ones(SHAPE, bool))
    planes = [sum(abs(np.diff((k * np.arange(24) + np.pi) // (2 * np.pi)))) for k in (1, 2, 3)]
    pairs = 3 - sum(1 / n for n in SHAPE)  # per voxel
    expected = [count / SHAPE[2] / pairs for count in planes]
    assert shares == pytest.approx(expected, rel=1e-6)
    smooth = raw(slope=0.03)
    assert wrap_shares(smooth[Quantity.PHASE], np.ones(SHAPE, bool)) == [0, 0, 0]
    assert "does not wrap" in texts("note", raw((0.004,), slope=0.12))[1]


def test_wraps_are_looked_for_where_there_is_signal():
    def noise_in_one_half(phase, signal):
        phase[:10] = np.random.default_rng(0).uniform(-3.14, 3.14, phase[:10].shape)
        signal[:10] *= 0.01

    made = raw(slope=0.03, edit=noise_in_one_half)
    assert "does not wrap" in texts("note", made)[1]
    with_mask = made.with_volumes({Quantity.MASK: np.ones(SHAPE, bool)})
    assert any("wraps between" in text for text in texts("note", with_mask))


def all_noise(phase, signal):
    phase[:] = np.random.default_rng(0).uniform(-3.14, 3.14, phase.shape)


def test_noise_is_warned_of():
    assert "as noise does" in only_warning(raw(edit=all_noise))


def test_a_large_volume_is_sampled_and_gives_the_same():
    axis = np.arange(160)
    phase = np.broadcast_to((axis * 0.7 + np.pi) % (2 * np.pi) - np.pi, (130, 130, 160))
    shares = wrap_shares(phase[..., None], np.ones(phase.shape, bool))
    planes = np.count_nonzero(np.abs(np.diff(phase[0, 0])) > np.pi)
    assert shares[0] == pytest.approx(planes / 160 / 3, rel=0.05)


def test_a_missing_b0_is_an_error():
    assert "state it in tesla" in texts("error", raw(strength=None))[0]
    assert "0.2 to 12 T" in only_warning(raw(strength=15.0))


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ((0.4, 0.8), "milliseconds were meant"),
        ((4e-6, 8e-6), "milliseconds twice"),
        ((0.004, 0.008, 0.016, 0.020), "one is missing"),
    ],
)
def test_strange_echo_times_are_warned_of(times, words):
    assert words in only_warning(raw(times, slope=0.3))


def test_uneven_echo_times_are_noted():
    assert any("not evenly" in text for text in texts("note", raw((0.004, 0.008, 0.0135))))


def empty(phase, signal):
    phase[:, :, 12:14], signal[:, :, 12:14] = 0, 0


def padded(phase, signal):
    phase[:, :, :2], signal[:, :, :2] = 0, 0


def twice(phase, signal):
    phase[:, 7], signal[:, 7] = phase[:, 6], signal[:, 6]


def test_slices_that_are_empty_or_there_twice_are_warned_of():
    assert "2 slices are empty in the middle of the third axis" in only_warning(raw(edit=empty))
    assert "1 slice is the same" in only_warning(raw(edit=twice))
    assert "along the second axis" in only_warning(raw(edit=twice))
    assert texts("warning", raw(edit=padded)) == []


def growing(phase, signal):
    signal[..., 2] *= 3


def test_a_magnitude_that_grows_is_warned_of():
    assert "grows from echo 2 to echo 3" in only_warning(raw(edit=growing))


def test_a_missing_magnitude_is_warned_of():
    assert "no magnitude" in only_warning(raw(magnitude=False))


def test_a_phase_that_hardly_varies_is_warned_of():
    assert "could not be confirmed" in only_warning(raw((0.004,), slope=0.01))


def test_a_missing_mask_is_no_fault_of_raw_data():
    assert not any("no mask" in text for text in texts("warning", raw()))


def test_a_field_map_is_understood_as_one():
    field = np.random.default_rng(0).normal(0, 0.3, SHAPE)
    grid = Grid(SHAPE, np.diag([2, 2, 2, 1.0]))
    made = Acquisition(grid, {Quantity.TOTAL_FIELD: field}, 3.0)
    assert texts("note", made) == ["Understood: a field map, 3 T, B0 along the third voxel axis."]
    assert texts("warning", made) == []


def test_a_prepared_measurement_is_judged_by_its_local_field():
    field = np.random.default_rng(0).normal(0, 0.015, SHAPE)
    made = raw().with_volumes({Quantity.LOCAL_FIELD: field})
    assert not any("Understood" in text for text in texts("note", made))
    assert any("no mask" in text for text in texts("warning", made))
