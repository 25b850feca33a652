"""Learned methods beside classical ones, on heads nobody trained on and on measured slabs.

Classical methods are shown as shipped and tuned to every case with the truth in view, which no user
can do: a learned method, as shipped, has to beat that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.challenge import challenge_head
from benchmarks.methods import Case, slabs
from benchmarks.oracle import best_linear_filter, with_true_edges
from benchmarks.store import Result, Settings, Store, Trial
from benchmarks.tables import markdown
from napari_qsm import process
from napari_qsm.acquisition import InputError, Quantity
from napari_qsm.evaluation.metrics import error_map, nrmse, psnr, rmse
from napari_qsm.evaluation.similarity import hfen, ssim, xsim
from napari_qsm.methods.registry import Method, find, methods
from napari_qsm.networks import weights
from napari_qsm.training.anatomy import ANATOMIES

CLASSICAL = ("tkd", "tikhonov", "tv", "medi", "hd")

CORRECTED = ("tv", "medi", "hd")
"""Those shown with the field's correction, too, which networks have built in."""

AVERAGED = ("tikhonov", "tv")
"""Whose plain mean stands beside the networks: it costs nothing to learn."""

PAPERS = (
    ("PDI", "47.77", "35.08", "0.9772", "35.17"),
    ("FINE", "48.12", "33.66", "0.9789", "31.97"),
    ("QSMnet", "46.35", "41.29", "0.9705", "43.31"),
    ("uQSM", "45.6", "71.4", "0.890", "62.8"),
)
"""pSNR in dB, RMSE in percent of the reference, SSIM and HFEN in percent, as the papers say."""

HEAD = ("method", "NRMSE, %", "RMSE, ppb", "pSNR, dB", "SSIM", "HFEN, %", "XSIM", "seconds")


class Rival(Protocol):
    """A row of the tables."""

    @property
    def label(self) -> str:
        """What it is called there."""

    def run(self, store: Store, case: Case) -> Result:
        """Return its map of a case."""


@dataclass(frozen=True)
class Contender:
    """A method with settings, tuned to every case or not."""

    label: str
    method: Method[Any]
    settings: Settings
    tuned: bool = False

    def run(self, store: Store, case: Case) -> Result:
        """Return its map of a case."""
        if self.tuned:
            return store.tuned(self.method, case)
        return store.result(self.method, case, self.settings)


@dataclass(frozen=True)
class Mean:
    """The plain mean of the maps of several."""

    parts: tuple[Contender, ...]

    @property
    def label(self) -> str:
        """Name of them all."""
        return "Mean of " + " and ".join(part.label for part in self.parts)

    def run(self, store: Store, case: Case) -> Result:
        """Return the mean of their maps."""
        results = [part.run(store, case) for part in self.parts]
        chi = np.mean([one.chi for one in results], axis=0)
        return Result(chi, None, sum(one.seconds for one in results))


@dataclass(frozen=True)
class Yardstick:
    """The best linear filter of every case; see `benchmarks.oracle`."""

    label: str = "Best linear filter, which knows the truth's spectrum"

    def run(self, store: Store, case: Case) -> Result:
        """Return what it makes of the field."""
        chi, seconds = best_linear_filter(case)
        return Result(chi, None, seconds)


@dataclass(frozen=True)
class Edges:
    """MEDI that reads its edges off the truth, tuned; see `benchmarks.oracle`."""

    label: str = "MEDI with the truth's edges, tuned"

    def run(self, store: Store, case: Case) -> Result:
        """Return its map of a case, whose field counts as it did without a magnitude."""
        counted = "noise" if Quantity.FIELD_NOISE in case.measured else "mask"
        return store.tuned(find("medi"), with_true_edges(case), {"weights": counted})


def rivals(*, slow: bool, only: tuple[str, ...] = ()) -> list[Rival]:
    """Return the classical methods, shipped, tuned and corrected, and every network with weights.

    Methods that change a network for every case take minutes, so they come with `slow` only.
    """
    found: list[Rival] = [] if only else [_averaged(), Yardstick(), Edges()]
    for key, method in methods().items():
        if (only and key not in only) or Quantity.CHI_POS in method.gives:
            continue  # separations have a benchmark of their own
        fields = method.parameters.model_fields
        if key in CLASSICAL:
            found.append(Contender(method.label, method, {}))
            found.append(Contender(f"{method.label}, tuned", method, {}, tuned=True))
            if key in CORRECTED:
                found.append(Contender(f"{method.label}, corrected", find(f"{key}+correction"), {}))
        elif "weights" in fields and (slow or "iterations" not in fields):
            for name in process.choices(fields["weights"]) or ():
                if name not in weights.available():
                    continue  # what classical methods call weights
                label = method.label if name == key else f"{method.label}, {name}"
                found.append(Contender(label, method, {"weights": name}))
        elif key == "dip" and slow:
            found.append(Contender(method.label, method, {}))
    return found


def _averaged() -> Mean:
    known = [find(key) for key in AVERAGED]
    return Mean(tuple(Contender(method.label, method, {}) for method in known))


def cases(
    store: Store, number: int, in_vivo: Path | None, challenge: Path | None
) -> Iterator[tuple[str, list[Case]]]:
    """Yield groups of cases by name: unseen heads, the challenge's head, slabs."""
    if number:
        yield f"{number} unseen heads", [store.unseen(n) for n in range(number)]
    if challenge is not None:
        ANATOMIES["challenge"] = lambda: challenge_head(challenge)
        few = range(max(2, number // 2))
        yield f"{len(few)} of the challenge's head", [store.unseen(n, "challenge") for n in few]
    if in_vivo is not None:
        for slab in slabs(in_vivo):
            yield slab.name, [slab]


def learned_tables(
    store: Store,
    number: int,
    *,
    in_vivo: Path | None = None,
    challenge: Path | None = None,
    slow: bool = False,
    only: tuple[str, ...] = (),
) -> Iterator[str]:
    """Yield the tables of errors and of coverage, group by group, and what the papers print."""
    compared = rivals(slow=slow, only=only)
    for title, group in cases(store, number, in_vivo, challenge):
        rows, covered = [], []
        for rival in compared:
            try:
                results = [rival.run(store, case) for case in group]
            except InputError as refused:
                rows.append((np.inf, (rival.label, str(refused), *[""] * (len(HEAD) - 2))))
                continue
            rows.append(_row(rival.label, group, results))
            if results[0].sigma is not None:
                covered.append((rival.label, *_covered(group, results)))
        yield markdown(title, HEAD, [row for _, row in sorted(rows, key=lambda pair: pair[0])])
        if covered:
            yield markdown(f"Coverage, {title}", COVERAGE, covered)
    papers = ("method", "pSNR, dB", "RMSE, %", "SSIM", "HFEN, %")
    yield markdown("What the papers print, of other data", papers, PAPERS)


def _row(label: str, group: list[Case], results: list[Result]) -> tuple[float, tuple[str, ...]]:
    """Return the mean NRMSE, to sort by, and the means of all figures."""
    figures = np.mean([_figures(c, r) for c, r in zip(group, results, strict=True)], axis=0)
    places = (1, 1, 1, 3, 1, 3, 1)
    cells = (f"{value:.{n}f}" for value, n in zip(figures, places, strict=True))
    return float(figures[0]), (label, *cells)


def _figures(case: Case, result: Result) -> list[float]:
    """Return the figures of a map, after subtracting the means, as `HEAD` names them."""
    truth, mask = case.reference, case.scored
    offset = (result.chi[mask] - truth[mask]).mean(dtype=np.float64)
    chi = result.chi - np.where(case.measured.mask, offset, 0)
    return [
        nrmse(chi, truth, mask),
        1000 * rmse(chi, truth, mask),
        psnr(chi, truth, mask),
        ssim(chi, truth, mask),
        hfen(chi, truth, mask),
        xsim(chi, truth, mask),
        result.seconds,
    ]


COVERAGE = ("method", "within 1 sigma, %", "within 2, %", "of lesions, 1", "2", "sigma, ppb")


def _covered(group: Iterable[Case], results: Iterable[Result]) -> tuple[str, ...]:
    """Return how much of the truth lies within one and two sigma (68.3 and 95.4 if they are true).

    Everywhere and inside lesions; and the mean of sigma, lest a wide one is taken for a good one.
    """
    scores: list[NDArray[Any]] = []
    within: list[NDArray[Any]] = []
    widths: list[NDArray[Any]] = []
    for case, result in zip(group, results, strict=True):
        assert result.sigma is not None
        error = np.abs(error_map(result.chi, case.reference, case.scored))
        score = error / np.maximum(result.sigma, 1e-9)
        scores.append(score[case.scored])
        widths.append(result.sigma[case.scored])
        if isinstance(case, Trial) and case.lesions is not None:
            within.append(score[case.scored & case.lesions])
    shares = [_shares(parts) for parts in (scores, within)]
    return (*shares[0], *shares[1], f"{1000 * np.concatenate(widths).mean():.1f}")


def _shares(parts: list[NDArray[Any]]) -> tuple[str, str]:
    score = np.concatenate(parts) if parts else np.zeros(0)
    if not score.size:
        return "-", "-"
    return f"{100 * (score < 1).mean():.1f}", f"{100 * (score < 2).mean():.1f}"
