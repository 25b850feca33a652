"""Error of every registered method on the digital head, at its default and at its best."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.tables import markdown
from napari_qsm import process
from napari_qsm.acquisition import Acquisition, Maps, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.methods.registry import Method, methods
from napari_qsm.training.phantom import CASES, sample_head

SWEPT = ("regularization", "threshold", "iterations")
"""The parameter that trades streaks for blur, by the names methods give it."""

SWEEP = (0.25, 0.5, 0.71, 1.41, 2.0, 4.0)
"""Multiples of the default it is swept over."""


def run(
    method: Method[Any], measured: Acquisition, settings: Mapping[str, Any]
) -> tuple[Maps, float]:
    """Return maps and seconds of one reconstruction."""
    running = method(measured, method.with_settings(settings))
    began = time.perf_counter()
    while True:
        try:
            next(running)
        except StopIteration as done:
            return done.value, time.perf_counter() - began


def sweep(method: Method[Any]) -> list[dict[str, Any]]:
    """Return settings around the default, within the range of the swept parameter."""
    fields = method.parameters.model_fields
    name = next((n for n in SWEPT if n in fields), None)
    if name is None:
        return []
    number = process.number(fields[name])
    assert number is not None
    kind = int if number.whole else float
    values = (kind(np.clip(number.typical * f, number.low, number.high)) for f in SWEEP)
    return [{name: value} for value in values]


def error_table(voxel_size: float) -> str:
    """Every method that needs no more than a local field, on every sample case."""
    rows = []
    for case in list(CASES)[:2]:
        phantom = sample_head(case, voxel_size)
        measured = phantom.acquisition
        truth, mask = phantom.truth[Quantity.CHI], measured.mask

        def error(maps: Maps, truth: Any = truth, mask: Any = mask) -> float:
            return nrmse(maps[Quantity.CHI], truth, mask)

        for method in methods().values():
            if method.missing(measured) or Quantity.CHI not in method.gives:
                continue
            if method.orientations > 1:
                continue
            maps, seconds = run(method, measured, {})
            errors = {error(run(method, measured, s)[0]): s for s in sweep(method)}
            default = error(maps)
            best = min([default, *errors])
            setting = errors.get(best, {})
            told = ", ".join(f"{k} {v:.3g}" for k, v in setting.items()) or "default"
            rows.append(
                (case, method.label, f"{default:.1f}", f"{best:.1f}", told, f"{seconds:.2f}")
            )
    head = ("head", "method", "NRMSE at default, %", "best in sweep, %", "at", "seconds")
    return markdown(f"Error on the digital head, {voxel_size:g} mm", head, rows)
