"""What a card learns after training: how large sigma must be, and what training looked like.

Held-out cases are looked at as whole volumes, as in use.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from napari_qsm.methods.guard import statistics_of
from napari_qsm.methods.learned import MARGIN
from napari_qsm.networks.inverter import SCALE, Inverter
from napari_qsm.networks.lpcnn import LPCNN
from napari_qsm.networks.precision import autocast, chosen
from napari_qsm.networks.weights import Card
from napari_qsm.training.cases import MASK, TRUTH

WITHIN = (68.27, 95.45)
"""Percentage of errors that one and two standard deviations of a Gaussian hold."""

SAMPLE = 20_000
"""Voxels of each case whose errors count, so that large heads count no more than small ones."""


@dataclass(frozen=True)
class Calibration:
    """How well a network does on cases it was not trained on.

    Parameters
    ----------
    cases : int
        How many there were.
    nrmse : mapping of str to float
        Mean over the cases of ``100 |x - chi| / |chi|`` in the mask, of ``"network"`` and of every
        map it starts from.
    factor : float
        T, by which sigma is multiplied so that what one sigma holds too much of the errors is what
        two hold too little (`WITHIN`): errors have longer tails than a Gaussian, and no factor
        serves both. 1 for networks without sigma.
    before, after : tuple[float, float]
        Percentage of errors within one and two sigma, as the network says it, and with the factor
        of the other half of the cases: what is measured on cases that did not choose it.
    """

    cases: int
    nrmse: dict[str, float]
    factor: float = 1.0
    before: tuple[float, float] = (math.nan, math.nan)
    after: tuple[float, float] = (math.nan, math.nan)

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures of a card."""
        told: dict[str, Any] = {
            f"held_out_nrmse_{name}": round(value, 2) for name, value in self.nrmse.items()
        }
        told["held_out_cases"] = self.cases
        if not math.isnan(self.before[0]):
            for when, pair in (("before", self.before), ("after", self.after)):
                told |= {
                    f"held_out_within_{n}_sigma_{when}": round(p, 2)
                    for n, p in enumerate(pair, start=1)
                }
        return told


Passing = Callable[
    [int, NDArray[np.float16]], tuple[NDArray[np.float32], NDArray[np.float32] | None]
]
"""Makes mean and standard deviation in ppm of the n-th held-out case, (X, Y, Z) each."""


def calibrate(
    network: Inverter | LPCNN,
    cases: Iterable[NDArray[np.float16]],
    names: Sequence[str],
    device: torch.device | str = "cpu",
    run: Passing | None = None,
) -> Calibration:
    """Measure a network on whole held-out cases.

    Parameters
    ----------
    network : Inverter or LPCNN
        In evaluation mode, on the device.
    cases : iterable of (C + 2, X, Y, Z) array
        As `napari_qsm.training.cases.Pool` gives them, one at a time.
    names : sequence of str
        The channels of the cases; the network's are among them.
    device : torch.device
        Where the network is.
    run : callable, optional
        How a case is passed; by default through an `Inverter` at once.

    Raises
    ------
    ValueError
        If there are no cases.
    """
    if run is None:
        run = partial(_whole, network, names, torch.device(device))
    rows: list[dict[str, float]] = []
    scores: list[NDArray[np.float32]] = []
    for place, case in enumerate(cases):
        mask = np.asarray(case[MASK]) > 0.5
        truth = np.asarray(case[TRUTH], dtype=np.float32)[mask]
        truth -= truth.mean()
        mean, sigma = run(place, case)
        estimates = {"network": mean} | {
            name: np.asarray(case[number], dtype=np.float32)
            for number, name in enumerate(names)
            if name not in SCALE and name in network.design.channels
        }
        errors = {name: _centred(values[mask]) - truth for name, values in estimates.items()}
        size = float(np.linalg.norm(truth)) or 1.0
        rows.append({n: 100 * float(np.linalg.norm(e)) / size for n, e in errors.items()})
        if sigma is not None:
            rng = np.random.default_rng(len(scores))
            some = rng.permutation(mask.sum())[:SAMPLE]
            scores.append(np.abs(errors["network"] / sigma[mask])[some])
    if not rows:
        raise ValueError("There are no cases to calibrate on.")
    nrmse = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    if not scores:
        return Calibration(len(rows), nrmse)
    halves = scores[::2], scores[1::2] or scores[::2]
    factors = [_factor(half) for half in halves]
    crossed = [one / f for half, f in zip(halves, factors[::-1], strict=True) for one in half]
    return Calibration(len(rows), nrmse, _factor(scores), _within(scores), _within(crossed))


def finish(
    path: Path,
    network: Inverter | LPCNN,
    training: Iterable[NDArray[np.float16]],
    held_out: Iterable[NDArray[np.float16]],
    names: Sequence[str],
    device: torch.device | str = "cpu",
    run: Passing | None = None,
) -> Card:
    """Complete the card of a network: calibration, figures, and the statistics of training.

    Parameters
    ----------
    path : Path
        Of the card; it is written anew, the weights beside it stay.
    network : Inverter or LPCNN
        As the weights make it.
    training, held_out : iterable of (C + 2, X, Y, Z) array
        Cases it learned from, and cases it did not.
    names : sequence of str
        The channels of the cases.
    device : torch.device
        Where the network is.
    run : callable, optional
        As for `calibrate`.
    """
    found = calibrate(network, held_out, names, device, run)
    last = network.design.channels[-1]
    start = None if last in SCALE else list(names).index(last)
    card = Card.read(path)
    card = replace(
        card,
        calibration=float(f"{found.factor:.4g}"),
        metrics={**card.metrics, **found.metrics},
        statistics=statistics_of(training, start),
    )
    path.write_text(json.dumps(asdict(card), indent=1) + "\n", encoding="utf-8")
    return card


def _whole(
    network: Inverter | LPCNN,
    names: Sequence[str],
    device: torch.device,
    place: int,
    case: NDArray[np.float16],
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return mean and standard deviation of a whole case."""
    del place  # one network for all
    order = [list(names).index(name) for name in network.design.channels]
    inputs = torch.from_numpy(np.asarray(case[order], dtype=np.float32))[None].to(device)
    with torch.inference_mode(), autocast(device, chosen(device)):
        estimate = network(functional.pad(inputs, (MARGIN,) * 6))
    inner = slice(MARGIN, -MARGIN)
    parts = [
        None if part is None else part[0, 0, inner, inner, inner].float().cpu().numpy()
        for part in estimate
    ]
    assert parts[0] is not None
    return parts[0], parts[1]


def _centred(values: NDArray[np.float32]) -> NDArray[np.float32]:
    centred: NDArray[np.float32] = values - values.mean()
    return centred


def _factor(scores: Sequence[NDArray[np.float32]]) -> float:
    """Return T with ``P(z < T) + P(z < 2 T)`` the sum of `WITHIN`: the middle of a merged list."""
    together = np.concatenate(list(scores))
    return float(np.percentile(np.concatenate([together, together / 2]), sum(WITHIN) / 2))


def _within(scores: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """Percentage of scores below 1 and 2."""
    together = np.concatenate(list(scores))
    return 100 * float((together < 1).mean()), 100 * float((together < 2).mean())
