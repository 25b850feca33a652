"""The phase offset: followed over several turns, taken off, and told from a bipolar readout."""

import numpy as np
import pytest

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished
from napari_qsm.physics.units import radians_per_ppm
from napari_qsm.preparation.echoes import wrapped
from napari_qsm.preparation.offset import mcpc3ds
from napari_qsm.preparation.smooth_phase import Blocks

RAD = radians_per_ppm(3.0, 1.0)
SIZE = (1.2, 1.0, 1.5)
SHAPE = (44, 50, 30)
EVEN = (0.004, 0.008, 0.012, 0.016)
UNEVEN = (0.0055, 0.0101, 0.0163)


def run(acquisition, **settings):
    return finished(mcpc3ds(acquisition, mcpc3ds.with_settings(settings)))


def places(shape=SHAPE):
    return np.meshgrid(
        *[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, SIZE, strict=True)], indexing="ij"
    )


def brain(shape=SHAPE):
    radii = [0.42 * n * s for n, s in zip(shape, SIZE, strict=True)]
    return sum((a / r) ** 2 for a, r in zip(places(shape), radii, strict=True)) < 1


def offsets():
    x, y, z = places()
    return {
        "constant": 1.0 + 0 * x,
        "ramp": 2 + 0.12 * x + 0.05 * y,
        "bowl": 5 * (x / 25) ** 2 - 4 * (y / 25) * (z / 25) + 0.05 * z,
        "coils": 3 * np.sin(x / 20 + 1) + 2 * np.cos(y / 18) + z / 15,
    }


def field():
    x, y, z = places()
    return 0.3 * x * z / 600 + 0.1 * np.sin(y / 3) * np.cos(x / 2) + 0.05


def measure(start, times=EVEN, *, noise=0.0, ppm=0.0, theta=None, order=None, seed=0):
    """Wrapped echoes of the field, `ppm` more, with the phase `start` at echo time zero."""
    rng, t, mask = np.random.default_rng(seed), np.array(times), brain()
    x, _, z = places()
    strength = (100 + 30 * np.sin(x / 3) * np.cos(z / 4)) * mask + 2
    phase = RAD * (field() + ppm)[..., None] * t + start[..., None]
    if theta is not None:
        phase = phase + theta[..., None] * np.array([-1, 1] * 3)[: len(t)]
    signal = strength[..., None] * np.exp(-25 * t + 1j * phase)
    signal = signal + noise * (rng.standard_normal((*signal.shape, 2)) @ [1, 1j])
    order = np.arange(len(t)) if order is None else np.array(order)
    volumes = {
        Quantity.PHASE: np.angle(signal)[..., order],
        Quantity.MAGNITUDE: np.abs(signal)[..., order],
        Quantity.MASK: mask,
    }
    return Acquisition(Grid(SHAPE, np.diag([*SIZE, 1.0])), volumes, 3.0, tuple(t[order]))


def misses(maps, start):
    """Wrapped error of the offset in the mask, without its constant part."""
    error = wrapped(maps[Quantity.OFFSET] - start)[brain()]
    return wrapped(error - np.angle(np.exp(1j * error).mean()))


def notes(maps):
    return " ".join(maps.provenance.notes)


@pytest.mark.parametrize("kind", ["constant", "ramp", "bowl", "coils"])
@pytest.mark.parametrize("times", [EVEN, UNEVEN])
def test_a_smooth_offset_is_followed_over_several_turns(kind, times):
    start = offsets()[kind]
    maps = run(measure(start, times, noise=4.0))
    error = misses(maps, start)
    assert np.std(error) < 0.03
    assert np.quantile(np.abs(error), 0.99) < 0.1


def test_a_constant_offset_is_exact_without_noise():
    maps = run(measure(offsets()["constant"]))
    np.testing.assert_allclose(maps[Quantity.OFFSET], 1.0, atol=1e-4)


def test_what_is_left_grows_with_echo_time_from_zero():
    measured = measure(offsets()["coils"])
    cleared = run(measured)[Quantity.PHASE]
    assert cleared.shape == measured[Quantity.PHASE].shape
    assert np.abs(cleared).max() <= np.pi + 1e-6
    for echo, time in enumerate(EVEN):
        left = wrapped(cleared[..., echo] - RAD * field() * time)[brain()]
        assert np.std(left) < 0.03
        assert abs(np.mean(left)) < 0.02


def test_the_offset_is_taken_off_every_echo_alike():
    measured = measure(offsets()["ramp"], noise=3.0)
    maps = run(measured)
    difference = measured[Quantity.PHASE] - maps[Quantity.PHASE] - maps[Quantity.OFFSET][..., None]
    np.testing.assert_allclose(wrapped(difference + 1.0), 1.0, atol=2e-5)  # off the cut


def test_a_turn_between_echoes_becomes_a_constant_field():
    """The difference is taken nearest to zero, and every echo agrees with that field."""
    turn = 1 / (0.0101 - 0.0055) * 2 * np.pi / RAD  # ppm
    measured = measure(offsets()["ramp"], UNEVEN[:2], ppm=0.9 * turn)
    maps = run(measured)
    for echo, time in enumerate(UNEVEN[:2]):
        left = maps[Quantity.PHASE][..., echo] - RAD * (field() - 0.1 * turn) * time
        assert np.abs(wrapped(left)[brain()]).mean() < 0.03
    assert "a turn more would be a constant field of 217 Hz" in notes(maps)


def test_the_order_of_the_echoes_does_not_matter():
    start = offsets()["bowl"]
    plain = run(measure(start, noise=2.0))
    mixed = run(measure(start, noise=2.0, order=(3, 0, 2, 1)))
    np.testing.assert_array_equal(mixed[Quantity.OFFSET], plain[Quantity.OFFSET])
    np.testing.assert_array_equal(mixed[Quantity.PHASE], plain[Quantity.PHASE][..., [3, 0, 2, 1]])


def test_the_offset_goes_on_smoothly_outside_the_mask():
    offset = run(measure(offsets()["ramp"], noise=4.0))[Quantity.OFFSET]
    near = brain()
    for axis in range(3):
        steps = np.abs(wrapped(np.diff(offset, axis=axis)))
        assert np.quantile(steps, 0.999) < 0.5
        near = near | np.roll(brain(), 3, axis) | np.roll(brain(), -3, axis)
    rim = near & ~brain()
    assert np.abs(wrapped(offset - offsets()["ramp"]))[rim].mean() < 0.2


def test_without_mask_and_magnitude_all_voxels_count():
    measured = measure(offsets()["ramp"])
    bare = Acquisition(measured.grid, {Quantity.PHASE: measured[Quantity.PHASE]}, 3.0, EVEN)
    maps = run(bare)
    assert "no magnitude" in notes(maps)
    assert np.quantile(np.abs(wrapped(maps[Quantity.OFFSET] - offsets()["ramp"])), 0.9) < 0.1


def test_a_single_slice_and_dark_voxels_give_numbers():
    measured = measure(offsets()["ramp"], noise=2.0)
    middle = slice(SHAPE[2] // 2, SHAPE[2] // 2 + 1)
    volumes = {q: v[:, :, middle].copy() for q, v in measured.volumes.items()}
    volumes[Quantity.MAGNITUDE][20:30, 20:30] = 0
    flat = Acquisition(Grid((*SHAPE[:2], 1), measured.grid.affine), volumes, 3.0, EVEN)
    maps = run(flat)
    error = wrapped(maps[Quantity.OFFSET] - offsets()["ramp"][:, :, middle])
    assert np.abs(error[volumes[Quantity.MASK]]).mean() < 0.1
    volumes[Quantity.MAGNITUDE][:] = 0
    run(Acquisition(flat.grid, volumes, 3.0, EVEN))  # Maps refuses what is not a number


@pytest.mark.parametrize("slope", [0.08, -0.15])
def test_a_bipolar_readout_is_noticed_and_corrected(slope):
    x, y, _ = places()
    theta, start = 0.2 + slope * x + 0.01 * y, offsets()["ramp"]
    measured = measure(start, noise=2.0, theta=theta)
    ignored = run(measured)
    assert "as a bipolar readout makes it" in notes(ignored)
    corrected = run(measured, readout="bipolar")
    assert "alternates between odd and even echoes" in notes(corrected)
    for echo, time in enumerate(EVEN):
        left, before = (
            np.std(wrapped(m[Quantity.PHASE][..., echo] - RAD * field() * time)[brain()])
            for m in (corrected, ignored)
        )
        assert left < 0.12  # noise and what smoothing leaves
        assert echo == 0 or left < before


def test_a_monopolar_readout_is_not_suspected():
    for kind, start in offsets().items():
        maps = run(measure(start, noise=3.0))
        assert "bipolar" not in notes(maps), kind


@pytest.mark.parametrize("times", [EVEN[:2], UNEVEN])
def test_a_bipolar_readout_wants_three_even_echoes(times):
    with pytest.raises(InputError, match="three evenly spaced echoes"):
        run(measure(offsets()["ramp"], times), readout="bipolar")


def test_smoothing_keeps_slopes_up_to_the_edge():
    """A linear phase comes back, though averages at the edge see one side only."""
    blocks = Blocks((60, 40, 20), (1.0, 1.0, 2.0), 5.0)
    x, y, z = np.meshgrid(*[np.arange(n) for n in blocks.shape], indexing="ij")
    phase = 0.1 * x - 0.05 * y + 0.1 * z
    strength = np.random.default_rng(0).uniform(0.2, 1, phase.shape)
    step = blocks.factors[0] * 5
    for start in range(0, 60, step):
        planes = slice(start, start + step)
        blocks.add(start, (strength * np.exp(1j * phase))[planes].astype(np.complex64))
    smooth = blocks.spread(finished(blocks.smoothed()), slice(0, 60))
    assert np.abs(wrapped(smooth - phase)).max() < 0.05
