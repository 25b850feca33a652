"""How a removal of the background treats masks, holes, edges and noise, and how it runs."""

import gc
import math
import weakref

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished, relayed
from napari_qsm.preparation import background
from napari_qsm.preparation.background import BackgroundProblem
from napari_qsm.preparation.registry import Place, find, stages

KEYS = list(stages(Place.BACKGROUND))
every_key = pytest.mark.parametrize("key", KEYS)
SHAPE, SIZE = (38, 40, 34), (1.5, 1.4, 1.6)
SMALL_BALLS = {
    "sharp": {"radius": 4.0},
    "vsharp": {"largest_radius": 8.0},
    "resharp": {},
    "ismv": {"radius": 4.0},
    "lbv": {},
    "pdf": {},
}


def drained(running):
    steps = []
    return finished(relayed(running, steps.append)), steps


def run(key, acquisition, **settings):
    stage = find(key)
    chosen = stage.with_settings(SMALL_BALLS[key] | settings)
    return drained(stage(acquisition, chosen))[0]


def axes(shape=SHAPE, size=SIZE):
    return np.meshgrid(
        *[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, size, strict=True)], indexing="ij"
    )


def brain(shape=SHAPE, size=SIZE):
    x, y, z = axes(shape, size)
    return (x / 24) ** 2 + (y / 25) ** 2 + (z / 22) ** 2 < 1


def mixture(seed=0):
    """A harmonic background with something local and noise."""
    x, y, z = (a / 25 for a in axes())
    rng = np.random.default_rng(seed)
    local = 0.05 * np.sin(9 * x) * np.cos(8 * y) * np.sin(7 * z)
    return (
        0.4 + 0.3 * x - 0.2 * (y**2 - z**2) + x * y * z + 0.4 * (x**3 - 3 * x * y**2) + local
    ) + 1e-3 * rng.standard_normal(SHAPE)


def measured(field=None, mask=None, **more):
    volumes = {
        Quantity.TOTAL_FIELD: mixture() if field is None else field,
        Quantity.MASK: brain() if mask is None else mask,
    }
    volumes |= {Quantity[name]: values for name, values in more.items()}
    shape = volumes[Quantity.MASK].shape
    return Acquisition(Grid(shape, np.diag([*SIZE, 1.0])), volumes)


def notes(maps):
    return " ".join(maps.provenance.notes)


@every_key
def test_it_gives_a_field_within_a_smaller_mask_and_says_how_much(key):
    maps = run(key, measured())
    kept, mask = maps[Quantity.MASK], brain()
    assert not (kept & ~mask).any()
    assert 0.3 < kept.sum() / mask.sum() < 1
    assert maps[Quantity.LOCAL_FIELD][kept].any()
    assert not maps[Quantity.LOCAL_FIELD][~kept].any()
    assert f"{kept.sum() / mask.sum():.1%} of the mask" in notes(maps)
    assert "mm" in notes(maps)


@pytest.mark.parametrize("key", ["resharp", "ismv", "lbv", "pdf"])
def test_iterations_are_noted_and_stopping_early_too(key):
    assert "Converged in" in notes(run(key, measured()))
    early = notes(run(key, measured(), max_iterations=2, tolerance=1e-5))
    assert "Stopped after the 2 iterations allowed" in early


@every_key
def test_the_same_run_gives_the_same_bits(key):
    first, second = (run(key, measured())[Quantity.LOCAL_FIELD] for _ in range(2))
    np.testing.assert_array_equal(first, second)


@every_key
def test_a_constant_changes_nothing(key):
    plain = run(key, measured())[Quantity.LOCAL_FIELD]
    lifted = run(key, measured(mixture() + 3.0))[Quantity.LOCAL_FIELD]
    np.testing.assert_allclose(lifted, plain, atol=2e-5)


@every_key
def test_what_lies_outside_the_mask_does_not_count(key):
    other = np.where(brain(), mixture(), 1e3)
    np.testing.assert_array_equal(
        run(key, measured(other))[Quantity.LOCAL_FIELD], run(key, measured())[Quantity.LOCAL_FIELD]
    )


@every_key
def test_a_larger_empty_volume_changes_nothing_but_the_frame(key):
    pad = ((4, 7), (0, 5), (9, 0))
    field, mask = (np.pad(v, pad) for v in (mixture(), brain()))
    plain, larger = run(key, measured()), run(key, measured(field, mask))
    crop = tuple(slice(a, n - b) for (a, b), n in zip(pad, mask.shape, strict=True))
    for quantity in (Quantity.LOCAL_FIELD, Quantity.MASK):
        np.testing.assert_array_equal(larger[quantity][crop], plain[quantity])


@every_key
def test_turned_data_give_a_turned_field(key):
    order, flips = (2, 0, 1), (0, 2)

    def turn(values):
        return np.flip(values.transpose(order), flips)

    acquisition = measured()
    affine = np.array(acquisition.grid.affine)
    affine[:3, :3] = affine[:3, order]
    affine[:3, list(flips)] *= -1
    volumes = {quantity: turn(values) for quantity, values in acquisition.volumes.items()}
    turned = run(key, Acquisition(Grid(turn(brain()).shape, affine), volumes))
    plain = run(key, acquisition)
    np.testing.assert_array_equal(turned[Quantity.MASK], turn(plain[Quantity.MASK]))
    difference = turned[Quantity.LOCAL_FIELD] - turn(plain[Quantity.LOCAL_FIELD])
    assert np.abs(difference).max() < 2e-3 * np.abs(plain[Quantity.LOCAL_FIELD]).max()


@every_key
def test_a_mask_at_the_edge_of_the_volume_loses_no_more_there_and_is_told(key):
    """As if the volume went on: nothing wraps around to the other side."""
    cut = (slice(None), slice(9, None), slice(None))
    field, mask = mixture()[cut], brain()[cut]
    assert mask[:, 0].any()
    maps = run(key, measured(field, mask))
    assert "reaches the edge of the volume on 1 of 6 sides" in notes(maps)
    pad = ((3, 3), (8, 3), (3, 3))
    wide = run(key, measured(np.pad(field, pad), np.pad(mask, pad)))
    crop = tuple(slice(a, n - b) for (a, b), n in zip(pad, wide[Quantity.MASK].shape, strict=True))
    np.testing.assert_array_equal(maps[Quantity.MASK], wide[Quantity.MASK][crop])
    np.testing.assert_array_equal(maps[Quantity.LOCAL_FIELD], wide[Quantity.LOCAL_FIELD][crop])
    assert "edge of the volume" not in notes(wide)


@every_key
def test_small_holes_cost_no_more_than_themselves(key):
    holes = np.zeros(SHAPE, bool)
    holes[18:21, 19:22, 16:18] = True
    holes[25, 20, 20] = True
    broken = np.where(holes, 9.0, mixture())
    whole, pierced = run(key, measured()), run(key, measured(broken, brain() & ~holes))
    np.testing.assert_array_equal(pierced[Quantity.MASK], whole[Quantity.MASK] & ~holes)
    assert "holes of 19 voxels" in notes(pierced)
    kept = pierced[Quantity.MASK]
    difference = (pierced[Quantity.LOCAL_FIELD] - whole[Quantity.LOCAL_FIELD])[kept]
    assert difference.std() < 0.15 * whole[Quantity.LOCAL_FIELD][kept].std()


@every_key
def test_a_harmonic_field_is_continued_across_holes_as_it_is(key):
    x, y, z = (a / 25 for a in axes())
    field = x + 0.5 * (y**2 - z**2) + x * y * z
    holes = np.zeros(SHAPE, bool)
    holes[14:19, 19:23, 15:19] = True
    maps = run(key, measured(np.where(holes, 0, field), brain() & ~holes))
    plain = run(key, measured(field))
    limit = 2e-5 if key != "pdf" else 2 * np.abs(plain[Quantity.LOCAL_FIELD]).max()
    assert np.abs(maps[Quantity.LOCAL_FIELD]).max() < limit


def test_large_holes_stay_holes_and_are_told():
    x, y, z = axes()
    hole = x**2 + y**2 + z**2 < 8**2
    maps = run("resharp", measured(mask=brain() & ~hole))
    assert "holes of more than 1 ml" in notes(maps)
    assert not (maps[Quantity.MASK] & (x**2 + y**2 + z**2 < 11**2)).any()


@every_key
def test_voxels_of_noise_alone_are_left_out(key):
    """As where a mask takes air for brain: their phase may be anything."""
    air = brain() & (axes()[0] > 19)
    rng = np.random.default_rng(0)
    wild = np.where(air, 3 * rng.standard_normal(SHAPE), mixture())
    noise = np.where(air, 0.1, 1e-3)
    maps = run(key, measured(wild, FIELD_NOISE=noise))
    assert f"{air.sum()} voxels at the mask's edge were left out" in notes(maps)
    assert not (maps[Quantity.MASK] & air).any()
    without = run(key, measured(mask=brain() & ~air, FIELD_NOISE=noise))
    np.testing.assert_array_equal(maps[Quantity.LOCAL_FIELD], without[Quantity.LOCAL_FIELD])
    fooled = run(key, measured(wild))
    assert (
        np.abs(fooled[Quantity.LOCAL_FIELD]).max() > 10 * np.abs(maps[Quantity.LOCAL_FIELD]).max()
    )


def test_a_noise_of_zero_is_no_reason_to_leave_voxels_out():
    noise = np.zeros(SHAPE)
    noise[20, 20, 20] = 1
    maps = run("resharp", measured(FIELD_NOISE=noise))
    assert "left out" not in notes(maps)
    with pytest.raises(InputError, match="noise is zero"):
        run("pdf", measured(FIELD_NOISE=noise))


@every_key
@pytest.mark.parametrize("mask", ["one voxel", "one slice", "thin", "speckles"])
def test_a_mask_that_vanishes_is_one_sentence(key, mask):
    tiny = np.zeros(SHAPE, bool)
    if mask == "one voxel":
        tiny[20, 20, 20] = True
    elif mask == "one slice":
        tiny[:, :, 17] = True
    elif mask == "thin":
        tiny[10:13, 4:35, 4:30] = True
    else:
        tiny[::3, ::3, ::3] = True
    with pytest.raises(InputError, match="leaves nothing of the mask") as refused:
        run(key, measured(mask=tiny), **({"rim": 3.0} if key == "pdf" else {}))
    assert str(refused.value).endswith(".")
    assert find(key).label in str(refused.value)


@every_key
@pytest.mark.parametrize("field", ["zero", "constant", "huge", "tiny"])
def test_degenerate_fields_give_finite_maps(key, field):
    values = {"zero": 0 * mixture(), "constant": 0 * mixture() + 2, "huge": 1e6 * mixture(),
              "tiny": 1e-12 * mixture()}[field]  # fmt: skip
    maps = run(key, measured(values))
    assert np.isfinite(maps[Quantity.LOCAL_FIELD]).all()
    if field in ("zero", "constant"):
        assert np.abs(maps[Quantity.LOCAL_FIELD]).max() < 1e-6


@pytest.mark.parametrize("key", ["sharp", "resharp", "ismv"])
def test_a_ball_smaller_than_a_voxel_becomes_one_and_is_told(key):
    maps = run(key, measured(), radius=1.0)
    assert "smaller than a voxel; 1.6 mm was used" in notes(maps)


def test_vsharp_uses_the_largest_balls_that_fit():
    maps = run("vsharp", measured(), largest_radius=30.0, smallest_radius=3.0)
    (note,) = (n for n in maps.provenance.notes if "radius of" in n)
    largest = float(note.split("radius of ")[1].split()[0])
    assert 15 < largest < 23
    assert "down to 3 mm" in note
    told = f"Balls of 30 mm were asked for; nowhere in the mask do any larger than {largest:g} mm"
    assert told in notes(maps)
    same = run("vsharp", measured(), largest_radius=largest, smallest_radius=3.0)
    np.testing.assert_allclose(same[Quantity.LOCAL_FIELD], maps[Quantity.LOCAL_FIELD], atol=1e-5)


def test_vsharp_says_where_its_radii_contradict_each_other():
    maps = run("vsharp", measured(), largest_radius=5.0, smallest_radius=8.0)
    assert "The smallest radius, 8 mm, is above the largest: all balls have 5 mm." in notes(maps)


@every_key
def test_progress_goes_forward_in_small_steps(key):
    _, steps = drained(find(key)(measured()))
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.1 < 0.9 < fractions[-1] <= 1
    assert all(step.message.startswith(find(key).label + ":") for step in steps)
    assert len(steps) >= 6


@every_key
@pytest.mark.parametrize("after", [2, 5, 9])
def test_cancelling_frees_everything(key, after, monkeypatch):
    made = []
    enter = BackgroundProblem.__enter__

    def watched(problem):
        made.extend(weakref.ref(v) for v in (problem, problem.field, problem.region))
        return enter(problem)

    monkeypatch.setattr(BackgroundProblem, "__enter__", watched)
    before = torch.get_num_threads()
    running = find(key)(measured())
    for _ in range(after):
        step = next(running, None)
    assert made
    assert any(ref() is not None for ref in made)
    running.close()
    gc.collect()
    assert [ref() for ref in made] == [None] * 3, step  # although the last step is still here
    assert torch.get_num_threads() == before


def test_the_fill_of_a_hole_is_harmonic_and_meets_its_rim():
    x, y, z = axes()
    field = x * y + 0.3 * (x**2 - z**2)
    holes = np.zeros(SHAPE, bool)
    holes[10:17, 12:20, 9:15] = True
    holes[13, 15, 12] = False
    filled = background._continued(np.where(holes, np.nan, field), holes, SIZE)
    np.testing.assert_allclose(filled, field, atol=1e-4 * np.abs(field).max())


def test_holes_are_told_apart_by_their_size():
    mask = np.zeros((20, 20, 20), bool)
    mask[2:18, 2:18, 2:18] = True
    mask[5, 5, 5] = False
    mask[9:13, 9:13, 9:13] = False
    mask[15:, 15, 15] = False  # a bay: open to the outside
    holes, larger = background._holes(mask, 10)
    assert holes.sum() == 1
    assert holes[5, 5, 5]
    assert larger == 64


@pytest.mark.cuda
@every_key
def test_a_gpu_gives_the_same_field(key):
    stage = find(key)
    on_cpu, _ = drained(stage(measured()))
    on_gpu, _ = drained(stage(measured(), device="cuda"))
    np.testing.assert_array_equal(on_gpu[Quantity.MASK], on_cpu[Quantity.MASK])
    error = np.linalg.norm(on_gpu[Quantity.LOCAL_FIELD] - on_cpu[Quantity.LOCAL_FIELD])
    assert error < 1e-3 * np.linalg.norm(on_cpu[Quantity.LOCAL_FIELD])
    assert math.isfinite(error)


@pytest.mark.parametrize("stage", stages(Place.BACKGROUND).values(), ids=lambda s: s.key)
def test_a_noisy_lesion_inside_stays_and_noise_at_the_edge_goes(stage):
    """A haemorrhage has little signal; bone that a mask took for brain has none."""
    shape = (36, 38, 34)
    offsets = np.indices(shape) - (np.reshape(shape, (3, 1, 1, 1)) - 1) / 2
    mask = np.linalg.norm(offsets, axis=0) < 15
    lesion = np.linalg.norm(offsets, axis=0) < 2.5
    bone = mask & (offsets[0] > 13)
    noise = np.where(lesion | bone, 0.1, 0.002) * mask
    field = 0.02 * np.sin(offsets[0] / 3) * mask
    acquisition = Acquisition(
        Grid(shape, np.eye(4)),
        {Quantity.TOTAL_FIELD: field, Quantity.MASK: mask, Quantity.FIELD_NOISE: noise},
    )
    maps = finished(stage(acquisition))
    kept = maps[Quantity.MASK]
    assert kept[lesion].all()
    assert not kept[bone].any()
    assert any("inside the brain are as noisy" in note for note in maps.provenance.notes)
