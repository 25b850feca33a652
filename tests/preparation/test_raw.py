"""Raw echoes come together on one grid, in order, in rad; every decision leaves a sentence."""

import math

import numpy as np
import pytest

from napari_qsm.acquisition import Grid, InputError, Quantity, Volume
from napari_qsm.preparation.field_maps import (
    assemble_total,
    effective_magnitude,
    split_complex,
    split_parts,
)
from napari_qsm.preparation.likeness import alternates, jumping_part
from napari_qsm.preparation.raw import Corrections, assemble_raw, merged_notes

SHAPE = (12, 14, 16)
TIMES = (0.004, 0.008, 0.012)
GRID = Grid(SHAPE, np.diag([1.0, 1.0, 2.0, 1.0]))
BALL = sum(np.square(g) for g in np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE])) < 0.8
BALL = np.moveaxis(BALL, 0, 1)


def angles():
    draw = np.random.default_rng(3)
    hertz = 60 * np.linspace(-1, 1, SHAPE[2]) + 20
    phase = 2 * np.pi * hertz[:, None] * np.array(TIMES)
    air = draw.uniform(-np.pi, np.pi, (*SHAPE, 3))
    return np.angle(np.exp(1j * np.where(BALL[..., None], phase, air)))


PHASE = angles()
SIGNAL = np.exp(-40 * np.array(TIMES)) * (BALL[..., None] + 0.05)


def volume(values, time=None, grid=GRID, **stated):
    times = () if time is None else (time,) if np.isscalar(time) else tuple(time)
    return Volume(values.astype(np.float32), grid, echo_times=times, **stated)


def echoes(values, times=TIMES):
    return [volume(values[..., i], time) for i, time in enumerate(times)]


def refusal(*arguments, **stated):
    with pytest.raises(InputError) as caught:
        assemble_raw(*arguments, **stated)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def told(made, words):
    return any(words in note for note in made.notes)


def close(made, expected):
    return np.abs(np.angle(np.exp(1j * (made - expected)))).max() < 1e-5


def test_echoes_of_their_own_and_one_4d_volume_are_the_same():
    single = assemble_raw(echoes(PHASE), echoes(SIGNAL))
    whole = assemble_raw([volume(PHASE, TIMES)], [volume(SIGNAL, TIMES)])
    for made in (single, whole):
        assert close(made[Quantity.PHASE], PHASE)
        assert made[Quantity.MAGNITUDE] == pytest.approx(SIGNAL, rel=1e-6)
        assert made.echo_times == TIMES


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_echoes_are_put_in_order_of_time(order):
    phase, signal = echoes(PHASE), echoes(SIGNAL)
    made = assemble_raw([phase[i] for i in order], [signal[i] for i in reversed(order)])
    assert close(made[Quantity.PHASE], PHASE)
    assert made[Quantity.MAGNITUDE] == pytest.approx(SIGNAL, rel=1e-6)
    assert made.echo_times == TIMES
    assert told(made, "order of their times")


def test_stated_times_go_before_those_of_the_files_and_sort_the_echoes():
    made = assemble_raw(echoes(PHASE), echoes(SIGNAL), None, Corrections((0.03, 0.02, 0.01)))
    assert made.echo_times == (0.01, 0.02, 0.03)
    assert close(made[Quantity.PHASE], PHASE[..., ::-1])
    assert made[Quantity.MAGNITUDE] == pytest.approx(SIGNAL[..., ::-1], rel=1e-6)


def test_the_magnitudes_times_serve_where_the_phase_states_none():
    made = assemble_raw([volume(PHASE)], echoes(SIGNAL))
    assert made.echo_times == TIMES


def test_one_magnitude_stands_for_all():
    made = assemble_raw(echoes(PHASE), [volume(SIGNAL[..., 0])])
    assert made[Quantity.MAGNITUDE].shape == SHAPE
    assert told(made, "stands for all 3 echoes")


@pytest.mark.parametrize(
    ("phase", "signal", "words"),
    [
        (echoes(PHASE), echoes(SIGNAL)[:2], "magnitude of the echo at 12 ms is missing"),
        (echoes(PHASE)[1:], echoes(SIGNAL), "phase of the echo at 4 ms is missing"),
        ([volume(PHASE)], [volume(SIGNAL[..., :2])], "3 phases and 2 magnitudes"),
        ([volume(PHASE)], [], "no echo time; state one for each of the 3"),
        ([volume(PHASE[..., 0])], [], "no echo time; state it"),
        ([*echoes(PHASE)[:2], volume(PHASE[..., 2])], [], "only 2 of 3 echo times"),
        (echoes(PHASE, (0.004, 0.004, 0.008)), [], "Echoes 1 and 2 have the same echo time"),
        ([volume(PHASE, 0.004)], [], "3 volumes, the echo times number 1"),
        ([*echoes(PHASE)[:2], volume(PHASE[..., 1], 0.012)], [], "hold the same phase"),
    ],
)
def test_echoes_that_do_not_add_up_are_refused(phase, signal, words):
    assert words in refusal(phase, signal)


def test_volumes_elsewhere_are_refused():
    thinner = Grid((12, 14, 15), GRID.affine)
    cut = volume(PHASE[:, :, :15, 1], 0.008, thinner)
    assert "echo 2 has shape (12, 14, 15)" in refusal([echoes(PHASE)[0], cut])
    moved = Grid(SHAPE, GRID.affine + np.eye(4)[:, [0, 1, 2, 3]] * [[0], [0], [0], [0]])
    shift = np.array(GRID.affine)
    shift[2, 3] = 2.0
    moved = Grid(SHAPE, shift)
    signal = [volume(SIGNAL[..., i], TIMES[i], moved) for i in range(3)]
    assert "lies up to 2.00 mm away" in refusal(echoes(PHASE), signal)


def test_files_that_state_different_fields_are_refused():
    mixed = [volume(PHASE[..., i], TIMES[i], field_strength=b) for i, b in ((0, 3.0), (1, 7.0))]
    assert "3 T and as 7 T" in refusal(mixed)
    assert assemble_raw(mixed, (), None, Corrections(field_strength=3)).field_strength == 3


def test_exchanged_phase_and_magnitude_are_refused():
    noisy = SIGNAL + 0.02 * np.random.default_rng(0).random(SIGNAL.shape)
    assert "exchange the two" in refusal(echoes(noisy), echoes(PHASE + np.pi + 0.1))
    assert "negative in" in refusal(echoes(PHASE), echoes(np.where(BALL[..., None], -SIGNAL, 0)))
    assert "same numbers" in refusal(echoes(PHASE), echoes(PHASE))
    assert "mostly dark" in refusal(echoes(1000 * noisy**4))


def test_small_negative_numbers_in_a_magnitude_are_set_to_zero():
    ringing = SIGNAL - 0.07 * (SIGNAL < 0.1)
    made = assemble_raw(echoes(PHASE), echoes(ringing))
    assert made[Quantity.MAGNITUDE].min() == 0
    assert told(made, "of the magnitude were negative; set to 0")


def test_a_wrapped_phase_jumps_and_a_magnitude_does_not():
    noise = np.random.default_rng(0).uniform(-np.pi, np.pi, SHAPE)
    assert jumping_part(noise) == pytest.approx(0.25, abs=0.02)
    smooth = np.broadcast_to(np.linspace(1, 2, SHAPE[2]), SHAPE)
    assert jumping_part(smooth) == 0
    assert jumping_part(smooth * BALL) == 0


@pytest.mark.parametrize("values", [np.zeros(SHAPE), np.full(SHAPE, -1.0), np.full(SHAPE, np.nan)])
def test_a_magnitude_without_signal_is_refused(values):
    signal = np.stack([SIGNAL[..., 0], values, SIGNAL[..., 2]], -1)
    assert "magnitude of echo 2" in refusal(echoes(PHASE), echoes(signal))


def test_voxels_without_number_become_zero_in_all_volumes():
    phase = PHASE.copy()
    phase[:2, 0, 0, 1] = [np.nan, np.inf]
    made = assemble_raw(echoes(phase), echoes(SIGNAL), volume(BALL))
    assert not made[Quantity.PHASE][:2, 0, 0].any()
    assert not made[Quantity.MAGNITUDE][:2, 0, 0].any()
    assert told(made, "2 voxels of the phase were no numbers")
    phase[6, 7, 8, 0] = np.nan
    assert "1 voxels inside the mask" in refusal(echoes(phase), echoes(SIGNAL), volume(BALL))


def test_the_mask_is_checked_like_everywhere():
    made = assemble_raw(echoes(PHASE), (), volume(3 * BALL))
    assert np.array_equal(made.mask, BALL)
    assert told(made, "labels up to 3")
    assert "mask is empty" in refusal(echoes(PHASE), (), volume(0 * BALL))
    assert "3D volume was expected" in refusal(echoes(PHASE), (), volume(SIGNAL))
    assert "values from -1" in refusal(echoes(PHASE), (), volume(-1.0 * BALL))
    small = volume(BALL[:5], grid=Grid((5, 14, 16), GRID.affine))
    assert "mask has shape" in refusal(echoes(PHASE), (), small)


def rotation(axis, degrees):
    angle, turned = math.radians(degrees), np.eye(4)
    i, j = [a for a in range(3) if a != axis]
    turned[[i, i, j, j], [i, j, i, j]] = [
        math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    ]  # fmt: skip
    return turned


AXIAL = np.eye(4)
SAGITTAL = np.eye(4)[:, [1, 2, 0, 3]]
CORONAL = np.eye(4)[:, [0, 2, 1, 3]]
OBLIQUE = rotation(0, 20) @ rotation(1, -35)


@pytest.mark.parametrize(
    ("affine", "b0"),
    [
        (AXIAL, (0, 0, 1)),
        (SAGITTAL, (0, 1, 0)),
        (CORONAL, (0, 1, 0)),
        (OBLIQUE, np.linalg.inv(OBLIQUE)[:3, 2]),
    ],
    ids=["axial", "sagittal", "coronal", "double oblique"],
)
def test_b0_lies_where_the_affine_says(affine, b0):
    grid = Grid(SHAPE, affine @ np.diag([0.9, 1.1, 2.5, 1]))
    made = assemble_raw([volume(PHASE[..., i], t, grid) for i, t in enumerate(TIMES)])
    assert made.grid.b0_direction == pytest.approx(tuple(b0))


def test_a_stated_direction_silences_doubts_about_it():
    doubtful = volume(PHASE[..., 0], 0.004, notes=("e.nii: B0 was assumed somewhere.",))
    made = assemble_raw([doubtful], (), None, Corrections(b0_direction=(0, 3, 0)))
    assert made.grid.b0_direction == (0, 1, 0)
    assert not told(made, "assumed")
    assert told(made, "(0.000, 1.000, 0.000)")
    named = volume(PHASE[..., 0], 0.004, notes=("acq-B0map.nii: something else.",))
    made = assemble_raw([named], (), None, Corrections(b0_direction=(0, 3, 0)))
    assert told(made, "something else")


def test_slices_that_alternate_are_turned_back():
    turned = PHASE.copy()
    turned[:, :, 1::2] = np.angle(-np.exp(1j * turned[:, :, 1::2]))
    assert alternates(turned[..., 0], SIGNAL[..., 0])
    assert not alternates(PHASE[..., 0], SIGNAL[..., 0])
    made = assemble_raw(echoes(turned), echoes(SIGNAL))
    assert close(made[Quantity.PHASE][BALL], PHASE[BALL])
    assert told(made, "turned by half a turn")
    assert not told(assemble_raw(echoes(PHASE), echoes(SIGNAL)), "half a turn")


def test_complex_signals_split_both_ways():
    signal = (SIGNAL * np.exp(1j * PHASE)).astype(np.complex64)
    whole = Volume(signal, GRID, echo_times=TIMES, source="x.nii")
    parts = [Volume(part, GRID, echo_times=TIMES) for part in (signal.real, signal.imag)]
    for phase, magnitude in (split_complex(whole), split_parts(*parts)):
        assert close(phase.data, PHASE)
        assert magnitude.data == pytest.approx(SIGNAL, rel=1e-5)
        made = assemble_raw([phase], [magnitude])
        assert told(made, "were computed from")
    with pytest.raises(InputError, match="complex numbers were expected"):
        split_complex(volume(PHASE))
    with pytest.raises(InputError, match="imaginary part is 0"):
        split_complex(Volume(signal.real.astype(np.complex64), GRID))
    with pytest.raises(InputError, match="are the same"):
        split_parts(parts[0], parts[0])
    with pytest.raises(InputError, match="has shape"):
        split_parts(parts[0], volume(PHASE[..., 0]))


def test_the_effective_magnitude_has_the_noise_of_the_difference():
    draw = np.random.default_rng(1)
    m1, m2, count = 40.0, 25.0, 200_000
    noise = draw.normal(size=(2, count)) + 1j * draw.normal(size=(2, count))
    difference = np.angle((m2 + noise[1]) * np.conj(m1 + noise[0]))
    first, second = (volume(np.full(SHAPE, m)) for m in (m1, m2))
    effective = effective_magnitude(first, second).data[0, 0, 0]
    assert difference.std() == pytest.approx(1 / effective, rel=0.01)
    nothing = effective_magnitude(first, volume(np.zeros(SHAPE)))
    assert not nothing.data.any()


@pytest.mark.parametrize(
    ("unit", "b0", "words"),
    [
        (None, 3.0, "states no unit"),
        ("Hz", None, "B0 in tesla"),
        ("rad", 3.0, "is a phase"),
        ("furlong", 3.0, "not a unit"),
    ],
)
def test_a_field_map_needs_its_unit(unit, b0, words):
    field = volume(PHASE[..., 0], unit=unit, field_strength=b0)
    with pytest.raises(InputError, match=words):
        assemble_total(field)


@pytest.mark.parametrize("scale", [0, 1e7])
def test_a_field_map_of_impossible_size_is_refused(scale):
    field = volume(scale * PHASE[..., 0], unit="Hz", field_strength=3.0)
    with pytest.raises(InputError, match="which no field does"):
        assemble_total(field)


def test_a_note_about_several_files_is_said_once():
    notes = [Volume(PHASE, GRID, source=f"/a/{n}", notes=(f"{n}: was scaled.",)) for n in "xyz"]
    assert merged_notes(notes) == ["x and 2 more: was scaled."]
    assert merged_notes(notes[:1]) == ["x: was scaled."]
