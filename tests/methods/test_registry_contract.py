"""What every registered method owes, whatever it is called."""

import gc
import json
import weakref
from dataclasses import replace
from functools import cache
from typing import NamedTuple, get_args, get_origin

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, InputError, Maps, Quantity
from napari_qsm.generators import finished, relayed
from napari_qsm.methods import workspace
from napari_qsm.methods.registry import find, methods
from napari_qsm.process import Step, number

METHODS = list(methods().values())
INVERSIONS = [m for m in METHODS if m.needs == (Quantity.LOCAL_FIELD,)]
ODD = [m for m in INVERSIONS if m.odd or "symmetric" in m.parameters.model_fields]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.key)
every_inversion = pytest.mark.parametrize("method", INVERSIONS, ids=lambda m: m.key)


@every_method
def test_every_parameter_can_be_shown(method):
    for name, field in method.parameters.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        assert {"unit", "log"} <= set(field.json_schema_extra), name
        if (numeric := number(field)) is not None:
            assert numeric.low < numeric.high, name
            assert numeric.low <= numeric.typical <= numeric.high, name
            assert numeric.low > 0 or not numeric.log, name
        elif get_origin(field.annotation) is not None:
            assert field.default in get_args(field.annotation), name
        else:
            assert field.annotation in (bool, str), name


@every_method
def test_every_method_says_what_it_is(method):
    assert method.label
    assert method.summary.endswith(".")
    assert len(method.summary) < 100
    assert method.references
    assert all(doi.startswith("10.") for doi in method.references)


@every_method
def test_settings_survive_json(method):
    stored = json.loads(json.dumps(method.parameters().model_dump(mode="json")))
    assert method.with_settings(stored) == method.parameters()


def test_lambda_is_a_name_for_the_regularization():
    tv = find("tv")
    assert tv.with_settings({"lambda": 3e-4}) == tv.with_settings({"regularization": 3e-4})
    assert "regularization" in tv.parameters().model_dump()
    with pytest.raises(InputError, match=r"lambda|regularization"):
        tv.with_settings({"lambda": -1})
    with pytest.raises(InputError, match="no parameter 'lamda'"):
        tv.with_settings({"lamda": 1e-3})


def ellipsoid(shape, radii=(0.8, 0.85, 0.75)):
    axes = np.meshgrid(*[(np.arange(n) - n / 2 + 0.5) / (n / 2) for n in shape], indexing="ij")
    return sum((a / r) ** 2 for a, r in zip(axes, radii, strict=True)) < 1


def acquisition(shape=(18, 20, 16), random_state=0):
    rng = np.random.default_rng(random_state)
    mask = ellipsoid(shape)
    volumes = {
        Quantity.LOCAL_FIELD: 0.02 * rng.standard_normal(shape) * mask,
        Quantity.MASK: mask,
        Quantity.R2PRIME: rng.uniform(0, 10, shape),  # both for methods that separate sources
        Quantity.R2STAR: rng.uniform(10, 30, shape),
    }
    return Acquisition(Grid(shape, np.diag([1.0, 1.1, 1.5, 1.0])), volumes)


def seen(method, measured):
    """Return `measured` as often as the method needs it, each time with B0 tilted otherwise."""
    axes = measured.grid.affine[:3, :3] / measured.grid.voxel_size
    tilted = [(0, 0.5, 1), (0.5, 0, 1)][: max(0, 2 * (method.orientations - 1))]
    return replace(
        measured,
        others=tuple(replace(measured, grid=measured.grid.with_b0(b @ axes)) for b in tilted),
    )


def run(method, measured, **settings):
    return finished(method(seen(method, measured), method.with_settings(settings)))


class Run(NamedTuple):
    """A finished run, the map shown last, and torch's threads during it, of 2, and after it."""

    maps: Maps
    steps: list[Step]
    preview: np.ndarray | None
    threads: list[int]


def watched(method):
    """Run a method on `acquisition()` at its default settings and note what it shows."""
    steps, preview, threads = [], None, []

    def look(step):
        nonlocal preview
        steps.append(step)
        threads.append(torch.get_num_threads())
        if step.preview:
            preview = step.preview()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        maps = finished(relayed(method(seen(method, acquisition())), look))
        threads.append(torch.get_num_threads())
    finally:
        torch.set_num_threads(before)
    return Run(maps, steps, preview, threads)


@pytest.fixture(scope="module")
def standard():
    """Function that gives the one watched run of a method, which many tests look at."""
    return cache(lambda key: watched(find(key)))


@every_inversion
def test_maps_lie_on_the_grid_and_inside_the_mask(method, standard):
    measured = acquisition()
    maps, steps, *_ = standard(method.key)
    # The one map that only some fields give: where the guard of nonlinear methods spoke.
    assert set(maps.volumes) - {Quantity.UNRELIABLE} == set(method.gives)
    for values in maps.volumes.values():
        assert values.dtype == np.float32
        assert values.shape == measured.grid.shape
        assert not values[~measured.mask].any()
        assert values[measured.mask].any()
    notes = maps.provenance.notes
    if Quantity.CHI_POS in method.gives:  # sources >= 0 have a zero of their own
        difference = maps[Quantity.CHI_POS] - maps[Quantity.CHI_NEG]
        assert np.array_equal(maps[Quantity.CHI], difference)
        assert min(maps[q].min() for q in (Quantity.CHI_POS, Quantity.CHI_NEG)) >= 0
        assert any("relative to what has neither" in note for note in notes)
    else:
        assert abs(maps[Quantity.CHI][measured.mask].mean()) < 1e-6
        assert any("relative to its mean" in note for note in notes)
    fractions = [s.fraction for s in steps]
    assert fractions == sorted(fractions)
    assert fractions[0] >= 0
    assert fractions[-1] <= 1
    assert all(s.message.startswith(method.label + ":") for s in steps)


@every_inversion
def test_the_last_preview_is_the_map(method, standard):
    maps, steps, preview, _ = standard(method.key)
    np.testing.assert_allclose(preview, maps[Quantity.CHI], atol=1e-6)
    with pytest.raises(RuntimeError, match="expired"):
        next(step for step in reversed(steps) if step.preview).preview()


@pytest.mark.parametrize("method", ODD, ids=lambda m: m.key)
def test_flipping_the_field_flips_the_map(method, standard):
    """Bit by bit; of networks where they are asked to be symmetric."""
    measured = acquisition()
    flipped = measured.with_volumes({Quantity.LOCAL_FIELD: -measured[Quantity.LOCAL_FIELD]})
    settings = {} if method.odd else {"symmetric": True}
    maps = standard(method.key).maps if method.odd else run(method, measured, **settings)
    mirrored = run(method, flipped, **settings)
    np.testing.assert_allclose(mirrored[Quantity.CHI], -maps[Quantity.CHI], atol=1e-7)
    if Quantity.CHI_POS in method.gives:  # at the same Dr of both kinds
        np.testing.assert_allclose(mirrored[Quantity.CHI_NEG], maps[Quantity.CHI_POS], atol=1e-7)


@every_inversion
def test_cancelling_frees_everything(method, monkeypatch):
    made = []
    original = workspace.Workspace.field
    monkeypatch.setattr(
        workspace.Workspace, "field", lambda self: made.append(original(self)) or made[-1]
    )
    running = method(seen(method, acquisition()))
    step = next(running)
    while not made:
        step = next(running)
    step = next(running)
    gone = [weakref.ref(field) for field in made]
    made.clear()
    held = weakref.ref(step.preview.__self__.dipole) if step.preview else None
    running.close()
    gc.collect()
    assert not made
    assert all(field() is None for field in gone)
    assert held is None or held() is None  # although `step` is still here


@every_inversion
def test_the_number_of_threads_is_given_back_at_the_end(method, standard):
    *during, after = standard(method.key).threads
    assert during[1] == 1  # small volumes
    assert after == 2


@every_inversion
def test_the_number_of_threads_is_given_back_by_closing(method):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        running = method(seen(method, acquisition()))
        next(running)
        next(running)
        assert torch.get_num_threads() == 1  # small volumes
        running.close()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@every_inversion
@pytest.mark.parametrize(
    "degenerate",
    ["zero field", "one voxel", "one slice", "huge field", "no mask", "corner mask"],
)
def test_degenerate_input_gives_finite_maps(method, degenerate):
    """Of methods that train a network on the case after a few of their many steps."""
    shape = (12, 10, 1) if degenerate == "one slice" else (12, 10, 8)
    rng = np.random.default_rng(0)
    field = 0.02 * rng.standard_normal(shape)
    mask = np.ones(shape, dtype=bool)
    if degenerate == "zero field":
        field *= 0
    elif degenerate == "huge field":
        field *= 1e6
    elif degenerate == "one voxel":
        mask[...] = False
        mask[3, 4, 5] = True
    elif degenerate == "corner mask":
        mask[2:] = False
    volumes = {Quantity.LOCAL_FIELD: field, Quantity.MASK: mask}
    if method.one_of:
        volumes |= {q: rng.uniform(5, 20, shape) for q in method.one_of}
    if degenerate == "no mask":
        del volumes[Quantity.MASK]
    few = {"iterations": 20} if "rate" in method.parameters.model_fields else {}
    maps = run(method, Acquisition(Grid(shape, np.eye(4)), volumes), **few)
    assert all(np.isfinite(v).all() for v in maps.volumes.values())


@every_inversion
def test_turned_data_give_a_turned_map(method, standard):
    """Axes stored in another order and sense, with the affine saying so."""
    measured = acquisition()
    order, flips = (2, 0, 1), (0, 2)

    def turn(values):
        return np.flip(values.transpose(order), flips)

    affine = np.array(measured.grid.affine)
    affine[:3, :3] = affine[:3, order]
    affine[:3, list(flips)] *= -1
    turned = Acquisition(
        Grid(turn(measured.mask).shape, affine),
        {quantity: turn(values) for quantity, values in measured.volumes.items()},
    )
    expected = turn(standard(method.key).maps[Quantity.CHI])
    other = run(method, turned)
    # Noise alone may be flattened to nothing but rounding errors, which have no size of their own.
    size = max(np.linalg.norm(expected), 1e-3 * np.linalg.norm(measured[Quantity.LOCAL_FIELD]))
    assert np.linalg.norm(other[Quantity.CHI] - expected) < 1e-4 * size


def test_the_magnitude_must_not_vanish():
    measured = acquisition()
    dark = measured.with_volumes({Quantity.MAGNITUDE: np.zeros(measured.grid.shape)})
    with pytest.raises(InputError, match="magnitude is zero"):
        run(find("ndi"), dark)


def test_a_missing_field_is_a_sentence():
    bare = Acquisition(Grid((4, 4, 4), np.eye(4)), {Quantity.MASK: np.ones((4, 4, 4))})
    with pytest.raises(InputError, match="needs a local field"):
        next(find("tkd")(bare))


@pytest.mark.parametrize("method", [m for m in METHODS if m.one_of], ids=lambda m: m.key)
def test_a_missing_choice_is_a_sentence(method):
    measured = acquisition()
    volumes = {q: v for q, v in measured.volumes.items() if q not in method.one_of}
    with pytest.raises(InputError, match=r"needs a map of R2.* beside the field"):
        next(method(replace(measured, volumes=volumes)))


def test_two_runs_at_once_leave_the_number_of_threads_as_it_was():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, second = (find("tkd")(acquisition()) for _ in range(2))
        next(first)
        next(second)
        list(first)
        assert torch.get_num_threads() == 1  # the second still works
        list(second)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
