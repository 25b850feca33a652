"""Every scale in which scanners store phase becomes radians, by a decision that is said."""

import math

import numpy as np
import pytest

from napari_qsm.acquisition import InputError
from napari_qsm.preparation.phase_scale import NOMINAL, decide

TURN = 2 * math.pi
SHAPE = (20, 20, 20)


def noise(seed=0):
    """A phase that fills the turn from end to end, as air does."""
    return np.random.default_rng(seed).uniform(-math.pi, math.pi, SHAPE)


def quiet(reach=1.0):
    """A masked phase that reaches only part of a turn."""
    ramp = np.linspace(-reach, 0.9 * reach, SHAPE[0])[:, None, None]
    return np.broadcast_to(ramp, SHAPE).astype(np.float32)


def off(phase, truth):
    """Largest error on the circle."""
    return float(np.abs(np.angle(np.exp(1j * (phase.astype(float) - truth)))).max())


def stored(truth, low, high, dtype=np.int16):
    """What a scanner writes: whole steps from low to high, one turn in all."""
    steps = np.floor((truth + math.pi) / TURN * (high - low) + 0.5) % (high - low) + low
    return steps.astype(dtype)


def refusal(*echoes, chosen="auto", **stated):
    with pytest.raises(InputError) as caught:
        decide(echoes, chosen, **stated)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 4096, np.uint16),
        (-2048, 2048, np.int16),
        (-4096, 4096, np.int16),
        (-180, 180, np.int16),
        (-32768, 32768, np.int16),
        (0, 65536, np.uint16),
    ],
)
def test_whole_numbers_come_back_within_half_a_step(low, high, dtype):
    truth = noise()
    scaling = decide([stored(truth, low, high, dtype)])
    assert off(scaling(stored(truth, low, high, dtype)), truth) <= TURN / (high - low) / 2 + 1e-6
    assert "scaled to rad" in scaling.note


def test_twelve_bits_stay_within_half_a_step_of_twelve_bits():
    truth = noise()
    made = stored(truth, 0, 4096)
    assert off(decide([made])(made), truth) <= math.pi / 4096 + 1e-6


def test_a_siemens_rescale_by_two_keeps_its_zero():
    made = 2 * stored(noise(), 0, 4096) - 4096
    assert (made.min(), made.max()) == (-4096, 4094)
    assert decide([made])(np.array([-4096, 0, 2048])) == pytest.approx([-math.pi, 0, math.pi / 2])


def test_milliradians_of_philips_and_ge_are_a_thousandth():
    made = np.float32(1.53455) * stored(noise(), 0, 4095) - 3142
    scaling = decide([made])
    assert scaling.factor == pytest.approx(1e-3)
    assert "milliradians" in scaling.note
    assert off(scaling(made), made / 1000) < 1e-6


@pytest.mark.parametrize("nominal", NOMINAL, ids=lambda n: n.name)
def test_a_filled_range_is_recognised_as_itself(nominal):
    steps = np.linspace(nominal.low, nominal.high, 8000, endpoint=False).reshape(20, 20, 20)
    scaling = decide([steps])
    assert (scaling.zero, scaling.factor) == (nominal.zero, nominal.factor)


def test_radians_stay_bit_for_bit():
    made = noise().astype(np.float32)
    scaling = decide([made])
    assert np.array_equal(scaling(made), made)
    assert "span one turn" in scaling.note


def test_radians_from_zero_are_wrapped():
    made = (noise() % TURN).astype(np.float32)
    phase = decide([made])(made)
    assert -math.pi <= phase.min() < phase.max() < np.float32(math.pi)
    assert off(phase, noise()) < 1e-6


@pytest.mark.parametrize("make", [noise, quiet, lambda: stored(noise(), 0, 4096)])
def test_scaling_twice_is_scaling_once(make):
    once = decide([make()])(make())
    assert np.array_equal(decide([once])(once), once)


def test_a_masked_phase_is_not_stretched():
    scaling = decide([quiet()])
    assert np.array_equal(scaling(quiet()), quiet())
    assert "not stretched" in scaling.note
    assert decide([quiet(0.2)]).factor == 1


def test_the_other_echoes_tell_the_scale_of_a_quiet_one():
    first = stored(quiet(0.3), 0, 4096)
    assert decide([first, stored(noise(), 0, 4096)]).factor == pytest.approx(TURN / 4096)


def test_the_manufacturer_settles_what_masking_hid():
    made = np.rint(quiet() * 1000).astype(np.int16)
    assert decide([made], manufacturer="SIEMENS").factor == pytest.approx(TURN / 8192)
    assert decide([made], manufacturer="Philips Healthcare").factor == pytest.approx(1e-3)
    assert decide([made], manufacturer="GE").factor == pytest.approx(1e-3)
    assert "fills no range" in refusal(made)


def test_masked_whole_numbers_from_zero_are_twelve_bits():
    made = (stored(noise(), 0, 4096) * 0.8).astype(np.int16)
    assert decide([made]).factor == pytest.approx(TURN / 4096)


def test_a_partial_range_can_be_mapped_on_request():
    made = np.rint(quiet() * 1000).astype(np.int16)
    assert decide([made], "range").factor == pytest.approx(TURN / 4096)
    assert "as was asked for" in decide([made], "range").note


def test_radians_can_be_stated():
    made = 40 * quiet()
    phase = decide([made], "rad")(made)
    assert off(phase, made) < 1e-5
    assert np.abs(phase).max() <= np.float32(math.pi)
    assert "4095" in refusal(stored(noise(), 0, 4096), chosen="rad")


def test_a_unit_that_the_numbers_contradict_is_noted():
    scaling = decide([stored(noise(), 0, 4096)], unit="rad")
    assert scaling.factor == pytest.approx(TURN / 4096)
    assert "contradict" in scaling.note
    assert "contradict" not in decide([noise()], unit="rad").note


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (np.zeros(SHAPE), "is 0 in every voxel"),
        (np.full(SHAPE, 7), "is 7 in every voxel"),
        (np.full(SHAPE, np.nan), "no numbers"),
        (np.rint(noise()), "was rounded"),
        (noise() * 0.00117, "slope"),
        (noise() / math.pi, "fractions"),
        (noise() / TURN + 0.5, "fractions"),
        (noise() * 40, "fills no range"),
        (noise() * 1e6, "fills no range"),
    ],
)
def test_what_is_no_phase_is_refused(made, words):
    assert words in refusal(made)


def test_an_empty_echo_and_mixed_scales_are_refused():
    assert "echo 2 is 0" in refusal(noise(), np.zeros(SHAPE))
    assert "different scales" in refusal(noise(), stored(noise(), 0, 4096))


def test_voxels_without_number_are_left_out_of_the_decision():
    made = noise().astype(np.float32)
    made[0] = np.nan
    assert "span one turn" in decide([made]).note
    assert "wider than every range" in refusal(noise() * 1e6, chosen="range")
