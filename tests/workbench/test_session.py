"""The workbench knows when it can run, why not, and what came of it."""

import numpy as np
import pytest

from napari_qsm.acquisition import Grid, InputError, Quantity, Volume
from napari_qsm.generators import finished
from napari_qsm.methods.registry import methods
from napari_qsm.workbench.session import Inputs, Workbench, understand

GRID = Grid((10, 11, 12), np.eye(4))
FIELD = Volume(
    np.random.default_rng(1).normal(0, 0.01, GRID.shape).astype(np.float32), GRID, "ppm", 3.0
)
MASK = Volume(np.ones(GRID.shape, np.uint8), GRID)


@pytest.fixture
def bench():
    return Workbench(methods(), "tkd")


def test_without_a_field_there_is_nothing_to_run(bench):
    assert "local field" in bench.reason_not_to_run()


def test_while_the_input_is_being_checked_nothing_runs(bench):
    bench.choose_inputs(field=FIELD)
    assert "Checking" in bench.reason_not_to_run()


def test_an_understanding_of_older_inputs_is_ignored(bench):
    bench.choose_inputs(field=FIELD)
    old = bench.inputs
    understanding = understand(old)
    bench.choose_inputs(mask=MASK)
    bench.accept(understanding, old)
    assert bench.understanding.acquisition is None
    bench.accept(understand(bench.inputs), bench.inputs)
    assert bench.reason_not_to_run() == ""


def test_what_is_wrong_is_the_reason(bench):
    other = Volume(np.ones((3, 3, 3)), Grid((3, 3, 3), np.eye(4)))
    bench.choose_inputs(field=FIELD, mask=other)
    bench.accept(understand(bench.inputs), bench.inputs)
    assert "(3, 3, 3)" in bench.reason_not_to_run()


def test_a_reference_elsewhere_is_refused_in_words():
    moved = np.eye(4)
    moved[0, 3] = 5
    reference = Volume(FIELD.data, Grid(GRID.shape, moved), "ppm")
    findings = understand(Inputs(field=FIELD, reference=reference)).findings
    assert findings[0].severity == "error"
    assert "5.00 mm" in findings[0].text


def test_a_value_out_of_range_is_refused_and_the_old_one_stays(bench):
    before = bench.parameters
    with pytest.raises(InputError, match="threshold"):
        bench.set_parameter("threshold", 99.0)
    assert bench.parameters == before


def run(bench):
    bench.accept(understand(bench.inputs), bench.inputs)
    job, title = bench.start("cpu")
    maps = finished(job.run())
    bench.finish(title, maps)
    return title, maps


def test_a_result_is_named_after_what_differs_from_the_defaults(bench):
    results = []
    bench.result_added.connect(results.append)
    bench.choose_inputs(field=FIELD, mask=MASK)
    bench.set_parameter("threshold", 0.25)
    title, maps = run(bench)
    assert title == "TKD threshold=0.25 #1"
    assert results[0].maps is maps
    assert maps.provenance.parameters["threshold"] == 0.25
    assert bench.job is None


def test_a_derived_mask_comes_back_with_the_maps(bench):
    field = FIELD.data.copy()
    field[:3] = 0
    bench.choose_inputs(field=Volume(field, GRID, "ppm", 3.0))
    _, maps = run(bench)
    assert np.array_equal(maps[Quantity.MASK], field != 0)


def test_an_error_map_compares_on_a_common_reference(bench):
    bench.choose_inputs(field=FIELD, mask=MASK)
    _, maps = run(bench)
    shifted = Volume(maps[Quantity.CHI] + 0.5, GRID, "ppm", source="shifted")
    bench.choose_inputs(reference=shifted)
    _, again = run(bench)
    assert np.abs(again[Quantity.ERROR]).max() < 1e-5
    assert any("shifted" in note for note in again.provenance.notes)
