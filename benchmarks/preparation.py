"""Error of every stage of the preparation, and of the whole chain, on the raw digital head.

What is there is read from the registry. Every table states what a stage was given: the truth up to
its place, or what the shipped chain made of the scanner's data.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.tables import markdown
from napari_qsm import process
from napari_qsm.acquisition import Acquisition, InputError, Maps, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.physics.units import radians_per_ppm
from napari_qsm.pipeline import GIVEN_MASK, NONE, Recipe, plan, reconstruct
from napari_qsm.preparation.registry import Place, Stage, stages
from napari_qsm.process import Step
from napari_qsm.training.raw_head import RawPhantom, sample_raw_head

T = TypeVar("T")
Mask = NDArray[np.bool_]

CASES = ("healthy", "haemorrhage")
RADII = (0.5, 1.0, 1.5, 2.0, 3.0)
"""Multiples of the shipped radius of the balls of a background removal."""

DEEP_MM = 12.0
"""Depth in the brain that every background removal reaches."""

ENOUGH_SIGNAL = 5.0
"""Signal over the noise of one channel from which on a phase can be asked to be right."""


@dataclass(frozen=True)
class Run:
    """What came out, how long it took, and the longest time without a sign of life, in s."""

    made: Any
    seconds: float
    silence: float


def run(work: Generator[Step, None, Any]) -> Run:
    """Drain a piece of work against the clock."""
    began = last = time.perf_counter()
    silence = 0.0
    while True:
        try:
            next(work)
            made = None
            ended = False
        except StopIteration as done:
            made, ended = done.value, True
        now = time.perf_counter()
        silence, last = max(silence, now - last), now
        if ended:
            return Run(made, now - began, silence)


def run_from(
    place: Place, acquisition: Acquisition, recipe: Recipe
) -> Iterator[tuple[Stage[Any], Run, Acquisition]]:
    """Run a recipe from `place` on: each stage, its run, and the acquisition behind it."""
    order = list(Place)
    for entry in plan(acquisition, recipe):
        if entry.stage is None or order.index(entry.place) < order.index(place):
            continue
        done = run(entry.stage(acquisition, entry.parameters))
        acquisition = acquisition.following(done.made)
        yield entry.stage, done, acquisition


@dataclass(frozen=True, eq=False)
class Case:
    """A head with its truth, and how far the shipped chain brings it."""

    name: str
    raw: RawPhantom

    @cached_property
    def mask(self) -> Mask:
        """The brain."""
        mask: Mask = self.raw.truth[Quantity.MASK]
        return mask

    @cached_property
    def measured(self) -> Acquisition:
        """What was scanned, with the true mask."""
        return self.raw.acquisition.with_volumes({Quantity.MASK: self.mask})

    @cached_property
    def exact(self) -> Acquisition:
        """What was scanned, with the true mask and the true total field."""
        field = self.raw.truth[Quantity.TOTAL_FIELD]
        return self.measured.with_volumes({Quantity.TOTAL_FIELD: field})

    @cached_property
    def deep(self) -> Mask:
        """The brain far from its border."""
        size = self.raw.acquisition.grid.voxel_size
        inner: Mask = ndimage.distance_transform_edt(self.mask, sampling=size) > DEEP_MM
        return inner

    @cached_property
    def before(self) -> dict[Place, Acquisition]:
        """What the shipped chain hands to each place; the mask is the true one."""
        recipe = Recipe().with_choice(Place.MASK, GIVEN_MASK)
        handed, acquisition = {Place.MASK: self.raw.acquisition}, self.measured
        places = list(Place)
        for stage, _, after in run_from(Place.OFFSET, self.measured, recipe):
            assert stage.place is not None
            handed[stage.place], acquisition = acquisition, after
            if stage.place is Place.FIELD:
                break
        for place in places[places.index(Place.FIELD) + 1 :]:
            handed[place] = acquisition
        return handed

    @cached_property
    def lit(self) -> Mask:
        """Where an echo of the brain has enough signal, (X, Y, Z, E)."""
        strong = self.measured[Quantity.MAGNITUDE] > ENOUGH_SIGNAL * self.raw.noise
        bright: Mask = strong & self.mask[..., None]
        return bright

    def of(self, place: Place, given: Acquisition) -> Iterator[tuple[Stage[Any], Run]]:
        """Run every stage of a place on the same data; one that cannot run says so and is left."""
        for stage in stages(place).values():
            try:
                yield stage, run(stage(given))
            except InputError as error:
                print(f"{stage.label}: {error}\n")


def cases(voxel_size: float) -> list[Case]:
    """Heads to score on."""
    return [Case(name, sample_raw_head(name, voxel_size)) for name in CASES]


def mask_table(case: Case) -> str:
    """Overlap of every mask with the brain."""
    rows = []
    given = {False: case.raw.acquisition, True: case.measured}
    for stage in stages(Place.MASK).values():
        done = run(stage(given[Quantity.MASK in stage.needs]))
        made, truth = done.made[Quantity.MASK], case.mask
        both = np.count_nonzero(made & truth)
        missed = 100 * (1 - both / np.count_nonzero(truth))
        excess = 100 * np.count_nonzero(made & ~truth) / np.count_nonzero(truth)
        dice = 2 * both / (np.count_nonzero(made) + np.count_nonzero(truth))
        rows.append((stage.label, f"{dice:.3f}", *_figures(missed, excess), _seconds(done)))
    return markdown(
        f"Mask, {case.name}", ("stage", "Dice", "missed, %", "excess, %", "seconds"), rows
    )


def unwrapping_table(case: Case) -> str:
    """Voxels of all echoes that are more than half a turn away from the phase that was there.

    Every echo may be off by whole turns as a whole.
    """
    times, tesla = case.measured.echo_times, case.measured.field_strength
    assert tesla is not None
    rows = []
    for stage, done in case.of(Place.UNWRAP, case.measured):
        wrong = np.zeros_like(case.lit)
        for echo, time_ in enumerate(times):
            truth = case.raw.truth[Quantity.OFFSET] + radians_per_ppm(tesla, time_) * case.raw.field
            error = done.made[Quantity.UNWRAPPED][..., echo] - truth
            turns = np.round(np.median(error[case.lit[..., echo]]) / (2 * np.pi))
            wrong[..., echo] = (np.abs(error - 2 * np.pi * turns) > np.pi) & case.mask
        shares = (
            100 * np.count_nonzero(wrong & where) / np.count_nonzero(where)
            for where in (case.lit, np.broadcast_to(case.mask[..., None], wrong.shape))
        )
        rows.append((stage.label, *(f"{share:.3f}" for share in shares), _seconds(done)))
    head = ("stage", f"off by half a turn where SNR > {ENOUGH_SIGNAL:g}, %", "in all, %", "seconds")
    return markdown(f"Unwrapping, {case.name}", head, rows)


def field_table(case: Case) -> str:
    """Total field behind the shipped offset removal and unwrapping, against the true one."""
    where = case.lit[..., 0]
    truth = case.raw.truth[Quantity.TOTAL_FIELD]
    rows = []
    for stage, done in case.of(Place.FIELD, case.before[Place.FIELD]):
        error = (done.made[Quantity.TOTAL_FIELD] - truth)[where]
        error = error - np.median(error)
        far = 100 * np.mean(np.abs(error) > 0.05)
        scaled = error / np.maximum(done.made[Quantity.FIELD_NOISE][where], 1e-9)
        spreads = (1e3 * _spread(error), far, _spread(scaled))
        rows.append((stage.label, *(f"{v:.2f}" for v in spreads), _seconds(done)))
    head = ("stage", "error, ppb", "off by 50 ppb, %", "error over stated noise", "seconds")
    return markdown(f"Echo combination, {case.name}", head, rows)


def relaxation_table(case: Case) -> str:
    """R2* against the truth, which knows no dephasing by the background's gradients."""
    truth = case.raw.truth[Quantity.R2STAR]
    slopes = sum(np.abs(np.gradient(case.raw.field, axis=axis)) for axis in range(3))
    calm = case.lit.all(axis=3) & (slopes < 0.02)
    rows = []
    for stage, done in case.of(Place.RELAXATION, case.measured):
        error = done.made[Quantity.R2STAR] - truth
        calm_error = error[calm]
        bias = 100 * np.median(calm_error / truth[calm])
        figures = (bias, np.median(np.abs(calm_error)), np.median(np.abs(error[case.mask])))
        rows.append((stage.label, *(f"{v:.2f}" for v in figures), _seconds(done)))
    head = ("stage", "bias, %", "median error, 1/s", "in the whole brain, 1/s", "seconds")
    return markdown(f"R2*, {case.name}", head, rows)


def background_table(case: Case) -> str:
    """Local field from the true field and from the chain's, in each method's mask and in all's."""
    truth = case.raw.truth[Quantity.LOCAL_FIELD]
    chain = case.before[Place.BACKGROUND]
    runs = {
        stage: (done, run(stage(chain)).made)
        for stage, done in case.of(Place.BACKGROUND, case.exact)
    }
    everywhere = case.mask.copy()
    for done, maps in runs.values():
        everywhere &= _reliable(done.made, case.mask) & _reliable(maps, case.mask)
    common = 100 * np.count_nonzero(everywhere) / np.count_nonzero(case.mask)
    rows = []
    for stage, (done, maps) in runs.items():
        own = _reliable(done.made, case.mask)
        kept = 100 * np.count_nonzero(own) / np.count_nonzero(case.mask)
        errors = (
            nrmse(made[Quantity.LOCAL_FIELD], truth, where)
            for made in (done.made, maps)
            for where in (_reliable(made, case.mask), everywhere)
        )
        rows.append((stage.label, *_figures(kept, *errors), _seconds(done)))
    head = (
        "stage",
        "kept, %",
        "from the true field: NRMSE in what it kept, %",
        f"in the {common:.0f} % that all kept, %",
        "from the chain's field: in what it kept, %",
        "in what all kept, %",
        "seconds",
    )
    return markdown(f"Background removal, {case.name}", head, rows)


def radius_table(case: Case) -> str:
    """Say what larger and smaller balls do to the local field from the true field."""
    truth = case.raw.truth[Quantity.LOCAL_FIELD]
    rows = []
    for stage in stages(Place.BACKGROUND).values():
        for name, value in _radii(stage):
            made = run(stage(case.exact, stage.with_settings({name: value}))).made
            own = _reliable(made, case.mask)
            errors = (
                nrmse(made[Quantity.LOCAL_FIELD], truth, where) for where in (own, own & case.deep)
            )
            kept = 100 * np.count_nonzero(own) / np.count_nonzero(case.mask)
            rows.append((stage.label, f"{name} {value:g} mm", *_figures(kept, *errors)))
    head = ("stage", "setting", "kept, %", "NRMSE there, %", f"deeper than {DEEP_MM:g} mm, %")
    return markdown(f"Background removal with other balls, {case.name}", head, rows)


def _radii(stage: Stage[Any]) -> Iterator[tuple[str, float]]:
    """Name and values of the radius of a stage's largest balls, around the shipped one."""
    named = [n for n in stage.parameters.model_fields if "radius" in n and "smallest" not in n]
    for name in named:
        number = process.number(stage.parameters.model_fields[name])
        assert number is not None
        values = (float(np.clip(number.typical * f, number.low, number.high)) for f in RADII)
        yield from ((name, value) for value in dict.fromkeys(values))


def chain_table(case: Case) -> str:
    """From wrapped phase to susceptibility: the shipped recipe, and with one stage exchanged."""
    recipe = Recipe()
    handed, spent, acquisition = {}, {}, case.raw.acquisition
    seconds = 0.0
    for stage, done, after in run_from(Place.MASK, acquisition, recipe):
        assert stage.place is not None
        handed[stage.place], spent[stage.place] = acquisition, seconds
        acquisition, seconds = after, seconds + done.seconds
    rows = [_chain_row(case, "as shipped", acquisition, recipe, seconds)]
    for place, given in handed.items():
        others = [key for key in stages(place) if key != recipe.choice(place).use]
        if place is Place.RELAXATION:
            continue
        for key in [*others, NONE] if place.optional else others:
            start = case.measured if key == GIVEN_MASK else given
            rows.append(_exchanged(case, place, key, start, spent[place]))
    head = ("chain", "kept, %", "local field, %", "susceptibility, %", "seconds")
    return markdown(f"Whole chain, NRMSE, {case.name}", head, rows)


def _exchanged(
    case: Case, place: Place, key: str, given: Acquisition, seconds: float
) -> tuple[str, ...]:
    """Run the shipped chain on from `place` with `key` there; it took `seconds` to get there."""
    recipe, name = Recipe().with_choice(place, key), f"{place.label}: {key}"
    try:
        for _, done, after in run_from(place, given, recipe):
            given, seconds = after, seconds + done.seconds
    except InputError as error:
        return name, "", "", str(error), ""
    return _chain_row(case, name, given, recipe, seconds)


def _chain_row(
    case: Case, name: str, prepared: Acquisition, recipe: Recipe, seconds: float
) -> tuple[str, ...]:
    """Invert a prepared acquisition, and score field and susceptibility where both are known."""
    done = run(reconstruct(prepared, recipe))
    where = prepared.mask & case.mask
    kept = 100 * np.count_nonzero(where) / np.count_nonzero(case.mask)
    truth = case.raw.truth
    errors = (
        nrmse(prepared[Quantity.LOCAL_FIELD], truth[Quantity.LOCAL_FIELD], where),
        nrmse(done.made[Quantity.CHI], truth[Quantity.CHI], where),
    )
    return name, *_figures(kept, *errors), f"{seconds + done.seconds:.0f}"


def preparation_tables(voxel_size: float) -> Iterator[str]:
    """All tables for every head, as they get ready."""
    for case in cases(voxel_size):
        shape = " x ".join(map(str, case.raw.acquisition.grid.shape))
        yield f"Raw digital head, {case.name}, {voxel_size:g} mm, {shape}, 4 echoes."
        for table in (
            mask_table,
            unwrapping_table,
            field_table,
            relaxation_table,
            background_table,
            radius_table,
            chain_table,
        ):
            yield table(case)


def _reliable(maps: Maps, brain: Mask) -> Mask:
    """Mask a stage leaves, or the brain if it leaves none."""
    return maps[Quantity.MASK] & brain if Quantity.MASK in maps else brain


def _spread(values: NDArray[Any]) -> float:
    """Robust standard deviation."""
    low, high = np.percentile(values, (15.866, 84.134))
    return float(high - low) / 2


def _figures(*values: float) -> tuple[str, ...]:
    return tuple(f"{value:.1f}" for value in values)


def _seconds(done: Run) -> str:
    return f"{done.seconds:.1f}"
