"""What a recipe means before anything runs, and that what runs is what was planned."""

import itertools
import re
import tomllib

import numpy as np
import pytest

from napari_qsm import __version__, pipeline
from napari_qsm.acquisition import Acquisition, Grid, InputError, Maps, Provenance, Quantity
from napari_qsm.generators import finished, relayed
from napari_qsm.methods.registry import method
from napari_qsm.methods.registry import unregister as unregister_method
from napari_qsm.pipeline import Choice, Recipe, plan, plan_method, prepare, reconstruct, walk
from napari_qsm.preparation.registry import Place, stage, unregister
from napari_qsm.process import Parameters, Step, parameter

Q = Quantity
SHAPE = (5, 6, 7)
LOG = []
CLOSED = []


class Toy(Parameters):
    factor: float = parameter(
        1.0, "What the result is multiplied with.", low=-10, high=10, alias="lambda"
    )
    rounds: int | None = parameter(None, "How often it yields.", low=1, high=9, typical=2)
    refuses: bool = parameter(False, "Whether it refuses the data at work.")


def shrunk(acquisition):
    inside = acquisition.mask.copy()
    inside[0] = False
    return inside


TOYS = {
    "t_mask": (Place.MASK, (Q.MAGNITUDE,), {Q.MASK: lambda a: a[Q.MAGNITUDE][..., 0] > 0}, 1),
    "t_given": (Place.MASK, (Q.MASK,), {Q.MASK: lambda a: a[Q.MASK]}, 1),
    "t_offset": (Place.OFFSET, (Q.PHASE,), {Q.OFFSET: lambda a: a[Q.PHASE][..., 0],
                                            Q.PHASE: lambda a: a[Q.PHASE] - 0.5}, 2),
    "t_unwrap": (Place.UNWRAP, (Q.PHASE,), {Q.UNWRAPPED: lambda a: a[Q.PHASE] + 7}, 1),
    "t_field": (Place.FIELD, (Q.UNWRAPPED,),
                {Q.TOTAL_FIELD: lambda a: a[Q.UNWRAPPED].reshape(*SHAPE, -1).mean(3)}, 1),
    "t_fit": (Place.FIELD, (Q.PHASE, Q.MAGNITUDE),
              {Q.TOTAL_FIELD: lambda a: a[Q.PHASE].mean(3)}, 1),
    "t_rate": (Place.RELAXATION, (Q.MAGNITUDE,),
               {Q.R2STAR: lambda a: a[Q.MAGNITUDE].mean(3)}, 3),
    "t_background": (Place.BACKGROUND, (Q.TOTAL_FIELD, Q.MASK),
                     {Q.LOCAL_FIELD: lambda a: a[Q.TOTAL_FIELD] * shrunk(a), Q.MASK: shrunk}, 1),
    "t_reference": (None, (Q.CHI,), {Q.CHI: lambda a: a[Q.CHI] - 3}, 1),
}  # fmt: skip


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    """Toys at every place, shipped as the default of that place."""
    LOG.clear()
    CLOSED.clear()
    for key, (place, needs, makes, echoes) in TOYS.items():
        _register(key, place, needs, makes, echoes)
    shipped = {place: key for key, (place, *_) in reversed(TOYS.items()) if place}
    for module in (pipeline.recipe, pipeline.chain):
        monkeypatch.setattr(module, "GIVEN_MASK", "t_given", raising=False)
    monkeypatch.setattr(pipeline.recipe, "DEFAULT_STAGES", shipped | {Place.MASK: "t_mask"})

    @method(key="t_method", label="Toy", summary="", parameters=Toy, references=())
    def invert(acquisition, parameters, device):
        yield Step(0.5, "Toy: at work")
        yield Step(1.0, "Toy: done")
        chi = parameters.factor * acquisition[Q.LOCAL_FIELD]
        return Maps(acquisition.grid, {Q.CHI: chi, Q.RESIDUAL: 0 * chi})

    yield
    for key in TOYS:
        unregister(key)
    unregister_method("t_method")


def _register(key, place, needs, makes, echoes):
    @stage(
        key=key, label=key.capitalize(), summary="Toy.", place=place, parameters=Toy,
        references=(), needs=needs, gives=tuple(makes), echoes=echoes,
    )  # fmt: skip
    def run(acquisition, parameters, device):
        LOG.append(key)
        try:
            for index in range(parameters.rounds or 2):
                yield Step(index / (parameters.rounds or 2), "at work")
            if parameters.refuses:
                raise InputError("The echoes are uneven.")
            volumes = {q: make(acquisition) for q, make in makes.items()}
            made = {q: v if q is Q.MASK else parameters.factor * v for q, v in volumes.items()}
            return Maps(acquisition.grid, made, Provenance(notes=(f"{key} ran.",)))
        finally:
            CLOSED.append(key)


def measured(*quantities, echoes=3):
    rng = np.random.default_rng(0)
    each = {q: rng.uniform(0.1, 1, SHAPE).astype(np.float32) for q in quantities}
    for quantity in (Q.PHASE, Q.MAGNITUDE, Q.UNWRAPPED):
        if quantity in each and echoes > 1:
            each[quantity] = rng.uniform(0.1, 1, (*SHAPE, echoes)).astype(np.float32)
    if Q.MASK in each:
        each[Q.MASK] = each[Q.MASK] > 0.2
    times = tuple(0.004 * (1 + e) for e in range(echoes))
    return Acquisition(Grid(SHAPE, np.eye(4)), each, 3.0, times, notes=("It was measured.",))


RECIPE = Recipe(method=Choice("t_method"), reference=Choice("t_reference"))


def exhausted(steps):
    seen = []
    return finished(relayed(steps, seen.append)), seen


def stages_of(planned):
    return {p.place.key: p.stage.key for p in planned if p.stage}


def test_raw_phase_goes_through_every_place():
    planned = plan(measured(Q.PHASE, Q.MAGNITUDE), RECIPE)
    assert [p.place for p in planned] == list(Place)
    assert all(p.stage is not None and not p.reason for p in planned)


def test_a_given_mask_goes_first_and_untouched():
    acquisition = measured(Q.PHASE, Q.MAGNITUDE, Q.MASK)
    first = plan(acquisition, RECIPE.with_choice(Place.MASK, "t_mask", factor=2))[0]
    assert (first.stage.key, first.reason) == ("t_given", "your own mask goes first")
    prepared, _ = exhausted(prepare(acquisition, RECIPE))
    assert np.array_equal(prepared.made[Place.MASK][Q.MASK], acquisition[Q.MASK])


def test_a_given_mask_that_is_not_there_is_refused():
    recipe = RECIPE.with_choice(Place.MASK, "t_given")
    with pytest.raises(InputError, match=r"T_given needs a mask; choose another stage for \[mask"):
        plan(measured(Q.PHASE, Q.MAGNITUDE), recipe)


def test_one_echo_leaves_out_what_needs_more():
    planned = plan(measured(Q.PHASE, Q.MAGNITUDE, echoes=1), RECIPE)
    assert set(stages_of(planned)) == {"mask", "unwrap", "field", "background"}
    reasons = {p.place: p.reason for p in planned if p.reason}
    assert reasons == {
        Place.OFFSET: "T_offset needs 2 echoes or more where 1 was measured",
        Place.RELAXATION: "T_rate needs 3 echoes or more where 1 was measured",
    }


@pytest.mark.parametrize(
    ("there", "runs"),
    [
        (Q.UNWRAPPED, {"mask", "field", "background"}),
        (Q.TOTAL_FIELD, {"mask", "background"}),
        (Q.LOCAL_FIELD, {"mask"}),
    ],
)
def test_what_is_there_already_is_not_made_again(there, runs):
    planned = plan(measured(there, Q.MASK), RECIPE)
    assert set(stages_of(planned)) == runs
    skipped = next(p for p in planned if p.place is Place.UNWRAP)
    assert skipped.reason == f"the {there.label} is there already"


def test_a_fit_of_the_wrapped_phase_needs_no_unwrapping():
    planned = plan(measured(Q.PHASE, Q.MAGNITUDE), RECIPE.with_choice(Place.FIELD, "t_fit"))
    unwrap = next(p for p in planned if p.place is Place.UNWRAP)
    assert (unwrap.stage, unwrap.reason) == (None, "T_fit works on the wrapped phase")


def test_a_place_is_left_out_on_request_if_it_may_be():
    acquisition = measured(Q.PHASE, Q.MAGNITUDE)
    planned = plan(acquisition, RECIPE.stating("relaxation", "none"))
    assert planned[4].reason == "left out on request"
    for place in (Place.MASK, Place.UNWRAP, Place.FIELD, Place.BACKGROUND):
        with pytest.raises(InputError, match=rf"\[{place.key}\] cannot be left out"):
            plan(acquisition, RECIPE.stating(place.key, "none"))


def test_a_walk_goes_as_far_as_it_can():
    recipe = RECIPE.stating("field", "none")
    steps = walk(measured(Q.PHASE, Q.MAGNITUDE), recipe)
    assert [p.place for p in itertools.islice(steps, 3)] == list(Place)[:3]
    with pytest.raises(InputError, match="cannot be left out"):
        next(steps)


def test_no_magnitude_and_no_mask_is_a_sentence():
    with pytest.raises(InputError, match=r"T_mask needs a magnitude; choose another stage"):
        plan(measured(Q.PHASE), RECIPE)
    with pytest.raises(InputError, match="T_unwrap needs a phase"):
        plan(measured(Q.MAGNITUDE), RECIPE)


def test_the_method_is_planned_too():
    acquisition = measured(Q.PHASE, Q.MAGNITUDE)
    recipe = RECIPE.stating("method", settings={"factor": 4})
    chosen, parameters = plan_method(acquisition, plan(acquisition, recipe), recipe)
    assert (chosen.key, parameters.factor) == ("t_method", 4)
    with pytest.raises(InputError, match="Toy needs a local field; choose another method"):
        plan_method(acquisition, (), recipe)
    recipe = RECIPE.stating("relaxation", "arlo").stating("method", "closed_form")
    few = measured(Q.PHASE, Q.MAGNITUDE, echoes=2)
    with pytest.raises(InputError, match=r"stage for \[relaxation\]: ARLO needs 3 echoes or more"):
        plan_method(few, plan(few, recipe), recipe)


@pytest.mark.parametrize(("to", "label"), [("csf", "R2*"), ("roi", "structures")])
def test_a_reference_that_cannot_be_found_is_refused_in_time(to, label):
    acquisition = measured(Q.PHASE, Q.MAGNITUDE, echoes=2)
    recipe = RECIPE.stating("reference", "reference", {"to": to})
    with pytest.raises(InputError, match=re.escape(f"by its {label}, and there will be none")):
        plan_method(acquisition, plan(acquisition, recipe), recipe)


def test_what_runs_is_what_was_planned():
    acquisition = measured(Q.PHASE, Q.MAGNITUDE)
    recipe = RECIPE.stating("unwrap", settings={"factor": 2})
    prepared, steps = exhausted(prepare(acquisition, recipe))
    assert prepared.plan == plan(acquisition, recipe)
    assert LOG == [p.stage.key for p in prepared.plan] == CLOSED
    assert list(prepared.made) == list(Place)
    phase = acquisition[Q.PHASE] - 0.5
    assert np.allclose(prepared.acquisition[Q.UNWRAPPED], 2 * (phase + 7), atol=1e-5)
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert steps[0].message == "Mask: at work"
    assert steps[-1].message.startswith("Background removal: ")
    assert prepared.made[Place.MASK][Q.MASK].sum() > prepared.acquisition.mask.sum()
    history = [made.method for made in prepared.acquisition.history]
    assert history == LOG
    assert prepared.acquisition.history[2].parameters["factor"] == 2


def test_an_optional_stage_that_refuses_the_data_is_left_out_and_said():
    acquisition = measured(Q.PHASE, Q.MAGNITUDE)
    prepared, _ = exhausted(
        prepare(acquisition, RECIPE.stating("relaxation", settings={"refuses": True}))
    )
    assert Q.R2STAR not in prepared.acquisition
    assert Q.LOCAL_FIELD in prepared.acquisition
    assert prepared.plan[4] == pipeline.Planned(Place.RELAXATION, reason="the echoes are uneven")
    with pytest.raises(InputError, match="uneven"):
        exhausted(prepare(acquisition, RECIPE.stating("field", settings={"refuses": True})))


@pytest.mark.parametrize("after", [1, 4, 12])
def test_closing_a_preparation_closes_the_stage_at_work(after):
    running = prepare(measured(Q.PHASE, Q.MAGNITUDE), RECIPE)
    for _ in range(after):
        next(running)
    running.close()
    assert CLOSED == LOG
    assert 0 < len(LOG) < len(Place)


def test_a_reconstruction_is_referenced_and_says_so():
    prepared, _ = exhausted(prepare(measured(Q.PHASE, Q.MAGNITUDE), RECIPE))
    maps, steps = exhausted(reconstruct(prepared.acquisition, RECIPE))
    assert np.allclose(maps[Q.CHI], prepared.acquisition[Q.LOCAL_FIELD] - 3, atol=1e-5)
    assert Q.RESIDUAL in maps
    assert maps.provenance.parameters["reference"]["factor"] == 1
    assert maps.provenance.notes == ("It was measured.", "t_reference ran.")
    assert [made.method for made in maps.provenance.history] == LOG[:-1]
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert steps[0].message == "Toy: at work"
    assert steps[-1].message.startswith("Reference: ")

    bare, _ = exhausted(reconstruct(prepared.acquisition, RECIPE.stating("reference", "none")))
    assert np.allclose(bare[Q.CHI], maps[Q.CHI] + 3, atol=1e-5)
    assert "reference" not in bare.provenance.parameters


# -- recipes --------------------------------------------------------------------------------


def test_a_recipe_comes_back_from_toml_with_every_parameter():
    recipe = RECIPE.stating("field", "t_fit", {"factor": 0.1, "rounds": 3})
    recipe = recipe.stating("relaxation", "none").stating("reference", settings={"factor": 2.5})
    text = recipe.to_toml(command="napari-qsm prepare x")
    tables = tomllib.loads(text)
    assert tables["napari-qsm"] == {"version": __version__, "command": "napari-qsm prepare x"}
    assert tables["field"] == {"use": "t_fit", "factor": 0.1, "rounds": 3, "refuses": False}
    assert tables["unwrap"] == {"use": "t_unwrap", "factor": 1.0, "refuses": False}
    assert tables["relaxation"] == {"use": "none"}
    again = Recipe.from_toml(text)
    assert again.to_toml() == recipe.to_toml()
    assert plan(measured(Q.PHASE, Q.MAGNITUDE), again) == plan(
        measured(Q.PHASE, Q.MAGNITUDE), recipe
    )


def test_a_table_without_use_sets_what_is_shipped():
    recipe = Recipe.from_toml("[unwrap]\nfactor = 3\n[method]\nuse = 't_method'\nfactor = 2")
    assert recipe.choice(Place.UNWRAP) == Choice("t_unwrap", {"factor": 3})
    assert recipe.method == Choice("t_method", {"factor": 2})


def test_another_stage_takes_no_settings_over():
    recipe = RECIPE.stating("field", settings={"factor": 3})
    assert recipe.stating("field", "t_fit").choice(Place.FIELD).settings == {}
    assert recipe.stating("field", "t_field").choice(Place.FIELD).settings == {"factor": 3}


def test_an_alias_replaces_what_the_field_was():
    recipe = Recipe.from_toml("[unwrap]\nfactor = 3").stating("unwrap", settings={"lambda": "2"})
    assert recipe.choice(Place.UNWRAP).settings == {"factor": "2"}
    assert tomllib.loads(recipe.to_toml())["unwrap"]["factor"] == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[unwrap]\nfactor = 3\nlambda = 2", "states factor and lambda"),
        ("[unwrap", "no valid TOML"),
        ("unwrap = 3", r"where a table \[unwrap\] was expected"),
        ("[skull]", "'skull' is no place of the chain"),
        ("[skull]", "method and reference"),
        ("[unwrap]\nuse = 'nothing'", "There is no stage 'nothing'"),
        ("[unwrap]\nuse = 't_fit'", r"'t_fit' does not belong to \[unwrap\]; choose one of"),
        ("[unwrap]\nuse = 't_unwrap'\nfaktor = 2", "has no parameter 'faktor'"),
        ("[unwrap]\nuse = 't_unwrap'\nfactor = 200", "cannot use factor=200"),
        ("[unwrap]\nuse = 't_unwrap'\nfactor = [1]", "cannot use factor"),
        ("[unwrap]\nuse = 5", "There is no stage '5'"),
        ("[offset]\nuse = 'none'\nfactor = 2", "'none' has no parameter 'factor'"),
        ("[method]\nuse = 'nothing'", "There is no method 'nothing'"),
        ("[method]\nuse = 't_method'\nfactor = 200", "cannot use factor=200"),
        ("[reference]\nuse = 't_unwrap'", r"does not belong to \[reference\]"),
    ],
)
def test_a_wrong_preset_is_a_sentence(text, words, tmp_path):
    with pytest.raises(InputError, match=words) as refused:
        Recipe.from_toml(f"{text}\n")
    assert str(refused.value).endswith(".")
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(InputError, match=r"mine\.toml: "):
        pipeline.read_preset(tmp_path / "mine.toml")


@pytest.mark.parametrize("name", ["absent.toml", "", "."])
def test_an_absent_preset_is_a_sentence(name, tmp_path):
    with pytest.raises(InputError, match="There is no preset"):
        pipeline.read_preset(tmp_path / name)
