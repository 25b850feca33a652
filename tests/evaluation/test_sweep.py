"""Sweeps: the right maps at the right values, honest shortcuts, and figures that are exact."""

import csv
import gc
import io
import weakref

import numpy as np
import pytest
import torch

from napari_qsm import process
from napari_qsm.acquisition import Acquisition, Grid, InputError, Maps, Quantity
from napari_qsm.evaluation import sweep as module
from napari_qsm.evaluation.filter_curve import filter_curve
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.evaluation.similarity import xsim
from napari_qsm.evaluation.sweep import Solved, sweep
from napari_qsm.evaluation.sweep_range import plan, spaced, tuned
from napari_qsm.evaluation.yardstick import Yardstick
from napari_qsm.generators import finished, relayed
from napari_qsm.methods.registry import find
from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics import fourier
from napari_qsm.physics.gradient import Gradient
from napari_qsm.training.phantom import sample_head

VALUES = (3e-5, 1e-4, 3e-4)


@pytest.fixture(scope="module")
def head():
    return sample_head("healthy", 4.0)


@pytest.fixture(scope="module")
def measured(head):
    return head.acquisition


@pytest.fixture(scope="module")
def swept(head):
    steps = []
    running = sweep(
        find("tv"), head.acquisition, reversed(VALUES), reference=head.truth[Quantity.CHI]
    )
    return finished(relayed(running, steps.append)), steps


def objective(measured, maps, value):
    """``1/2 |W (D chi - f)|^2 + lambda |G chi|_1`` for each voxel of the mask."""
    with Yardstick(measured, "auto", torch.device("cpu")) as yardstick:
        finished(yardstick.prepare())
        found = finished(yardstick.measure(maps))
    return 0.5 * found.residual**2 + value * found.variation


def test_points_come_in_order_and_steps_never_go_back(swept):
    made, steps = swept
    assert tuple(made.values) == VALUES
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    solved = [step for step in steps if isinstance(step, Solved)]
    assert [tuple(step.sweep.values) for step in solved] == [
        VALUES[:2],
        VALUES,
    ]  # from the middle down
    assert all(np.shares_memory(step.chi, made.chi) for step in solved)
    assert np.array_equal(solved[0].sweep.chi[0], made.chi[0])


def test_brief_points_are_nearly_as_good_as_their_own_cold_solves(measured):
    tv = find("tv")
    values = spaced(tuned(tv), 4e-5, 3e-4, 4)  # a step of a sweep of 8 points over two decades
    made = finished(sweep(tv, measured, values))
    limit = tv.parameters().max_iterations
    assert sum(point.iterations for point in made.points) < limit
    for index, value in enumerate(values):
        cold = finished(tv(measured, tv.with_settings({"regularization": value})))
        assert objective(measured, made.maps(index), value) < 1.02 * objective(
            measured, cold, value
        )


def test_thorough_points_are_as_good_as_their_own_cold_solves(measured):
    tv = find("tv")
    made = finished(sweep(tv, measured, VALUES[:2], thorough=True))
    cold = finished(tv(measured, tv.with_settings({"regularization": VALUES[1]})))
    own = objective(measured, made.maps(1), VALUES[1])
    assert own < 1.001 * objective(measured, cold, VALUES[1])
    assert made.points[1].provenance.parameters["max_iterations"] == tv.parameters().max_iterations


def test_a_point_gives_the_maps_of_its_method_with_their_making(swept, measured):
    made, _ = swept
    maps = made.maps(1)
    assert np.array_equal(maps[Quantity.CHI], made.chi[1])
    assert not np.shares_memory(maps[Quantity.CHI], made.chi)  # it outlives the sweep
    assert Quantity.RESIDUAL in maps
    assert maps.provenance.method == "tv"
    assert maps.provenance.parameters["regularization"] == VALUES[1]
    assert set(maps.provenance.inputs) == {"local_field", "magnitude", "mask"}
    assert not any("sweep" in note for note in maps.provenance.notes)  # solved as anybody would
    assert any("from the map at 0.0001" in note for note in made.maps(2).provenance.notes)


def test_the_map_of_a_point_follows_from_its_neighbours_from_the_middle_outwards(
    measured, monkeypatch
):
    tv = find("tv")
    given = []

    def spy(acquisition, parameters, device):
        given.append(acquisition)
        chi = acquisition.mask * parameters.regularization
        yield process.Step(0.5, "")
        return Maps(acquisition.grid, {Quantity.CHI: chi.astype(np.float32)})

    made = finished(sweep(module.replace(tv, function=spy), measured, VALUES))
    assert Quantity.CHI not in given[0]
    assert np.array_equal(given[1][Quantity.CHI], made.chi[1])
    led = made.chi[1] + (made.chi[1] - made.chi[0]) * measured.mask  # values in equal ratios
    np.testing.assert_allclose(given[2][Quantity.CHI], led, rtol=0.1, atol=1e-9)
    assert made.chi[0].max() == pytest.approx(VALUES[0])


def test_figures_are_those_of_the_maps(swept, head, measured):
    made, _ = swept
    truth, mask = head.truth[Quantity.CHI], measured.mask
    chi, point = made.chi[0], made.points[0].measures
    inside = np.where(mask, truth - truth[mask].mean(), 0)
    assert point.nrmse == pytest.approx(nrmse(chi, truth, mask))
    assert point.xsim == pytest.approx(xsim(chi, inside, mask), abs=1e-6)
    magnitude = np.square(measured[Quantity.MAGNITUDE].astype(float)).reshape(*mask.shape, -1)
    power = np.minimum(magnitude.sum(-1), np.percentile(magnitude.sum(-1)[mask], 99))
    power /= power[mask].mean()
    residual = made.maps(0)[Quantity.RESIDUAL]
    expected = np.sqrt((power * residual**2)[mask].sum() / mask.sum())
    assert point.residual == pytest.approx(expected, rel=1e-4)
    total = 0.0
    for axis, size in enumerate(measured.grid.voxel_size):
        both = np.diff(mask.astype(int), axis=axis) == 0
        both &= np.take(mask, range(mask.shape[axis] - 1), axis)
        total += np.abs(np.diff(chi, axis=axis))[both].sum() / size
    assert point.variation == pytest.approx(total / mask.sum(), rel=1e-4)


def test_roughness_falls_and_residual_grows_with_regularisation(swept):
    made, _ = swept
    assert (np.diff(made.column("variation")) < 0).all()
    assert (np.diff(made.column("residual")) > 0).all()


def test_cone_energy_tells_streaks_from_emptiness(measured, head):
    tkd = find("tkd")
    made = finished(sweep(tkd, measured, (0.01, 0.3)))
    cone = made.column("cone")
    assert cone[1] < 0.5 < 1.3 < cone[0]
    with Yardstick(measured, "auto", torch.device("cpu")) as yardstick:
        finished(yardstick.prepare())
        truth = head.truth[Quantity.CHI] * measured.mask
        known = finished(yardstick.measure(Maps(measured.grid, {Quantity.CHI: truth})))
    assert known.cone == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("key", ["tkd", "tikhonov"])
def test_the_curve_of_a_filter_is_exact_without_inverse_transforms(key, measured):
    method = find(key)
    values = (0.05, 0.2)
    exact = finished(filter_curve(method, measured, values))
    count = np.count_nonzero(measured.mask)
    for index, value in enumerate(values):
        with Workspace(measured, torch.device("cpu"), "test") as space:
            symbol = method.symbol(space, method.with_settings({method.tuning: value}))
            chi = fourier.volume(fourier.spectrum(space.field()) * symbol, space.shape)
            misfit = space.dipole(chi) - space.field()
            rough = Gradient(space.voxel_size)(chi)
        sizes = (float(x.double().square().sum() / count) ** 0.5 for x in (misfit, rough))
        found = (exact.curve.residual[index], exact.curve.roughness[index])
        assert found == pytest.approx(tuple(sizes), rel=1e-5)


def test_a_filter_has_a_denser_curve_that_holds_its_points(measured):
    made = finished(sweep(find("tikhonov"), measured, (1e-4, 1e-3, 1e-2)))
    assert len(made.curve.values) >= 25
    assert set(made.values) <= set(made.curve.values)


def test_the_range_is_a_decade_about_what_the_method_chooses(measured):
    tv = find("tv")
    values = finished(plan(tv, measured, points=8))
    chosen = finished(tv(measured))
    usual = chosen.provenance.chosen["regularization"]
    assert len(values) == 8
    assert (values[0], values[-1]) == pytest.approx((usual / 10, usual * 10))
    stated = finished(plan(tv, measured, tv.with_settings({"lambda": 1e-3})))
    assert (stated[0], stated[-1]) == pytest.approx((1e-4, 1e-2))
    assert finished(plan(tv, measured, low=1e-5, high=1e-3, points=3)) == (1e-5, 1e-4, 1e-3)


def test_whole_numbers_stay_whole_and_differ():
    number = tuned(find("ndi"))
    assert number.whole
    assert spaced(number, 2, 5, 8) == (2, 3, 4, 5)


def test_senseless_ranges_are_refused_in_a_sentence(measured):
    number = tuned(find("tkd"))
    with pytest.raises(InputError, match="must rise"):
        spaced(number, 0.2, 0.1)
    with pytest.raises(InputError, match="must rise and lie between"):
        spaced(number, 0.1, 2 * number.high)
    with pytest.raises(InputError, match="2 or more"):
        spaced(number, 0.1, 0.2, 1)
    with pytest.raises(InputError, match="no parameter to sweep"):
        next(sweep(module.replace(find("tkd"), tuning=""), measured, (0.1,)))
    with pytest.raises(InputError, match="one grid"):
        next(sweep(find("tkd"), measured, (0.1, 0.2), reference=np.zeros((2, 2, 2))))


def test_the_table_has_a_line_for_each_point(swept):
    made, _ = swept
    rows = list(csv.DictReader(io.StringIO(made.table())))
    assert [float(row["regularization"]) for row in rows] == list(VALUES)
    assert float(rows[0]["nrmse_percent"]) == pytest.approx(made.points[0].measures.nrmse, rel=1e-4)
    assert all(int(row["iterations"]) > 0 and float(row["seconds"]) > 0 for row in rows)


def test_marks_lie_inside_the_range_and_the_least_error_among_them(head, measured):
    values = np.geomspace(0.02, 0.33, 7)
    made = finished(sweep(find("tkd"), measured, values, reference=head.truth[Quantity.CHI]))
    marks = {mark.key: mark.value for mark in made.marks}
    assert all(values[0] <= value <= values[-1] for value in marks.values())
    best = values[np.argmin(made.column("nrmse"))]
    assert marks["nrmse"] == pytest.approx(best, rel=0.6)
    assert {"nrmse", "frequencies"} <= set(marks)


def test_closing_a_sweep_midway_frees_what_it_held(measured):
    running = sweep(find("tv"), measured, VALUES)
    held = None
    for step in running:
        if isinstance(step, Solved):
            held = weakref.ref(step.chi)
            break
    del step
    running.close()
    del running
    gc.collect()
    assert held() is None
    threads = torch.get_num_threads()
    finished(find("tkd")(measured))
    assert torch.get_num_threads() == threads


def test_measuring_uses_the_noise_map_where_there_is_one():
    rng = np.random.default_rng(0)
    shape = (16, 16, 16)
    noise = rng.uniform(0.001, 0.003, shape).astype(np.float32)
    field = (noise * rng.normal(size=shape)).astype(np.float32)
    volumes = {Quantity.LOCAL_FIELD: field, Quantity.FIELD_NOISE: noise}
    measured = Acquisition(Grid(shape, np.eye(4)), volumes)
    with Yardstick(measured, "noise", torch.device("cpu")) as yardstick:
        finished(yardstick.prepare())
        assert yardstick.noise == pytest.approx(yardstick.field_residual, rel=0.05)
