"""Separated sources beside the truth, on heads nobody trained on, and lesions of known strength."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.linearity import SITES, contrasts
from benchmarks.store import Trial
from benchmarks.tables import markdown
from napari_qsm.acquisition import Acquisition, FloatArray, InputError, Maps, Quantity
from napari_qsm.evaluation.metrics import nrmse, psnr
from napari_qsm.evaluation.similarity import ssim, xsim
from napari_qsm.generators import finished
from napari_qsm.methods.registry import Method, methods
from napari_qsm.networks import weights
from napari_qsm.training.phantom import field_inside
from napari_qsm.training.separation import RELAXIVITY, SeparatedCase
from napari_qsm.training.separation_unseen import UNSEEN_SOURCES, draw_unseen_sources
from napari_qsm.training.sources import Body
from napari_qsm.training.unseen import FIRST_SEED

POSITIVE, NEGATIVE = Quantity.CHI_POS, Quantity.CHI_NEG
SOURCES = (POSITIVE, NEGATIVE)

FIRST = 4
"""Of the unseen heads that are shown; those before were looked at while recipes were chosen."""

STRENGTHS = {"haemorrhage": (0.2, 0.4, 0.8, 1.2, 2.0, 3.0), "calcification": (0.2, 0.4, 0.8, 1.5)}
"""In ppm; networks learned up to about 1.2 and 0.6."""

BEYOND = {"haemorrhage": 1.2, "calcification": 0.6}
"""Strengths above which none was learned."""

HEAD = ("method", *(f"{sign} {what}" for sign in ("chi+", "chi-") for what in
                    ("NRMSE, %", "pSNR, dB", "SSIM", "XSIM")), "seconds")  # fmt: skip

PUBLIC = (
    ("hand-crafted method", "-", "-", "-", ".90", "-", "-", "-", ".89", "56"),
    ("chi-sepnet", "-", "-", "-", ".72", "-", "-", "-", ".36", "-"),
    ("chi-separation MEDI", "-", "-", "-", ".82", "-", "-", "-", ".66", "-"),
    ("thesis, plain", "33.72", "47.45", ".943", "-", "35.79", "48.17", ".942", "-", "-"),
    ("thesis, unrolled", "33.46", "47.52", ".943", "-", "35.33", "48.28", ".942", "-", "-"),
)
"""What others print of other data: NRMSE, pSNR, SSIM and XSIM."""


@dataclass(frozen=True)
class Rival:
    """A method that separates, with settings, perhaps without some of what was measured."""

    label: str
    method: Method[Any]
    settings: dict[str, Any]
    hidden: tuple[Quantity, ...] = ()

    def run(self, acquisition: Acquisition) -> tuple[Maps, float]:
        """Return its maps and the seconds of processor time they took."""
        kept = {q: v for q, v in acquisition.volumes.items() if q not in self.hidden}
        begun = time.process_time()
        shown = replace(acquisition, volumes=kept)
        running = self.method(shown, self.method.with_settings(self.settings))
        maps: Maps = finished(running)
        return maps, time.process_time() - begun


def rivals(only: Sequence[str] = ()) -> list[Rival]:
    """Return every method that separates and can be run, networks with each set of weights."""
    found = []
    for key, method in methods().items():
        if POSITIVE not in method.gives or (only and key not in only):
            continue
        fields = method.parameters.model_fields
        if "precision" not in fields:
            found.append(Rival(method.label, method, {}))
            alone = f"{method.label}, from R2* alone"
            found.append(Rival(alone, method, {}, (Quantity.R2PRIME, Quantity.R2)))
            continue
        for name in weights.available(method.parameters().model_dump()["weights"]):
            label = method.label if name == key else f"{method.label}, {name}"
            found.append(Rival(label, method, {"weights": name}))
    return found


def separation_tables(
    number: int, *, only: Sequence[str] = (), quick: bool = False
) -> Iterator[str]:
    """Yield the tables: errors on unseen heads, error by iteration, lesions, public figures."""
    compared = rivals(only)
    ranges = UNSEEN_SOURCES
    if quick:
        coarse = ranges.population.model_copy(update={"voxel_size": (1.9, 2.1)})
        ranges = ranges.model_copy(update={"population": coarse})
    cases = [draw_unseen_sources(n, ranges) for n in range(FIRST, FIRST + number)]
    rows = []
    for rival in compared:
        try:
            figures = np.mean([_figures(rival, case) for case in cases], axis=0)
        except InputError as refused:
            rows.append((rival.label, str(refused), *[""] * (len(HEAD) - 2)))
            continue
        places = (1, 1, 3, 3, 1, 1, 3, 3, 1)
        rows.append((rival.label, *(f"{v:.{n}f}" for v, n in zip(figures, places, strict=True))))
    yield markdown(f"{number} unseen heads with iron and myelin", HEAD, rows)
    yield from _by_iteration(compared, cases)
    yield _lesions(compared, cases[0])
    yield markdown("What others print, of other data", HEAD, PUBLIC)


def _figures(rival: Rival, case: SeparatedCase) -> list[float]:
    maps, seconds = rival.run(case.acquisition)
    mask, found = case.acquisition.mask, []
    for quantity, truth in zip(SOURCES, (case.chi_pos, case.chi_neg), strict=True):
        made = maps[quantity]
        found += [
            nrmse(made, truth, mask, detrend="none"),
            psnr(made, truth, mask, detrend="none"),
            ssim(made, truth, mask),
            xsim(made, truth, mask),
        ]
    return [*found, seconds]


def _by_iteration(compared: Sequence[Rival], cases: Sequence[SeparatedCase]) -> Iterator[str]:
    """Yield a table of the errors of every iterate, for methods that keep them."""
    for rival in compared:
        if "keep" not in rival.method.parameters.model_fields:
            continue
        keeping = replace(rival, settings={**rival.settings, "keep": True})
        found = np.mean([_errors(keeping, case) for case in cases], axis=0)
        rows = [
            (sign, *(f"{error:.1f}" for error in errors))
            for sign, errors in zip(("chi+", "chi-"), found, strict=True)
        ]
        head = ("NRMSE, %", *(str(n) for n in range(1, found.shape[1] + 1)))
        yield markdown(f"{rival.label} by iteration", head, rows)


def _errors(rival: Rival, case: SeparatedCase) -> list[list[float]]:
    maps, _ = rival.run(case.acquisition)
    mask = case.acquisition.mask
    return [
        [nrmse(made, truth, mask, detrend="none") for made in np.moveaxis(maps[quantity], 3, 0)]
        for quantity, truth in (
            (Quantity.CHI_POS_ITERATES, case.chi_pos),
            (Quantity.CHI_NEG_ITERATES, case.chi_neg),
        )
    ]


def with_lesions(case: SeparatedCase, strength: float) -> Trial:
    """Return a head with six bodies of one strength in ppm in the place of tissue.

    Positive ones are haemorrhages, all iron; negative ones calcifications, all diamagnetic. They
    change the field and R2' as the physics says, R2' at the Dr that methods assume, and keep the
    noise that was measured.
    """
    old, mask = case.acquisition, case.acquisition.mask
    share = _share(case)
    wanted = (max(strength, 0.0), max(-strength, 0.0))
    positive, negative = (
        source * (1 - share) + np.float32(value) * share
        for source, value in zip((case.chi_pos, case.chi_neg), wanted, strict=True)
    )
    more = (positive - negative - case.chi).astype(np.float32)
    field = old[Quantity.LOCAL_FIELD] + field_inside(more, mask, old.grid)
    assert old.field_strength is not None
    sum_before, sum_after = case.chi_pos + case.chi_neg, positive + negative
    rate = RELAXIVITY * old.field_strength * (sum_after - sum_before)
    volumes = {
        Quantity.LOCAL_FIELD: field * mask,
        Quantity.R2STAR: np.maximum(old[Quantity.R2STAR] + rate, 0) * mask,
        Quantity.R2PRIME: np.maximum(old[Quantity.R2PRIME] + rate, 0) * mask,
    }
    reference, bodies = (positive if strength > 0 else negative) * mask, (share > 0.5) & mask
    return Trial(f"{strength:g} ppm", old.with_volumes(volumes), reference, mask, lesions=bodies)


def _share(case: SeparatedCase) -> FloatArray:
    """Return how much of a voxel the six bodies fill, well inside the mask."""
    mask, sizes = case.acquisition.mask, np.array(case.acquisition.grid.voxel_size)
    middle = np.argwhere(mask).mean(axis=0) * sizes
    share = np.zeros(mask.shape, dtype=np.float32)
    rng = np.random.default_rng(FIRST_SEED)
    for centre, radius, _ in SITES:
        at = middle + np.array(centre) * 0.8 + rng.uniform(-2, 2, 3)
        body = Body("ellipsoid", at, np.full(3, max(radius, 5.0)), np.eye(3), edge=0.0)
        box, filled = body.share(sizes, share.shape)
        np.maximum(share[box], filled, out=share[box])
    return share * mask


def _lesions(compared: Sequence[Rival], case: SeparatedCase) -> str:
    """Return the table of estimated over true contrast and its slope beyond what was learned."""
    rows = []
    for rival in compared:
        cells: list[str] = []
        for kind, sign, quantity in (("haemorrhage", 1, POSITIVE), ("calcification", -1, NEGATIVE)):
            truth, found = [], []
            for strength in STRENGTHS[kind]:
                trial = with_lesions(case, sign * strength)
                maps, _ = rival.run(trial.measured)
                truth.append(contrasts(trial.reference, trial))
                found.append(contrasts(maps[quantity], trial))
            true, seen = np.array(truth), np.array(found)
            far = np.array(STRENGTHS[kind]) > BEYOND[kind]
            cells += [f"{_slope(true, seen):.3f}", f"{_slope(true[far], seen[far]):.3f}"]
        rows.append((rival.label, *cells))
    head = ("method", "haemorrhage", "beyond training", "calcification", "beyond training")
    return markdown("Slope of estimated against true contrast of lesions", head, rows)


def _slope(truth: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    x = truth.ravel() - truth.mean()
    return float(x @ found.ravel() / (x @ x))
