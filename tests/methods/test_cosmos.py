"""COSMOS recovers what several orientations determine, and says what they do not."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from napari_qsm.acquisition import Acquisition, Grid, InputError, Maps, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.generators import finished
from napari_qsm.io.nifti import write_maps
from napari_qsm.methods import wrapping
from napari_qsm.methods.inversion import cosmos
from napari_qsm.methods.registry import Parameters, find, parameter
from napari_qsm.methods.wrapping import Wrapper
from napari_qsm.physics import fourier
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.solvers.conjugate_gradient import conjugate_gradient
from napari_qsm.solvers.fourier import scale_spectrum
from napari_qsm.solvers.iteration import until_converged
from napari_qsm.training.phantom import orientations, sample_head

Z = (0.0, 0.0, 1.0)


def tilted(axis, degrees):
    return tuple(Rotation.from_euler(axis, degrees, degrees=True).apply(Z))


WELL = [tilted("x", 30), tilted("y", 30), tilted("x", -30), tilted("y", -30)]


def run(measured, key="cosmos", **settings):
    method = find(key)
    return finished(method(measured, method.with_settings(settings)))


def operators(shape, directions, sizes=(1.0, 1.2, 1.7)):
    affine = np.diag([*sizes, 1.0])
    return [
        DipoleConvolution(Grid(shape, affine, b), dtype=torch.float64, padded_shape=shape)
        for b in directions
    ]


def random(shape, seed=0):
    values = torch.randn(shape, dtype=torch.float64, generator=torch.manual_seed(seed))
    return values - values.mean()


# -- mathematics -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 5])
def test_odd_sizes_without_noise_are_recovered_exactly(count):
    shape = (21, 15, 17)
    dipoles = operators(shape, [Z, *WELL[: count - 1]])
    truth = random(shape)
    symbols = [one.spectrum for one in dipoles]
    total = finished(cosmos.pulled(symbols, [one(truth) for one in dipoles]))
    found = fourier.volume(scale_spectrum(total, cosmos.inverse_sum(symbols, 0.01)), shape)
    assert float((found - truth).norm() / truth.norm()) < 1e-12


@pytest.mark.parametrize("seed", range(2))
def test_the_weighted_problem_has_the_solution_of_a_dense_solver(seed):
    shape = (5, 3, 7)
    dipoles = operators(shape, [Z, *WELL[:2]])
    symbols = [one.spectrum for one in dipoles]
    weights = [random(shape, seed + 10 * k).square() + 0.1 for k in range(3)]
    fields = [random(shape, seed + 100 * k) for k in range(1, 4)]

    half = cosmos.inverse_sum(symbols, 0.01).sqrt()
    seen = [w * f for w, f in zip(weights, fields, strict=True)]
    right = fourier.volume(scale_spectrum(finished(cosmos.pulled(symbols, seen)), half), shape)
    iterates = conjugate_gradient(cosmos.normal(symbols, weights, half), right)
    last = finished(until_converged(iterates, tolerance=1e-13, max_iterations=400))
    found = fourier.volume(scale_spectrum(fourier.spectrum(last.estimate), half), shape)

    units = torch.eye(found.numel(), dtype=torch.float64).reshape(-1, *shape)
    rows, aims = [], []
    for one, weight, field in zip(dipoles, weights, fields, strict=True):
        columns = one(units).reshape(len(units), -1)  # D is symmetric
        rows.append(weight.sqrt().reshape(-1, 1) * columns)
        aims.append((weight.sqrt() * field).reshape(-1))
    dense = torch.linalg.pinv(torch.cat(rows)) @ torch.cat(aims)  # the one with a mean of 0
    assert float((found.reshape(-1) - dense).norm() / dense.norm()) < 1e-9


# -- on the digital head -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def head():
    return sample_head("healthy", 4.0)


@pytest.fixture(scope="module")
def five(head):
    return orientations(head, WELL).acquisition


def error(head, maps, mask=None):
    inside = head.acquisition.mask if mask is None else mask
    return nrmse(maps[Quantity.CHI], head.truth[Quantity.CHI], inside)


def test_every_orientation_lowers_the_error(head):
    nested = [tilted("x", 20), tilted("y", 20), tilted("x", -20), tilted("y", -20)]
    errors = [
        error(head, run(orientations(head, nested[:count]).acquisition)) for count in (1, 2, 3, 4)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.85 * errors[0]


def test_it_beats_what_one_orientation_gives(head):
    five = orientations(head, [tilted(a, s) for a in "xy" for s in (15, -15)]).acquisition
    several = error(head, run(five))
    for key in ("tkd", "tikhonov", "tv"):
        assert several < 0.85 * error(head, run(head.acquisition, key))


def test_orientations_of_the_phantom_are_reproducible_and_differ(head):
    first, again = (orientations(head, WELL[:2], seed=4).acquisition for _ in range(2))
    for one, other in zip(first.others, again.others, strict=True):
        assert np.array_equal(one[Quantity.LOCAL_FIELD], other[Quantity.LOCAL_FIELD])
    alone = orientations(head, WELL[:1], seed=4).acquisition
    assert np.array_equal(
        alone.others[0][Quantity.LOCAL_FIELD], first.others[0][Quantity.LOCAL_FIELD]
    )
    upright = orientations(head, [Z, WELL[0]]).acquisition.others[0]
    noise = (upright[Quantity.LOCAL_FIELD] - head.field)[head.noise > 0]
    assert np.std(noise / head.noise[head.noise > 0]) == pytest.approx(1, abs=0.02)


def test_a_noisy_orientation_counts_less_when_weighted_by_noise(head):
    noise = {Quantity.FIELD_NOISE: head.noise}
    several = orientations(head, WELL).acquisition.with_volumes(noise)
    rng = np.random.default_rng(1)
    bad = several.others[1]
    louder = bad[Quantity.LOCAL_FIELD] + 20 * head.noise * rng.standard_normal(head.noise.shape)
    others = [one.with_volumes(noise) for one in several.others]
    others[1] = bad.with_volumes(
        {Quantity.LOCAL_FIELD: louder, Quantity.FIELD_NOISE: 20 * head.noise}
    )
    several = replace(several, others=tuple(others))
    assert error(head, run(several, weights="noise")) < 0.8 * error(head, run(several))


def test_the_first_magnitude_stands_for_those_that_are_missing(five):
    bare = [
        replace(one, volumes={q: v for q, v in one.volumes.items() if q is not Quantity.MAGNITUDE})
        for one in five.others
    ]
    assert bare[0][Quantity.MASK].any()
    some = run(replace(five, others=tuple(bare)), weights="magnitude")
    assert np.array_equal(some[Quantity.CHI], run(five, weights="magnitude")[Quantity.CHI])
    assert noted(some, "The first magnitude stands for orientation 2, 3, 4, 5, too.")


def test_the_closed_form_is_what_weights_of_one_everywhere_mean(five):
    maps = run(five, weights="none")
    every, _ = cosmos.shared(five)
    fields = [torch.from_numpy(one[Quantity.LOCAL_FIELD].astype(np.float64)) for one in every]
    (box,) = [np.nonzero(every[0].mask)]
    cut = tuple(slice(a.min(), a.max() + 1) for a in box)
    shape = fourier.smooth_shape([s.stop - s.start for s in cut], 1.25)
    dipoles = operators(shape, [one.grid.b0_direction for one in every], five.grid.voxel_size)
    above = sum(d.spectrum * fourier.spectrum(f[cut], shape)
                for d, f in zip(dipoles, fields, strict=True))  # fmt: skip
    below = sum(d.spectrum.square() for d in dipoles).clamp(min=0.01)
    expected = fourier.crop(fourier.volume(above / below, shape), [s.stop - s.start for s in cut])
    inside = every[0].mask[cut]
    wanted = expected.numpy()[inside] - expected.numpy()[inside].mean()
    assert np.abs(maps[Quantity.CHI][cut][inside] - wanted).max() < 1e-5


# -- what is said ------------------------------------------------------------------------------


def noted(maps: Maps, words):
    return any(words in note for note in maps.provenance.notes)


def test_the_conditioning_is_noted_and_a_poor_one_is_said_to_be(head, five):
    assert noted(run(five), "min ΣD² = 0.27")
    assert not noted(run(five), "tilt the head further")
    poor = run(orientations(head, [tilted("x", 25), tilted("y", 25)]).acquisition)
    assert noted(poor, "min ΣD² = 0.040")
    assert noted(poor, "tilt the head further")
    two = run(orientations(head, [tilted("x", 25)]).acquisition)
    assert noted(two, "some directions of k-space are not measured")


def test_a_wrong_direction_of_b0_stands_out(five):
    wrong = list(five.others)
    wrong[1] = replace(wrong[1], grid=wrong[1].grid.with_b0((-0.5, 0, 0.87)))
    assert noted(run(replace(five, others=tuple(wrong))), "Orientation 3 fits worst by far")
    assert not noted(run(five), "fits worst")


def test_the_map_covers_what_the_masks_share(head, five):
    less = five.mask.copy()
    less[: less.shape[0] // 2] = False
    others = (five.others[0].with_volumes({Quantity.MASK: less}), *five.others[1:])
    maps = run(replace(five, others=others))
    assert np.array_equal(maps[Quantity.CHI] != 0, less)
    assert noted(maps, f"covers the {np.count_nonzero(less)} voxels that all 5 orientations share")


def test_how_it_was_made_names_every_orientation(five, tmp_path):
    sources = {Quantity.LOCAL_FIELD: "second.nii.gz"}
    others = (replace(five.others[0], sources=sources), *five.others[1:])
    made = run(replace(five, others=others)).provenance
    assert {"local_field", "local_field@2", "mask@5"} <= set(made.inputs)
    assert len({made.inputs[k] for k in made.inputs if k.startswith("local_field")}) == 5
    assert made.sources["local_field@2"] == "second.nii.gz"
    assert np.allclose(made.grid["other_b0_directions"], WELL)
    write_maps(run(five), tmp_path)
    stored = json.loads((tmp_path / "Chimap.json").read_text())["Provenance"]
    assert np.allclose(stored["grid"]["other_b0_directions"], WELL)


def test_methods_for_one_orientation_take_the_first_and_say_so(head, five):
    several, alone = run(five, "tkd"), run(head.acquisition, "tkd")
    assert np.array_equal(several[Quantity.CHI], alone[Quantity.CHI])
    assert noted(several, "TKD inverts one orientation of a head: the first of the 5")
    assert several.provenance.inputs == alone.provenance.inputs
    assert "other_b0_directions" not in several.provenance.grid


# -- what is refused ---------------------------------------------------------------------------


def refused(words, work):
    with pytest.raises(InputError) as caught:
        work()
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")


def test_one_orientation_is_too_few(head):
    refused("needs a head in 2 orientations at least", lambda: run(head.acquisition))


def test_wrappers_change_the_field_of_one_orientation_only(monkeypatch):
    class Toy(Parameters):
        twice: bool = parameter(True, "Whether it runs twice.")

    made = Wrapper("toy", "toy", "A toy.", (), (), ("10.0/x",), Toy, lambda *_: None)
    monkeypatch.setattr(wrapping, "wrappers", lambda: {"toy": made})
    assert find("tkd+toy").orientations == 1
    refused("COSMOS inverts several", lambda: find("cosmos+toy"))


def test_repetitions_are_no_orientations(head):
    refused("differ by 0.0 degrees at most", lambda: orientations(head, [Z, (0, 0, -2)]))
    refused("differ by 1.0 degrees at most", lambda: orientations(head, [tilted("x", 1)]))


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (Grid((6, 7, 9), np.eye(4), (0, 1, 1)), "Orientation 2 has 6 x 7 x 9 voxels"),
        (Grid((6, 7, 8), np.diag([1, 1, 2, 1]), (0, 1, 1)), "of 1 x 1 x 2 mm"),
    ],
)
def test_orientations_lie_on_one_grid(grid, words):
    other = Acquisition(grid, {Quantity.LOCAL_FIELD: np.ones(grid.shape)})
    first = Grid((6, 7, 8), np.eye(4))
    refused(words, lambda: Acquisition(first, {}, others=(other,)))


def test_every_orientation_needs_a_field_and_a_voxel_in_common(five):
    bare = replace(five.others[0], volumes={})
    refused("Orientation 2 has no local field", lambda: run(replace(five, others=(bare,))))
    elsewhere = five.others[0].with_volumes({Quantity.MASK: ~five.mask})
    refused("share no voxel", lambda: run(replace(five, others=(elsewhere,))))


def test_orientations_stay_through_changes(five):
    assert five.with_volumes({Quantity.MASK: five.mask}).others == five.others
    assert five.following(run(five, "tkd")).others == five.others
