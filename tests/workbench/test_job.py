"""A job reports, estimates, previews on demand, stops when told, and lets go of everything."""

import gc
import time
import weakref

import numpy as np
import pytest

from napari_qsm.acquisition import Grid, Maps, Quantity
from napari_qsm.generators import finished, relayed
from napari_qsm.methods.registry import Step
from napari_qsm.workbench.job import Job

GRID = Grid((4, 4, 4), np.eye(4))


class Memory(np.ndarray):
    """An array that can be weakly referenced."""


def reconstruction(steps, log, *, pause=0.0):
    work = np.zeros((4, 4, 4), np.float32).view(Memory)
    log["work"] = weakref.ref(work)
    try:
        for k in range(steps):
            time.sleep(pause)
            yield Step((k + 1) / steps, f"step {k}", lambda: work.copy())
        return Maps(GRID, {Quantity.CHI: work})
    finally:
        log["closed"] = True


def exhaust(generator):
    reports = []
    return reports, finished(relayed(generator, reports.append))


def test_the_maps_come_back_and_the_generator_is_closed():
    log = {}
    _, maps = exhaust(Job(lambda: reconstruction(3, log)).run())
    assert Quantity.CHI in maps
    assert log["closed"]


def test_only_as_many_reports_as_a_person_can_follow():
    reports, _ = exhaust(Job(lambda: reconstruction(60, {}, pause=0.002), interval=0.05).run())
    assert 0 < len(reports) < 20


def test_time_left_shrinks_towards_zero():
    reports, _ = exhaust(Job(lambda: reconstruction(20, {}, pause=0.01), interval=0.02).run())
    remaining = [r.remaining for r in reports if r.remaining is not None]
    assert remaining[-1] < remaining[0]
    assert reports[-1].remaining == pytest.approx(0, abs=0.05)


def test_previews_are_made_only_on_demand():
    job = Job(lambda: reconstruction(10, {}, pause=0.005), interval=0.0, preview_interval=0.0)
    reports, _ = exhaust(job.run())
    assert all(r.preview is None for r in reports)
    job = Job(lambda: reconstruction(10, {}, pause=0.005), interval=0.0, preview_interval=0.0)
    job.wants_preview = True
    reports, _ = exhaust(job.run())
    assert any(r.preview is not None for r in reports)


def test_cancel_closes_the_method_and_frees_what_it_held():
    log = {}
    job = Job(lambda: reconstruction(1000, log, pause=0.001), interval=0.0)
    running = job.run()
    next(running)
    job.cancel()
    _, maps = exhaust(running)
    assert maps is None
    assert log["closed"]
    gc.collect()
    assert log["work"]() is None


def test_closing_a_half_run_job_closes_the_method():
    log = {}
    running = Job(lambda: reconstruction(1000, log), interval=0.0).run()
    next(running)
    running.close()
    assert log["closed"]


def test_a_job_runs_once():
    job = Job(lambda: reconstruction(1, {}))
    exhaust(job.run())
    with pytest.raises(RuntimeError, match="once"):
        next(job.run())
