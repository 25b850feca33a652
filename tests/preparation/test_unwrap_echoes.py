"""Region growing of several echoes: no wrong wrap where there is signal, offset or not."""

import time

import nibabel
import numpy as np
import pytest

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished, relayed
from napari_qsm.preparation.registry import find

SHAPE = (44, 48, 40)
TIMES = (0.004, 0.008, 0.012)
x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
AIR = np.sqrt(x**2 + (y - 0.9) ** 2 + (z + 1.1) ** 2) / 0.55  # distance over radius
HEAD = ((x / 0.9) ** 2 + (y / 0.95) ** 2 + (z / 0.9) ** 2 < 1) & (AIR > 1.1)


def slope():
    """Precession in rad/s: a shim, and a ball of air beside the head; some turns per echo."""
    cosine = (z + 1.1) / 0.55 / AIR
    air = (3 * cosine**2 - 1) / np.maximum(AIR, 1) ** 3
    return 500 * air + 800 * z + 300 * x * y - 400 * y**2


def measure(times=TIMES, snr=20.0, offset=0.0, seed=0, rate=30.0):
    """Return phase, magnitude, true phase and the true SNR of every voxel and echo."""
    times = np.asarray(times)
    rng = np.random.default_rng(seed)
    truth = slope()[..., None] * times + np.broadcast_to(offset, SHAPE)[..., None]
    strength = (HEAD * (1 + 0.4 * np.sin(6 * x)))[..., None] * np.exp(-rate * times)
    noise = rng.standard_normal((*truth.shape, 2)) @ [1, 1j] / snr
    signal = strength * np.exp(1j * truth) + noise
    return np.angle(signal), np.abs(signal), truth, strength * snr


def acquisition(phase, magnitude=None, times=TIMES, mask=HEAD, **more):
    volumes = {Quantity.PHASE: phase, Quantity.MASK: mask}
    if magnitude is not None:
        volumes[Quantity.MAGNITUDE] = magnitude
    volumes |= {Quantity.named(key): value for key, value in more.items()}
    return Acquisition(Grid(mask.shape, np.eye(4)), volumes, 3.0, times)


def run(measured, key="region_growing", **settings):
    stage = find(key)
    running, beats = stage(measured, stage.with_settings(settings)), [time.perf_counter()]
    maps = finished(relayed(running, lambda _: beats.append(time.perf_counter())))
    return maps, max(np.diff(beats))


def wrong(unwrapped, truth, where):
    """Count voxels more than half a turn off, after the turns that an echo as a whole may have."""
    off = (unwrapped - truth)[where]
    off -= 2 * np.pi * np.rint(np.median(off) / (2 * np.pi))
    return int(np.count_nonzero(np.abs(off) > np.pi))


def global_turns(unwrapped, truth):
    return [
        round(float(np.median((unwrapped - truth)[HEAD, echo])) / (2 * np.pi))
        for echo in range(truth.shape[3])
    ]


@pytest.mark.parametrize("magnitudes", [True, False])
@pytest.mark.parametrize("snr", [8.0, 40.0])
@pytest.mark.parametrize("times", [TIMES, (0.0031, 0.0074, 0.0117, 0.016), (0.012, 0.004, 0.008)])
def test_no_voxel_with_an_snr_above_five_is_wrapped(times, snr, magnitudes):
    phase, magnitude, truth, strength = measure(times, snr)
    assert np.ptp(truth[HEAD]) > 3 * 2 * np.pi
    maps, _ = run(acquisition(phase, magnitude if magnitudes else None, times))
    unwrapped = maps[Quantity.UNWRAPPED]
    for echo in range(len(times)):
        signal = HEAD & (strength[..., echo] > 5)
        assert np.count_nonzero(signal) > 5000
        assert wrong(unwrapped[..., echo], truth[..., echo], signal) == 0
    assert len(set(global_turns(unwrapped, truth))) == 1
    turns = (unwrapped - phase)[HEAD] / (2 * np.pi)
    assert np.abs(turns - np.rint(turns)).max() < 1e-5
    assert not unwrapped[~HEAD].any()


OFFSETS = {
    "constant": 2.5 + 0 * x,
    "ramp": 6 * x - 4 * z,
    "coils": 3 * np.sin(2 * x) + 2 * np.cos(3 * y) + 3 * z,
}


@pytest.mark.parametrize("name", OFFSETS)
def test_a_phase_offset_is_noticed_and_survived(name):
    phase, magnitude, truth, strength = measure(offset=OFFSETS[name])
    maps, _ = run(acquisition(phase, magnitude))
    for echo in range(3):
        signal = HEAD & (strength[..., echo] > 5)
        assert wrong(maps[Quantity.UNWRAPPED][..., echo], truth[..., echo], signal) == 0
    assert any("phase offset" in note for note in maps.provenance.notes)
    turns = global_turns(maps[Quantity.UNWRAPPED], truth)
    assert turns[2] - turns[1] == turns[1] - turns[0], "no constant field explains these turns"


def test_proportion_can_be_insisted_on_and_then_offsets_are_told():
    phase, magnitude, _, _ = measure(offset=OFFSETS["coils"])
    maps, _ = run(acquisition(phase, magnitude), others="proportional")
    assert any("there may be wrong wraps" in note for note in maps.provenance.notes)
    maps, _ = run(acquisition(phase, magnitude), others="neighbours")
    assert any("as chosen" in note for note in maps.provenance.notes)


@pytest.mark.parametrize(
    ("times", "template"),
    [(TIMES, 1), ((0.0005, 0.006, 0.012), 2), ((0.002, 0.007), 2), ((0.002, 0.007, 0.03), 3)],
)
def test_the_first_echo_that_the_next_is_near_is_unwrapped_in_space(times, template):
    phase, magnitude, _, _ = measure(times)
    maps, _ = run(acquisition(phase, magnitude, times))
    assert maps.provenance.notes[0].startswith(f"Echo {template} ")


def test_the_template_can_be_chosen_but_must_exist():
    phase, magnitude, truth, strength = measure()
    maps, _ = run(acquisition(phase, magnitude), template=2)
    assert maps.provenance.notes[0].startswith("Echo 2 ")
    for echo in range(3):
        signal = HEAD & (strength[..., echo] > 5)
        assert wrong(maps[Quantity.UNWRAPPED][..., echo], truth[..., echo], signal) == 0
    with pytest.raises(InputError, match="echo 4 where 3 were measured"):
        run(acquisition(phase, magnitude), template=4)


def test_turns_of_the_whole_template_are_found_from_an_echo_not_in_step():
    """With TE 5 and 11.4 ms, a turn too few in the first echo shows in the second."""
    times = np.array((0.005, 0.0114))
    truth = (slope() * 0.3 + 1300)[..., None] * times
    assert np.median(truth[HEAD, 0]) > np.pi
    phase = np.angle(np.exp(1j * truth))
    maps, _ = run(acquisition(phase, times=tuple(times), phase_offset=np.full(SHAPE, 0.1)))
    np.testing.assert_allclose(maps[Quantity.UNWRAPPED][HEAD], truth[HEAD], atol=1e-3)
    assert any("+1 turns were added" in note for note in maps.provenance.notes)


def test_one_echo_stays_three_dimensional_and_is_graded():
    phase, magnitude, truth, strength = measure()
    maps, _ = run(acquisition(phase[..., 0], magnitude[..., 0], TIMES[:1]))
    assert maps[Quantity.UNWRAPPED].shape == SHAPE
    signal = HEAD & (strength[..., 0] > 5)
    assert wrong(maps[Quantity.UNWRAPPED], truth[..., 0], signal) == 0
    quality = maps[Quantity.QUALITY]
    assert 0 < quality[HEAD].min() <= quality[HEAD].max() <= 1
    assert not quality[~HEAD].any()


@pytest.mark.parametrize("key", ["region_growing", "laplacian", "reliability"])
@pytest.mark.parametrize("kind", ["noise", "zero", "slice", "voxel", "magnitude zero"])
def test_nothing_but_noise_zeros_or_a_slice_does_not_crash(key, kind):
    rng = np.random.default_rng(0)
    phase = rng.uniform(-np.pi, np.pi, (12, 13, 14, 2))
    mask = np.ones(phase.shape[:3], bool)
    if kind == "zero":
        phase[:] = 0
    if kind in ("slice", "voxel"):
        mask[:, :, 1:] = False
    if kind == "voxel":
        mask[1:] = mask[:, 1:] = False
    magnitude = np.zeros_like(phase) if kind == "magnitude zero" else None
    maps, _ = run(acquisition(phase, magnitude, TIMES[:2], mask), key)
    unwrapped = maps[Quantity.UNWRAPPED]
    assert np.isfinite(unwrapped).all()
    assert not unwrapped[~mask].any()
    if kind == "zero":
        assert not unwrapped.any()


@pytest.mark.parametrize("key", ["region_growing", "laplacian", "reliability"])
def test_the_wait_for_a_cancel_is_short(key):
    phase, magnitude, _, _ = measure()
    longest = min(run(acquisition(phase, magnitude), key)[1] for _ in range(3))
    assert longest < 0.3


@pytest.mark.parametrize("key", ["region_growing", "laplacian", "reliability"])
def test_without_a_mask_the_whole_volume_is_unwrapped_and_that_is_said(key):
    field = 20 * x * y - 15 * z
    volumes = {Quantity.PHASE: np.angle(np.exp(1j * field))}
    maps, _ = run(Acquisition(Grid(SHAPE, np.eye(4)), volumes, 3.0, TIMES[:1]), key)
    turns = (maps[Quantity.UNWRAPPED] - field) / (2 * np.pi)
    assert np.abs(turns - np.rint(turns[0, 0, 0])).max() < 1e-3
    assert any("no mask" in note for note in maps.provenance.notes)


@pytest.mark.shared
def test_a_measured_brain_has_no_jump_left_where_its_phase_is_good(shared_data):
    folder = shared_data / "romeo-3echo"
    phase = nibabel.load(folder / "Phase.nii.gz").get_fdata()
    phase *= np.pi / np.abs(phase).max()
    magnitude = nibabel.load(folder / "Mag.nii.gz").get_fdata()
    whole = np.ones(phase.shape[:3], bool)
    maps, _ = run(acquisition(phase, magnitude, TIMES, whole))
    good = maps[Quantity.QUALITY] > 0.5
    assert good.mean() > 0.9
    unwrapped = maps[Quantity.UNWRAPPED]
    assert np.abs(phase[..., 2] - unwrapped[..., 2]).max() > 6, "the last echo had wraps"
    for axis in range(3):
        both = np.diff(good.astype(int), axis=axis) == 0
        both &= np.delete(good, -1, axis)
        for echo in range(3):
            steps = np.abs(np.diff(unwrapped[..., echo], axis=axis))[both]
            assert (steps > np.pi).mean() <= (0, 1e-4, 1e-3)[echo]  # walls of veins
    assert "followed in proportion" in maps.provenance.notes[1]
