"""The preparation knows what is out of date, what runs next, why not, and what came of it."""

import threading

import numpy as np
import pytest

from napari_qsm.acquisition import Grid, InputError, Quantity, Volume
from napari_qsm.generators import finished
from napari_qsm.pipeline import Recipe
from napari_qsm.preparation.registry import Place
from napari_qsm.workbench.preparation import Preparation
from napari_qsm.workbench.standing import State, masked

ALL = set(Place)


@pytest.fixture
def bench(toys):
    made = Preparation(toys.recipe())
    made.load(toys.measurement())
    return made


def run(bench):
    """Do what a window does: bring one place after the other up to date; return which."""
    ran = []
    while (place := bench.next_stale()) is not None:
        ran.append(place)
        try:
            bench.finish(place, finished(bench.start(place).run()))
        except InputError as error:
            bench.fail(place, str(error))
    return ran


def states(bench, state):
    return {place for place in Place if bench.standing(place).state is state}


def painted(bench, first=3):
    grid = bench.measured.grid
    data = np.zeros(grid.shape, np.uint8)
    data[first:] = 1
    return masked(bench.measured, Volume(data, grid, source="painted"))


def test_nothing_can_run_before_something_is_measured(toys):
    bench = Preparation(toys.recipe())
    assert bench.next_stale() is None
    assert "Open" in bench.reason_not_to_run()
    assert states(bench, State.NOT_RUN) == ALL


def test_every_place_runs_once_and_in_order(bench, toys):
    assert run(bench) == list(Place)
    assert states(bench, State.DONE) == ALL
    assert bench.complete
    assert run(bench) == []
    assert "up to date" in bench.reason_not_to_run()
    assert [bench.recipe.choice(place).use for place in Place] == toys.LOG


DEPENDENTS = {
    Place.MASK: {Place.UNWRAP, Place.FIELD, Place.RELAXATION, Place.BACKGROUND},
    Place.OFFSET: {Place.UNWRAP, Place.FIELD, Place.BACKGROUND},
    Place.UNWRAP: {Place.FIELD, Place.BACKGROUND},
    Place.FIELD: {Place.BACKGROUND},
    Place.RELAXATION: set(),
    Place.BACKGROUND: set(),
}


@pytest.mark.parametrize("place", Place)
def test_a_parameter_makes_stale_exactly_what_depends_on_it(bench, place):
    run(bench)
    bench.set_parameter(place, "scale", 2.0)
    assert states(bench, State.STALE) == {place, *DEPENDENTS[place]}
    assert set(run(bench)) == {place, *DEPENDENTS[place]}
    assert states(bench, State.DONE) == ALL


@pytest.mark.parametrize("place", Place)
def test_a_change_taken_back_leaves_everything_done(bench, place):
    run(bench)
    bench.set_parameter(place, "scale", 2.0)
    bench.set_parameter(place, "scale", 1.0)
    assert states(bench, State.DONE) == ALL


def test_another_stage_remembers_its_own_parameters(bench):
    bench.set_parameter(Place.MASK, "scale", 3.0)
    bench.choose_stage(Place.MASK, "toy_mask_2")
    assert bench.parameters(Place.MASK).scale == 1.0
    bench.choose_stage(Place.MASK, "toy_mask")
    assert bench.parameters(Place.MASK).scale == 3.0
    bench.reset_parameters(Place.MASK)
    assert bench.parameters(Place.MASK).scale == 1.0


def test_a_value_out_of_range_is_refused_and_the_old_one_stays(bench):
    with pytest.raises(InputError, match="scale"):
        bench.set_parameter(Place.MASK, "scale", 99.0)
    assert bench.parameters(Place.MASK).scale == 1.0


def test_what_runs_sees_what_ran_before(bench):
    bench.set_parameter(Place.UNWRAP, "scale", 2.0)
    bench.set_parameter(Place.OFFSET, "scale", 3.0)
    run(bench)
    prepared = bench.prepared()
    mask = prepared.made[Place.MASK][Quantity.MASK]
    field = 0.02 * (bench.measured[Quantity.PHASE] - 0.3).mean(axis=3) * mask
    reliable = mask.copy()
    reliable[-1] = False
    assert np.allclose(prepared.acquisition[Quantity.LOCAL_FIELD], field * reliable, atol=1e-6)
    assert np.array_equal(prepared.acquisition.mask, reliable)
    assert list(prepared.made) == list(Place)
    assert [p.method for p in prepared.acquisition.history] == [
        bench.recipe.choice(place).use for place in Place
    ]
    assert Quantity.PHASE not in prepared.acquisition.sources  # it is not the file's any more


def test_what_was_made_is_passed_on_as_it_is(bench):
    run(bench)
    prepared = bench.prepared()
    for place, quantity in (
        (Place.BACKGROUND, Quantity.LOCAL_FIELD),
        (Place.OFFSET, Quantity.PHASE),
    ):
        assert prepared.acquisition[quantity] is prepared.made[place][quantity]


def test_the_notes_of_the_measurement_are_told_once(toys):
    bench = Preparation(toys.recipe())
    bench.load(toys.measurement(notes=("It was upside down.",)))
    run(bench)
    assert [p.notes for p in bench.history] == [
        (f"{bench.recipe.choice(place).use} did it.",) for place in Place
    ]
    assert "upside down" not in bench.standing(Place.FIELD).text


def test_a_place_left_out_says_so_and_the_rest_goes_on(bench):
    bench.choose_stage(Place.OFFSET, "none")
    assert bench.standing(Place.OFFSET).state is State.LEFT_OUT
    assert run(bench) == [p for p in Place if p is not Place.OFFSET]
    assert bench.complete
    bench.choose_stage(Place.OFFSET, "toy_offset")
    assert set(run(bench)) == {Place.OFFSET, *DEPENDENTS[Place.OFFSET]}


def test_a_place_for_which_the_measurement_does_not_suffice_says_why(toys):
    bench = Preparation(toys.recipe())
    bench.load(toys.measurement(echoes=1))
    assert bench.standing(Place.RELAXATION).state is State.LEFT_OUT
    assert "2 echoes" in bench.standing(Place.RELAXATION).text
    run(bench)
    assert bench.complete


def test_a_stage_that_cannot_run_stops_what_follows_and_says_why(toys):
    bench = Preparation(toys.recipe())
    bench.load(toys.measurement(magnitude=False))
    assert bench.next_stale() is None
    standing = bench.standing(Place.MASK)
    assert standing.state is State.FAILED
    assert "magnitude" in standing.text
    assert bench.reason_not_to_run() == standing.text
    assert states(bench, State.WAITING) == ALL - {Place.MASK}
    assert Place.MASK.label in bench.standing(Place.FIELD).text
    bench.use_mask(painted(bench))
    run(bench)
    assert bench.complete


def test_a_failure_is_told_in_its_place_and_only_its_dependents_wait(bench):
    bench.set_parameter(Place.UNWRAP, "fails", True)
    ran = run(bench)
    assert ran == [Place.MASK, Place.OFFSET, Place.UNWRAP, Place.RELAXATION]
    assert "told to fail" in bench.standing(Place.UNWRAP).text
    assert states(bench, State.WAITING) == {Place.FIELD, Place.BACKGROUND}
    assert not bench.complete
    with pytest.raises(InputError, match="not complete"):
        bench.prepared()
    assert bench.reason_not_to_run() == ""  # it may be tried again
    bench.retry()
    assert run(bench) == [Place.UNWRAP]
    bench.set_parameter(Place.UNWRAP, "fails", False)
    assert bench.standing(Place.UNWRAP).state is State.NOT_RUN
    assert run(bench) == [Place.UNWRAP, Place.FIELD, Place.BACKGROUND]


def test_an_optional_failure_does_not_hold_up_the_field(bench):
    bench.set_parameter(Place.RELAXATION, "fails", True)
    run(bench)
    assert bench.complete
    assert Place.RELAXATION not in bench.prepared().made


def test_a_mask_of_the_users_replaces_that_of_the_chain_untouched(bench):
    run(bench)
    mine = painted(bench)
    bench.use_mask(mine)
    stale = {Place.MASK, *DEPENDENTS[Place.MASK]}
    assert states(bench, State.STALE) == stale
    run(bench)
    prepared = bench.prepared()
    assert prepared.made[Place.MASK].provenance.method == "given"
    assert np.array_equal(prepared.made[Place.MASK][Quantity.MASK], mine.mask)
    assert "your own mask" in bench.standing(Place.MASK).text.lower()
    bench.use_mask(painted(bench, first=2))
    assert states(bench, State.STALE) == stale
    bench.use_mask(None)
    run(bench)
    assert prepared.made[Place.OFFSET] is bench.prepared().made[Place.OFFSET]
    assert bench.made[Place.MASK].maps.provenance.method == "toy_mask"


@pytest.mark.parametrize(
    ("values", "inside"),
    [
        (np.array([0, 1]), np.array([False, True])),
        (np.array([0.2, 0.7]), np.array([False, True])),
        (np.array([0, 5]), np.array([False, True])),
    ],
)
def test_masks_come_as_ones_probabilities_and_labels(bench, values, inside):
    shape = bench.measured.grid.shape
    data = np.resize(values, shape)
    acquisition = masked(bench.measured, Volume(data, bench.measured.grid))
    assert np.array_equal(acquisition.mask, np.resize(inside, shape))


def test_a_mask_painted_on_echoes_counts_where_any_has_it(bench, toys):
    data = np.zeros((*bench.measured.grid.shape, 2), np.uint8)
    data[0, ..., 0] = 1
    data[1, ..., 1] = 1
    acquisition = masked(bench.measured, Volume(data, bench.measured.grid))
    assert acquisition.mask[:2].all()
    assert not acquisition.mask[2:].any()
    assert any("2 echoes" in note for note in acquisition.notes)


def test_a_mask_from_elsewhere_is_refused(bench):
    moved = np.eye(4)
    moved[0, 3] = 2
    volume = Volume(np.ones(bench.measured.grid.shape), Grid(bench.measured.grid.shape, moved))
    with pytest.raises(InputError, match=r"2\.00 mm"):
        masked(bench.measured, volume)


def test_another_measurement_forgets_and_a_correction_makes_stale(bench, toys):
    run(bench)
    bench.load(toys.measurement(), again=True)
    assert states(bench, State.STALE) == ALL
    run(bench)
    bench.load(toys.measurement())
    assert states(bench, State.NOT_RUN) == ALL
    assert not bench.made


def test_a_change_during_a_run_is_noticed(bench):
    place = bench.next_stale()
    running = bench.start(place).run()
    assert bench.standing(place).state is State.RUNNING
    assert not bench.outdated
    bench.set_parameter(Place.BACKGROUND, "scale", 2.0)
    assert not bench.outdated  # it does not concern what runs
    bench.set_parameter(place, "scale", 2.0)
    assert bench.outdated
    with pytest.raises(StopIteration) as stop:
        while True:
            next(running)
    bench.finish(place, stop.value.value)
    assert bench.standing(place).state is State.STALE


def test_cancel_ends_the_stage_and_leaves_the_rest_as_it_was(bench, toys):
    bench.set_parameter(Place.MASK, "pause", 0.02)
    job = bench.start(Place.MASK)
    ended = []
    thread = threading.Thread(target=lambda: ended.append(finished(job.run())))
    thread.start()
    job.cancel()
    thread.join(5)
    assert ended == [None]
    bench.finish(Place.MASK, None)
    assert bench.job is None
    assert states(bench, State.NOT_RUN) == ALL
    assert toys.LOG == toys.CLOSED


def test_choices_survive_a_preset(bench, toys):
    bench.set_parameter(Place.FIELD, "scale", 2.5)
    bench.choose_stage(Place.OFFSET, "none")
    other = Preparation(toys.recipe())
    seen = []
    other.recipe_changed.connect(seen.append)
    other.use_recipe(Recipe.from_toml(bench.recipe.to_toml()))
    assert set(seen) == ALL
    assert other.parameters(Place.FIELD).scale == 2.5
    assert other.stage(Place.OFFSET) is None
    other.choose_stage(Place.FIELD, "toy_field")
    assert other.parameters(Place.FIELD).scale == 2.5


def test_signals_come_after_the_state_has_changed(bench):
    seen = []
    bench.changed.connect(lambda: seen.append(bench.standing(Place.FIELD).state))
    bench.recipe_changed.connect(lambda place: seen.append(bench.parameters(place).scale))
    bench.set_parameter(Place.FIELD, "scale", 4.0)
    assert seen == [State.NOT_RUN, 4.0]
