"""What every registered stage owes, whatever it is called."""

import gc
import json
import weakref
from functools import cache
from typing import get_args, get_origin

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished, relayed
from napari_qsm.physics.units import radians_per_ppm
from napari_qsm.pipeline import DEFAULT_STAGES
from napari_qsm.preparation.registry import Place, find, stages
from napari_qsm.process import number

STAGES = list(stages().values())
every_stage = pytest.mark.parametrize("stage", STAGES, ids=lambda s: s.key)
TIMES = (0.004, 0.009, 0.014, 0.019)
RADII = (19.0, 21.0, 18.0)  # of the brain, in mm


@cache
def head() -> Acquisition:
    """Return an ellipsoid of a head with every quantity a stage may ask for."""
    shape, size = (48, 52, 40), np.array([1.2, 1.1, 1.3])
    along = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, size, strict=True)]
    x, y, z = np.meshgrid(*along, indexing="ij")
    radius = np.sqrt(sum((a / r) ** 2 for a, r in zip((x, y, z), RADII, strict=True)))
    brain, skull, scalp = (
        radius < 1,
        (radius >= 1) & (radius < 1.12),
        (radius >= 1.12) & (radius < 1.28),
    )
    rng = np.random.default_rng(0)
    field = 0.02 * np.sin(x / 4) * np.cos(y / 5) * brain + 0.3 * (z / 20) + 0.1 * (x * y) / 400
    rate = 20 + 10 * np.cos(z / 6)
    times = np.array(TIMES)
    water = 100.0 * brain + 6.0 * skull + 130.0 * scalp
    signal = water[..., None] * np.exp(-times * rate[..., None])
    phase = radians_per_ppm(3.0, 1.0) * field[..., None] * times + 0.4 + 0.02 * y[..., None]
    noise = rng.standard_normal((*signal.shape, 2)) @ np.array([1, 1j])
    measured = signal * np.exp(1j * phase) + noise
    return Acquisition(
        Grid(shape, np.diag([*size, 1.0])),
        {
            Quantity.PHASE: np.angle(measured),
            Quantity.MAGNITUDE: np.abs(measured),
            Quantity.MASK: brain,
            Quantity.UNWRAPPED: phase,
            Quantity.TOTAL_FIELD: field,
            Quantity.FIELD_NOISE: 0.01 * brain + 1e-3,
            Quantity.R2STAR: rate * brain,
            Quantity.R2: 12.0 * brain,
            Quantity.CHI: 0.05 * np.cos(x / 3) * brain,
            Quantity.LABELS: 1.0 * (brain & (x > 0)),
        },
        field_strength=3.0,
        echo_times=TIMES,
    )


def run(stage, acquisition):
    steps, running = [], stage(acquisition)
    return finished(relayed(running, steps.append)), steps


@every_stage
def test_every_parameter_can_be_shown(stage):
    for name, field in stage.parameters.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        if (numeric := number(field)) is not None:
            assert numeric.low <= numeric.typical <= numeric.high, name
            assert numeric.low > 0 or not numeric.log, name
        elif get_origin(field.annotation) is not None:
            assert field.default in get_args(field.annotation), name
        else:
            assert field.annotation in (bool, str), name


@every_stage
def test_every_stage_says_what_it_is(stage):
    assert stage.label
    assert stage.summary.endswith(".")
    assert len(stage.summary) < 100
    assert all(doi.startswith("10.") for doi in stage.references)
    assert stage.gives
    stored = json.loads(json.dumps(stage.parameters().model_dump(mode="json")))
    assert stage.with_settings(stored) == stage.parameters()


@pytest.mark.parametrize("place", Place, ids=lambda p: p.key)
def test_every_place_has_its_shipped_stage(place):
    shipped = find(DEFAULT_STAGES[place])
    assert shipped.place is place
    assert place.gives in shipped.gives


@every_stage
def test_maps_lie_on_the_grid_and_progress_goes_forward(stage):
    acquisition = head()
    maps, steps = run(stage, acquisition)
    assert set(maps.volumes) <= set(stage.gives)
    assert stage.place is None or stage.place.gives in maps
    for quantity, values in maps.volumes.items():
        assert values.shape[:3] == acquisition.grid.shape, quantity
        assert np.isfinite(values).all(), quantity
        assert values.any(), quantity
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1
    assert maps.provenance.method == stage.key
    assert maps.provenance.notes, "nothing was said of what was done"
    assert all(note.endswith(".") for note in maps.provenance.notes)


@every_stage
def test_the_measurement_stays_as_it_was(stage):
    before = {quantity: values.copy() for quantity, values in head().volumes.items()}
    run(stage, head())
    for quantity, values in before.items():
        np.testing.assert_array_equal(head()[quantity], values)


@every_stage
def test_what_is_missing_is_a_sentence(stage):
    bare = Acquisition(Grid((8, 8, 8), np.eye(4)), {}, echo_times=TIMES, field_strength=3.0)
    with pytest.raises(InputError) as refused:
        list(stage(bare))
    assert str(refused.value).endswith(".")


@every_stage
@pytest.mark.parametrize("after", [1, 3])
def test_closing_it_early_gives_threads_and_memory_back(stage, after):
    before = torch.get_num_threads()
    acquisition = Acquisition(
        head().grid, dict(head().volumes), head().field_strength, head().echo_times
    )
    gone = weakref.ref(acquisition)
    running = stage(acquisition)
    for _ in range(after):
        next(running, None)
    running.close()
    del acquisition, running
    gc.collect()
    assert gone() is None
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    "stage",
    [s for s in STAGES if s.place is Place.UNWRAP or s.key == "weighted"],
    ids=lambda s: s.key,
)
def test_a_single_echo_is_enough(stage):
    first = {q: v[..., 0] if v.ndim == 4 else v for q, v in head().volumes.items()}
    single = Acquisition(head().grid, first, 3.0, TIMES[:1])
    maps, _ = run(stage, single)
    assert maps[stage.place.gives].shape == single.grid.shape
